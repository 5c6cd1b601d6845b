"""Images in the arrays of an npz archive, read as a stream: an archive of any size takes the memory of one image."""

import math
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from genmed.ground.errors import DataError
from genmed.ground.fingerprints import digest_bytes
from genmed.parts.data.records import Pixels, RawImage

MOST_LABELS = 2**26
"""Numbers in an array that is read whole."""
SKIP = 1 << 20
MOST_DEFLATED = 1032
"""Bytes that one byte of a deflated stream can stand for; more is a bomb."""


@dataclass(frozen=True)
class Member:
    """An array of an archive: its name, shape and dtype, from its header."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class _NotReadable(Exception):
    """Why an archive cannot be read."""


def list_members(path: Path) -> dict[str, Member]:
    """The arrays by name. Raises DataError for what is no npz, and for pickled objects, which are never loaded."""
    with _naming(path), zipfile.ZipFile(path) as archive:
        found: dict[str, Member] = {}
        most = path.stat().st_size * MOST_DEFLATED
        for entry in archive.namelist():
            name = entry.removesuffix(".npy")
            if name == entry:
                continue
            if name in found:
                raise _NotReadable(f"{entry} is there twice")
            with archive.open(entry) as stream:
                shape, dtype = _read_header(stream, entry)
            if math.prod(shape) * dtype.itemsize > most:
                raise _NotReadable(f"{entry} claims {math.prod(shape):,} numbers, more than the file can hold")
            found[name] = Member(entry, shape, dtype)
        return found


def check_array(path: Path, member: Member) -> None:
    """Reads an array to its end, where its checksum is. Raises DataError.

    A flipped bit makes others of any number of images before something is noticed, so that none of them can be left out
    alone.
    """
    with _naming(path), zipfile.ZipFile(path) as archive, archive.open(member.name) as stream:
        _read_header(stream, member.name)
        left = math.prod(member.shape) * member.dtype.itemsize
        while left:
            left -= len(_read_exactly(stream, min(left, SKIP), member.name))
        _check_end(stream, member.name)


def read_array(path: Path, member: Member) -> npt.NDArray[Any]:
    """A small array, whole. Raises DataError."""
    if math.prod(member.shape) > MOST_LABELS:
        raise DataError(f"{path} is damaged: {member.name} claims {math.prod(member.shape):,} numbers")
    with _naming(path), zipfile.ZipFile(path) as archive, archive.open(member.name) as stream:
        _read_header(stream, member.name)
        content = _read_exactly(stream, math.prod(member.shape) * member.dtype.itemsize, member.name)
        _check_end(stream, member.name)
        return np.frombuffer(content, dtype=member.dtype).reshape(member.shape)


class NpzImages:
    """Images by row (see `ImageSource`): the rows of several arrays, one array after the other.

    Rows are read fastest in ascending order, for an array lies there in one compressed stream.
    """

    def __init__(self, path: Path, members: Sequence[Member]) -> None:
        self.path, self.members = path, tuple(members)
        self._starts = np.cumsum([0, *(member.shape[0] for member in members)]).tolist()
        self._cursor: _Cursor | None = None
        self._broken: dict[int, tuple[int, str]] = {}
        """By array: the first row that cannot be read, and why."""

    def stamp(self, row: int) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None  # reading it will say why
        return status.st_size, status.st_mtime_ns, status.st_ino

    def digest(self, row: int) -> str:
        return self.read(row).digest

    def read(self, row: int) -> RawImage:
        position = next(at for at in range(len(self.members)) if row < self._starts[at + 1])
        number = row - self._starts[position]
        if position in self._broken and number >= self._broken[position][0]:
            raise DataError(self._broken[position][1])
        try:
            with _naming(f"{self.path}, {self.members[position].name} row {number}"):
                content = self._place(position, number).read_row(number)
        except DataError as error:  # the rest of the stream is lost as well: it is not begun anew for each row
            self._broken[position] = (number, error.message)
            self._cursor = None
            raise
        pixels: Pixels = np.frombuffer(content, dtype=np.uint8).reshape(self.members[position].shape[1:])
        return RawImage(pixels, digest_bytes(content))

    def decoders(self) -> Sequence[str]:
        return ()

    def _place(self, position: int, number: int) -> "_Cursor":
        """One that has not passed the row."""
        member = self.members[position]
        if self._cursor is None or self._cursor.member is not member or number < self._cursor.next_row:
            self._cursor = _Cursor(self.path, member)
        return self._cursor

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "members": self.members}

    def __setstate__(self, state: dict[str, Any]) -> None:
        NpzImages.__init__(self, state["path"], state["members"])


class _Cursor:
    """A place in the stream of one array."""

    def __init__(self, path: Path, member: Member) -> None:
        self.member, self.next_row = member, 0
        self._archive = zipfile.ZipFile(path)
        self._stream = self._archive.open(member.name)
        _read_header(self._stream, member.name)

    def read_row(self, row: int) -> bytes:
        skip = (row - self.next_row) * self.member.row_bytes
        while skip:
            skip -= len(_read_exactly(self._stream, min(skip, SKIP), self.member.name))
        self.next_row = row + 1
        content = _read_exactly(self._stream, self.member.row_bytes, self.member.name)
        if self.next_row == self.member.shape[0]:
            _check_end(self._stream, self.member.name)
        return content


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise _NotReadable(f"{name} is of version {version} of the format")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        shape, in_columns, dtype = read(stream)
    if dtype.hasobject:
        raise _NotReadable(f"{name} holds pickled objects, which could run code and are never loaded")
    if in_columns and len(shape) > 1:
        raise _NotReadable(f"{name} lies in Fortran's order")
    if min(shape, default=0) < 0:
        raise _NotReadable(f"{name} claims the shape {shape}")
    return shape, dtype


def _check_end(stream: IO[bytes], name: str) -> None:
    """The checksum is compared where the stream ends, which its last number need not be."""
    if stream.read(1):
        raise _NotReadable(f"{name} is longer than its header says")


def _read_exactly(stream: IO[bytes], count: int, name: str) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise _NotReadable(f"{name} ends before its last row")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class _naming:  # noqa: N801 - a context manager
    """Turns whatever a damaged archive brings about into one line with its name."""

    def __init__(self, name: object) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (DataError, MemoryError)) or not isinstance(error, Exception):
            return
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"cannot read {self.name}: {error.strerror}") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{self.name} is damaged: {reason}" if kind is not _NotReadable else f"{self.name}: {reason}")
