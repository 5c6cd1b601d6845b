"""A metric over several seeds of training: its mean, and the difference of two models, over seeds and patients.

Seeds and patients are crossed: each seed's network sees all test patients. A resample draws both, independently of each
other (the pigeonhole bootstrap: McCullagh 2000; Owen 2007), and all models see the same draw, so that what seeds and
patients have in common cancels in a difference. A resample's distance from what was observed is the patients' part,
the mean of all seeds on the patients drawn, and the seeds' part, the mean of the seeds drawn on all patients.

The seeds' part is stretched for two reasons. A plain draw of S seeds spreads too little, its variance by the factor
(S - 1) / S, which for 3 seeds is two thirds: sqrt(S / (S - 1)) mends that (Rao and Wu 1988). And a spread that is known
from few seeds is poorly known: each resample draws it, too, as sqrt((S - 1) / chi2), where chi2 has S - 1 degrees of
freedom. That is how a t distribution comes from a normal one (Student 1908): without noise of patients the intervals
are about as wide as those of t, at any level. benchmarks/study_errors.py counts how often all of it errs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genmed.ground.randomness import draw_uniform
from genmed.parts.metrics.intervals import find_interval
from genmed.parts.metrics.statistics import Floats

FEWEST_SEEDS = 5
"""Under so many the spread over seeds is poorly known, and a reader has to be told."""


@dataclass(frozen=True)
class OverSeeds:
    """A metric of one model over its seeds; None where it is undefined."""

    mean: float | None
    sd: float | None
    """Of the seeds' values on all test patients, with S - 1 below; None for one seed."""
    low: float | None = None
    high: float | None = None
    """95% interval of the mean."""


@dataclass(frozen=True)
class Difference:
    """Of two models' means over the same seeds and patients, the first less the second."""

    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided; None for one seed, which says nothing of another."""


def draw_seed_weights(seed: int, resamples: int, count: int) -> Floats:
    """(resamples, count): of each seed's value in the seeds' part of a resample. Each row adds up to 0."""
    if count == 1:
        return np.zeros((resamples, 1))
    from scipy.special import chdtri

    drawn = (draw_uniform((seed, "bootstrap of seeds", count), (resamples, count)) * count).astype(np.int64)
    often = (drawn[:, :, None] == np.arange(count)).sum(1)
    chi2 = chdtri(count - 1, draw_uniform((seed, "bootstrap of the spread over seeds", count), (resamples, 1)))
    return np.asarray(np.sqrt(count / chi2) * (often - 1) / count)


def summarise(values: Floats, drawn: Floats, weights: Floats) -> OverSeeds:
    """values: (S,) each seed's; drawn: (S, R) in resamples of patients, nan where undefined; weights: (R, S)."""
    if not np.isfinite(values).all():
        return OverSeeds(None, None)
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return OverSeeds(float(values.mean()), sd, *find_interval(_mean_in_resamples(values, drawn, weights)))


def compare(values: Sequence[Floats], drawn: Sequence[Floats], weights: Floats) -> Difference:
    """values: two of (S,); drawn: two of (S, R) in the same resamples of patients; weights: (R, S).

    p = (1 + count) / (1 + R), where count is of resamples whose difference lies at least as far from the one observed
    as that lies from 0: the distribution is centred, as if there were no difference (Hall and Wilson 1991), and no p is
    0 (Davison and Hinkley 1997, 4.2.1).
    """
    gaps = values[0] - values[1]
    if not np.isfinite(gaps).all():
        return Difference(None)
    observed = float(gaps.mean())
    resampled = _mean_in_resamples(gaps, drawn[0] - drawn[1], weights)
    resampled = resampled[np.isfinite(resampled)]
    low, high = find_interval(resampled)
    if len(values[0]) == 1 or low is None:
        return Difference(observed, low, high)
    count = int((np.abs(resampled - observed) >= abs(observed) * (1 - 1e-12)).sum())  # equal but for rounding is equal
    return Difference(observed, low, high, (1 + count) / (1 + len(resampled)))


def correct_for_many(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted so that all of them together err once in 20 times at 0.05, however they depend. Holm 1979.

    None stays None and does not count.
    """
    known = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[at] = highest
    return adjusted


def _mean_in_resamples(values: Floats, drawn: Floats, weights: Floats) -> Floats:
    """(R,): the mean over all seeds of the patients drawn, and the seeds' part."""
    return np.asarray(drawn.mean(0) + weights @ values)
