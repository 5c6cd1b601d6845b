"""One entry of the image cache: a file of bytes at training size, and the digests of what it was made of."""

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

PIXELS, DIGESTS = "pixels.u8", "digests.json"
ROWS_AT_ONCE = 256


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
    """All images of a dataset at training size: a file that any process maps when it first reads."""

    path: Path
    shape: tuple[int, int, int, int]
    """(N, C, S, S) of the file."""
    digests: ImageDigests
    """By row of this dataset, like all below."""
    rows: tuple[int, ...] | None = None
    """Where each row stands in the file; None: at its own number."""
    in_colour: int = 0
    """How many images are in colour, whatever the network sees of it."""

    def __len__(self) -> int:
        return self.shape[0] if self.rows is None else len(self.rows)

    @property
    def channels(self) -> int:
        return self.shape[1]

    def read(self, rows: npt.NDArray[np.int64] | slice) -> Pixels:
        """(len(rows), C, S, S) uint8, a copy; memory is taken by the pages in use, which the system takes back."""
        wanted = rows if self._places is None else self._places[rows]
        return np.array(self._file[wanted])

    def find_rotten(self) -> list[int]:
        """Rows whose bytes are not those that were digested when they were written; empty means good."""
        rotten = []
        for start in range(0, len(self), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            for row, pixels in enumerate(self.read(part), start):
                if (digest := self.digests.prepared[row]) and digest_pixels(pixels) != digest:
                    rotten.append(row)
        return rotten

    def choose(self, rows: list[int]) -> "ImageBytes":
        """Some rows of it."""
        return replace(self, rows=tuple(rows), digests=self.digests.choose(rows))

    @cached_property
    def _file(self) -> Pixels:
        return np.memmap(self.path, dtype=np.uint8, mode="r", shape=self.shape)

    @cached_property
    def _places(self) -> npt.NDArray[np.int64] | None:
        return None if self.rows is None else np.array(self.rows, dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Without the map: another process makes its own."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


@dataclass(frozen=True)
class Entry:
    """A folder of the cache as it was opened."""

    images: ImageBytes
    broken: dict[int, str]
    """Rows that could not be decoded, with the reasons; their bytes are black."""


def write_digests(folder: Path, images: ImageBytes, broken: dict[int, str]) -> None:
    named = {str(row): reason for row, reason in sorted(broken.items())}
    write_sealed(
        folder / DIGESTS,
        {"schema": 1, **images.digests.__dict__, "in_colour": images.in_colour, "broken": named},
    )


def open_entry(folder: Path, shape: tuple[int, int, int, int]) -> tuple[Entry | None, str]:
    """The entry; or None and what is damaged, if anything is there. Each image is held against its digest."""
    if not folder.exists():
        return None, ""
    try:
        found = read_sealed(folder / DIGESTS)
        digests = ImageDigests(*(tuple(found[part]) for part in ("file", "decoded", "prepared")))
        broken = {int(row): reason for row, reason in found["broken"].items()}
        images = ImageBytes(folder / PIXELS, shape, digests, in_colour=found["in_colour"])
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
