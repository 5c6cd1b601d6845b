"""One entry of the image cache: a file of bytes at training size, and the digests of what it was made of."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from genmed.ground.errors import RecordError
from genmed.ground.fingerprints import digest_pixels
from genmed.ground.sealed import read_sealed, write_sealed
from genmed.parts.data.records import Pixels

FORMAT = 2
"""Of what an entry holds: one of another format is never looked at."""
PIXELS, DIGESTS = "pixels.u8", "digests.json"
ROWS_AT_ONCE = 32
NOT_WAITING = getattr(os, "RWF_NOWAIT", 0)
"""Of Linux: reads that fail where the disk would have to be asked."""


@dataclass(frozen=True)
class ImageDigests:
    """For each row of its file (sha256), its pixels as decoded, and its bytes as prepared for the network."""

    file: tuple[str, ...]
    decoded: tuple[str, ...]
    prepared: tuple[str, ...]
    """'' where the image is broken, like `decoded`; `file` where it cannot be read at all."""

    def choose(self, rows: list[int]) -> "ImageDigests":
        return ImageDigests(*(tuple(column[row] for row in rows) for column in self.__dict__.values()))


@dataclass(frozen=True)
class ImageBytes:
    """All images of a dataset at training size: a file that any process opens when it first reads."""

    path: Path
    shape: tuple[int, int, int, int]
    """(N, C, S, S) of the file."""
    digests: ImageDigests
    """By row of this dataset, like all below."""
    rows: tuple[int, ...] | None = None
    """Where each row stands in the file; None: at its own number."""
    in_colour: int = 0
    """How many images are in colour, whatever the network sees of it."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(height, width) of each image's file, in pixels."""

    def __len__(self) -> int:
        return self.shape[0] if self.rows is None else len(self.rows)

    @property
    def channels(self) -> int:
        return self.shape[1]

    def read(self, rows: npt.NDArray[np.int64] | slice) -> Pixels:
        """(len(rows), C, S, S) uint8."""
        places = self._places[rows]
        pixels = np.empty((len(places), *self.shape[1:]), dtype=np.uint8)
        self.read_into(pixels, rows)
        return pixels

    def read_into(self, pixels: Pixels, rows: npt.NDArray[np.int64] | slice) -> None:
        """Fills `pixels`, a C-contiguous array of the shape that `read` returns. Raises RecordError.

        By reads, not by a memory map: where the file is not in memory, a map fetches it page by page, each waiting for
        the one before, and a disk's error kills the process.
        """
        length = int(np.prod(self.shape[1:]))
        starts = (self._places[rows] * length).tolist()
        number = self._file.number
        wanted = zip(pixels, starts, strict=True)
        late = [(image, start) for image, start in wanted if not _read_now(number, image, start)]
        if hasattr(os, "posix_fadvise"):  # the disk works on all of them at once
            for _, start in late:
                os.posix_fadvise(number, start, length, os.POSIX_FADV_WILLNEED)
        for image, start in late:
            if os.preadv(number, [image], start) != length:
                raise RecordError(f"{self.path} was cut short while it was in use", "start again: it is made anew")

    def find_rotten(self) -> list[int]:
        """Rows whose bytes are not those that were digested when they were written; empty means good."""
        rotten = []
        pixels = np.empty((ROWS_AT_ONCE, *self.shape[1:]), dtype=np.uint8)
        for start in range(0, len(self), ROWS_AT_ONCE):
            rows = slice(start, min(start + ROWS_AT_ONCE, len(self)))
            self.read_into(pixels[: rows.stop - start], rows)
            for row in range(start, rows.stop):
                if (digest := self.digests.prepared[row]) and digest_pixels(pixels[row - start]) != digest:
                    rotten.append(row)
        return rotten

    def choose(self, rows: list[int]) -> "ImageBytes":
        """Some rows of it."""
        sizes = tuple(self.sizes[row] for row in rows) if self.sizes else ()
        return replace(self, rows=tuple(self._places[rows].tolist()), digests=self.digests.choose(rows), sizes=sizes)

    @cached_property
    def _file(self) -> "_OpenFile":
        return _OpenFile(self.path)

    @cached_property
    def _places(self) -> npt.NDArray[np.int64]:
        return np.arange(self.shape[0]) if self.rows is None else np.array(self.rows, dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file: another process opens its own."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def _read_now(number: int, image: Any, start: int) -> bool:
    """Whether all of it was in memory, and so was read without a wait; else, and where none can tell, False."""
    try:
        return os.preadv(number, [image], start, NOT_WAITING) == image.nbytes if NOT_WAITING else False
    except OSError:
        return False


class _OpenFile:
    """A file that stays open, and so readable even when it is removed; it is closed with its owner."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@dataclass(frozen=True)
class Entry:
    """A folder of the cache as it was opened."""

    images: ImageBytes
    broken: dict[int, str]
    """Rows that could not be decoded, with the reasons; their bytes are black."""


def write_digests(folder: Path, images: ImageBytes, broken: dict[int, str]) -> None:
    named = {str(row): reason for row, reason in sorted(broken.items())}
    seen = {"in_colour": images.in_colour, "sizes": images.sizes}
    write_sealed(folder / DIGESTS, {"schema": 1, **images.digests.__dict__, **seen, "broken": named})


def open_entry(folder: Path, shape: tuple[int, int, int, int]) -> tuple[Entry | None, str]:
    """The entry; or None and what is damaged, if anything is there. Each image is held against its digest."""
    if not folder.exists():
        return None, ""
    try:
        found = read_sealed(folder / DIGESTS)
        digests = ImageDigests(*(tuple(found[part]) for part in ("file", "decoded", "prepared")))
        broken = {int(row): reason for row, reason in found["broken"].items()}
        sizes = tuple((height, width) for height, width in found["sizes"])
        images = ImageBytes(folder / PIXELS, shape, digests, in_colour=found["in_colour"], sizes=sizes)
    except RecordError as error:
        return None, error.message
    except KeyError as error:
        return None, f"{folder / DIGESTS} lacks {error}"
    length = images.path.stat().st_size if images.path.is_file() else None
    if length != int(np.prod(shape)):
        return None, f"{images.path} is {'missing' if length is None else f'{length} bytes long'}"
    if rotten := images.find_rotten():
        return None, f"{images.path} fails its digests at {len(rotten)} images, the first in row {rotten[0]}"
    return Entry(images, broken), ""
