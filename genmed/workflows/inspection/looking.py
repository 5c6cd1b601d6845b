"""Every image of a dataset is read once; what is kept of one is small."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from genmed.ground.errors import DataError
from genmed.ground.fingerprints import digest_pixels
from genmed.parts.data.duplicates import hash_image
from genmed.parts.data.images import DICOM_SUFFIXES, ImageFiles
from genmed.parts.data.processes import Progress, run_over_rows
from genmed.parts.data.records import ImageSource


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of an image that was read, or why it could not be."""

    reason: str = ""
    digest: str = ""
    """Of the decoded pixels."""
    hash: bytes = b""
    """Of `hash_image`."""
    width: int = 0
    height: int = 0
    bits: int = 0
    """8 or 16 as decoded; of DICOM, as stored."""
    greatest: int = 0
    """The greatest value, of an image decoded to 16 bits; else 0."""
    in_colour: bool = False
    photometric: str = ""
    """Of DICOM: MONOCHROME1, MONOCHROME2, RGB, ...; else empty."""


@dataclass(frozen=True)
class _Looker:
    images: ImageSource

    def __call__(self, row: int) -> Look:
        try:
            pixels = self.images.read(row).pixels
            bits, photometric = _read_header(self.images, row)
        except DataError as error:
            return Look(reason=error.say())
        height, width = pixels.shape[:2]
        deep = pixels.dtype == np.uint16
        return Look(
            digest=digest_pixels(np.ascontiguousarray(pixels)),
            hash=hash_image(pixels).tobytes(),
            width=width,
            height=height,
            bits=bits or (16 if deep else 8),
            greatest=int(pixels.max()) if deep else 0,
            in_colour=pixels.ndim == 3,
            photometric=photometric,
        )


def look_at_images(images: ImageSource, count: int, processes: int, progress: Progress) -> list[Look]:
    """By row, all `count` of them; in ascending order, which an archive is read fastest in."""
    looks: Iterator[tuple[int, Look]] = run_over_rows(
        _Looker(images), list(range(count)), processes, progress, "reading images"
    )
    found = dict(looks)
    return [found[row] for row in range(count)]


def _read_header(images: ImageSource, row: int) -> tuple[int, str]:
    """Bits stored and photometric interpretation of a DICOM file; (0, '') of any other."""
    if not isinstance(images, ImageFiles) or not images.names[row].lower().endswith(DICOM_SUFFIXES):
        return 0, ""
    from genmed.parts.data.dicom import read_facts

    path = images.path(row)
    try:
        facts = read_facts(path.read_bytes(), str(path))
    except OSError as error:  # it was there a moment ago
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return facts.bits_stored, facts.photometric
