"""Image files to bytes: decoded, made 8 bits deep, grey or RGB, cropped to the middle square, resized."""

import contextlib
import errno
import io
import logging
import math
import os
import re
import stat
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from genmed.ground.errors import DataError, StorageError
from genmed.ground.fingerprints import digest_bytes, digest_file
from genmed.parts.data.records import Pixels, RawImage

MAX_SIDE = 20_000
FAULTS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Of the machine: files that may be open, memory."""
MAX_BYTES = 2**31
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")
"""What is read by Pillow; none of them starts another program, as PostScript would."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".ppm", ".jp2")
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
READING = "genmed's reading 3"
"""Part of what a cache is found by: another number where a file gives other pixels than before."""
PHOTOMETRIC, BITS_PER_SAMPLE, SAMPLE_FORMAT, WHITE_IS_ZERO = 262, 258, 339, 0  # of TIFF
TIFF = (b"II*\0", b"MM\0*")
NOT_DICOM = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", *TIFF)
"""Beginnings of other images, whatever their names."""
SIZ = b"\xff\x4f\xff\x51"
"""Beginning of a JPEG 2000 codestream: the markers SOC and SIZ."""
PRECISION = 42
"""Bytes from there to Ssiz, whose lower 7 bits are the bits of a value, less one (ISO/IEC 15444-1, A.5.1)."""
ORIENTATION = 274  # of EXIF; 1: as stored
COLOUR_OF_PNG = (2, 4, 6)
"""Colour types of PNG with several values a pixel."""
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class ImageFiles:
    """Images that are files: `root`/`names[row]`."""

    root: Path
    names: tuple[str, ...]
    bits: int | None = None
    """`data.bits`, for DICOM without a window."""

    @cached_property
    def _prefix(self) -> str:
        return f"{self.root}{os.sep}"

    def path(self, row: int) -> Path:
        return Path(self._prefix + self.names[row])

    def stamp(self, row: int) -> tuple[int, ...] | None:
        try:
            status = os.stat(self._prefix + self.names[row])
        except (OSError, ValueError):
            return None  # reading it will say why
        return status.st_size, status.st_mtime_ns, status.st_ino

    def digest(self, row: int) -> str:
        try:
            _check_file(self.path(row))
            return digest_file(self.path(row))
        except (OSError, ValueError) as error:
            raise_fault(error, str(self.path(row)))
            raise DataError(f"cannot read {self.path(row)}: {_reason(error)}") from None

    def read(self, row: int) -> RawImage:
        return read_image(self.path(row), self.bits)

    def decoders(self) -> Sequence[str]:
        from PIL import __version__, features

        libraries = (f"{name} {features.version(name)}" for name in ("jpg", "zlib"))
        found = [READING, f"pillow {__version__}", *libraries]
        if not all(name.lower().endswith(SUFFIXES) for name in self.names):
            from genmed.parts.data.dicom import decoder_versions

            found += decoder_versions()
        return found


@dataclass(frozen=True)
class Preparation:
    """How the pixels of a file become the bytes that training reads."""

    size: int
    """Side of the square, in pixels."""
    channels: int = 1
    """1: grey; 3: RGB."""
    bits: int | None = None
    """Of files with 16 bits a value: how many of them are used; None: as many as the file says, else all."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def describe(self) -> list[Any]:
        """What a cache is found by."""
        return ["middle square, Pillow bilinear with antialiasing", self.size, self.channels, self.bits]

    def apply(self, image: RawImage) -> Pixels:
        """(C, S, S) uint8. Pillow converts and resizes bytes in integers: equal on every CPU."""
        pixels = _to_bytes(image.pixels, image.bits or self.bits)
        if pixels.ndim == 3 and self.channels == 1:
            pixels = np.asarray(Image.fromarray(pixels).convert("L"))
        height, width = pixels.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        if side != self.size:
            square = np.asarray(
                Image.fromarray(square).resize((self.size, self.size), Image.Resampling.BILINEAR), dtype=np.uint8
            )
        if square.ndim == 2:
            return np.repeat(square[None], self.channels, axis=0)
        return np.ascontiguousarray(square.transpose(2, 0, 1))


def read_image(path: Path, bits: int | None = None) -> RawImage:
    """The pixels of a file and its digest, read once, turned as EXIF says.

    Alpha is dropped, palettes and other colour models become RGB, colours that are all equal become grey. DICOM is
    known by its content, whatever the file is called. bits: how many bits of a value DICOM without a window uses.

    Raises DataError with the file and the reason where it is unreadable, cut short, at odds with its checksums, of
    several frames, or larger than 20,000 px a side or 178,956,970 px in all.
    """
    try:
        _check_file(path)
        content = path.read_bytes()
    except (OSError, ValueError, MemoryError) as error:
        raise_fault(error, str(path))
        raise DataError(f"cannot read {path}: {_reason(error)}") from None
    if not content:
        raise DataError(f"{path} is empty (0 bytes)")
    digest = digest_bytes(content)
    if is_dicom(content, path.name):
        from genmed.parts.data.dicom import read_dicom

        pixels, greatest = read_dicom(content, str(path), bits)
        return RawImage(pixels, digest, greatest=greatest)
    pixels, depth = decode(content, str(path))
    return RawImage(pixels, digest, depth)


def is_dicom(content: bytes, name: str) -> bool:
    """Whether a file is DICOM: by its preamble, or without one by its name or its first element.

    content: the whole file, or its first 132 bytes. A first element of group 2 or 8 counts where the name has no
    suffix, as of scanners and archives (IM000001, 1.2.840.113619.2.1), or that of another image, which never begins so.
    """
    if content[128:132] == b"DICM":
        return True
    lower = name.lower()
    if lower.endswith(DICOM_SUFFIXES):
        return not content.startswith(NOT_DICOM)
    bare = content[:2] in (b"\x02\x00", b"\x08\x00") and content[2:3] < b"\x20"
    return bare and (lower.endswith(SUFFIXES) or not re.search(r"\.[a-z]\w*$", lower))


def is_image_file(path: Path) -> bool:
    """Whether a file is taken for an image: by its suffix, or as DICOM by its content; a DICOMDIR only lists others."""
    name = path.name.lower()
    if name.endswith((*SUFFIXES, *DICOM_SUFFIXES)):
        return True
    if name == "dicomdir" or not path.is_file():  # a pipe would be waited for
        return False
    try:
        with open(path, "rb") as file:
            return is_dicom(file.read(132), name)
    except OSError:
        return False


def _check_file(path: Path) -> None:
    """Raises DataError where reading would not end; OSError where there is nothing to read."""
    status = os.stat(path)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise DataError(f"cannot read {path}: it is a pipe or a device, not a file")
    if status.st_size > MAX_BYTES:
        raise DataError(f"{path} has {status.st_size:,} bytes; an image of 2 GiB is the largest that is read")


def decode(content: bytes, name: str) -> tuple[npt.NDArray[Any], int | None]:
    """(H, W) or (H, W, 3) uint8 or uint16; and how many bits of a value are used, where the header says so: 16 where
    the values were scaled to all of them.

    Raises DataError with the name.
    """
    log = logging.getLogger("PIL")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # else Python prints what it logs of odd files
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, of odd transparency: what matters of it is an error below
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if max(image.size) > MAX_SIDE:
                raise DataError(f"{name} is {image.width} x {image.height} px; the most is {MAX_SIDE} a side")
            if min(image.size) < 1:
                raise DataError(f"{name} is {image.width} x {image.height} px")
            if (frames := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
                raise DataError(f"{name} holds {frames} images", "give each image a file of its own")
            depth, deep = _find_depth(image, content), _find_deep_ppm(image, content)
            with mute_stderr() if image.format == "TIFF" else contextlib.nullcontext():
                if _is_deep_tiff(image):
                    return _merge_equal(_read_deep_tiff(content)), None
                image.load()
            if deep is not None:
                return _merge_equal(deep), None
            if image.format == "PNG":
                _check_png(content, name)
            if image.format == "PNG" and content[24] == 16 and content[25] in COLOUR_OF_PNG:
                return _turn(_read_deep_png(content), image), depth
            return _turn(_to_array(image, name), image), depth
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(
            f"{name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} px, the most that is read"
        ) from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is {_describe_unread(content)}") from None
    except Exception as error:  # a decoder at odds with its bytes fails in any way
        raise_fault(error, name)
        raise DataError(f"{name} is damaged: {_reason(error)}") from None


def _describe_unread(content: bytes) -> str:
    """What an image is that Pillow refuses: of a TIFF, the tags that say why."""
    if content[:4] not in TIFF:
        return "not an image that Pillow can read"
    tags, stream = TiffImagePlugin.ImageFileDirectory_v2(content[:8]), io.BytesIO(content)
    try:
        stream.seek(tags.next or 0)
        tags.load(stream)
        bits = "/".join(map(str, tags[BITS_PER_SAMPLE]))
        how = f"photometric interpretation {tags[PHOTOMETRIC]}, sample format {tags.get(SAMPLE_FORMAT, (1,))[0]}"
    except Exception:  # damaged
        return "not an image that Pillow can read"
    return f"a TIFF of {bits} bits a value ({how}), a kind that Pillow does not read: save it with 8 or 16 bits a value"


def _find_depth(image: ImageFile.ImageFile, content: bytes) -> int | None:
    """How many bits a value of an image of more than 8 bits has, where its header says so; before it is loaded.

    Pillow scales PGM and JPEG 2000 of 9 to 15 bits up to 16, and leaves TIFF as it is.
    """
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        bits = int(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0])
        return bits if bits < 16 else None
    if image.format == "PPM" and image.mode == "I":
        return 16 if _find_greatest(image) < 65535 else None
    if image.format == "JPEG2000" and image.mode == "I;16":
        return 16 if (content[content.find(SIZ) + PRECISION] & 127) + 1 < 16 else None
    return None


def _find_greatest(image: ImageFile.ImageFile) -> int:
    """The value that is white in a PGM or PPM, as its header says; before it is loaded."""
    args = image.tile[0].args
    return int(args[1]) if isinstance(args, tuple) and image.tile[0].codec_name != "raw" else 65535


def _find_deep_ppm(image: ImageFile.ImageFile, content: bytes) -> npt.NDArray[Any] | None:
    """(H, W, 3) uint16 of a binary PPM of all 16 bits, of which Pillow gives the upper 8; before it is loaded."""
    if image.format != "PPM" or image.mode != "RGB" or image.tile[0].codec_name != "ppm":
        return None
    if _find_greatest(image) < 65535:
        return None  # scaled by the greatest value, as is right
    shape = image.height, image.width, 3
    values = content[image.tile[0].offset :][: 2 * math.prod(shape)]
    if len(values) < 2 * math.prod(shape):
        return None  # Pillow says that it is cut short
    return np.frombuffer(values, ">u2").astype(np.uint16).reshape(shape)


def _is_deep_tiff(image: ImageFile.ImageFile) -> bool:
    """Whether a TIFF is RGB of 16 bits a value, of which Pillow gives the upper 8; before it is loaded."""
    if image.format != "TIFF" or not image.tile:
        return False
    return all(re.fullmatch("RGB[AX]?;16[BLN]", str((tile.args or ("",))[0])) for tile in image.tile)


def _read_deep_tiff(content: bytes) -> npt.NDArray[Any]:
    """(H, W, 3) uint16, turned as EXIF says.

    Pillow gives the upper byte of each value, or the lower one where it is told the other order of bytes.
    """
    swapped = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
    halves = []
    for swap in (False, True):
        image = Image.open(io.BytesIO(content), formats=("TIFF",))
        if swap:
            image.tile = [_tell_order(tile, swapped) for tile in image.tile]
        image.load()
        halves.append(np.asarray(image)[..., :3].astype(np.uint16))
    return np.asarray(halves[0] << 8 | halves[1], dtype=np.uint16)


def _tell_order(tile: Any, orders: Mapping[str, str]) -> Any:
    raw = tile.args[0]
    return tile._replace(args=(raw[:-1] + orders[raw[-1]], *tile.args[1:]))


def _read_deep_png(content: bytes) -> npt.NDArray[Any]:
    """(H, W) or (H, W, 3) uint16: Pillow gives only the upper 8 bits of each colour."""
    import torch
    from torchvision.io import decode_png

    planes = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8)).numpy()
    return _merge_equal(planes[:3].transpose(1, 2, 0) if len(planes) > 2 else planes[0])


def _turn(pixels: npt.NDArray[Any], image: Image.Image) -> npt.NDArray[Any]:
    """As it is to be shown, by the orientation of EXIF; Pillow turns a TIFF itself."""
    if image.format == "TIFF":
        return pixels
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing
        return pixels
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def raise_fault(error: Exception, name: str) -> None:
    """Raises StorageError where it is not the file that is at fault but the machine: no image is left out for that."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in FAULTS:
        raise StorageError(
            f"cannot read {name} here: {_reason(error)}", "this machine ran out of it; try again"
        ) from None


@contextlib.contextmanager
def mute_stderr() -> Iterator[None]:
    """For libraries in C that print what they think of a file; what matters of it is an error."""
    with _one_at_a_time:
        try:
            kept = os.dup(2)
        except OSError:  # closed
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _check_png(content: bytes, name: str) -> None:
    """Every part against its checksum: Pillow leaves out those of the pixels. Raises DataError."""
    start, kind = 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(content[start : start + 4]), content[start + 4 : start + 8]
        end = start + 8 + length
        if end + 4 > len(content):
            raise DataError(f"{name} is damaged: it is cut short")
        if zlib.crc32(memoryview(content)[start + 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise DataError(f"{name} is damaged: its part {kind.decode('ascii', 'replace')} fails its checksum")
        start = end + 4


def _to_array(image: Image.Image, name: str) -> npt.NDArray[Any]:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint16)
        return _invert(wide, image) if image.format == "TIFF" else wide
    if image.mode == "I":
        wide = np.asarray(image)
        if wide.size and not 0 <= wide.min() <= wide.max() <= 65535:
            raise DataError(f"{name} has values from {wide.min()} to {wide.max()}, which are not 16 bits")
        return wide.astype(np.uint16)
    if image.mode == "F":
        raise DataError(f"{name} has fractions as pixels, whose black and white are unknown", "save it as 16-bit PNG")
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"), dtype=np.uint8)
    colours = np.asarray(image.convert("RGB"), dtype=np.uint8)
    return _merge_equal(colours)


def _merge_equal(colours: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W) where the colours of (H, W, 3) are all equal."""
    if colours.ndim == 2:
        return colours
    red, green, blue = (colours[..., channel] for channel in range(3))
    grey = np.array_equal(red, green) and np.array_equal(red, blue)
    return np.ascontiguousarray(red) if grey else np.ascontiguousarray(colours)


def _invert(pixels: npt.NDArray[np.uint16], image: Image.Image) -> npt.NDArray[np.uint16]:
    """A TIFF whose 0 is white: Pillow turns 8 bits and leaves 16 as they are."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(PHOTOMETRIC) != WHITE_IS_ZERO:
        return pixels
    return np.asarray(2 ** int(tags[BITS_PER_SAMPLE][0]) - 1 - pixels, dtype=np.uint16)


def _to_bytes(pixels: npt.NDArray[Any], bits: int | None) -> Pixels:
    """8 bits by the depth of the file: never by the extremes of one image, and not clipped as Pillow does."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.uint8)
    most = 2 ** (bits or 16) - 1
    scaled = (np.minimum(pixels, most).astype(np.uint32) * 255 + most // 2) // most
    return np.asarray(scaled, dtype=np.uint8)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
