"""Results of scored images: each metric with its interval, for all of them and by site, sex, age and view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from genmed.parts.metrics.intervals import LEVEL, RESAMPLES, Estimate, estimate
from genmed.parts.metrics.of_class import OF_SUMS
from genmed.parts.metrics.thresholds import choose_thresholds
from genmed.workflows.evaluation.scored import Rows, Scored

SEED = 0
"""Of the bootstrap: one for all runs, so that runs on the same patients see the same resamples."""
AGES = {"0 to 17": 17, "18 to 39": 39, "40 to 59": 59, "60 to 79": 79, "80 and older": 120}
"""Band -> the oldest in it."""
Thresholds = Mapping[str, float | None]


@dataclass(frozen=True)
class Group:
    """Images that share a trait."""

    by: str
    """site, sex, age or view."""
    value: str
    images: int
    patients: int | None
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class Results:
    """What came of one set of images."""

    scored: Scored
    """As judged: pooled by study where that is done."""
    images: int
    thresholds: Thresholds
    metrics: dict[str, Estimate]
    """`<metric>_<class>`, `<metric>_macro`, and those of all classes."""
    groups: list[Group]

    @property
    def undefined(self) -> list[str]:
        """Classes that lack images with or without them: left out of means."""
        return [name for name in self.scored.classes if self.metrics[f"auroc_{name}"].value is None]

    @property
    def uncertain(self) -> list[str]:
        """Classes that too few patients have, or have not, for an interval; a mean over them has none either."""
        return [name for name in self.scored.classes if self.metrics[f"auroc_{name}"].low is None]

    @property
    def left_out(self) -> dict[str, list[str]]:
        """Metric -> classes that have an AUROC and not this: no threshold on validation, or no slope where scores
        separate them. The metric's mean is over the others, and has no interval."""
        judged = [name for name in self.scored.classes if name not in self.undefined]
        lacking = {
            metric: [name for name in judged if self.metrics[f"{metric}_{name}"].value is None] for metric in OF_SUMS
        }
        return {metric: names for metric, names in lacking.items() if names}

    def to_json(self, side: str) -> dict[str, Any]:
        """side: begins the metrics' names."""
        scored = self.scored
        return {
            "task": scored.kind,
            "classes": list(scored.classes),
            "images": self.images,
            "patients": len(set(scored.patients)) if scored.patients else None,
            "studies": len(set(scored.studies)) if scored.studies else None,
            "unit": scored.unit,
            "resamples": RESAMPLES,
            "level": LEVEL,
            "positives": _count(scored, 1),
            "negatives": _count(scored, 0),
            "undefined": self.undefined,
            "left_out": self.left_out,
            "without_interval": [name for name in self.uncertain if name not in self.undefined],
            "thresholds": dict(self.thresholds),
            "metrics": _name_metrics(side, self.metrics),
            "groups": [{**asdict(group), "metrics": _name_metrics(side, group.metrics)} for group in self.groups],
        }


def measure_results(scored: Scored, thresholds: Thresholds) -> Results:
    """thresholds: class -> the score from which on it is said to be there, chosen on other images."""
    judged = scored.pool()
    return Results(
        scored=judged,
        images=len(scored),
        thresholds=thresholds,
        metrics=estimate(judged.to_sample(thresholds), SEED),
        groups=[_measure_group(judged.choose(rows), by, value, thresholds) for by, value, rows in list_groups(judged)],
    )


def choose_by_validation(validation: Scored) -> Thresholds:
    """Class -> the score at which sensitivity + specificity is highest on the validation images."""
    judged = validation.pool()
    return choose_thresholds(judged.scores, judged.truth, judged.classes)


def list_groups(scored: Scored) -> list[tuple[str, str, Rows]]:
    """(by, value, rows) of each group, where there is more than one by that; images of which it is unknown are left
    out."""
    known = {"site": scored.sites, **scored.traits}
    found = []
    for by, values in known.items():
        named = [name_age(value) for value in values] if by == "age" else list(values)
        groups = sorted(set(named) - {""})
        if len(groups) > 1:
            found += [(by, group, np.flatnonzero(np.array(named) == group)) for group in groups]
    return found


def name_age(age: str) -> str:
    """`60 to 79`: the band that an age in years is in; '' where it is unknown."""
    if not age.isdecimal():
        return ""
    return next((name for name, oldest in AGES.items() if int(age) <= oldest), "")


def _measure_group(scored: Scored, by: str, value: str, thresholds: Thresholds) -> Group:
    patients = len(set(scored.patients)) if scored.patients else None
    return Group(by, value, len(scored), patients, estimate(scored.to_sample(thresholds), SEED))


def _count(scored: Scored, label: int) -> dict[str, int]:
    counts = (scored.truth == label).sum(0, dtype=np.int64)
    return dict(zip(scored.classes, counts.tolist(), strict=True))


def _name_metrics(side: str, metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {f"{side}_{name}": asdict(value) for name, value in metrics.items()}
