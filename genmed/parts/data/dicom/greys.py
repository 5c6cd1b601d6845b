"""From stored samples to the grey values that a viewer shows: one table over all that Bits Stored allow."""

import functools
import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from genmed.parts.data.dicom.header import ImageFacts, Unreadable, read_number, read_whole

_ABSENT = 1 << 20  # no value of 16 bits

Integers = npt.NDArray[Any]  # int64, or Python's own where these do not suffice
Bytes = npt.NDArray[np.uint8]


def look_up(table: Bytes, samples: npt.NDArray[Any]) -> Bytes:
    """table[samples], row by row: indices become 8 bytes each, so a whole image of them is large."""
    grey = np.empty(samples.shape, dtype=np.uint8)
    for row, stored in zip(grey, samples, strict=True):
        np.take(table, stored, out=row, mode="clip")  # "raise" would buffer; every index is inside
    return grey


def make_grey_table(dataset: Any, image: ImageFacts, bits: int | None = None) -> Bytes:
    """(2^Bits Stored,) uint8: the grey value of every pattern of stored bits.

    bits: how many of them are used, for an image without a window; None: all.
    """
    stored = np.arange(1 << image.bits_stored, dtype=np.int64)
    if image.signed:
        stored[len(stored) // 2 :] -= len(stored)
    values, slope, intercept, lowest, highest = _apply_modality(dataset, stored, image, bits)
    if dataset.get("VOILUTSequence", None):
        grey = _apply_voi_table(dataset, values, slope, intercept)
    else:
        grey = _apply_window(dataset, values, slope, intercept, lowest, highest)
    shape = str(dataset.get("PresentationLUTShape", None) or "").strip().upper()
    if image.photometric == "MONOCHROME1" or shape == "INVERSE":
        grey = 255 - grey
    grey[_find_padding(dataset, stored, image.signed)] = 0
    return grey


def _apply_modality(
    dataset: Any, stored: Integers, image: ImageFacts, bits: int | None
) -> tuple[Integers, Fraction, Fraction, Fraction, Fraction]:
    """Whole values, and slope and intercept that are still to be applied to them; the least and the most possible."""
    if dataset.get("ModalityLUTSequence", None):
        entries, first, bits = _read_table(dataset.ModalityLUTSequence[0], "Modality LUT")
        values = entries[np.clip(stored - first, 0, len(entries) - 1)]
        return values, Fraction(1), Fraction(0), Fraction(0), Fraction((1 << bits) - 1)
    slope, intercept = read_number(dataset, "RescaleSlope"), read_number(dataset, "RescaleIntercept")
    if slope == 0:
        raise Unreadable("has Rescale Slope 0")
    slope, intercept = Fraction(1) if slope is None else slope, intercept or Fraction(0)
    most = 1 << min(bits or image.bits_stored, image.bits_stored) - image.signed
    ends = sorted(slope * end + intercept for end in (-most if image.signed else 0, most - 1))
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
    centre, width = read_number(dataset, "WindowCenter"), read_number(dataset, "WindowWidth")
    if (centre is None) != (width is None):
        raise Unreadable("has one of Window Center and Window Width, without the other")
    if centre is None or width is None:
        return _stretch(values, slope, intercept, lowest, highest - lowest)
    function = str(dataset.get("VOILUTFunction", None) or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise Unreadable(f"has the VOI LUT Function {function!r}, which is not known")
    if width < 1 if function == "LINEAR" else width <= 0:
        least = "at least 1" if function == "LINEAR" else "above 0"
        raise Unreadable(f"has Window Width {float(width):g}; for {function} it must be {least}")
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
        raise Unreadable(f"has a {title} Sequence without its table")
    count, first, bits = (descriptor[0] & 0xFFFF) or 1 << 16, int(descriptor[1]), int(descriptor[2])
    if not 8 <= bits <= 16:
        raise Unreadable(f"has a {title} of {bits} bits an entry; 8 to 16 are read")
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if item.original_encoding[1] is not False else ">u2")
    else:
        words = np.array([data] if isinstance(data, int) else list(data), dtype=np.int64) & 0xFFFF
    if bits == 8 and len(words) < count:  # C.11.1.1: two entries in each word, the low byte first
        words = np.frombuffer(words.astype("<u2").tobytes(), np.uint8)
    if len(words) < count:
        raise Unreadable(f"has a {title} of {len(words)} entries and says {count}")
    return np.minimum(words[:count].astype(np.int64), (1 << bits) - 1), first, bits


def _find_padding(dataset: Any, stored: Integers, signed: bool) -> npt.NDArray[np.bool_]:
    """C.7.5.1.1.2: the padding value, or all from it to the limit. One that Bits Stored cannot hold is in no image."""
    value = read_whole(dataset, "PixelPaddingValue", _ABSENT)
    if value == _ABSENT:
        return np.zeros(len(stored), dtype=np.bool_)
    limit = read_whole(dataset, "PixelPaddingRangeLimit", value)
    # Either sign is met for the same 16 bits, as implicit files do not say which.
    first, last = sorted((end + 0x8000) % 0x10000 - 0x8000 if signed else end % 0x10000 for end in (value, limit))
    within: npt.NDArray[np.bool_] = (first <= stored) & (stored <= last)
    return within
