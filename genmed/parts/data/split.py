"""Three sides, split by patient: a patient's side depends on the split seed and the patient's id alone.

So adding patients moves nobody, and no patient stands on two sides. Where nobody knows the patients, each image counts
as one, and the split says so.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from genmed.ground.errors import DataError
from genmed.ground.randomness import draw_fraction
from genmed.ground.wording import say_count, say_many
from genmed.parts.data.records import SPLITS, Records
from genmed.records.config.sections import Data


@dataclass(frozen=True)
class Split:
    """Which side each image is on, and by whose word."""

    sides: tuple[str, ...]
    """train, val or test for each row."""
    source: str
    """A line for people: the official lists, or our own split with its seed and ratios."""
    official: bool


def split_records(records: Records, config: Data) -> Split:
    """Assigns each image its side.

    Raises DataError where official lists are asked for and absent, a patient stands on two sides, or a side is empty.
    """
    split = assign_sides(records, config)
    check_split(records.groups, split.sides, name_unit(records))
    return split


def assign_sides(records: Records, config: Data) -> Split:
    """The same without a look at what came of it. Raises DataError where official lists are asked for and absent."""
    use_official = bool(records.official) and config.split != "patient"
    if config.split == "official" and not records.official:
        raise DataError(
            "the data have no official split lists",
            "put the lists beside the images, or choose --set data.split=patient",
        )
    side_of = {group: assign_patient(group, config, use_official) for group in set(records.groups)}
    unit = name_unit(records)
    if not use_official:
        sides = tuple(side_of[group] for group in records.groups)
        unknown = "" if records.patients else ", for the data name no patients: one may be on two sides"
        source = (
            f"by {unit}{unknown}, validation {config.val_ratio:g}, test {config.test_ratio:g}, seed {config.split_seed}"
            " (not an official split: do not compare with numbers on one)"
        )
    elif "train_val" in records.official:
        sides = tuple(
            side_of[group] if listed == "train_val" else listed
            for listed, group in zip(records.official, records.groups, strict=True)
        )
        share = f"{config.val_ratio:g} of the other {say_many(unit)}, seed {config.split_seed}"
        source = f"{records.split_origin}: test; validation: {share}"
    else:
        sides, source = records.official, f"{records.split_origin}: train, val and test"
    return Split(sides, source, use_official)


def assign_patient(patient: str, config: Data, official_test: bool = False) -> str:
    """train, val or test for one patient: a function of (split seed, patient) and the ratios."""
    fraction = draw_fraction((config.split_seed, "split", patient))
    test = 0.0 if official_test else config.test_ratio
    if fraction < test:
        return "test"
    return "val" if fraction < test + config.val_ratio else "train"


def name_unit(records: Records) -> str:
    """What stays together in a split: patient, study or image."""
    return "patient" if records.patients else "study" if records.studies else "image"


def check_split(groups: Sequence[str], sides: Sequence[str], unit: str = "patient") -> None:
    """Raises DataError where a patient, or another unit, stands on two sides, or nobody on one."""
    seen: dict[str, str] = {}
    for group, side in zip(groups, sides, strict=True):
        if seen.setdefault(group, side) != side:
            raise DataError(
                f"{unit} {group} is on two sides of the split: {seen[group]} and {side}",
                f"the lists must split by {unit}; mend them, or choose --set data.split=patient",
            )
    counts = Counter(sides)
    for side in SPLITS:
        if not counts[side]:
            raise DataError(
                f"the {side} side of the split has no images ({say_count(len(seen), unit)} in all)",
                f"change --val-ratio, --test-ratio or --split-seed, or bring more {say_many(unit)}",
            )
