"""Augmentation: what each change does to an image, what it is a function of, and that old presets keep their bits."""

import hashlib
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import grid_sample

from genmed.ground.randomness import draw_uniform
from genmed.parts.data import augmentation
from genmed.parts.data.augmentation import Strength, augment, choose_strength, draw_epoch
from genmed.records.config.sections import Augmentation

NAMES = (
    *("flip", "turn", "right", "down", "zoom", "contrast", "bright"),
    *("area", "ratio", "across", "along"),
)
DRAW = {name: position for position, name in enumerate(NAMES)}
OLD_PRESETS = ["none", "light", "standard", "chexnet"]
NEW_PRESETS = ["crop", "baltruschat", "xrv"]


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


@pytest.mark.parametrize("preset", augmentation.PRESETS)
def test_no_strength_is_the_identity(preset: str) -> None:
    off = {name: 1.0 if name in ("crop", "aspect") else 0.0 for name in Strength().__dict__}
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
    strongest = Strength(0.5, 90, translate=0.5, scale=0.99, contrast=0.99, brightness=0.99, crop=0.01, aspect=10)
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
    images = noise(40)
    strength = Strength(0.5, 30, translate=0.1, scale=0.2, contrast=0.3, brightness=0.3, crop=0.3, aspect=1.5)
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


# Random patches


def patch_of(strength: Strength, side: int = 64, **given: float) -> tuple[float, float, float, float]:
    """Left, right, top and bottom pixel that the result was sampled from (0 and side - 1 for the whole image)."""
    ramp = torch.arange(side).float().expand(1, 1, side, side)
    across, down = (augment(images, draws(**given), strength) for images in (ramp, ramp.transpose(2, 3)))
    middle = side // 2
    return (
        float(across[0, 0, middle, 0]),
        float(across[0, 0, middle, -1]),
        float(down[0, 0, 0, middle]),
        float(down[0, 0, -1, middle]),
    )


@pytest.mark.parametrize(("area", "share"), [(0.0, 0.25), (1 / 3, 0.5), (1.0, 1.0)])
def test_patch_has_the_drawn_share_of_the_area(area: float, share: float) -> None:
    left, right, top, bottom = patch_of(Strength(crop=0.25), area=area)
    assert right - left == pytest.approx(63 * math.sqrt(share), abs=1e-3)
    assert bottom - top == pytest.approx(63 * math.sqrt(share), abs=1e-3)
    assert left + right == pytest.approx(63, abs=1e-3)
    assert top + bottom == pytest.approx(63, abs=1e-3)


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 3 / 4), (0.5, 1.0), (1.0, 4 / 3)])
def test_patch_has_the_drawn_ratio_of_width_to_height(ratio: float, expected: float) -> None:
    left, right, top, bottom = patch_of(Strength(crop=0.25, aspect=4 / 3), area=0.0, ratio=ratio)
    assert (right - left) / (bottom - top) == pytest.approx(expected, abs=1e-4)
    assert (right - left) * (bottom - top) == pytest.approx(63 * 63 / 4, rel=1e-4)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_ratio_of_a_large_patch_is_what_fits_into_the_image(ratio: float) -> None:
    left, right, top, bottom = patch_of(Strength(crop=0.9, aspect=2), area=0.0, ratio=ratio)
    sides = sorted([(right - left) / 63, (bottom - top) / 63])
    assert sides == pytest.approx([0.9, 1.0], abs=1e-4)
    assert (right - left > bottom - top) == (ratio == 1.0)


@pytest.mark.parametrize(("across", "along"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.0)])
def test_patch_lies_where_it_is_drawn_and_ends_at_the_outermost_pixels(across: float, along: float) -> None:
    left, right, top, bottom = patch_of(Strength(crop=0.25), area=0.0, across=across, along=along)
    assert (left + right) / 2 == pytest.approx(31.5 + (across - 0.5) * 31.5, abs=0.01)
    assert (top + bottom) / 2 == pytest.approx(31.5 + (along - 0.5) * 31.5, abs=0.01)


def test_patches_alone_never_show_the_black_outside() -> None:
    white = torch.full((500, 1, 24, 40), 255.0)
    changed = augment(white, draw_epoch(3, 1, 500), Strength(flip=0.5, crop=0.08, aspect=4 / 3))
    assert changed.min() > 254.9
    turned = augment(white, draw_epoch(3, 1, 500), augmentation.PRESETS["baltruschat"])
    assert turned.min() < 1


def test_turn_is_done_to_the_enlarged_patch() -> None:
    images = dot(0, 0) + dot(8, 0)
    strength = Strength(rotate=30, crop=0.25, aspect=4 / 3)
    changed = augment(images, draws(turn=1.0, area=0.0, ratio=1.0), strength)
    angle = 2 * math.atan(math.radians(30) / 2)
    # The patch is as wide as sqrt(1 / 3) of the image. The centre of mass of both dots is halfway between them.
    half = 8 * math.sqrt(3) / 2
    assert find_dot(changed) == (
        pytest.approx(half * math.cos(angle), abs=0.1),
        pytest.approx(-half * math.sin(angle), abs=0.1),
    )


def test_shares_and_ratios_of_many_patches_are_spread_evenly() -> None:
    rows = draw_epoch(9, 1, 20000)[:, augmentation.CHANGE_DRAWS :]
    ones, zeros = np.ones(len(rows)), np.zeros(len(rows))
    affine = (ones, zeros, zeros, zeros, ones, zeros)
    strength = Strength(crop=0.08, aspect=4 / 3)
    width, _, right, _, height, down = augmentation._enlarge_patch(affine, list(rows.T), strength, (64, 64))
    area, logarithm = width * height, np.log(width / height) / math.log(4 / 3)
    assert np.histogram(area, 4, (0.08, 1))[0] == pytest.approx([5000] * 4, abs=250)
    # Up to an area of 3/4 every ratio fits, so that none is held back.
    assert np.histogram(logarithm[area < 0.75], 4, (-1, 1))[0] / (area < 0.75).sum() == pytest.approx(
        [0.25] * 4, abs=0.01
    )
    assert (width < 1 + 1e-12).all()
    assert (height < 1 + 1e-12).all()
    assert (np.abs(right) <= 1 - width + 1e-12).all()
    assert (np.abs(down) <= 1 - height + 1e-12).all()


# Presets, channels and bits


@pytest.mark.parametrize("preset", augmentation.PRESETS)
def test_three_channels_change_alike(preset: str) -> None:
    strength, rows = augmentation.PRESETS[preset], draw_epoch(4, 1, 4)
    images = torch.cat([noise(), noise().flip(2), 255 - noise()], 1)
    changed = augment(images, rows, strength)
    assert changed.shape == (4, 3, 33, 33)
    for channel in range(3):
        alone = augment(images[:, channel : channel + 1], rows, strength)
        torch.testing.assert_close(changed[:, channel : channel + 1], alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize("preset", NEW_PRESETS)
def test_new_preset_is_a_function_of_seed_epoch_and_row(preset: str) -> None:
    strength, images = augmentation.PRESETS[preset], noise(1).expand(6, -1, -1, -1)
    first = augment(images, draw_epoch(1, 1, 6), strength)
    assert torch.equal(first, augment(images, draw_epoch(1, 1, 6), strength))
    assert not torch.equal(first, augment(images, draw_epoch(2, 1, 6), strength))
    assert not torch.equal(first, augment(images, draw_epoch(1, 2, 6), strength))
    assert len({image.numpy().tobytes() for image in first}) == 6
    whole = augment(noise(6), draw_epoch(1, 1, 6), strength)
    alone = augment(noise(6)[4:5], draw_epoch(1, 1, 6)[4:5], strength)
    torch.testing.assert_close(whole[4:5], alone, atol=1e-3, rtol=0)


def test_presets_of_papers_have_the_papers_numbers() -> None:
    assert augmentation.PRESETS["chexnet"] == Strength(flip=0.5)
    assert augmentation.PRESETS["crop"] == Strength(flip=0.5, crop=0.08, aspect=4 / 3)
    assert augmentation.PRESETS["baltruschat"] == Strength(flip=0.5, rotate=7, crop=0.08, aspect=4 / 3)
    assert augmentation.PRESETS["xrv"] == Strength(rotate=45, translate=0.15, scale=0.15)


def test_patches_can_be_added_to_a_preset_and_taken_from_it() -> None:
    assert choose_strength(Augmentation(preset="chexnet", crop=0.08, aspect=4 / 3)) == augmentation.PRESETS["crop"]
    assert choose_strength(Augmentation(preset="crop", crop=1, aspect=1)) == augmentation.PRESETS["chexnet"]


def test_draws_of_the_old_changes_are_as_before_there_were_patches() -> None:
    drawn = draw_epoch(42, 3, 50)
    assert drawn.shape == (50, augmentation.DRAWS)
    assert np.array_equal(drawn[:, :7], draw_uniform((42, "augment", 3), (50, 7)))
    assert np.array_equal(drawn[:, 7:], draw_uniform((42, "crop", 3), (50, 4)))


def augment_before_patches(images: torch.Tensor, rows: npt.NDArray[np.float64], strength: Strength) -> torch.Tensor:
    """The arithmetic of the version without patches, operation by operation."""

    def column(values: npt.NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).view(-1, 1, 1, 1)

    flip, turn, right, down, zoom, contrast, brightness = rows.T
    if strength.flip:
        images = torch.where(column(flip) < strength.flip, images.flip(-1), images)
    if strength.rotate or strength.translate or strength.scale:
        t = (2 * turn - 1) * (strength.rotate * np.pi / 360)
        size = 1 + strength.scale * (2 * zoom - 1)
        a, b = (column(part)[..., 0] for part in ((1 - t * t) / (1 + t * t) / size, 2 * t / (1 + t * t) / size))
        u, v = (column(2 * strength.translate * (2 * draw - 1))[..., 0] for draw in (right, down))
        side = images.shape[-1]
        x = (torch.arange(side, dtype=torch.float32) * 2 + 1) / side - 1
        y = x[:, None]
        grid = torch.stack((a * x - b * y + u, b * x + a * y + v), dim=-1)
        images = grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if strength.contrast or strength.brightness:
        factor = 1 + strength.contrast * (2 * contrast - 1)
        shift = 255 * strength.brightness * (2 * brightness - 1)
        images = ((images - 127.5) * column(factor) + column(127.5 + shift)).clamp(0, 255)
    return images


@pytest.mark.parametrize("strength", [*OLD_PRESETS, "all"])
def test_old_presets_keep_every_bit(strength: str) -> None:
    everything = Strength(flip=0.5, rotate=90, translate=0.3, scale=0.5, contrast=0.5, brightness=0.5)
    chosen = augmentation.PRESETS.get(strength, everything)
    for side in (16, 33, 64):
        before = augment_before_patches(noise(64, side), draw_uniform((42, "augment", 7), (64, 7)), chosen)
        assert torch.equal(augment(noise(64, side), draw_epoch(42, 7, 64), chosen), before)


@pytest.mark.parametrize(
    ("preset", "digest"),
    [("none", "bb117525d2980ecf"), ("chexnet", "336e0127a627eea6")],
)
def test_presets_that_only_move_whole_pixels_have_one_digest_everywhere(preset: str, digest: str) -> None:
    changed = augment(noise(16, 33), draw_epoch(42, 1, 16), augmentation.PRESETS[preset])
    assert hashlib.sha256(changed.contiguous().numpy().astype("<f4").tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("field", [{"crop": 0.0}, {"crop": 1.1}, {"aspect": 0.5}, {"aspect": math.inf}])
def test_patch_that_cannot_be_is_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="should be"):
        Augmentation(**field)  # type: ignore[arg-type]
