"""DICOM files to bytes: grey values as a viewer shows them.

The order of steps is the standard's (PS3.3, C.7.6.3, C.11.1, C.11.2, C.11.6): stored values, modality table or rescale,
VOI table or window, inversion, 8 bits. A grey image has at most 2^16 stored values, so the steps are done once, over
all of them, in whole numbers, and the image is looked up in the result. That is fast, and equal on every CPU.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import io
import logging
import math
import os
import re
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from genmed.ground.errors import DataError

MAX_SIDE = 20_000
MAX_PIXELS = 178_956_970  # Pillow's own limit, which holds for every other image
MAX_INFLATED = 1 << 29  # bytes of a deflated dataset; MAX_PIXELS of 16 bits are less
MOST_OF_RLE = 64  # two bytes of a run stand for 128
INSTALL = "install genmed with its extra: pip install 'genmed[dicom]'"
LIBRARIES = ("pydicom", "python-gdcm", "gdcm")

# Who decodes what is fixed here, so that it does not hang on what else is installed. Pillow, as for every other JPEG.
DECODERS = {
    "1.2.840.10008.1.2": "native",
    "1.2.840.10008.1.2.1": "native",
    "1.2.840.10008.1.2.1.99": "native",
    "1.2.840.10008.1.2.2": "native",
    "1.2.840.10008.1.2.5": "pydicom",
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.51": "pillow",
    "1.2.840.10008.1.2.4.57": "gdcm",
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "gdcm",
    "1.2.840.10008.1.2.4.81": "gdcm",
    "1.2.840.10008.1.2.4.90": "gdcm",
    "1.2.840.10008.1.2.4.91": "gdcm",
}
DEFLATED = "1.2.840.10008.1.2.1.99"
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

_ABSENT = 1 << 20  # no value of 16 bits
_one_at_a_time = threading.Lock()

Integers = npt.NDArray[Any]  # int64, or Python's own where these do not suffice
Bytes = npt.NDArray[np.uint8]


class _Unreadable(Exception):
    """The reason, as the end of a sentence that begins with the file's name; and a hint."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True)
class DicomFacts:
    """What a file says of its image, before any pixel is read."""

    rows: int
    columns: int
    bits_stored: int
    photometric: str
    """Photometric Interpretation: MONOCHROME1 (0 is white), MONOCHROME2 (0 is black), RGB, ..."""
    transfer_syntax: str
    """The name of the encoding, as in the standard's registry."""
    modality: str
    """CR, DX, CT, ...; empty where the file does not say."""


def decoder_versions() -> list[str]:
    """Names with versions of the installed libraries that decode DICOM, for the key of a cache; none is imported."""
    found = []
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{library} {importlib.metadata.version(library)}")
    return found


def read_facts(content: bytes, name: str) -> DicomFacts:
    """What the header of the DICOM file `content` says; `name` is for the error. Pixels are not read.

    Raises DataError where it is not DICOM, damaged, or holds what decode_dicom refuses by its header alone.
    """
    with _refusing(name):
        dataset = _parse(content, pixels=False)
        image = _check_image(dataset)
        modality = str(dataset.get("Modality", None) or "")
        return DicomFacts(
            image.rows, image.columns, image.bits_stored, image.photometric, image.syntax.name, _printable(modality)
        )


def decode_dicom(content: bytes, name: str) -> Bytes:
    """(H, W) uint8: grey values as a viewer shows them; 0 is black (air).

    content: a DICOM file of one frame, 8 or 16 bits allocated; name: what an error calls it. The scale is that of the
    VOI table or of the first window (a table goes before a window); where there is neither, all that Bits Stored allow,
    never the extremes of the image. MONOCHROME1 and Presentation LUT Shape INVERSE both say "the lowest is white", and
    C.8.11.3 pairs them: either or both invert, once. Padding (Pixel Padding Value, Range Limit) is 0. Colour becomes
    grey by the weights of ITU-R 601, as in Pillow's convert("L"); of YBR, Y is just that.

    Raises DataError with `name` and the reason: not DICOM, damaged, cut short, more than one frame, over 20,000 px a
    side, an encoding that is not read, windows or tables that the standard forbids, or pydicom is not installed.
    """
    with _refusing(name):
        dataset = _parse(content, pixels=True)
        image = _check_image(dataset)
        samples = _decode_samples(dataset, image)
        if image.samples == 3:
            return samples if samples.ndim == 2 else _grey_of_colour(samples)
        return _look_up(_grey_table(dataset, image), samples)


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Whatever parsers and decoders raise on hostile bytes becomes a DataError; their warnings are not for the user."""
    try:
        import pydicom.config
    except ImportError:
        raise DataError(f"{name} is DICOM, and pydicom is not installed", INSTALL) from None
    try:
        with warnings.catch_warnings(), _unlogged(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except _Unreadable as refusal:
        raise DataError(f"{name} {_printable(str(refusal))}", refusal.hint) from None
    except MemoryError:
        raise DataError(f"{name} needs more memory than there is") from None
    except Exception as error:
        raise DataError(f"{name} is damaged: {_printable(str(error) or type(error).__name__)}") from None


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """pydicom logs, with a traceback, what is said here in one line."""
    log = logging.getLogger("pydicom")
    propagated, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = propagated


def _printable(text: str) -> str:
    """One line of at most 200 characters, none of which steers a terminal: it comes from a file."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:200]


@dataclass(frozen=True)
class _Image:
    """The checked facts that decoding rests on."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    syntax: Any
    """pydicom's UID."""


def _parse(content: bytes, pixels: bool) -> Any:
    import pydicom

    has_preamble = content[128:132] == b"DICM"
    try:
        _refuse_bomb(content)
        dataset = pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=not pixels)
        plausible = has_preamble or ("Rows" in dataset and ("PixelData" in dataset or not pixels))
    except _Unreadable:
        raise
    except Exception:
        if has_preamble:
            raise
        plausible = False
    if not plausible:
        raise _Unreadable("is not DICOM" if content else "is empty (0 bytes)")
    return dataset


def _refuse_bomb(content: bytes) -> None:
    """pydicom inflates a deflated dataset whole, however large that is."""
    from pydicom.filereader import read_dataset, read_preamble

    stream = io.BytesIO(content)
    read_preamble(stream, force=True)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return
    inflater, packed, size = zlib.decompressobj(-zlib.MAX_WBITS), stream.read(), 0
    while packed and not inflater.eof:
        size += len(inflater.decompress(packed, 1 << 20))
        packed = inflater.unconsumed_tail
        if size > MAX_INFLATED:
            raise _Unreadable(f"inflates to more than {MAX_INFLATED} bytes")


def _check_image(dataset: Any) -> _Image:
    """Every fact is checked before a decoder sees it: decoders allocate what the header claims."""
    frames = _whole(dataset, "NumberOfFrames", 1)
    if frames > 1:
        raise _Unreadable(f"has {frames} frames; images of one frame are read")
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if min(rows, columns) < 1:
        raise _Unreadable(f"is {columns} x {rows} px")
    if max(rows, columns) > MAX_SIDE:
        raise _Unreadable(f"is {columns} x {rows} px; the most is {MAX_SIDE} a side")
    if rows * columns > MAX_PIXELS:
        raise _Unreadable(f"is {columns} x {rows} px; the most is {MAX_PIXELS} in all")
    samples, allocated, stored = (_whole(dataset, key) for key in ("SamplesPerPixel", "BitsAllocated", "BitsStored"))
    photometric = str(dataset.get("PhotometricInterpretation", None) or "").strip().upper()
    colour = photometric in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
    if not colour and photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise _Unreadable(f"has the Photometric Interpretation {photometric!r}, which is not read")
    if samples != (3 if colour else 1):
        raise _Unreadable(f"has {samples} samples per pixel and is said to be {photometric}")
    if allocated not in ((8,) if colour else (8, 16)):
        raise _Unreadable(f"has {allocated} bits a sample; {'8' if colour else '8 and 16'} are read")
    if not 1 <= stored <= allocated:
        raise _Unreadable(f"has Bits Stored {stored} of {allocated} bits allocated")
    high = _whole(dataset, "HighBit", stored - 1)
    if high != stored - 1:
        raise _Unreadable(f"has High Bit {high}; it must be Bits Stored - 1, {stored - 1}")
    representation = _whole(dataset, "PixelRepresentation")
    if representation not in (0, 1):
        raise _Unreadable(f"has Pixel Representation {representation}; it is 0 or 1")
    syntax = _find_syntax(dataset)
    return _Image(rows, columns, samples, allocated, stored, representation == 1, photometric, syntax)


def _find_syntax(dataset: Any) -> Any:
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    said = dataset.file_meta.get("TransferSyntaxUID", None) if hasattr(dataset, "file_meta") else None
    if said is not None:
        syntax = UID(str(said))
    elif dataset.original_encoding[0]:
        syntax = ImplicitVRLittleEndian
    else:
        syntax = ExplicitVRLittleEndian if dataset.original_encoding[1] else ExplicitVRBigEndian
    if syntax not in DECODERS:
        raise _Unreadable(f"is encoded as {syntax.name}, which is not read")
    return syntax


def _whole(dataset: Any, keyword: str, default: int | None = None) -> int:
    value = dataset.get(keyword, None)
    if value is None or value == "":
        if default is None:
            raise _Unreadable(f"does not say its {keyword}")
        return default
    if not isinstance(value, int):
        raise _Unreadable(f"has {keyword} {value!r}, which is not a whole number")
    return int(value)


def _number(dataset: Any, keyword: str) -> Fraction | None:
    """The first value, exactly as its decimal digits say; None where there is none."""
    value = dataset.get(keyword, None)
    if value is not None and not isinstance(value, str | int | float | Decimal):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    number = float(value)
    if not math.isfinite(number) or not (number == 0 or 1e-12 <= abs(number) <= 1e12):
        raise _Unreadable(f"has {keyword} {value}")
    return Fraction(repr(number))


def _decode_samples(dataset: Any, image: _Image) -> npt.NDArray[Any]:
    """(H, W) stored bits of a grey image, cut to Bits Stored; (H, W, 3) or (H, W) of a colour one."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder

    if "PixelData" not in dataset:
        raise _Unreadable("has no Pixel Data")
    data, plugin = dataset.PixelData, DECODERS[image.syntax]
    if not data:
        raise _Unreadable("has empty Pixel Data")
    claimed = image.rows * image.columns * image.samples * image.bits_allocated // 8
    if plugin == "native":
        held = claimed if image.photometric != "YBR_FULL_422" else claimed // 3 * 2
        if len(data) < held:
            raise _Unreadable(f"is cut short: {len(data)} bytes of pixels of {held}")
    else:
        frame = get_frame(data, 0, number_of_frames=1)
        if plugin == "pydicom" and claimed > MOST_OF_RLE * len(frame):
            raise _Unreadable(f"is damaged: {len(frame)} bytes cannot hold {claimed} bytes of pixels")
        if plugin == "pillow":
            return _decode_jpeg(frame, image)
        if plugin == "gdcm":
            _check_stream(frame, image)
    decoder = get_decoder(image.syntax)
    if plugin == "gdcm" and plugin not in decoder.available_plugins:
        raise _Unreadable(f"is encoded as {image.syntax.name}, and python-gdcm is not installed", INSTALL)
    dataset.file_meta.TransferSyntaxUID = image.syntax
    dataset.PhotometricInterpretation = image.photometric
    try:
        with _mute() if plugin == "gdcm" else contextlib.nullcontext():
            decoded, facts = decoder.as_array(
                dataset, index=0, raw=True, decoding_plugin="" if plugin == "native" else plugin
            )
    except RuntimeError:
        raise _Unreadable(f"is damaged: its pixels are not {image.syntax.name}") from None
    samples: npt.NDArray[Any] = decoded
    if image.samples == 3:
        return samples[..., 0] if str(facts["photometric_interpretation"]).startswith("YBR") else samples
    unsigned = samples.astype(np.uint8 if samples.dtype.itemsize == 1 else np.uint16)
    kept: npt.NDArray[Any] = np.bitwise_and(unsigned, (1 << image.bits_stored) - 1)  # above lie overlays of old files
    return kept


def _decode_jpeg(frame: bytes, image: _Image) -> Bytes:
    precision, rows, columns, samples = _read_jpeg_header(frame, image)
    if precision != 8:
        raise _Unreadable(f"is encoded as {image.syntax.name} of {precision} bits; 8 are read")
    if samples != image.samples:
        raise _Unreadable(f"says {image.samples} samples per pixel, and its pixels have {samples}")
    if (columns, rows) != (image.columns, image.rows):
        raise _Unreadable(_other_size(image, columns, rows))
    try:
        picture = Image.open(io.BytesIO(frame), formats=("JPEG",))
        if picture.size != (image.columns, image.rows) or len(picture.getbands()) != image.samples:
            raise _Unreadable("is damaged: its pixels have two headers that differ")
        if image.photometric == "RGB" and "adobe_transform" not in picture.info:
            # Without Adobe's marker Pillow takes three channels for YCbCr, unless told to leave them as they are.
            picture.draft("YCbCr", picture.size)
            return np.asarray(picture, dtype=np.uint8)
        grey = np.asarray(picture.convert("L"), dtype=np.uint8)
    except UnidentifiedImageError:
        raise _Unreadable(f"is damaged: its pixels are not {image.syntax.name}") from None
    return grey if image.samples == 3 else grey & np.uint8((1 << min(image.bits_stored, 8)) - 1)


def _other_size(image: _Image, columns: int, rows: int) -> str:
    return f"says {image.columns} x {image.rows} px, and its pixels are {columns} x {rows}"


def _check_stream(frame: bytes, image: _Image) -> None:
    """The compressed image's own header has to agree: the decoders behind gdcm are C++ and trust the caller."""
    if image.syntax in JPEG_2000:
        start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
        header = frame[start : start + 43]
        if start < 0 or len(header) < 43:
            raise _Unreadable(f"is damaged: its pixels are not {image.syntax.name}")
        right, bottom, left, top = (int.from_bytes(header[at : at + 4]) for at in (8, 12, 16, 20))
        columns, rows, samples = right - left, bottom - top, int.from_bytes(header[40:42])
        precision = (header[42] & 0x7F) + 1
    else:
        precision, rows, columns, samples = _read_jpeg_header(frame, image)
    if (columns, rows) != (image.columns, image.rows):
        raise _Unreadable(_other_size(image, columns, rows))
    if samples != image.samples or precision > image.bits_allocated:
        raise _Unreadable(
            f"says {image.samples} samples of {image.bits_allocated} bits, and its pixels have {samples} of {precision}"
        )


def _read_jpeg_header(frame: bytes, image: _Image) -> tuple[int, int, int, int]:
    """Precision in bits, rows, columns and samples of JPEG and JPEG-LS; the markers are checked up to the image's data.

    gdcm aborts the whole process where libjpeg meets a stray byte between two markers.
    """
    damaged = _Unreadable(f"is damaged: its pixels are not {image.syntax.name}")
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


def _grey_of_colour(samples: Bytes) -> Bytes:
    """Pillow's integer weights for convert("L"): 0.299, 0.587 and 0.114 of 65536."""
    weighted = samples.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)


def _look_up(table: Bytes, samples: npt.NDArray[Any]) -> Bytes:
    """table[samples], row by row: indices become 8 bytes each, so a whole image of them is large."""
    grey = np.empty(samples.shape, dtype=np.uint8)
    for row, stored in zip(grey, samples, strict=True):
        np.take(table, stored, out=row, mode="clip")  # "raise" would buffer; every index is inside
    return grey


def _grey_table(dataset: Any, image: _Image) -> Bytes:
    """(2^Bits Stored,) uint8: the grey value of every pattern of stored bits."""
    stored = np.arange(1 << image.bits_stored, dtype=np.int64)
    if image.signed:
        stored[len(stored) // 2 :] -= len(stored)
    values, slope, intercept, lowest, highest = _apply_modality(dataset, stored)
    if dataset.get("VOILUTSequence", None):
        grey = _apply_voi_table(dataset, values, slope, intercept)
    else:
        grey = _apply_window(dataset, values, slope, intercept, lowest, highest)
    shape = str(dataset.get("PresentationLUTShape", None) or "").strip().upper()
    if image.photometric == "MONOCHROME1" or shape == "INVERSE":
        grey = 255 - grey
    grey[_find_padding(dataset, stored, image.signed)] = 0
    return grey


def _apply_modality(dataset: Any, stored: Integers) -> tuple[Integers, Fraction, Fraction, Fraction, Fraction]:
    """Whole values, and slope and intercept that are still to be applied to them; the least and the most possible."""
    if dataset.get("ModalityLUTSequence", None):
        entries, first, bits = _read_table(dataset.ModalityLUTSequence[0], "Modality LUT")
        values = entries[np.clip(stored - first, 0, len(entries) - 1)]
        return values, Fraction(1), Fraction(0), Fraction(0), Fraction((1 << bits) - 1)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope == 0:
        raise _Unreadable("has Rescale Slope 0")
    slope, intercept = Fraction(1) if slope is None else slope, intercept or Fraction(0)
    ends = sorted(slope * int(end) + intercept for end in (stored.min(), stored.max()))
    return stored, slope, intercept, ends[0], ends[1]


def _apply_voi_table(dataset: Any, values: Integers, slope: Fraction, intercept: Fraction) -> Bytes:
    """C.11.2.1.1: the first table of several; values between whole ones go to the nearest."""
    entries, first, bits = _read_table(dataset.VOILUTSequence[0], "VOI LUT")
    places = _floor_of_line(values, slope, intercept + Fraction(1, 2) - first)
    shown = entries[np.clip(places, 0, len(entries) - 1).astype(np.int64)]
    most = (1 << bits) - 1
    return ((shown * 510 + most) // (2 * most)).astype(np.uint8)


def _apply_window(
    dataset: Any, values: Integers, slope: Fraction, intercept: Fraction, lowest: Fraction, highest: Fraction
) -> Bytes:
    """C.11.2.1.2 and C.11.2.1.3, for an output of 0 to 255; the first window of several."""
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if (centre is None) != (width is None):
        raise _Unreadable("has one of Window Center and Window Width, without the other")
    if centre is None or width is None:
        return _stretch(values, slope, intercept, lowest, highest - lowest)
    function = str(dataset.get("VOILUTFunction", None) or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise _Unreadable(f"has the VOI LUT Function {function!r}, which is not known")
    if width < 1 if function == "LINEAR" else width <= 0:
        least = "at least 1" if function == "LINEAR" else "above 0"
        raise _Unreadable(f"has Window Width {float(width):g}; for {function} it must be {least}")
    if function == "SIGMOID":
        steps = np.array([float(centre) + float(width) * step for step in _sigmoid_steps()])
        reached = values.astype(np.float64) * float(slope) + float(intercept)
        return np.searchsorted(steps, reached, side="right").astype(np.uint8)
    if function == "LINEAR":
        centre, width = centre - Fraction(1, 2), width - 1
    if width == 0:
        return np.where(_floor_of_line(values, -slope, centre - intercept) < 0, 255, 0).astype(np.uint8)
    return _stretch(values, slope, intercept, centre - width / 2, width)


def _stretch(values: Integers, slope: Fraction, intercept: Fraction, lowest: Fraction, span: Fraction) -> Bytes:
    """0 to 255 over `span` from `lowest`, halves rounded up."""
    scale = 255 / span
    levels = _floor_of_line(values, slope * scale, (intercept - lowest) * scale + Fraction(1, 2))
    return np.clip(levels, 0, 255).astype(np.uint8)


@functools.cache
def _sigmoid_steps() -> tuple[float, ...]:
    """Where 255 / (1 + exp(-4 x)) reaches 0.5, 1.5, ... 254.5: by decimal logarithms, as exp differs between CPUs."""
    with localcontext(prec=30):
        return tuple(float((Decimal(2 * level - 1) / (511 - 2 * level)).ln() / 4) for level in range(1, 256))


def _floor_of_line(values: Integers, slope: Fraction, intercept: Fraction) -> Integers:
    """floor(slope * values + intercept), exactly."""
    common = math.lcm(slope.denominator, intercept.denominator)
    gain, start = int(slope * common), int(intercept * common)
    largest = max(abs(gain) * int(np.abs(values).max()) + abs(start), common)
    whole = values if largest < 1 << 62 else values.astype(object)
    floors: Integers = (whole * gain + start) // common
    return floors


def _read_table(item: Any, title: str) -> tuple[Integers, int, int]:
    """(n,) entries, the value that the first of them is for, and the bits of an entry."""
    descriptor = item.get("LUTDescriptor", None)
    data = item.get("LUTData", None)
    if descriptor is None or data is None or len(descriptor) != 3:
        raise _Unreadable(f"has a {title} Sequence without its table")
    count, first, bits = (descriptor[0] & 0xFFFF) or 1 << 16, int(descriptor[1]), int(descriptor[2])
    if not 8 <= bits <= 16:
        raise _Unreadable(f"has a {title} of {bits} bits an entry; 8 to 16 are read")
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if item.original_encoding[1] is not False else ">u2")
    else:
        words = np.array([data] if isinstance(data, int) else list(data), dtype=np.int64) & 0xFFFF
    if bits == 8 and len(words) < count:  # C.11.1.1: two entries in each word, the low byte first
        words = np.frombuffer(words.astype("<u2").tobytes(), np.uint8)
    if len(words) < count:
        raise _Unreadable(f"has a {title} of {len(words)} entries and says {count}")
    return np.minimum(words[:count].astype(np.int64), (1 << bits) - 1), first, bits


def _find_padding(dataset: Any, stored: Integers, signed: bool) -> npt.NDArray[np.bool_]:
    """C.7.5.1.1.2: the padding value, or all from it to the limit. One that Bits Stored cannot hold is in no image."""
    value = _whole(dataset, "PixelPaddingValue", _ABSENT)
    if value == _ABSENT:
        return np.zeros(len(stored), dtype=np.bool_)
    limit = _whole(dataset, "PixelPaddingRangeLimit", value)
    # Either sign is met for the same 16 bits, as implicit files do not say which.
    first, last = sorted((end + 0x8000) % 0x10000 - 0x8000 if signed else end % 0x10000 for end in (value, limit))
    within: npt.NDArray[np.bool_] = (first <= stored) & (stored <= last)
    return within
