"""Whether scores are probabilities: reliability, its mean gap, and the slope of a logistic recalibration."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BINS = 15
"""Guo et al. 2017."""
LEAST = 1e-7
"""Scores are kept this far from 0 and 1 before their logit is taken: float32 knows no 1 - 1e-8."""
STEPS = 50


def to_bins(scores: Floats, bins: int = BINS) -> npt.NDArray[np.int64]:
    """(N,) the bin of each score: equal widths over [0, 1], a score on a border in the lower one."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores).astype(np.int64)


def sum_by_bin(scores: Floats, truth: npt.NDArray[np.bool_], bins: int = BINS) -> Floats:
    """(N, bins): score minus truth in the column of the image's bin, which adds up to the gaps of the bins."""
    terms = np.zeros((len(scores), bins))
    terms[np.arange(len(scores)), to_bins(scores, bins)] = scores - truth
    return terms


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: what was said and what was so, by bin; bins without images are left out."""

    said: list[float]
    """Mean score."""
    so: list[float]
    """Share of positives."""
    images: list[int]


def draw_reliability(scores: Floats, truth: npt.NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """scores, truth: (N,)."""
    place = to_bins(scores, bins)
    count = np.bincount(place, minlength=bins)
    kept = np.flatnonzero(count)
    said = np.bincount(place, scores, bins)[kept] / count[kept]
    so = np.bincount(place, truth, bins)[kept] / count[kept]
    return Reliability(said.tolist(), so.tolist(), count[kept].tolist())


@dataclass(frozen=True)
class Fit:
    """A logistic regression of truth on the logit of the score. Cox 1958."""

    intercept: float
    slope: float
    """1 for probabilities that are right; below 1 where they are too extreme."""


def to_logits(scores: Floats) -> Floats:
    """(N,) log-odds."""
    kept = np.clip(np.asarray(scores, dtype=np.float64), LEAST, 1 - LEAST)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def fit_logistic(logits: Floats, truth: npt.NDArray[np.bool_]) -> Fit | None:
    """The likeliest fit; None where there is none: one kind of truth, one score for all, or a score that separates."""
    x = np.stack([np.ones_like(logits), logits], axis=1)
    found = np.zeros(2)
    for _ in range(STEPS):
        p = expit(x @ found)
        gradient = x.T @ (truth - p)
        hessian = (x * (p * (1 - p))[:, None]).T @ x
        if np.linalg.cond(hessian) > 1e12:
            return None
        step = np.linalg.solve(hessian, gradient)
        found = found + step
        if np.abs(step).max() < 1e-10:
            return Fit(*found.tolist())
    return None


def expit(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), which does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
