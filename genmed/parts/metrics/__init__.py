"""The table of metrics: a new one is a function over one class here or in a file beside, and one entry below."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Truth = npt.NDArray[np.int8]


def area_under_roc(scores: Scores, truth: Truth) -> float:
    """Probability that a random positive scores above a random negative; ties count half. Hanley and McNeil 1982.

    scores: (N,) any order-preserving score; truth: (N,) 0 and 1, both present.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))


def average_precision(scores: Scores, truth: Truth) -> float:
    """Precision averaged over recall, as scikit-learn defines it: no interpolation.

    scores: (N,); truth: (N,) 0 and 1, both present.
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, scores))


def accuracy(scores: Scores, truth: Truth) -> float:
    """Share of images whose highest score is the true class's.

    scores: (N, L); truth: (N, L), one 1 a row.
    """
    return float((scores.argmax(1) == truth.argmax(1)).mean())


def quadratic_kappa(scores: Scores, truth: Truth) -> float | None:
    """Agreement beyond chance on a scale, errors weighted by the square of their distance. Cohen 1968.

    scores: (N, L); truth: (N, L), one 1 a row. None where all agree on one step, for then chance agrees as well.
    """
    from sklearn.metrics import cohen_kappa_score

    found, true = scores.argmax(1), truth.argmax(1)
    if len({*found.tolist(), *true.tolist()}) < 2:
        return None
    return float(cohen_kappa_score(true, found, labels=range(scores.shape[1]), weights="quadratic"))


METRICS: dict[str, Callable[[Scores, Truth], float]] = {
    "auroc": area_under_roc,
    "average_precision": average_precision,
}
"""Of one class; where classes exclude each other, of one against the rest."""
WHOLE_METRICS: dict[str, dict[str, Callable[[Scores, Truth], float | None]]] = {
    "multi-class": {"accuracy": accuracy},
    "ordinal": {"accuracy": accuracy, "quadratic_kappa": quadratic_kappa},
}
"""Of all classes together, by the kind of task."""


def measure(
    split: str, scores: Scores, truth: Truth, classes: Sequence[str], kind: str = "multi-label"
) -> dict[str, float | None]:
    """`<split>_<metric>_<class>` for each class, then `<split>_<metric>_macro`: the mean over classes that have one.

    scores, truth: (N, L); unknown labels (-1) are left out, class by class. A class that lacks positives or negatives
    has no figure: None, and left out of the mean. Then `<split>_<metric>` of all classes, where the kind has any.
    """
    found: dict[str, float | None] = {}
    for name, function in METRICS.items():
        values: list[float] = []
        for column, label in enumerate(classes):
            known = truth[:, column] >= 0
            true = truth[known, column]
            defined = len(np.unique(true)) == 2
            value = function(scores[known, column], true) if defined else None
            found[f"{split}_{name}_{label}"] = value
            values += [] if value is None else [value]
        found[f"{split}_{name}_macro"] = sum(values) / len(values) if values else None
    judged = np.flatnonzero((truth >= 0).all(1))
    for name, whole in WHOLE_METRICS.get(kind, {}).items():
        found[f"{split}_{name}"] = whole(scores[judged], truth[judged]) if len(judged) else None
    return found


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
