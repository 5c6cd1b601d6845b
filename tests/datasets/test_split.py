"""The split by patient."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genmed.ground.errors import DataError
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.records import Records
from genmed.parts.data.split import assign_patient, check_split, split_records
from genmed.records.config.sections import Data
from tests.datasets.reading_nih import read


def records_of(patients: list[str]) -> Records:
    ids = tuple(f"{number:05d}" for number in range(len(patients)))
    labels = np.zeros((len(ids), 1), np.int8)
    return Records(ids, ("one",), labels, ImageFiles(Path("/nowhere"), ids), patients=tuple(patients))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    order=st.permutations(range(90)),
    twice=st.sets(st.integers(0, 89)),
    val=st.floats(0.15, 0.4),
    test=st.floats(0.15, 0.4),
    seed=st.integers(0, 2**32 - 1),
)
def test_side_of_a_patient_depends_on_nobody_else(
    order: list[int], twice: set[int], val: float, test: float, seed: int
) -> None:
    data = Data(val_ratio=val, test_ratio=test, split_seed=seed)

    def split(patients: list[str]) -> dict[str, str]:
        side_of: dict[str, str] = {}
        for patient, side in zip(patients, split_records(records_of(patients), data).sides, strict=True):
            assert side_of.setdefault(patient, side) == side
        return side_of

    everyone = split([str(number) for number in range(90)])
    some = split([str(number) for number in (*order[:75], *sorted(twice & set(order[:75])))])
    assert some.items() <= everyone.items()


def test_split_seed_deals_anew_and_validation_ratio_moves_nobody_in_or_out_of_the_test() -> None:
    records = records_of([str(number) for number in range(500)])

    def side(name: str, **data: Any) -> set[int]:
        return {row for row, on in enumerate(split_records(records, Data(**data)).sides) if on == name}

    assert side("test") != side("test", split_seed=1)
    assert side("test") == side("test", val_ratio=0.4)
    assert side("val", val_ratio=0.1) < side("val", val_ratio=0.3)
    assert side("test", test_ratio=0.1) < side("test", test_ratio=0.3)
    assert "validation 0.2, test 0.2, seed 0 (not an official split" in split_records(records, Data()).source


def test_patient_on_two_sides_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="patient b is on two sides of the split: train and test"):
        check_split(["a", "b", "b"], ["val", "train", "test"])


@pytest.mark.parametrize(("ratios", "side"), [((0.0, 0.2), "val"), ((0.2, 0.0), "test"), ((0.98, 0.019), "train")])
def test_empty_side_is_refused(nih: Path, ratios: tuple[float, float], side: str) -> None:
    with pytest.raises(DataError, match=f"the {side} side of the split has no images"):
        split_records(read(nih), Data(val_ratio=ratios[0], test_ratio=ratios[1]))


def test_image_whose_patient_nobody_knows_is_split_by_itself() -> None:
    ids = tuple(f"{number:05d}" for number in range(300))
    records = Records(ids, ("one",), np.zeros((300, 1), np.int8), ImageFiles(Path("/nowhere"), ids))
    split = split_records(records, Data())
    assert split.sides == tuple(assign_patient(name, Data()) for name in ids)
    assert split.source.startswith("by image, for the data name no patients: one may be on two sides, validation 0.2")


def test_official_sides_are_taken_as_they_are_where_validation_is_among_them() -> None:
    ids = tuple(f"{number}" for number in range(6))
    official = ("train", "train", "val", "test", "val", "train")
    records = Records(ids, ("one",), np.zeros((6, 1), np.int8), ImageFiles(Path("/nowhere"), ids), official=official)
    split = split_records(records, Data())
    assert (split.sides, split.official) == (official, True)
