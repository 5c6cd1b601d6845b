"""What a person should know of the data before they train on it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from genmed.ground.errors import DataError
from genmed.ground.wording import name_some, say_count
from genmed.parts.data.counts import compare_counts, tell_wrong_counts
from genmed.parts.data.records import DatasetFacts, Records
from genmed.parts.data.split import Split


def find_oddities(facts: DatasetFacts, records: Records, split: Split, in_colour: int) -> list[str]:
    """Lines for people. in_colour: so many images are in colour."""
    sides = np.array(split.sides)
    there = (records.labels[sides == "train"] == 1).any(0)
    told = []
    if missing := [name for name, known in zip(records.classes, there, strict=True) if not known]:
        told.append(f"Warning: no training image has {name_some(missing)}: nothing can be learned of it")
    told += _tell_incomplete_means(records, sides)
    told += [f"Left out: {_name_once(name, reason)}" for name, reason in records.left_out.items()]
    if in_colour and records.colour == "grey":
        many = say_count(in_colour, "image")
        told.append(f"Note: {many} in colour, read as grey (--set data.colour=rgb keeps it)")
    counts = compare_counts(facts, records, split.sides, split.official)
    return told + [f"Note: {line}" for line in tell_wrong_counts(facts, counts)]


def find_unlearnable(records: Records, sides: Sequence[str]) -> str:
    """Why no training can learn from the data, in all of them or on the train side; empty if one can."""
    is_train = np.array(sides) == "train"
    for where, labels in (("", records.labels), (" on the train side", records.labels[is_train])):
        if len(labels) and not ((labels == 1).any(0) & (labels == 0).any(0)).any():
            return f"nothing can be learned{where}: no class is known to be present in some images and absent in others"
    return ""


def refuse_unlearnable(records: Records, sides: Sequence[str]) -> None:
    """Raise DataError for data from which nothing can be learned."""
    if told := find_unlearnable(records, sides):
        raise DataError(told, "see `genmed data check`; what cells mean: labels.uncertain, labels.blank")


def _tell_incomplete_means(records: Records, sides: npt.NDArray[np.str_]) -> list[str]:
    """Over how many classes a mean is, where some have no figure: a ranking needs images of both kinds."""
    counted = []
    for side in ("val", "test"):
        labels = records.labels[sides == side]
        both = (labels == 1).any(0) & (labels == 0).any(0)
        if not both.all():
            counted.append(f"{int(both.sum())} of {len(both)} classes on {side}")
    if not counted:
        return []
    return [f"Note: means are over {' and '.join(counted)}: of the others no image there is known to have it, or all"]


def _name_once(name: str, reason: str) -> str:
    """Most reasons name the file that they are about."""
    return reason if name in reason else f"{name}, {reason}"
