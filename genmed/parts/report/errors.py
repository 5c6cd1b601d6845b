"""The calls of which the network was surest and that were wrong: what a reader looks at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genmed.parts.data.records import EXCLUSIVE, TaskKind
from genmed.parts.metrics import Scores, Truth

COUNT = 12
"""On the sheet."""


@dataclass(frozen=True)
class WrongCall:
    """An image that was called wrongly."""

    row: int
    """Among the scored images."""
    column: int
    """The class that was called, or missed."""
    name: str
    """Of that class."""
    score: float
    called: bool
    """False: the class is there and was missed."""
    threshold: float | None = None
    """From which score on the class is called; None where the highest score is."""
    truth: str = ""
    """The true class, where classes exclude each other."""

    @property
    def kind(self) -> str:
        """`false positive`, `false negative`, `is effusion`."""
        return f"is {self.truth}" if self.truth else "false positive" if self.called else "false negative"


def choose_errors(
    scores: Scores,
    truth: Truth,
    classes: Sequence[str],
    kind: TaskKind,
    thresholds: Mapping[str, float | None],
    count: int = COUNT,
) -> list[WrongCall]:
    """The surest first; class by class in turn where classes are judged each by itself. No image twice.

    scores, truth: (N, L), -1 for unknown.
    """
    if kind in EXCLUSIVE:
        return _choose_exclusive(scores, truth, classes)[:count]
    queues = [_list_errors(scores, truth, column, name, thresholds.get(name)) for column, name in enumerate(classes)]
    chosen: list[WrongCall] = []
    taken: set[int] = set()
    while len(chosen) < count and any(queues):
        for queue in queues:
            while queue and queue[0].row in taken:
                queue.pop(0)
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
                taken.add(chosen[-1].row)
    return chosen


def _list_errors(scores: Scores, truth: Truth, column: int, name: str, threshold: float | None) -> list[WrongCall]:
    """Of one class, by how many images it was ranked above, or below where it was missed.

    By ranks and not by scores: those of a rare finding are all small.
    """
    known = np.flatnonzero(truth[:, column] >= 0)
    score, there = scores[known, column].astype(np.float64), truth[known, column] == 1
    if threshold is None or there.all() or not there.any():
        return []
    called = score >= threshold
    wrong = np.flatnonzero(called != there)
    rank = np.searchsorted(np.sort(score), score) / len(score)
    surest = wrong[np.argsort(-np.where(called, rank, 1 - rank)[wrong], kind="stable")]
    return [WrongCall(int(known[at]), column, name, float(score[at]), bool(called[at]), threshold) for at in surest]


def _choose_exclusive(scores: Scores, truth: Truth, classes: Sequence[str]) -> list[WrongCall]:
    found, true = scores.argmax(1).tolist(), truth.argmax(1).tolist()
    wrong = np.flatnonzero((truth >= 0).all(1) & (scores.argmax(1) != truth.argmax(1)))
    surest = wrong[np.argsort(-scores[wrong].max(1), kind="stable")]
    return [
        WrongCall(row, found[row], classes[found[row]], float(scores[row, found[row]]), True, truth=classes[true[row]])
        for row in surest.tolist()
    ]
