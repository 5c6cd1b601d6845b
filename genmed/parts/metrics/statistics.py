"""What is measured, in a form that can be resampled: functions of weighted sums over images, or of weighted ranks.

A resample of patients gives each image a weight: how often its patient was drawn. Sums over images are then one matrix
product for all resamples, and ranks are sums over stretches of the sorted images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Units = npt.NDArray[np.int64]
"""(N,): the unit that each image belongs to, 0..U-1."""
Weights = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Resamples:
    """How often each of U units was drawn in each of R resamples."""

    counts: npt.NDArray[np.uint8]
    """(U, R)"""

    def __len__(self) -> int:
        return int(self.counts.shape[1])

    @cached_property
    def real(self) -> Floats:
        """(U, R)"""
        return self.counts.astype(np.float64)


@dataclass(frozen=True)
class Sums:
    """A function of sums over images."""

    terms: Floats
    """(N, K): of each image."""
    combine: Callable[[Floats], Floats]
    """(K, R) sums -> (R,); nan where it is undefined."""

    def by_unit(self, units: Units, count: int) -> Floats:
        """(count, K): the terms of each unit's images, added up."""
        return np.stack([np.bincount(units, term, count) for term in self.terms.T], axis=1)

    def of_each_once(self) -> Floats:
        """(1,): of the images as they are."""
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is nan, which says that it is undefined
            return self.combine(self.terms.sum(0)[:, None])


@dataclass(frozen=True)
class Ranking:
    """Where the M positive images stand, from the highest score down, in each of R resamples; equal scores together."""

    weights: Weights
    """(M, R): how often each was drawn."""
    positives: Weights
    """(M, R): weight of the positive images that score as high or higher."""
    negatives: Weights
    """(M, R): weight of the negative images that score as high or higher."""
    negatives_above: Weights
    """(M, R): weight of those that score higher."""
    negatives_in_all: Weights
    """(R,)"""


@dataclass(frozen=True)
class Order:
    """Images in the order of their scores, once for all resamples."""

    scores: Floats
    """(N,)"""
    truth: Flags
    """(N,), with both values."""

    def rank(self, resamples: Resamples, units: Units) -> Ranking:
        """units: (N,)."""
        positives, negatives = self._sorted
        place, others = -self.scores[positives], -self.scores[negatives]
        weights = resamples.counts[units[positives]].astype(np.int32)
        same = np.searchsorted(place, place, side="right") - 1  # the last positive that scores the same
        until, before = (np.searchsorted(others, place, side=side) for side in ("right", "left"))
        edges = np.unique(np.concatenate([[0], until, before, [len(others)]]))
        stretches = np.add.reduceat(resamples.counts[units[negatives]], edges[:-1], axis=0, dtype=np.int32)
        running = np.concatenate([np.zeros((1, len(resamples)), np.int32), np.cumsum(stretches, axis=0)])
        return Ranking(
            weights=weights,
            positives=np.cumsum(weights, axis=0)[same],
            negatives=running[np.searchsorted(edges, until)],
            negatives_above=running[np.searchsorted(edges, before)],
            negatives_in_all=running[-1],
        )

    @cached_property
    def _sorted(self) -> tuple[Units, Units]:
        """Positive and negative images, each from the highest score down."""
        order = np.argsort(-self.scores, kind="stable")
        return order[self.truth[order]], order[~self.truth[order]]


def mean_of_defined(values: Sequence[Floats]) -> Floats:
    """(R,): over those of the (R,) values that are not nan; nan where all are."""
    table = np.stack(values)
    there = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, table, 0).sum(0) / there.sum(0))


def to_plain(value: float) -> float | None:
    """As JSON holds it."""
    return float(value) if np.isfinite(value) else None
