"""How an SQLite file is opened for reading, so that it and its folder stay as they are; without SQLAlchemy."""

import os
from pathlib import Path


def reading_mode(path: Path) -> str:
    """The parameter of its URI. Reading never changes the database's file and leaves nothing beside it."""
    if file_size(path.with_name(path.name + "-journal")) and os.access(path.parent, os.W_OK):
        return "mode=rw"  # what a killed writer began has to be undone
    if file_size(path.with_name(path.name + "-wal")):
        return "mode=ro"  # closing a writable connection would merge the log of a writer that was killed
    if os.access(path.parent, os.W_OK):
        return "mode=rw"  # a read-only one would leave an empty log behind, and cannot undo what a killed writer began
    return "immutable=1" if _keeps_log(path) else "mode=ro"


def _keeps_log(path: Path) -> bool:
    """Whether the header says WAL (sqlite.org/fileformat2.html, 1.3.3).

    SQLite cannot read such a file where it may not make the shared memory, but as one that nobody changes.
    """
    try:
        with open(path, "rb") as file:
            return file.read(20)[18:] == b"\x02\x02"
    except OSError:
        return False


def file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
