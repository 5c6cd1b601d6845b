"""The stored samples of a DICOM file: decoded by libraries that are held to what the header says."""

import contextlib
import importlib
import io
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from genmed.ground.errors import ConfigError
from genmed.parts.data.dicom.header import DECODERS, ImageFacts, Unreadable

INSTALL = "install genmed with its extra: pip install 'genmed[dicom]'"
MOST_OF_RLE = 64  # two bytes of a run stand for 128

JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_STARTS_OF_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_BASELINE = {0xC0, 0xC1, 0xC2}  # Pillow reads progressive ones as well, and some files have them
_ITS_STARTS = {syntax: {0xC3} for syntax in _LOSSLESS_JPEG} | {
    syntax: {0xF7} for syntax in ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
}
_MARKER = re.compile(
    rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL
)  # in the coded data; what follows FF there is 0 or a restart
_one_at_a_time = threading.Lock()

Bytes = npt.NDArray[np.uint8]


def decode_samples(dataset: Any, image: ImageFacts) -> npt.NDArray[Any]:
    """(H, W) stored bits of a grey image, cut to Bits Stored; (H, W, 3) or (H, W) of a colour one."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder

    if "PixelData" not in dataset:
        raise Unreadable("has no Pixel Data")
    data, plugin = dataset.PixelData, DECODERS[image.syntax]
    if not data:
        raise Unreadable("has empty Pixel Data")
    claimed = image.rows * image.columns * image.samples * image.bits_allocated // 8
    if plugin == "native":
        held = claimed if image.photometric != "YBR_FULL_422" else claimed // 3 * 2
        if len(data) < held:
            raise Unreadable(f"is cut short: {len(data)} bytes of pixels of {held}")
    else:
        frame = get_frame(data, 0, number_of_frames=1)
        if plugin == "pydicom" and claimed > MOST_OF_RLE * len(frame):
            raise Unreadable(f"is damaged: {len(frame)} bytes cannot hold {claimed} bytes of pixels")
        if plugin == "pillow":
            return _decode_jpeg(frame, image)
        if plugin == "gdcm":
            _check_stream(frame, image)
    decoder = get_decoder(image.syntax)
    if plugin == "gdcm" and plugin not in decoder.available_plugins:
        raise ConfigError(f"DICOM encoded as {image.syntax.name} needs python-gdcm, which is not installed", INSTALL)
    dataset.file_meta.TransferSyntaxUID = image.syntax
    dataset.PhotometricInterpretation = image.photometric
    try:
        with _mute() if plugin == "gdcm" else contextlib.nullcontext():
            decoded, facts = decoder.as_array(
                dataset, index=0, raw=True, decoding_plugin="" if plugin == "native" else plugin
            )
    except RuntimeError:
        raise Unreadable(f"is damaged: its pixels are not {image.syntax.name}") from None
    samples: npt.NDArray[Any] = decoded
    if image.samples == 3:
        return samples[..., 0] if str(facts["photometric_interpretation"]).startswith("YBR") else samples
    unsigned = samples.astype(np.uint8 if samples.dtype.itemsize == 1 else np.uint16)
    kept: npt.NDArray[Any] = np.bitwise_and(unsigned, (1 << image.bits_stored) - 1)  # above lie overlays of old files
    return kept


def _decode_jpeg(frame: bytes, image: ImageFacts) -> Bytes:
    precision, rows, columns, samples = _read_jpeg_header(frame, image)
    if precision != 8:
        raise Unreadable(f"is encoded as {image.syntax.name} of {precision} bits; 8 are read")
    if samples != image.samples:
        raise Unreadable(f"says {image.samples} samples per pixel, and its pixels have {samples}")
    if (columns, rows) != (image.columns, image.rows):
        raise Unreadable(_other_size(image, columns, rows))
    try:
        picture = Image.open(io.BytesIO(frame), formats=("JPEG",))
        if picture.size != (image.columns, image.rows) or len(picture.getbands()) != image.samples:
            raise Unreadable("is damaged: its pixels have two headers that differ")
        if image.photometric == "RGB" and "adobe_transform" not in picture.info:
            # Without Adobe's marker Pillow takes three channels for YCbCr, unless told to leave them as they are.
            picture.draft("YCbCr", picture.size)
            return np.asarray(picture, dtype=np.uint8)
        grey = np.asarray(picture.convert("L"), dtype=np.uint8)
    except UnidentifiedImageError:
        raise Unreadable(f"is damaged: its pixels are not {image.syntax.name}") from None
    return grey if image.samples == 3 else grey & np.uint8((1 << min(image.bits_stored, 8)) - 1)


def _other_size(image: ImageFacts, columns: int, rows: int) -> str:
    return f"says {image.columns} x {image.rows} px, and its pixels are {columns} x {rows}"


def _check_stream(frame: bytes, image: ImageFacts) -> None:
    """The compressed image's own header has to agree: the decoders behind gdcm are C++ and trust the caller."""
    if image.syntax in JPEG_2000:
        start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
        header = frame[start : start + 43]
        if start < 0 or len(header) < 43:
            raise Unreadable(f"is damaged: its pixels are not {image.syntax.name}")
        right, bottom, left, top = (int.from_bytes(header[at : at + 4]) for at in (8, 12, 16, 20))
        columns, rows, samples = right - left, bottom - top, int.from_bytes(header[40:42])
        precision = (header[42] & 0x7F) + 1
    else:
        precision, rows, columns, samples = _read_jpeg_header(frame, image)
    if (columns, rows) != (image.columns, image.rows):
        raise Unreadable(_other_size(image, columns, rows))
    if samples != image.samples or precision > image.bits_allocated:
        raise Unreadable(
            f"says {image.samples} samples of {image.bits_allocated} bits, and its pixels have {samples} of {precision}"
        )


def _read_jpeg_header(frame: bytes, image: ImageFacts) -> tuple[int, int, int, int]:
    """Precision in bits, rows, columns and samples of JPEG and JPEG-LS; the markers are checked up to the image's data.

    gdcm aborts the whole process where libjpeg meets a stray byte between two markers.
    """
    damaged = Unreadable(f"is damaged: its pixels are not {image.syntax.name}")
    at, header = 2, b""
    if frame[:2] != b"\xff\xd8":
        raise damaged
    while frame[at : at + 2] != b"\xff\xda":
        if frame[at : at + 2] == b"\xff\xff":  # a marker may be preceded by any number of FF
            at += 1
            continue
        segment = frame[at : at + 2 + int.from_bytes(frame[at + 2 : at + 4])]
        if len(segment) < 4 or segment[0] != 0xFF or at + len(segment) >= len(frame):
            raise damaged
        code = segment[1]
        if code in _STARTS_OF_FRAMES:
            if header or len(segment) < 10 or code not in _ITS_STARTS.get(image.syntax, _BASELINE):
                raise damaged
            header = segment
        elif code == 0xC4 and not _is_whole_table(segment[4:]):
            raise damaged
        at += len(segment)
    if not header:
        raise damaged
    if image.syntax in _LOSSLESS_JPEG:
        at += 2 + int.from_bytes(frame[at + 2 : at + 4])
        end = _MARKER.search(frame, at)
        if end is None or end.group()[1] != 0xD9:
            raise damaged
    return header[4], int.from_bytes(header[5:7]), int.from_bytes(header[7:9]), header[9]


def _is_whole_table(tables: bytes) -> bool:
    """Huffman tables: a class, 16 counts and as many symbols, once or more."""
    while len(tables) >= 17:
        tables = tables[17 + sum(tables[1:17]) :] if len(tables) >= 17 + sum(tables[1:17]) else b"?"
    return not tables


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    """gdcm's own traces can be turned off; the libraries inside it write to the process's stderr all the same."""
    gdcm = importlib.import_module("gdcm")
    for turn_off in (gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff, gdcm.Trace.DebugOff):
        turn_off()
    with _one_at_a_time, open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def grey_of_colour(samples: Bytes) -> Bytes:
    """Pillow's integer weights for convert("L"): 0.299, 0.587 and 0.114 of 65536."""
    weighted = samples.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)
