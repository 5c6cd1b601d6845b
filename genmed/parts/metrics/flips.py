"""Predictions that depend on the seed: images that one training calls and another, equal but for its seed, does not.

Two networks of one AUROC may disagree on many patients (underspecification: D'Amour et al. 2022; churn: Milani Fard et
al. 2016).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genmed.parts.metrics import Scores


@dataclass(frozen=True)
class Flips:
    """Over S seeds; a prediction is one image and one class."""

    predictions: int
    """Images times classes that could be called: those for which each seed's run chose a threshold."""
    share: float | None
    """Of them, those on which the seeds are not unanimous; grows with S. None where there are none, or one seed."""
    pairwise: float | None
    """Of them, those on which two seeds, drawn at random, differ; does not grow with S."""
    classes: dict[str, float | None]
    """`share` by class; None where a run has no threshold for it."""


def find_flips(
    scores: Sequence[Scores], thresholds: Sequence[Mapping[str, float | None]], classes: Sequence[str]
) -> Flips:
    """scores: of each seed (N, L), the same images; thresholds: of each seed, class -> the score from which on it is
    said to be there."""
    seeds, pairs = len(scores), []
    shares: dict[str, float | None] = dict.fromkeys(classes)
    for column, name in enumerate(classes):
        limits = [limit for chosen in thresholds if (limit := chosen.get(name)) is not None]
        if seeds < 2 or len(limits) < seeds:
            continue
        values = [run[:, column].astype(np.float64) for run in scores]  # a threshold is one of the scores, widened
        called = np.stack([run >= limit for run, limit in zip(values, limits, strict=True)]).sum(0, dtype=np.int64)
        shares[name] = float(((called > 0) & (called < seeds)).mean())
        pairs.append(float((called * (seeds - called)).mean() * 2 / (seeds * (seeds - 1))))
    known = [share for share in shares.values() if share is not None]
    return Flips(
        predictions=len(scores[0]) * len(known),
        share=sum(known) / len(known) if known else None,
        pairwise=sum(pairs) / len(pairs) if pairs else None,
        classes=shares,
    )
