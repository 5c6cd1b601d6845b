"""Image files to bytes: decoded, made grey, cropped to the middle square, resized."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from genmed.ground.errors import DataError
from genmed.ground.fingerprints import digest_file
from genmed.parts.data.records import Pixels

MAX_SIDE = 20_000
PREPARATION = "grey, middle square, Pillow bilinear with antialiasing"


@dataclass(frozen=True)
class ImageFiles:
    """Images that are files; rows are positions in `paths`."""

    paths: tuple[Path, ...]

    def stamp(self, row: int) -> tuple[int, ...] | None:
        try:
            status = self.paths[row].stat()
        except OSError:
            return None  # reading it will say why
        return status.st_size, status.st_mtime_ns, status.st_ino

    def digest(self, row: int) -> str:
        try:
            return digest_file(self.paths[row])
        except OSError as error:
            raise DataError(f"cannot read {self.paths[row]}: {error.strerror}") from None

    def load(self, row: int) -> Pixels:
        return decode_file(self.paths[row])


def decode_file(path: Path) -> Pixels:
    """(H, W) uint8 grey values of an image file; alpha is dropped, 16-bit greys are scaled by their full range.

    Raises DataError with the file and the reason where it is unreadable, cut short or larger than 20,000 px a side.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if not content:
        raise DataError(f"{path} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
            if max(image.size) > MAX_SIDE:
                raise DataError(f"{path} is {image.width} x {image.height} px; the most is {MAX_SIDE} a side")
            image.load()
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image that Pillow can read") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow's own conversion clips at 255
        wide = np.asarray(image, dtype=np.int64)
        return ((np.clip(wide, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # transparency of palettes is dropped like any other
        return np.asarray(image.convert("L"), dtype=np.uint8)


def prepare(pixels: Pixels, size: int) -> Pixels:
    """(1, size, size) uint8: the middle square, resized. Pillow resizes bytes in integers: equal on every CPU."""
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    if side == size:
        return square[None]
    resized = Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)[None]
