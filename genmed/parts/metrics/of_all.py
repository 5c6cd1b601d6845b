"""The tables of metrics of all classes together: a new one is one entry more."""

from collections.abc import Callable, Mapping

import numpy as np

from genmed.parts.data.records import TaskKind
from genmed.parts.metrics import Scores, Truth
from genmed.parts.metrics.medmnist import PUBLISHED, accuracy_of_calls
from genmed.parts.metrics.statistics import Floats, Sums


def accuracy(scores: Scores, truth: Truth) -> Sums:
    """Share of images whose highest score is the true class's.

    scores, truth: (N, L), one 1 a row.
    """
    right = (scores.argmax(1) == truth.argmax(1)).astype(np.float64)
    return Sums(np.stack([right, np.ones_like(right)], axis=1), lambda sums: sums[0] / sums[1])


def quadratic_kappa(scores: Scores, truth: Truth) -> Sums:
    """Agreement beyond chance on a scale, errors weighted by the square of their distance. Cohen 1968.

    scores, truth: (N, L), one 1 a row, the classes in their order.
    """
    steps = scores.shape[1]
    cells = np.zeros((len(scores), steps * steps))
    cells[np.arange(len(scores)), truth.argmax(1) * steps + scores.argmax(1)] = 1
    distance = (np.arange(steps)[:, None] - np.arange(steps)) ** 2

    def combine(sums: Floats) -> Floats:
        table = sums.T.reshape(-1, steps, steps)
        chance = table.sum(2)[:, :, None] * table.sum(1)[:, None, :] / table.sum((1, 2))[:, None, None]
        return np.asarray(1 - (table * distance).sum((1, 2)) / (chance * distance).sum((1, 2)))

    return Sums(cells, combine)


OfAll = Mapping[str, Callable[[Scores, Truth], Sums]]
OF_ALL: Mapping[TaskKind, OfAll] = {
    "multi-class": {"accuracy": accuracy},
    "ordinal": {"accuracy": accuracy, "quadratic_kappa": quadratic_kappa},
}
"""By the kind of task: where classes exclude each other."""
OF_DATASET: Mapping[str, OfAll] = {name: {"accuracy": accuracy_of_calls} for name in PUBLISHED}
"""By dataset, for its findings that are judged one by one: as those who made it define them."""


def find_of_all(kind: TaskKind, dataset: str) -> OfAll:
    """By the kind of task, else by dataset."""
    return OF_ALL.get(kind) or OF_DATASET.get(dataset, {})
