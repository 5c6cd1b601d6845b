"""Image files to pixels, and pixels to the bytes that training reads."""

import os
import resource
from contextlib import suppress
from fractions import Fraction
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from genmed.ground.errors import StorageError
from genmed.parts.data.images import ImageFiles, Preparation, read_image
from genmed.parts.data.records import RawImage


def pattern(high: int) -> npt.NDArray[Any]:
    """(16, 17) values that run over 0..high."""
    return (np.arange(16 * 17).reshape(16, 17) * high // (16 * 17 - 1)).astype(np.uint16 if high > 255 else np.uint8)


GREY = pattern(255)
WIDE = pattern(65535)
EXACT = np.array([[int(Fraction(int(v) * 255, 65535) + Fraction(1, 2)) for v in row] for row in WIDE])


def grey_bytes(file: Path) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 as grey images enter the cache, but for crop and size."""
    pixels = read_image(file).pixels
    height, width = pixels.shape[:2]
    square = np.zeros((max(height, width),) * 2 + pixels.shape[2:], pixels.dtype)
    square[:height, :width] = pixels
    return Preparation(len(square)).apply(RawImage(square, ""))[0, :height, :width]


@pytest.mark.parametrize(
    ("suffix", "image", "expected"),
    [
        ("png", Image.fromarray(GREY), GREY),
        ("png", Image.fromarray(GREY).convert("RGB"), GREY),
        ("png", Image.merge("RGBA", [Image.fromarray(GREY)] * 3 + [Image.fromarray(255 - GREY)]), GREY),
        ("png", Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(255 - GREY)]), GREY),
        ("png", Image.fromarray(GREY).convert("P"), GREY),
        ("png", Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)),
        ("png", Image.fromarray(WIDE), EXACT),
        ("tiff", Image.fromarray(WIDE.astype(">u2")), EXACT),
        ("jpeg", Image.new("L", (17, 16), 77), np.full((16, 17), 77)),
    ],
    ids=["grey", "RGB", "RGBA", "grey with alpha", "palette", "1 bit", "16 bit", "16 bit big-endian", "JPEG"],
)
def test_image_is_decoded_to_its_grey_values(
    tmp_path: Path, suffix: str, image: Image.Image, expected: npt.NDArray[Any]
) -> None:
    file = tmp_path / f"image.{suffix}"
    image.save(file)
    assert np.array_equal(grey_bytes(file), expected)


def test_palette_with_transparency_is_decoded_without_a_warning(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("P").save(tmp_path / "image.png", transparency=bytes(range(255, -1, -1)))
    assert np.array_equal(grey_bytes(tmp_path / "image.png"), GREY)


def test_colours_weigh_as_in_television(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (200, 100, 50)).save(tmp_path / "c.png")
    assert grey_bytes(tmp_path / "c.png") == [[round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]]


def prepare(pixels: npt.NDArray[Any], size: int, channels: int = 1, bits: int | None = None) -> npt.NDArray[np.uint8]:
    return Preparation(size, channels, bits).apply(RawImage(pixels, ""))


def test_image_is_cropped_to_its_middle_square_and_resized() -> None:
    wide = np.zeros((4, 8), dtype=np.uint8)
    wide[:, 2:6] = [10, 20, 30, 40]
    assert prepare(wide, 4).tolist() == [[[10, 20, 30, 40]] * 4]
    assert prepare(wide.T, 4).tolist() == [[[value] * 4 for value in (10, 20, 30, 40)]]
    assert prepare(wide, 2).shape == (1, 2, 2)
    assert prepare(np.full((9, 5), 7, dtype=np.uint8), 3).tolist() == [[[7] * 3] * 3]


def test_colours_are_kept_as_planes_and_grey_is_repeated_for_them() -> None:
    colours = np.random.Generator(np.random.Philox(5)).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    assert np.array_equal(prepare(colours, 4, channels=3), colours.transpose(2, 0, 1))
    assert np.array_equal(prepare(colours[..., 0], 4, channels=3), np.stack([colours[..., 0]] * 3))
    assert np.array_equal(prepare(colours, 4)[0], np.asarray(Image.fromarray(colours).convert("L")))


def test_sixteen_bits_of_which_twelve_are_used_are_scaled_by_what_the_config_says() -> None:
    twelve = np.array([[0, 2048], [4095, 5000]], dtype=np.uint16)
    assert prepare(twelve, 2, bits=12).tolist() == [[[0, 128], [255, 255]]]
    assert prepare(twelve, 2).tolist() == [[[0, 8], [16, 19]]]


def test_equal_colours_are_grey_and_others_stay(tmp_path: Path) -> None:
    grey = Image.fromarray(GREY)
    grey.convert("RGB").save(tmp_path / "grey.png")
    Image.merge("RGB", (grey, grey, grey.point(lambda value: value ^ 1))).save(tmp_path / "colour.png")
    assert read_image(tmp_path / "grey.png").pixels.shape == (16, 17)
    assert read_image(tmp_path / "colour.png").pixels.shape == (16, 17, 3)


def read_where_no_file_can_be_opened(path: Path, answer: Path) -> None:
    """In a process of its own: what comes of it goes to a file that is open already."""
    with open(answer, "w") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1, file.fileno() + 1))
        with suppress(OSError):  # the numbers below that are free
            while True:
                os.dup(0)
        for read in (read_image, lambda path: ImageFiles(path.parent, (path.name,)).digest(0)):
            try:
                read(path)
            except Exception as error:
                file.write(f"{type(error).__name__}: {error}\n")


def test_machine_that_opens_no_more_files_is_not_taken_for_a_broken_image(
    server: ForkServerContext, tmp_path: Path
) -> None:
    Image.fromarray(GREY).save(tmp_path / "image.png")
    process = server.Process(
        target=read_where_no_file_can_be_opened, args=(tmp_path / "image.png", tmp_path / "answer")
    )
    process.start()
    process.join()
    told = (tmp_path / "answer").read_text().splitlines()
    assert len(told) == 2
    for line in told:
        assert line.startswith(f"{StorageError.__name__}: cannot read {tmp_path / 'image.png'} here: ")
