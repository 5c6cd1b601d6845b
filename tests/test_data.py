"""Data: NIH's layout and table, decoding, the split, the cache of bytes, augmentation, normalisation."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genmed.engine.normalise import Scaling, choose_scaling
from genmed.parts.data import augmentation
from genmed.parts.data.augmentation import Strength, augment, choose_strength, draw_epoch
from genmed.parts.data.cache import ImageBytes, ImageDigests
from genmed.parts.data.datasets import nih as reader
from genmed.parts.data.loader import plan_epoch
from genmed.parts.data.records import Records
from genmed.records.config.sections import Augmentation, Data, Normalisation
from tests.harness import Genmed

Arguments = Callable[..., list[object]]
TABLE = "Data_Entry_2017_v2020.csv"


@pytest.fixture
def copy(nih: Path, tmp_path: Path) -> Path:
    """A copy of the small dataset that a test may change."""
    return Path(shutil.copytree(nih, tmp_path / "copy"))


def read(root: Path, **data: Any) -> Records:
    return reader.load_records(root, Data(dataset="nih", root=str(root), **data))


def same(one: Records, other: Records) -> bool:
    return (one.ids, one.patients, one.sites) == (other.ids, other.patients, other.sites) and np.array_equal(
        one.labels, other.labels
    )


# Augmentation

DRAW = {name: position for position, name in enumerate(("flip", "turn", "right", "down", "zoom", "contrast", "bright"))}


def draws(count: int = 1, **given: float) -> npt.NDArray[np.float64]:
    """Rows of draws that change nothing (flip at 0.999) but what is given."""
    row = np.full(augmentation.DRAWS, 0.5)
    row[DRAW["flip"]] = 0.999
    for name, value in given.items():
        row[DRAW[name]] = value
    return np.tile(row, (count, 1))


def noise(count: int = 4, side: int = 33) -> torch.Tensor:
    values = np.random.Generator(np.random.Philox(3)).integers(0, 256, (count, 1, side, side))
    return torch.from_numpy(values).float()


def dot(x: float, y: float, side: int = 65) -> torch.Tensor:
    """A blot at (x, y) px right of and below the centre."""
    across = torch.arange(side) - side // 2
    far = (across[None, :] - x) ** 2 + (across[:, None] - y) ** 2
    return (255 * torch.exp(-far / 4.5))[None, None]


def find_dot(image: torch.Tensor) -> tuple[float, float]:
    """Its centre of mass, in px right of and below the centre."""
    across = torch.arange(image.shape[-1]) - image.shape[-1] // 2
    weight = image[0, 0] / image.sum()
    return float((weight.sum(0) * across).sum()), float((weight.sum(1) * across).sum())


@pytest.mark.parametrize("preset", ["none", "light", "standard", "chexnet"])
def test_no_strength_is_the_identity(preset: str) -> None:
    off = dict.fromkeys(("flip", "rotate", "translate", "scale", "contrast", "brightness"), 0.0)
    strength = choose_strength(Augmentation(preset=preset, **off))  # type: ignore[arg-type]
    images = noise()
    assert torch.equal(augment(images, draw_epoch(1, 1, 4), strength), images)
    assert choose_strength(Augmentation(preset="none")) == Strength()


def test_draws_in_the_middle_leave_the_image_in_place() -> None:
    images = noise()
    strong = Strength(flip=0.5, rotate=90, translate=0.5, scale=0.9, contrast=0.9, brightness=0.9)
    torch.testing.assert_close(augment(images, draws(4), strong), images, atol=0.02, rtol=0)


def test_flip_is_exact_and_by_the_draw_of_each_image() -> None:
    images = noise()
    rows = draws(4)
    rows[:, DRAW["flip"]] = [0.0, 0.49, 0.5, 0.51]
    changed = augment(images, rows, Strength(flip=0.5))
    assert torch.equal(changed, torch.cat([images[:2].flip(-1), images[2:]]))
    assert torch.equal(augment(images, draw_epoch(1, 1, 4), Strength(flip=1.0)), images.flip(-1))


@pytest.mark.parametrize("turn", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("most", [10.0, 45.0])
def test_rotation_moves_a_dot_along_its_circle(turn: float, most: float) -> None:
    angle = 2 * math.atan((2 * turn - 1) * math.radians(most) / 2)
    assert abs(angle - (2 * turn - 1) * math.radians(most)) < 0.06 * math.radians(most)
    x, y = find_dot(augment(dot(20, 0), draws(turn=turn), Strength(rotate=most)))
    # What is at g in the result was at R g: the dot goes the other way.
    assert (x, y) == (pytest.approx(20 * math.cos(angle), abs=0.1), pytest.approx(-20 * math.sin(angle), abs=0.1))


def test_shift_is_by_the_share_of_the_side() -> None:
    images = noise(1, 40)
    changed = augment(images, draws(right=1.0, down=0.0), Strength(translate=0.25))
    expected = torch.zeros_like(images)
    expected[..., 10:, :-10] = images[..., :-10, 10:]
    torch.testing.assert_close(changed, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(("zoom", "factor"), [(0.0, 0.75), (1.0, 1.25)])
def test_scale_moves_a_dot_from_the_centre(zoom: float, factor: float) -> None:
    x, y = find_dot(augment(dot(12, -16), draws(zoom=zoom), Strength(scale=0.25)))
    assert (x, y) == (pytest.approx(12 * factor, abs=0.1), pytest.approx(-16 * factor, abs=0.1))


def test_shades_are_about_middle_grey_and_bounded() -> None:
    images = torch.tensor([0.0, 100.0, 127.5, 200.0, 255.0]).view(1, 1, 1, 5)
    darker = augment(images, draws(contrast=0.0), Strength(contrast=0.5))
    assert darker.flatten().tolist() == [63.75, 113.75, 127.5, 163.75, 191.25]
    brighter = augment(images, draws(bright=1.0), Strength(brightness=0.2))
    assert brighter.flatten().tolist() == [51.0, 151.0, 178.5, 251.0, 255.0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(1, 100), strength=st.sampled_from([*augmentation.PRESETS, ""]))
def test_values_stay_grey_values_whatever_is_drawn(seed: int, epoch: int, strength: str) -> None:
    strongest = Strength(flip=0.5, rotate=90, translate=0.5, scale=0.99, contrast=0.99, brightness=0.99)
    changed = augment(noise(3, 9), draw_epoch(seed, epoch, 3), augmentation.PRESETS.get(strength, strongest))
    assert changed.shape == (3, 1, 9, 9)
    assert changed.dtype == torch.float32
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 255.001


def test_what_befalls_an_image_does_not_depend_on_its_batch() -> None:
    everyone = draw_epoch(seed=5, epoch=2, count=40)
    assert np.array_equal(draw_epoch(5, 2, 100)[:40], everyone)
    assert ((everyone >= 0) & (everyone < 1)).all()
    assert len(np.unique(everyone)) == everyone.size
    images, strength = noise(40), Strength(flip=0.5, rotate=30, translate=0.1, scale=0.2, contrast=0.3, brightness=0.3)
    one, other = np.array([7, 3, 9]), np.array([20, 9, 30, 31, 7])
    first = augment(images[one], everyone[one], strength)
    second = augment(images[other], everyone[other], strength)
    torch.testing.assert_close(first[0], second[4], atol=1e-3, rtol=0)
    torch.testing.assert_close(first[2], second[1], atol=1e-3, rtol=0)
    assert not np.array_equal(draw_epoch(5, 3, 40), everyone)
    assert not np.array_equal(draw_epoch(6, 2, 40), everyone)


def test_named_change_replaces_the_preset_s_own() -> None:
    chosen = choose_strength(Augmentation(preset="standard", rotate=0, flip=0.25))
    preset = augmentation.PRESETS["standard"]
    assert chosen == Strength(**{**preset.__dict__, "rotate": 0, "flip": 0.25})


# Normalisation and order


def write_images(folder: Path, pixels: npt.NDArray[np.uint8]) -> ImageBytes:
    (folder / "pixels.u8").write_bytes(pixels.tobytes())
    return ImageBytes(folder / "pixels.u8", pixels.shape, ImageDigests((), (), ()))


def test_mean_and_std_are_those_of_the_training_bytes(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.Philox(11))
    pixels = random.integers(0, 256, (2600, 1, 3, 3), dtype=np.uint8)
    train = np.flatnonzero(np.arange(2600) % 13 != 0)
    pixels[::13] = 255
    values = [int(value) for value in pixels[train].reshape(-1)]
    mean = Fraction(sum(values), len(values))
    variance = Fraction(sum(value * value for value in values), len(values)) - mean * mean
    images = write_images(tmp_path, pixels)
    scaling = choose_scaling(Normalisation(), images, train)
    assert isinstance(scaling.std, float)
    assert scaling.mean == pytest.approx(float(mean / 255), rel=4e-16)
    assert Fraction(scaling.std) ** 2 == pytest.approx(variance / 255**2, rel=1e-15)
    assert choose_scaling(Normalisation(), images, train[::-1].copy()) == scaling


def test_chosen_scaling_needs_no_image_and_black_images_are_not_divided_by_zero(tmp_path: Path) -> None:
    black = write_images(tmp_path, np.zeros((2, 1, 4, 4), dtype=np.uint8))
    rows = np.arange(2)
    fixed = Normalisation(method="fixed", mean=0.4, std=0.3)
    assert choose_scaling(fixed, black, rows) == Scaling(0.4, 0.3)
    assert choose_scaling(Normalisation(method="half"), black, rows) == Scaling(0.5, 0.5)
    assert choose_scaling(Normalisation(method="imagenet"), black, rows) == Scaling(0.449, 0.226)
    assert choose_scaling(Normalisation(), black, rows) == Scaling(0.0, 1e-3)


@pytest.mark.parametrize(
    ("images", "batch_size", "shards", "sizes"),
    [
        (24, 8, 1, [8, 8, 8]),
        (26, 8, 1, [8, 8, 8, 2]),
        (25, 8, 1, [8, 8, 8]),  # never a batch of one
        (29, 8, 2, [8, 8, 8, 4]),  # each shard as many
        (27, 8, 2, [8, 8, 8]),
        (3, 8, 1, [3]),
        (3, 8, 2, []),
    ],
)
def test_epoch_takes_each_image_once_and_leaves_no_shard_alone(
    images: int, batch_size: int, shards: int, sizes: list[int]
) -> None:
    train = np.arange(100, 100 + images)
    plan = plan_epoch(42, 1, train, batch_size, shards)
    assert [len(batch) for batch in plan] == sizes
    rows = [int(row) for batch in plan for row in batch]
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(train.tolist())
    assert rows == [] or rows != sorted(rows)
    other = [int(row) for batch in plan_epoch(42, 2, train, batch_size, shards) for row in batch]
    assert other != rows or not rows


def test_split_document_counts_add_up(trained: Genmed) -> None:
    described = json.loads((trained.run_folder() / "data.json").read_text())
    with open(trained.run_folder() / "data-images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for side, counted in described["split"]["sides"].items():
        mine = [row for row in rows if row["split"] == side]
        assert counted["images"] == len(mine)
        assert counted["patients"] == len({row["patient"] for row in mine})
        for label, count in counted["positives"].items():
            assert count == sum(label in row["labels"].split("|") for row in mine)
