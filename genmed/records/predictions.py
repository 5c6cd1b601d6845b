"""The table of scores that a run leaves of a set of images: one row an image."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genmed.records.run_folder import write_table

UNKNOWN = -1


class Prediction(NamedTuple):
    """Of one image; '' where nobody knows patient or site."""

    id: str
    patient: str
    site: str
    split: str
    truth: Sequence[int]
    """1, 0, or -1 for unknown, class by class."""
    scores: Sequence[float]


def write_predictions(path: Path, classes: Sequence[str], predictions: Iterable[Prediction]) -> None:
    """An unknown truth is an empty cell; 9 digits hold a float32 exactly."""
    names = ["id", "patient", "site", "split"]
    names += [f"truth_{label}" for label in classes] + [f"score_{label}" for label in classes]
    write_table(path, names, map(_to_row, predictions))


def _to_row(prediction: Prediction) -> list[Any]:
    truth = ["" if label == UNKNOWN else label for label in prediction.truth]
    return [*prediction[:4], *truth, *(f"{score:.9g}" for score in prediction.scores)]
