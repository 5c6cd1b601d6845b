"""MedMNIST v2's benchmark: its two figures, and what its authors published.

Their AUC is the mean of the classes' areas under the ROC curve, each class against the rest: genmed's `auroc_macro`.
Their accuracy is defined below, where classes do not exclude each other. Yang et al., Scientific Data 10:41 (2023), and
the evaluator of their package.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from genmed.parts.metrics import Scores, Truth
from genmed.parts.metrics.statistics import Sums

SOURCE = "Yang et al., MedMNIST v2, Scientific Data 10:41 (2023), Table 3"
METHOD = "ResNet-18 (28 px)"


class Published(NamedTuple):
    """Means of at least three trainings, on the official test."""

    auc: float
    acc: float


PUBLISHED: Mapping[str, Published] = {
    "medmnist:pathmnist": Published(0.983, 0.907),
    "medmnist:chestmnist": Published(0.768, 0.947),
    "medmnist:dermamnist": Published(0.917, 0.735),
    "medmnist:octmnist": Published(0.943, 0.743),
    "medmnist:pneumoniamnist": Published(0.944, 0.854),
    "medmnist:retinamnist": Published(0.717, 0.524),
    "medmnist:breastmnist": Published(0.901, 0.863),
    "medmnist:bloodmnist": Published(0.998, 0.958),
    "medmnist:tissuemnist": Published(0.930, 0.676),
    "medmnist:organamnist": Published(0.997, 0.935),
    "medmnist:organcmnist": Published(0.992, 0.900),
    "medmnist:organsmnist": Published(0.972, 0.782),
}
"""By dataset: ResNet-18 at 28 px."""


def accuracy_of_calls(scores: Scores, truth: Truth) -> Sums:
    """Share of an image's findings on the right side of 0.5, averaged over images; 0.5 itself is a no.

    Where nine findings of ten are absent it is near 0.9 for a network that has learned nothing.

    scores, truth: (N, L), no label unknown.
    """
    right = ((scores > 0.5) == (truth == 1)).mean(1, dtype=np.float64)
    return Sums(np.stack([right, np.ones_like(right)], axis=1), lambda sums: sums[0] / sums[1])
