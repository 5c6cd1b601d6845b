"""Of an evaluation, what terminal, card and page say in the same words: no capital before, no stop behind."""

from __future__ import annotations

from genmed.ground.wording import say_count
from genmed.parts.data.records import EXCLUSIVE
from genmed.parts.metrics.names import METRIC_NAMES, WHOLE_NAMES
from genmed.parts.report.numbers import Document


def say_resamples(evaluation: Document) -> str:
    """`95%, 2,000 resamples by patient`: what the intervals are."""
    return f"{evaluation['level']:.0%}, {evaluation['resamples']:,} resamples by {evaluation['unit']}"


def say_thresholds(evaluation: Document) -> str:
    return f"where sensitivity + specificity is highest on {evaluation['thresholds_from']}"


def say_undefined(evaluation: Document) -> str:
    """Of classes that have no figures; there are some."""
    return f"{', '.join(evaluation['undefined'])}: all or no images have it"


def list_left_out(evaluation: Document) -> list[str]:
    """Of classes that lack single metrics, which are means over the others: `sensitivity, F1: Hernia`."""
    lacking: dict[str, list[str]] = {}
    for metric, classes in evaluation.get("left_out", {}).items():
        lacking.setdefault(", ".join(classes), []).append(METRIC_NAMES[metric].long)
    return [f"{classes} of the mean of {', '.join(metrics)}" for classes, metrics in lacking.items()]


def say_whole(evaluation: Document, metric: str) -> str:
    """The name of a metric of all classes together; where they do not exclude each other, calls are made at 0.5."""
    name = WHOLE_NAMES[metric].long
    return name if evaluation["task"] in EXCLUSIVE else f"{name} at 0.5"


def list_warnings(evaluation: Document) -> list[str]:
    """What makes figures on other data flattering."""
    if evaluation["own"]:
        return []
    seen = evaluation["trained_on"]
    return [
        *([f"the run was trained or selected on {say_count(seen, 'image')} of these"] if seen else []),
        *(["the two datasets share images: see their lineage"] if evaluation["related"] else []),
    ]
