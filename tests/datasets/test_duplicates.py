"""The perceptual hash and the search for near pairs, against a slow one and on real radiographs."""

import io
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genmed.parts.data import duplicates
from genmed.parts.data.duplicates import (
    DIFFERENCES,
    HASH_BITS,
    NEAR,
    NearGroup,
    find_near,
    hash_image,
    is_flat,
    share_cells,
    unpack,
)
from genmed.parts.data.images import read_image
from genmed.parts.data.records import Pixels

PINNED = (
    "7e4a7cdafd94f9b5fb28f36ae655cc9599aa3b4176d4ecaac95532d264a9c954"
    "1e697ecafcd2f995fba5f36ae650cc959daa3b4a7255ecaac945325264abc954"
    "011401250228064a04d40c95192a334a6255c4a0892a135526aa45259a5236a9"
    "019001250325024a04520c9519a0312a6255c494892a135522824d299b5036ab"
)


def pack(signs: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    return np.packbits(np.concatenate([signs > 0, signs < 0], axis=1), axis=1)


def search_slowly(hashes: npt.NDArray[np.uint8], most: int) -> list[NearGroup]:
    """Every pair in exact fractions, then groups by walking the links."""
    signs = unpack(hashes).astype(int)
    links: dict[int, list[tuple[int, int, bool]]] = {row: [] for row in range(len(hashes))}
    for one, other in combinations(range(len(hashes)), 2):
        if hashes[one].any() and hashes[other].any():
            both = int(np.abs(signs[one]).sum() + np.abs(signs[other]).sum())
            apart = {
                sign < 0: Fraction(1000 * int(((signs[one] - sign * signs[other]) ** 2).sum()), both)
                for sign in (1, -1)
            }
            negative = apart[True] < apart[False]
            if apart[negative] <= most:
                links[one].append((other, -int(-apart[negative] // 1), negative))
                links[other].append((one, -int(-apart[negative] // 1), negative))
    groups, seen = [], set()
    for row in links:
        if row not in seen and links[row]:
            members, waiting = {row}, [row]
            while waiting:
                for other, _, _ in links[waiting.pop()]:
                    if other not in members:
                        members.add(other)
                        waiting.append(other)
            seen |= members
            all_links = [link for member in members for link in links[member]]
            groups.append(
                NearGroup(
                    tuple(sorted(members)), max(link[1] for link in all_links), any(link[2] for link in all_links)
                )
            )
    return groups


@st.composite
def planted_hashes(draw: st.DrawFn) -> npt.NDArray[np.uint8]:
    """Random hashes, some copied from earlier ones with a few differences changed, inverted or not at all."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows: list[npt.NDArray[np.int8]] = []
    for kind in draw(st.lists(st.sampled_from(["new", "copy", "copy", "negative", "flat", "equal"]), max_size=25)):
        if kind == "flat":
            rows.append(np.zeros(DIFFERENCES, dtype=np.int8))
        elif kind == "new" or not rows:
            rows.append(rng.choice(np.array([-1, 0, 1], dtype=np.int8), DIFFERENCES, p=[0.4, 0.2, 0.4]))
        else:
            row = rows[rng.integers(len(rows))].copy()
            if kind != "equal" and row.any():
                changed = rng.choice(DIFFERENCES, rng.integers(0, 90), replace=False)
                row[changed] = rng.integers(-1, 2, len(changed))
            rows.append(-row if kind == "negative" else row)
    return pack(np.array(rows, dtype=np.int8).reshape(len(rows), DIFFERENCES))


@settings(deadline=None, max_examples=200)
@given(hashes=planted_hashes(), most=st.integers(0, 400))
def test_groups_are_those_of_a_slow_search(hashes: npt.NDArray[np.uint8], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:  # several blocks, none of them full
        patch.setattr(duplicates, "BLOCK_ROWS", 3)
        patch.setattr(duplicates, "BLOCK_COLUMNS", 5)
        assert find_near(hashes, most) == search_slowly(hashes, most)


def test_groups_do_not_depend_on_the_blocks() -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice(np.array([-1, 0, 1], dtype=np.int8), (2500, DIFFERENCES), p=[0.4, 0.2, 0.4])
    signs[2400:] = signs[:100]
    signs[2400:, :20] = 0
    signs[2450:] = -signs[2450:]
    found = find_near(pack(signs))
    assert [group.members for group in found] == [(row, 2400 + row) for row in range(100)]
    assert all(0 < group.furthest <= NEAR for group in found)
    assert [group.negative for group in found] == [False] * 50 + [True] * 50


def test_a_pair_at_the_limit_is_found_and_one_beyond_is_not() -> None:
    signs = np.zeros((2, DIFFERENCES), dtype=np.int8)
    signs[:, :200] = 1
    signs[1, :10] = -1  # ten of opposite sign count four times, of 400
    assert find_near(pack(signs), most=100) == [NearGroup((0, 1), 100, False)]
    assert find_near(pack(signs), most=99) == []


def test_two_images_near_a_third_are_one_group_with_the_distance_of_the_links() -> None:
    signs = np.zeros((3, DIFFERENCES), dtype=np.int8)
    signs[:, :400] = 1
    signs[0, 400:450] = signs[1, 450:500] = 1  # 111 apart; 50 of 850 differences, rounded up, from the third
    assert find_near(pack(signs)) == [NearGroup((0, 1, 2), 59, False)]


def test_equal_images_are_one_group_in_little_memory() -> None:
    hashes = np.tile(pack(np.ones((1, DIFFERENCES), dtype=np.int8)), (10_000, 1))
    tracemalloc.start()
    found = find_near(hashes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [NearGroup(tuple(range(10_000)), 0, False)]
    assert peak < 20 * hashes.nbytes


def test_images_that_are_all_near_each_other_are_one_group_in_little_memory() -> None:
    signs = np.ones((1500, DIFFERENCES), dtype=np.int8)
    signs[np.arange(1500), np.arange(1500) % 512] = 0
    signs[np.arange(1500), np.arange(1500) // 512] = -1
    tracemalloc.start()
    found = find_near(pack(signs))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [group.members for group in found] == [tuple(range(1500))]
    assert peak < 250e6  # a few blocks; 1.1 million pairs of Python integers would not fit


def test_progress_counts_up_to_all_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", 4)
    told: list[tuple[int, int]] = []
    find_near(
        np.random.default_rng(0).integers(0, 256, (10, HASH_BITS // 8), dtype=np.uint8),
        progress=lambda done, of: told.append((done, of)),
    )
    assert told == [(30, 45), (44, 45), (45, 45)]


def test_no_images_are_no_groups() -> None:
    assert find_near(np.zeros((0, HASH_BITS // 8), dtype=np.uint8)) == []


@pytest.mark.parametrize("length", [1, 2, 16, 17, 18, 64, 1000])
def test_cells_share_out_every_pixel_evenly(length: int) -> None:
    shares = share_cells(length)
    assert (shares.sum(axis=0) == 17).all()
    assert (shares.sum(axis=1) == length).all()


def draw_scene(side: int = 96, seed: int = 0) -> Pixels:
    """Smooth spots of many sizes: structure at all scales."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 200, (12, 12), dtype=np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def test_the_hash_of_a_scene_is_what_it_was() -> None:
    """Integers all the way: another value on another machine or library is a defect."""
    y, x = np.mgrid[:60, :50]
    pixels = ((x * x * 7 + y * y * 3 + x * y * 5) // 16 % 256).astype(np.uint8)
    assert hash_image(pixels).tobytes().hex() == PINNED


def test_the_hash_does_not_change_with_depth_channels_or_scale() -> None:
    scene = draw_scene()
    expected = hash_image(scene)
    assert not is_flat(expected[None]).any()
    assert (hash_image(scene.astype(np.uint16) * 257) == expected).all()
    assert (hash_image(np.stack([scene] * 3, axis=2)) == expected).all()
    assert (hash_image(np.repeat(np.repeat(scene, 5, axis=0), 3, axis=1)) == expected).all()
    assert (hash_image(scene // 4 * 4) == hash_image(scene // 4 + 60)).all()


def test_the_hash_of_a_negative_has_the_opposite_signs() -> None:
    scene = draw_scene()
    assert (unpack(hash_image(255 - scene)[None]) == -unpack(hash_image(scene)[None])).all()
    assert find_near(np.stack([hash_image(scene), hash_image(255 - scene)])) == [NearGroup((0, 1), 0, True)]


def test_colours_of_equal_brightness_differ_from_grey() -> None:
    scene = draw_scene()
    coloured = np.zeros((*scene.shape, 3), dtype=np.uint8)
    coloured[:, :, 1] = scene
    assert (hash_image(coloured) == hash_image(scene)).all()
    coloured[:, :, 0] = draw_scene(seed=1)
    assert (hash_image(coloured) != hash_image(scene)).any()


def test_the_largest_sums_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 65535 * 20_000 * 20_000
    cells = np.zeros((17, 17), dtype=np.int64)
    cells[::2, ::2] = cells[1::2, 1::2] = largest
    monkeypatch.setattr(duplicates, "sum_cells", lambda pixels: cells)
    assert np.abs(unpack(hash_image(np.zeros((2, 2, 3), dtype=np.uint16))[None])).sum() == DIFFERENCES


def test_images_without_structure_are_flat_and_in_no_group() -> None:
    label = np.zeros((64, 64), dtype=np.uint8)
    label[2:6, 2:9] = 255  # a black image with a burnt-in letter
    images = [np.full((64, 64), grey, dtype=np.uint8) for grey in (0, 128, 255)] + [
        label,
        np.zeros((1, 1), dtype=np.uint8),
    ]
    hashes = np.stack([hash_image(image) for image in [*images, draw_scene()]])
    assert is_flat(hashes).tolist() == [True] * 5 + [False]
    assert find_near(np.concatenate([hashes, hashes])) == [NearGroup((5, 11), 0, False)]


def save_jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def add_marker(pixels: Pixels) -> Pixels:
    marked = pixels.copy()
    marked[10:22, 10:22] = 255
    return marked


def shrink(pixels: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))


def crop(pixels: Pixels, border: int) -> Pixels:
    return pixels[border:-border, border:-border]


ALTERED: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG": lambda pixels: save_jpeg(pixels, 40),
    "224 px": lambda pixels: shrink(pixels, 224),
    "64 px": lambda pixels: shrink(pixels, 64),
    "contrast": lambda pixels: (pixels * 0.8).astype(np.uint8),
    "brightness": lambda pixels: np.clip(pixels.astype(int) + 20, 0, 255).astype(np.uint8),
    "gamma": lambda pixels: np.rint(255 * (pixels / 255) ** 0.8).astype(np.uint8),
    "crop of 1%": lambda pixels: crop(pixels, 5),
    "marker": add_marker,
    "negative": lambda pixels: 255 - pixels,
}


@pytest.mark.parametrize("alteration", ALTERED)
def test_altered_copies_of_radiographs_are_found(alteration: str, shared_data: Path) -> None:
    radiographs = [read_image(path).pixels for path in sorted((shared_data / "nih_512" / "images").glob("*.png"))]
    copies = [ALTERED[alteration](pixels) for pixels in radiographs]
    found = find_near(np.stack([hash_image(pixels) for pixels in radiographs + copies]))
    assert [group.members for group in found] == [(0, 2), (1, 3)]
    assert [group.negative for group in found] == [alteration == "negative"] * 2


def test_different_radiographs_are_not_reported(shared_data: Path) -> None:
    paths = sorted((shared_data / "nih1000" / "images").glob("*.png"))
    assert len(paths) == 1000
    radiographs = [read_image(path).pixels for path in paths]
    hashes = np.stack([hash_image(pixels) for pixels in radiographs])
    assert not is_flat(hashes).any()
    assert find_near(hashes) == []
    copies = np.stack([hash_image(save_jpeg(pixels, 75)) for pixels in radiographs])
    assert [group.members for group in find_near(np.concatenate([hashes, copies]))] == [
        (row, 1000 + row) for row in range(1000)
    ]
