"""Three sides, split by patient: a patient's side depends on the split seed and the patient's id alone.

So adding patients moves nobody, and no patient stands on two sides.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from genmed.ground.errors import DataError
from genmed.ground.randomness import draw_fraction
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
    use_official = bool(records.official) and config.split != "patient"
    if config.split == "official" and not records.official:
        raise DataError(
            "the data have no official split lists",
            "put the lists beside the images, or choose --set data.split=patient",
        )
    side_of = {patient: assign_patient(patient, config, use_official) for patient in set(records.patients)}
    if use_official:
        sides = tuple(
            "test" if listed == "test" else side_of[patient]
            for listed, patient in zip(records.official, records.patients, strict=True)
        )
        source = f"official test list; validation: {config.val_ratio:g} of the other patients, seed {config.split_seed}"
    else:
        sides = tuple(side_of[patient] for patient in records.patients)
        source = (
            f"by patient, validation {config.val_ratio:g}, test {config.test_ratio:g}, seed {config.split_seed}"
            " (not an official split: do not compare with numbers on one)"
        )
    check_split(records.patients, sides)
    return Split(sides, source, use_official)


def assign_patient(patient: str, config: Data, official_test: bool = False) -> str:
    """train, val or test for one patient: a function of (split seed, patient) and the ratios."""
    fraction = draw_fraction((config.split_seed, "split", patient))
    test = 0.0 if official_test else config.test_ratio
    if fraction < test:
        return "test"
    return "val" if fraction < test + config.val_ratio else "train"


def check_split(patients: Sequence[str], sides: Sequence[str]) -> None:
    """Raises DataError where a patient stands on two sides, or nobody on one."""
    seen: dict[str, str] = {}
    for patient, side in zip(patients, sides, strict=True):
        if seen.setdefault(patient, side) != side:
            raise DataError(
                f"patient {patient} is on two sides of the split: {seen[patient]} and {side}",
                "the lists must split by patient; mend them, or choose --set data.split=patient",
            )
    counts = Counter(sides)
    for side in SPLITS:
        if not counts[side]:
            raise DataError(
                f"the {side} side of the split has no images ({len(seen)} patients in all)",
                "change --val-ratio, --test-ratio or --split-seed, or bring more patients",
            )
