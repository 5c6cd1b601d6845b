"""The header of a DICOM file: parsed, and checked before a decoder sees a byte of the pixels."""

import io
import math
import zlib
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_SIDE = 20_000
MAX_PIXELS = 178_956_970  # Pillow's own limit, which holds for every other image
MAX_INFLATED = 1 << 29  # bytes of a deflated dataset; MAX_PIXELS of 16 bits are less

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


class Unreadable(Exception):
    """The reason, as the end of a sentence that begins with the file's name; and a hint."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True)
class ImageFacts:
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


def printable(text: str) -> str:
    """One line of at most 200 characters, none of which steers a terminal: it comes from a file."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:200]


def parse(content: bytes, pixels: bool) -> Any:
    import pydicom

    has_preamble = content[128:132] == b"DICM"
    try:
        _refuse_bomb(content)
        dataset = pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=not pixels)
        plausible = has_preamble or ("Rows" in dataset and ("PixelData" in dataset or not pixels))
    except Unreadable:
        raise
    except Exception:
        if has_preamble:
            raise
        plausible = False
    if not plausible:
        raise Unreadable("is not DICOM" if content else "is empty (0 bytes)")
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
            raise Unreadable(f"inflates to more than {MAX_INFLATED} bytes")


def check_image(dataset: Any) -> ImageFacts:
    """Every fact is checked before a decoder sees it: decoders allocate what the header claims."""
    frames = read_whole(dataset, "NumberOfFrames", 1)
    if frames > 1:
        raise Unreadable(f"has {frames} frames; images of one frame are read")
    rows, columns = read_whole(dataset, "Rows"), read_whole(dataset, "Columns")
    if min(rows, columns) < 1:
        raise Unreadable(f"is {columns} x {rows} px")
    if max(rows, columns) > MAX_SIDE:
        raise Unreadable(f"is {columns} x {rows} px; the most is {MAX_SIDE} a side")
    if rows * columns > MAX_PIXELS:
        raise Unreadable(f"is {columns} x {rows} px; the most is {MAX_PIXELS} in all")
    wide = dataset.get("BitsAllocated") in (32, 64) and "BitsStored" not in dataset
    if wide or "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise Unreadable("has fractions as pixels, whose black and white are unknown", "save it with whole numbers")
    samples = read_whole(dataset, "SamplesPerPixel")
    allocated, stored = read_whole(dataset, "BitsAllocated"), read_whole(dataset, "BitsStored")
    photometric = str(dataset.get("PhotometricInterpretation", None) or "").strip().upper()
    colour = photometric in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
    if not colour and photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Unreadable(f"has the Photometric Interpretation {photometric!r}, which is not read")
    if samples != (3 if colour else 1):
        raise Unreadable(f"has {samples} samples per pixel and is said to be {photometric}")
    if allocated not in ((8,) if colour else (8, 16)):
        raise Unreadable(f"has {allocated} bits a sample; {'8' if colour else '8 and 16'} are read")
    if not 1 <= stored <= allocated:
        raise Unreadable(f"has Bits Stored {stored} of {allocated} bits allocated")
    high = read_whole(dataset, "HighBit", stored - 1)
    if high != stored - 1:
        raise Unreadable(f"has High Bit {high}; it must be Bits Stored - 1, {stored - 1}")
    representation = read_whole(dataset, "PixelRepresentation")
    if representation not in (0, 1):
        raise Unreadable(f"has Pixel Representation {representation}; it is 0 or 1")
    syntax = _find_syntax(dataset)
    return ImageFacts(rows, columns, samples, allocated, stored, representation == 1, photometric, syntax)


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
        raise Unreadable(f"is encoded as {syntax.name}, which is not read")
    return syntax


def read_whole(dataset: Any, keyword: str, default: int | None = None) -> int:
    value = dataset.get(keyword, None)
    if value is None or value == "":
        if default is None:
            raise Unreadable(f"does not say its {keyword}")
        return default
    if not isinstance(value, int):
        raise Unreadable(f"has {keyword} {value!r}, which is not a whole number")
    return int(value)


def read_number(dataset: Any, keyword: str) -> Fraction | None:
    """The first value, exactly as its decimal digits say; None where there is none."""
    value = dataset.get(keyword, None)
    if value is not None and not isinstance(value, str | int | float | Decimal):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    number = float(value)
    if not math.isfinite(number) or not (number == 0 or 1e-12 <= abs(number) <= 1e12):
        raise Unreadable(f"has {keyword} {value}")
    return Fraction(repr(number))
