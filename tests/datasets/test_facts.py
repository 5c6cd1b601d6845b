"""The table of datasets: what is said of each without having it."""

from dataclasses import replace
from pathlib import Path

import pytest

from genmed.ground.errors import ConfigError
from genmed.parts.data.datasets import DATASETS, find_dataset, is_related
from genmed.parts.data.records import SPLITS
from genmed.records.config import Config

MEDMNIST = {
    "pathmnist": 107_180,
    "chestmnist": 112_120,
    "dermamnist": 10_015,
    "octmnist": 109_309,
    "pneumoniamnist": 5_856,
    "retinamnist": 1_600,
    "breastmnist": 780,
    "bloodmnist": 17_092,
    "tissuemnist": 236_386,
    "organamnist": 58_830,
    "organcmnist": 23_583,
    "organsmnist": 25_211,
}
"""Images of each set, of its third release."""


def test_table_has_the_datasets_that_the_guide_names() -> None:
    ours = {"phantom", "nih", "chexpert", "vinbigdata", "rsna", "covidx", "folder", "manifest"}
    assert set(DATASETS) == ours | {f"medmnist:{flag}" for flag in MEDMNIST}


@pytest.mark.parametrize("name", DATASETS)
def test_dataset_says_what_it_needs_whose_it_is_and_how_many_images_it_has(name: str) -> None:
    facts = DATASETS[name]
    assert facts.name == name
    assert facts.title
    assert facts.licence
    assert facts.needs or facts.built_in
    if name not in ("folder", "manifest"):
        assert facts.citation
    if name not in ("folder", "manifest", "covidx"):
        assert facts.classes
        assert facts.task
        assert facts.counts["images"] > 500
    if facts.sources:
        assert facts.lineage


@pytest.mark.parametrize("flag", MEDMNIST)
def test_sides_of_medmnist_add_up_to_its_images(flag: str) -> None:
    counts = DATASETS[f"medmnist:{flag}"].counts
    assert counts["images"] == MEDMNIST[flag] == sum(counts[side] for side in SPLITS)


@pytest.mark.parametrize(
    ("one", "other", "related"),
    [
        ("rsna", "nih", True),
        ("nih", "rsna", True),
        ("covidx", "rsna", True),
        ("covidx", "nih", True),
        ("medmnist:chestmnist", "nih", True),
        ("medmnist:chestmnist", "covidx", True),
        ("medmnist:organamnist", "medmnist:organsmnist", True),
        ("medmnist:octmnist", "medmnist:pneumoniamnist", True),
        ("nih", "chexpert", False),
        ("phantom", "nih", False),
        ("medmnist:bloodmnist", "medmnist:pathmnist", False),
    ],
)
def test_datasets_that_share_images_are_related(one: str, other: str, related: bool) -> None:
    assert is_related(one, other) is related


def test_unknown_dataset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        find_dataset("chexprt")
    assert caught.value.hint == "did you mean chexpert?"


def test_class_is_not_called_what_means_are_called() -> None:
    records = find_dataset("phantom").load_records(Path(), Config())
    with pytest.raises(ConfigError, match="no class can be called macro"):
        replace(records, classes=("macro", *records.classes[1:]))
