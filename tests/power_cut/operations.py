"""What a process did to the files below a folder, one effect at a time; recording.py makes the list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# An inode: the path below the root of one that was there before, "" the root; a number of one that was made.
Key = str | int
Kind = Literal["file", "directory", "symlink"]


@dataclass(frozen=True)
class Operation:
    """One effect on the files below the root; `text` says it with the names of its moment."""

    text: str


@dataclass(frozen=True)
class Create(Operation):
    """A new inode under a name. A file whose name is there already is opened: nothing happens."""

    directory: Key
    name: str
    inode: Key
    kind: Kind
    target: str = ""  # of a symbolic link


@dataclass(frozen=True)
class Write(Operation):
    inode: Key
    offset: int | None  # None: at the end, O_APPEND
    data: bytes


@dataclass(frozen=True)
class Copy(Operation):
    """A write whose data are those of another file below the root: copy_file_range, sendfile."""

    inode: Key
    offset: int | None
    source: Key
    start: int
    size: int


@dataclass(frozen=True)
class Resize(Operation):
    inode: Key
    size: int
    shrinks: bool = True  # False: fallocate, which leaves a longer file alone


@dataclass(frozen=True)
class Link(Operation):
    """A hard link; `inode` has the name `source` in `source_directory` too."""

    source_directory: Key
    source: str
    directory: Key
    name: str
    inode: Key


@dataclass(frozen=True)
class Rename(Operation):
    source_directory: Key
    source: str
    directory: Key
    name: str


@dataclass(frozen=True)
class Remove(Operation):
    directory: Key
    name: str


@dataclass(frozen=True)
class Sync(Operation):
    """fsync or fdatasync of a file or directory, None of all; of the first `covers` operations of the list.

    Those that other threads ended while it ran may have come too late for it.
    """

    inode: Key | None
    covers: int


@dataclass(frozen=True)
class Mapped(Operation):
    """A shared writable memory map of a file: what is stored through it is in no operation."""

    path: str
    inode: Key


def mapped(operations: Sequence[Operation]) -> list[str]:
    """The files, below the root, that memory maps may have changed unseen; each once."""
    return list(dict.fromkeys(operation.path for operation in operations if isinstance(operation, Mapped)))
