"""Every image of a dataset is read once; what is kept of one is small."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genmed.ground.errors import DataError
from genmed.parts.data.duplicates import hash_image
from genmed.parts.data.images import ImageFiles, is_dicom
from genmed.parts.data.processes import Progress, run_over_rows
from genmed.parts.data.records import ImageSource

if TYPE_CHECKING:
    from genmed.parts.data.dicom import DicomFacts


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
    """The greatest value, of an image decoded to 16 bits and of grey DICOM, where it is the stored one; else 0."""
    scaled: bool = False
    """Whether the file's header said the depth of its values, so that `data.bits` does not apply."""
    in_colour: bool = False
    photometric: str = ""
    """Of DICOM: MONOCHROME1, MONOCHROME2, RGB, ...; else empty."""
    has_window: bool = True
    """Whether the file says which values are shown; of other files than DICOM it does."""
    signed: bool = False
    """Whether the values of DICOM may be below 0."""
    white: float = 0.0
    """Share of the pixels of DICOM that are as white as can be."""


@dataclass(frozen=True)
class _Looker:
    images: ImageSource

    def __call__(self, row: int) -> Look:
        try:
            image = self.images.read(row)
            facts = _read_facts(self.images, row)
        except DataError as error:
            return Look(reason=error.say())
        pixels = image.pixels
        height, width = pixels.shape[:2]
        deep = pixels.dtype == np.uint16
        return Look(
            digest=image.decoded,
            hash=hash_image(pixels).tobytes(),
            width=width,
            height=height,
            bits=facts.bits_stored if facts else image.bits or (16 if deep else 8),
            greatest=int(pixels.max()) if deep else image.greatest,
            scaled=image.bits is not None,
            in_colour=pixels.ndim == 3,
            photometric=facts.photometric if facts else "",
            has_window=facts is None or facts.has_window,
            signed=facts is not None and facts.signed,
            white=float((pixels == 255).mean()) if facts else 0.0,
        )


def look_at_images(images: ImageSource, count: int, processes: int, progress: Progress) -> list[Look]:
    """By row, all `count` of them; in ascending order, which an archive is read fastest in."""
    looks: Iterator[tuple[int, Look]] = run_over_rows(
        _Looker(images), list(range(count)), processes, progress, "reading images"
    )
    found = dict(looks)
    return [found[row] for row in range(count)]


def _read_facts(images: ImageSource, row: int) -> "DicomFacts | None":
    """What a DICOM file says of its image; None for any other."""
    if not isinstance(images, ImageFiles):
        return None
    path = images.path(row)
    try:
        with open(path, "rb") as file:
            if not is_dicom(file.read(132), path.name):
                return None
        from genmed.parts.data.dicom import read_facts

        return read_facts(path.read_bytes(), str(path))
    except OSError as error:  # it was there a moment ago
        raise DataError(f"cannot read {path}: {error.strerror}") from None
