"""The split as it would be, with what is wrong with it told and not raised."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from genmed.parts.data.records import SPLITS, Records
from genmed.parts.data.split import assign_sides
from genmed.records.config.sections import Data


@dataclass(frozen=True)
class Sides:
    """Each image's side, whether or not a training would take the split."""

    sides: tuple[str, ...]
    source: str
    official: bool
    patients_apart: tuple[str, ...]
    """Patients on more than one side."""
    studies_apart: tuple[str, ...]
    empty: tuple[str, ...]
    """Sides without images."""


def find_sides(records: Records, data: Data) -> Sides:
    """Raises DataError where official lists are asked for and there are none."""
    split = assign_sides(records, data)
    return Sides(
        split.sides,
        split.source,
        split.official,
        _find_apart(records.patients, split.sides),
        _find_apart(records.studies, split.sides),
        tuple(side for side in SPLITS if side not in split.sides),
    )


def _find_apart(units: Sequence[str], sides: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, set[str]] = defaultdict(set)
    for unit, side in zip(units, sides, strict=False):  # no units where nobody knows them
        seen[unit].add(side)
    return tuple(sorted(unit for unit, there in seen.items() if len(there) > 1))
