"""Images that are equal, or nearly so: in groups, and what each group means for a training."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genmed.parts.data.duplicates import find_near
from genmed.parts.data.records import SPLITS, Records
from genmed.workflows.inspection.looking import Look


@dataclass(frozen=True)
class Group:
    """Two or more images that are one picture."""

    images: tuple[str, ...]
    """Ids."""
    patients: tuple[str, ...]
    """The distinct ones; empty where one of them is not known."""
    sides: tuple[str, ...]
    """The distinct ones, in the order of SPLITS. More than one: the test knows what was trained on."""
    labels_differ: bool
    """A class is there in one of them and not there in another."""
    furthest: int = 0
    """Of near images, the largest distance of a linked pair, in thousandths."""
    negative: bool = False
    """Some pair is near only if one of the two is inverted."""

    @property
    def across_patients(self) -> bool | None:
        """None where a patient is not known."""
        return len(self.patients) > 1 if self.patients else None

    @property
    def across_sides(self) -> bool:
        return len(self.sides) > 1

    def to_json(self) -> dict[str, Any]:
        return {
            "images": list(self.images),
            "patients": list(self.patients),
            "sides": list(self.sides),
            "across_patients": self.across_patients,
            "across_sides": self.across_sides,
            "labels_differ": self.labels_differ,
            "furthest": self.furthest,
            "negative": self.negative,
        }


def find_equal_groups(looks: Sequence[Look], records: Records, sides: Sequence[str]) -> list[Group]:
    """Images whose decoded pixels are equal, in the order of their first."""
    return [_describe(rows, records, sides) for rows in _list_by_digest(looks) if len(rows) > 1]


def find_near_groups(
    looks: Sequence[Look], records: Records, sides: Sequence[str], progress: Callable[[int, int], None]
) -> list[Group]:
    """Images that are nearly equal, with those that are equal to them; a group of equal ones alone is left out."""
    by_digest = _list_by_digest(looks)
    hashes = np.frombuffer(b"".join(looks[rows[0]].hash for rows in by_digest), dtype=np.uint8)
    found = []
    for near in find_near(hashes.reshape(len(by_digest), -1), progress=progress) if by_digest else []:
        rows = sorted(row for member in near.members for row in by_digest[member])
        found.append(_describe(rows, records, sides, near.furthest, near.negative))
    return found


def _list_by_digest(looks: Sequence[Look]) -> list[list[int]]:
    """The rows of each distinct picture."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, look in enumerate(looks):
        if look.digest:
            rows[look.digest].append(row)
    return list(rows.values())


def _describe(
    rows: Sequence[int], records: Records, sides: Sequence[str], furthest: int = 0, negative: bool = False
) -> Group:
    there = {sides[row] for row in rows}
    labels = records.labels[list(rows)]
    known = records.patients and all(records.patients[row] != records.ids[row] for row in rows)  # no stand-ins
    return Group(
        images=tuple(records.ids[row] for row in rows),
        patients=tuple(sorted({records.patients[row] for row in rows})) if known else (),
        sides=tuple(side for side in SPLITS if side in there),
        labels_differ=bool(((labels == 1).any(0) & (labels == 0).any(0)).any()),
        furthest=furthest,
        negative=negative,
    )
