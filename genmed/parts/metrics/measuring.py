"""What a training measures of a side: the functions that intervals are made of, with each image drawn once.

So a run's own figures and those of its evaluation are the same to the bit.
"""

from collections.abc import Sequence

import numpy as np

from genmed.parts.data.records import TaskKind
from genmed.parts.metrics import Scores, Truth
from genmed.parts.metrics.of_all import OF_ALL
from genmed.parts.metrics.of_class import OF_RANKING
from genmed.parts.metrics.statistics import Floats, Order, Ranking, Resamples, mean_of_defined, to_plain


def measure(
    split: str, scores: Scores, truth: Truth, classes: Sequence[str], kind: TaskKind = "multi-label"
) -> dict[str, float | None]:
    """`<split>_<metric>_<class>` for each class, then `<split>_<metric>_macro`: the mean over classes that have one.

    scores, truth: (N, L); unknown labels (-1) are left out, class by class. A class that lacks positives or negatives
    has no figure: None, and left out of the mean. Then `<split>_<metric>` of all classes, where the kind has any.
    """
    rankings = [_rank(scores[:, column], truth[:, column]) for column in range(len(classes))]
    known = (truth >= 0).all(1)
    found: dict[str, Floats] = {}
    for metric, of_ranking in OF_RANKING.items():
        values = [_UNDEFINED if ranking is None else of_ranking(ranking) for ranking in rankings]
        found |= {f"{metric}_{label}": value for label, value in zip(classes, values, strict=True)}
        found[f"{metric}_macro"] = mean_of_defined(values)
    for metric, of_all in OF_ALL.get(kind, {}).items():
        found[metric] = of_all(scores[known], truth[known]).of_each_once() if known.any() else _UNDEFINED
    return {f"{split}_{metric}": to_plain(value[0]) for metric, value in found.items()}


_UNDEFINED = np.full(1, np.nan)


def _rank(scores: Scores, truth: Truth) -> Ranking | None:
    known = truth >= 0
    there = truth[known] == 1
    if there.all() or not there.any():
        return None
    once = Resamples(np.ones((len(there), 1), np.uint8))
    return Order(scores[known].astype(np.float64), there).rank(once, np.arange(len(there)))


def pool_studies(scores: Scores, truth: Truth, studies: Sequence[str]) -> tuple[Scores, Truth]:
    """One row a study: the highest score and label of its images, class by class; as they are where there are none.

    scores: (N, L); truth: (N, L) with -1 for unknown; studies: (N,) or empty.
    """
    if not studies:
        return scores, truth
    _, codes = np.unique(np.asarray(studies), return_inverse=True)
    count = int(codes.max()) + 1
    pooled = np.full((count, scores.shape[1]), -np.inf, dtype=scores.dtype)
    known = np.full((count, truth.shape[1]), -1, dtype=truth.dtype)
    np.maximum.at(pooled, codes, scores)
    np.maximum.at(known, codes, truth)
    return pooled, known
