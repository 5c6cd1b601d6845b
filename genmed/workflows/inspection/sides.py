"""The split as it would be, with what is wrong with it told and not raised."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from genmed.ground.errors import DataError
from genmed.parts.data.records import SPLITS, Records
from genmed.parts.data.split import assign_patient, split_records
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
    try:
        split = split_records(records, data)
        sides, source, official = split.sides, split.source, split.official
    except DataError:
        if data.split == "official" and not records.official:
            raise
        official = bool(records.official) and data.split != "patient"
        sides = tuple(_assign(records, data, row, official) for row in range(len(records)))
        source = "as it comes with the data" if official else f"our own, seed {data.split_seed}"
    return Sides(
        sides,
        source,
        official,
        _find_apart(records.patients, sides),
        _find_apart(records.studies, sides),
        tuple(side for side in SPLITS if side not in sides),
    )


def _assign(records: Records, data: Data, row: int, official: bool) -> str:
    """As `split_records` does it."""
    listed = records.official[row] if official else "train_val"
    return assign_patient(records.groups[row], data, official) if listed == "train_val" else listed


def _find_apart(units: Sequence[str], sides: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, set[str]] = defaultdict(set)
    for unit, side in zip(units, sides, strict=False):  # no units where nobody knows them
        seen[unit].add(side)
    return tuple(sorted(unit for unit, there in seen.items() if len(there) > 1))
