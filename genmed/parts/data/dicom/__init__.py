"""DICOM files to bytes: grey values as a viewer shows them.

The order of steps is the standard's (PS3.3, C.7.6.3, C.11.1, C.11.2, C.11.6): stored values, modality table or rescale,
VOI table or window, inversion, 8 bits. A grey image has at most 2^16 stored values, so the steps are done once, over
all of them, in whole numbers, and the image is looked up in the result. That is fast, and equal on every CPU.

`header` parses and checks, `samples` decodes, `greys` does the steps.
"""

import contextlib
import importlib.metadata
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genmed.ground.errors import ConfigError, DataError, GenmedError, StorageError
from genmed.parts.data.dicom.greys import Bytes, look_up, make_grey_table
from genmed.parts.data.dicom.header import ImageFacts, Unreadable, check_image, parse, printable
from genmed.parts.data.dicom.samples import INSTALL, decode_samples, grey_of_colour

LIBRARIES = ("pydicom", "python-gdcm", "gdcm")


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
    has_window: bool
    """Whether the file says which values are shown: by a window or a VOI table."""
    signed: bool = False
    """Whether stored values may be below 0."""


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
        dataset = parse(content, pixels=False)
        image = check_image(dataset)
        modality = str(dataset.get("Modality", None) or "")
        syntax, window = image.syntax.name, bool(dataset.get("VOILUTSequence") or dataset.get("WindowWidth"))
        return DicomFacts(
            image.rows,
            image.columns,
            image.bits_stored,
            image.photometric,
            syntax,
            printable(modality),
            window,
            image.signed,
        )


def decode_dicom(content: bytes, name: str, bits: int | None = None) -> Bytes:
    """The pixels of `read_dicom`."""
    return read_dicom(content, name, bits)[0]


def read_dicom(content: bytes, name: str, bits: int | None = None) -> tuple[Bytes, int]:
    """(H, W) uint8: grey values as a viewer shows them; 0 is black (air).

    content: a DICOM file of one frame, 8 or 16 bits allocated; name: what an error calls it. The scale is that of the
    VOI table or of the first window (a table goes before a window); where there is neither, all that Bits Stored allow,
    never the extremes of the image; or `bits` of them, if these are fewer. MONOCHROME1 and Presentation LUT Shape
    INVERSE both say "the lowest is white", and C.8.11.3 pairs them: either or both invert, once. Padding (Pixel Padding
    Value, Range Limit) is 0. Colour becomes grey by the weights of ITU-R 601, as in Pillow's convert("L"); of YBR, Y is
    just that.
    The second value is the greatest stored one of a grey image, below 0 counted as the distance from -1; 0 for colour.

    Raises DataError with `name` and the reason: not DICOM, damaged, cut short, more than one frame, over 20,000 px a
    side, an encoding that is not read, windows or tables that the standard forbids, or pydicom is not installed.
    """
    with _refusing(name):
        dataset = parse(content, pixels=True)
        image = check_image(dataset)
        samples = decode_samples(dataset, image)
        if image.samples == 3:
            return samples if samples.ndim == 2 else grey_of_colour(samples), 0
        return look_up(make_grey_table(dataset, image, bits), samples), _find_greatest(samples, image)


def _find_greatest(samples: npt.NDArray[Any], image: ImageFacts) -> int:
    """Samples are patterns of bits. Values from -2^n to 2^n - 1 have n bits and a sign."""
    if not image.signed:
        return int(samples.max())
    half = 1 << (image.bits_stored - 1)
    values = (samples.astype(np.int32) ^ half) - half
    return int(np.maximum(values, -1 - values).max())


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Whatever parsers and decoders raise on hostile bytes becomes a DataError; their warnings are not for the user."""
    try:
        import pydicom.config
    except ImportError:
        raise ConfigError(f"{name} is DICOM, and pydicom is not installed", INSTALL) from None
    try:
        with warnings.catch_warnings(), _unlogged(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except Unreadable as refusal:
        raise DataError(f"{name} {printable(str(refusal))}", refusal.hint) from None
    except MemoryError:
        raise StorageError(f"{name} needs more memory than there is", "this machine ran out of it; try again") from None
    except GenmedError:
        raise
    except Exception as error:
        raise DataError(f"{name} is damaged: {printable(str(error) or type(error).__name__)}") from None


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """pydicom logs, with a traceback, what is said here in one line."""
    log = logging.getLogger("pydicom")
    propagated, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = propagated
