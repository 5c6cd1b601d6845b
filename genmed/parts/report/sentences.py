"""Of an evaluation, what terminal, card and page say in the same words: no capital before, no stop behind."""

from __future__ import annotations

from genmed.ground.wording import say_count
from genmed.parts.report.numbers import Document


def say_resamples(evaluation: Document) -> str:
    """`95%, 2,000 resamples by patient`: what the intervals are."""
    return f"{evaluation['level']:.0%}, {evaluation['resamples']:,} resamples by {evaluation['unit']}"


def say_thresholds(evaluation: Document) -> str:
    return f"where sensitivity + specificity is highest on {evaluation['thresholds_from']}"


def say_undefined(evaluation: Document) -> str:
    """Of classes that have no figures; there are some."""
    return f"{', '.join(evaluation['undefined'])}: all or no images have it"


def list_warnings(evaluation: Document) -> list[str]:
    """What makes figures on other data flattering."""
    if evaluation["own"]:
        return []
    seen = evaluation["trained_on"]
    return [
        *([f"the run was trained or selected on {say_count(seen, 'image')} of these"] if seen else []),
        *(["the two datasets share images: see their lineage"] if evaluation["related"] else []),
    ]
