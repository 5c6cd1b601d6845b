"""From which score on a class is said to be there: chosen on the validation images, used on others."""

from collections.abc import Sequence

import numpy as np

from genmed.parts.metrics import Scores, Truth


def choose_threshold(scores: Scores, truth: Truth) -> float | None:
    """The score at which sensitivity + specificity - 1 is highest (Youden 1950); of several the highest.

    scores: (N,); truth: (N,) 1, 0, or -1 for unknown. None where one kind of truth is missing.
    """
    known = truth >= 0
    score, there = np.asarray(scores[known], dtype=np.float64), truth[known] == 1
    if there.all() or not there.any():
        return None
    order = np.argsort(-score, kind="stable")
    score, there = score[order], there[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))  # equal scores fall on one side together
    sensitivity = np.cumsum(there)[last] / there.sum()
    fall_out = np.cumsum(~there)[last] / (~there).sum()
    return float(score[last[np.argmax(sensitivity - fall_out)]])


def choose_thresholds(scores: Scores, truth: Truth, classes: Sequence[str]) -> dict[str, float | None]:
    """Class -> threshold. scores, truth: (N, L)."""
    return {name: choose_threshold(scores[:, at], truth[:, at]) for at, name in enumerate(classes)}
