"""The tables of metrics of one class, in a form that can be resampled: a new one is a function and one entry below."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genmed.parts.metrics.calibration import expit, fit_logistic, sum_by_bin, to_logits
from genmed.parts.metrics.statistics import Flags, Floats, Order, Ranking, Sums


@dataclass(frozen=True)
class Judged:
    """The images of which one class is known."""

    scores: Floats
    """(N,) probabilities."""
    truth: Flags
    """(N,), with both values."""
    threshold: float | None
    """The score from which on the class is said to be there, chosen on other images; None: nobody could choose one."""

    @cached_property
    def order(self) -> Order:
        return Order(self.scores, self.truth)


def area_under_roc(ranking: Ranking) -> Floats:
    """Probability that a random positive scores above a random negative; ties count half. Hanley and McNeil 1982."""
    below = ranking.negatives_in_all - 0.5 * (ranking.negatives + ranking.negatives_above)
    pairs = ranking.weights.sum(0, dtype=np.float64) * ranking.negatives_in_all
    return np.asarray((ranking.weights * below).sum(0) / pairs)


def average_precision(ranking: Ranking) -> Floats:
    """Precision averaged over recall, as scikit-learn defines it: no interpolation."""
    precision = ranking.positives / np.maximum(ranking.positives + ranking.negatives, 1)
    return np.asarray((ranking.weights * precision).sum(0) / ranking.weights.sum(0))


def _of_calls(combine: Callable[[Floats, Floats, Floats, Floats], Floats]) -> Callable[[Judged], Sums | None]:
    """A function of true positives, false positives, false negatives and true negatives at the threshold."""

    def of(judged: Judged) -> Sums | None:
        if judged.threshold is None:
            return None
        called, truth = judged.scores >= judged.threshold, judged.truth
        kinds = np.stack([called & truth, called & ~truth, ~called & truth, ~called & ~truth], axis=1)
        return Sums(kinds.astype(np.float64), lambda sums: combine(*sums))

    return of


def brier_score(judged: Judged) -> Sums:
    """Mean squared difference of probability and truth. Brier 1950."""
    terms = np.stack([(judged.scores - judged.truth) ** 2, np.ones_like(judged.scores)], axis=1)
    return Sums(terms, lambda sums: sums[0] / sums[1])


def expected_calibration_error(judged: Judged) -> Sums:
    """Mean gap between probability and frequency over 15 bins of equal width: of this class's own probability, the
    classwise error of Kull et al. 2019, not that of the highest score (Guo et al. 2017).
    """
    gaps = sum_by_bin(judged.scores, judged.truth)
    terms = np.concatenate([gaps, np.ones((len(gaps), 1))], axis=1)
    return Sums(terms, lambda sums: np.abs(sums[:-1]).sum(0) / sums[-1])


def calibration_slope(judged: Judged) -> Sums | None:
    """Slope of the logistic regression of truth on the logit of the score. Cox 1958.

    A resample takes one Newton step from the fit of all images (Shao and Tu 1995, 3.4), which costs sums alone.
    """
    x = to_logits(judged.scores)
    fit = fit_logistic(x, judged.truth)
    if fit is None:
        return None
    p = expit(fit.intercept + fit.slope * x)
    miss, weight = judged.truth - p, p * (1 - p)
    terms = np.stack([miss, miss * x, weight, weight * x, weight * x * x], axis=1)

    def combine(sums: Floats) -> Floats:
        level, tilt, w, wx, wxx = sums
        return np.asarray(fit.slope + (w * tilt - wx * level) / (w * wxx - wx * wx))

    return Sums(terms, combine)


def net_benefit(judged: Judged) -> Sums | None:
    """True positives an image, less false positives by the odds of the threshold. Vickers and Elkin 2006."""
    if judged.threshold is None or judged.threshold >= 1:
        return None
    odds = judged.threshold / (1 - judged.threshold)
    return _of_calls(lambda tp, fp, fn, tn: (tp - odds * fp) / (tp + fp + fn + tn))(judged)


OF_RANKING: dict[str, Callable[[Ranking], Floats]] = {
    "auroc": area_under_roc,
    "average_precision": average_precision,
}
"""Name -> its value in each resample, (R,); nan where it is undefined."""
OF_SUMS: dict[str, Callable[[Judged], Sums | None]] = {
    "sensitivity": _of_calls(lambda tp, fp, fn, tn: tp / (tp + fn)),
    "specificity": _of_calls(lambda tp, fp, fn, tn: tn / (tn + fp)),
    "f1": _of_calls(lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn)),
    "net_benefit": net_benefit,
    "brier": brier_score,
    "calibration_slope": calibration_slope,
    "ece": expected_calibration_error,
}
"""Name -> its statistic; None where it is undefined. Of those that need a threshold: at the one chosen."""
