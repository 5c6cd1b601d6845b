"""The table of metrics: a new one is a function over one class here or in a file beside, and one entry below."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Truth = npt.NDArray[np.uint8]


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


METRICS: dict[str, Callable[[Scores, Truth], float]] = {
    "auroc": area_under_roc,
    "average_precision": average_precision,
}


def measure(split: str, scores: Scores, truth: Truth, classes: Sequence[str]) -> dict[str, float | None]:
    """`<split>_<metric>_<class>` for each class, then `<split>_<metric>_macro`: the mean over classes that have one.

    scores, truth: (N, L). A class that lacks positives or negatives has no figure: None, and left out of the mean.
    """
    found: dict[str, float | None] = {}
    for name, function in METRICS.items():
        values: list[float] = []
        for column, label in enumerate(classes):
            defined = len(np.unique(truth[:, column])) == 2
            value = function(scores[:, column], truth[:, column]) if defined else None
            found[f"{split}_{name}_{label}"] = value
            values += [] if value is None else [value]
        found[f"{split}_{name}_macro"] = sum(values) / len(values) if values else None
    return found
