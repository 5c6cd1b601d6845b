"""Metrics with 95% intervals: a bootstrap over patients, jointly over classes.

Each resample draws as many patients as there are, with replacement, and takes all images of each. All classes see the
same resamples, so that the interval of a mean over classes knows that they share patients. The interval is from the
2.5th to the 97.5th percentile (Efron and Tibshirani 1993, 13.3); it speaks of the sampling of test patients alone, not
of what another seed of training would have given.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genmed.ground.randomness import draw_uniform
from genmed.parts.metrics.of_class import OF_RANKING, OF_SUMS
from genmed.parts.metrics.sample import Sample
from genmed.parts.metrics.statistics import Flags, Floats, Resamples, Units, mean_of_defined, to_plain

RESAMPLES = 2000
LEVEL = 0.95
LEAST_PATIENTS = 10
"""With the class, and without it: under so many an interval would promise what it cannot keep."""
BYTES_AT_ONCE = 2**23


@dataclass(frozen=True)
class Estimate:
    """A metric and the 95% interval of it; None where it is undefined, or where there are too few patients."""

    value: float | None
    low: float | None = None
    high: float | None = None


def estimate(sample: Sample, seed: int, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """`<metric>_<class>`, `<metric>_macro` over the classes that have one, and metrics of all classes together.

    An interval is given from 10 patients with the class and 10 without on; a mean's where each of its classes has one.
    """
    once = Resamples(np.ones((sample.unit_count, 1), np.uint8))
    values, sure = measure_in(sample, once), find_sure(sample)
    drawn = resample(sample, seed, resamples) if sure else {}
    return {
        name: Estimate(to_plain(value[0]), *(find_interval(drawn[name]) if name in sure else (None, None)))
        for name, value in values.items()
    }


def resample(sample: Sample, seed: int, resamples: int) -> dict[str, Floats]:
    """(resamples,) values of each metric. A resample is a function of (seed, its number, number of patients)."""
    portion = max(BYTES_AT_ONCE // max(len(sample.units), 1), 1)
    found = []
    for start in range(0, resamples, portion):
        numbers = range(start, min(start + portion, resamples))
        counts = np.stack([_draw(seed, number, sample.unit_count) for number in numbers], axis=1)
        found.append(measure_in(sample, Resamples(counts)))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _draw(seed: int, number: int, size: int) -> npt.NDArray[np.uint8]:
    """(size,): how often each patient is drawn. Nobody is drawn 256 times: the chance is one in 10**500."""
    drawn = (draw_uniform((seed, "bootstrap", number), (size,)) * size).astype(np.int64)
    return np.bincount(drawn, minlength=size).astype(np.uint8)


def measure_in(sample: Sample, resamples: Resamples) -> dict[str, Floats]:
    """(R,) values of each metric, metric by metric, each class's before their mean; nan where undefined."""
    undefined = np.full(len(resamples), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is nan, which says that it is undefined
        values = _add_up(sample, resamples) | _rank(sample, resamples)
    found: dict[str, Floats] = {}
    for metric in (*OF_RANKING, *OF_SUMS):
        of_classes = {f"{metric}_{name}": values.get(f"{metric}_{name}", undefined) for name in sample.classes}
        found |= {**of_classes, f"{metric}_macro": mean_of_defined(list(of_classes.values()))}
    return found | {metric: values.get(metric, undefined) for metric in sample.of_all}


def _rank(sample: Sample, resamples: Resamples) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for name, (judged, units) in zip(sample.classes, sample.judged, strict=True):
        if judged is not None:
            ranking = judged.order.rank(resamples, units)
            found |= {f"{metric}_{name}": function(ranking) for metric, function in OF_RANKING.items()}
    return found


def _add_up(sample: Sample, resamples: Resamples) -> dict[str, Floats]:
    """All sums of all metrics and classes in one matrix product."""
    added = sample.by_unit.T @ resamples.real
    found: dict[str, Floats] = {}
    start = 0
    for name, (sums, _) in sample.sums.items():
        width = sums.terms.shape[1]
        found[name] = sums.combine(added[start : start + width])
        start += width
    return found


def find_sure(sample: Sample) -> set[str]:
    """The metrics of which there are patients enough for an interval; a mean's where each judged class has the metric
    and patients enough."""
    enough = {
        name: _count_fewer(judged.truth, units) >= LEAST_PATIENTS
        for name, (judged, units) in zip(sample.classes, sample.judged, strict=True)
        if judged is not None
    }
    names = [name for name, sure in enough.items() if sure]
    sure = {f"{metric}_{name}" for metric in (*OF_RANKING, *OF_SUMS) for name in names}
    if names and all(enough.values()):
        whole = [metric for metric in OF_SUMS if all(f"{metric}_{name}" in sample.sums for name in names)]
        sure |= {f"{metric}_macro" for metric in (*OF_RANKING, *whole)}
    known = [metric for metric in sample.of_all if metric in sample.sums]
    return sure | {metric for metric in known if len(np.unique(sample.sums[metric][1])) >= LEAST_PATIENTS}


def _count_fewer(truth: Flags, units: Units) -> int:
    """Patients with the class, or without it: whichever are fewer."""
    return min(len(np.unique(units[truth])), len(np.unique(units[~truth])))


def find_interval(values: Floats) -> tuple[float | None, float | None]:
    """The 2.5th and 97.5th percentile of the values that are defined."""
    defined = values[np.isfinite(values)]
    if not len(defined):
        return None, None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
