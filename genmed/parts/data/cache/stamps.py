"""What is known of files without reading them: the digest of each that has its former size, time and inode."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from genmed.ground.errors import RecordError
from genmed.ground.sealed import read_sealed, write_sealed
from genmed.parts.data.records import Records

Stamps = dict[str, list[Any]]
"""By image: what tells that its file is unchanged, and the file's digest."""


def read_stamps(folder: Path, root: Path | None, report: Callable[[str], None]) -> Stamps:
    """Empty where this folder was not seen before; damaged ones are named and left: the files are read again."""
    if root is None or not (path := _stamps_path(folder, root)).exists():
        return {}
    try:
        return dict(read_sealed(path)["files"])
    except RecordError as error:
        report(f"{error.message}; all files are read again")
        return {}


def take_stamps(records: Records) -> list[tuple[int, ...] | None]:
    """What tells now that each file is unchanged, by row; taken before the files are read, so that a file that changes
    meanwhile is read again the next time."""
    return [records.images.stamp(row) for row in range(len(records))]


def find_unchanged(records: Records, current: Sequence[tuple[int, ...] | None], stamps: Stamps) -> dict[int, str]:
    """The digests of the files that are as they were, by row."""
    known = {}
    for row, (name, stamp) in enumerate(zip(records.ids, current, strict=True)):
        entry = stamps.get(name)
        if isinstance(entry, list) and stamp and entry[:-1] == list(stamp):
            known[row] = str(entry[-1])
    return known


def write_stamps(
    folder: Path, records: Records, current: Sequence[tuple[int, ...] | None], files: Sequence[str], before: Stamps
) -> None:
    """files: digests by row; '' for one that cannot be read."""
    if records.root is None:
        return
    stamps = {
        name: [*stamp, digest]
        for name, stamp, digest in zip(records.ids, current, files, strict=True)
        if digest and stamp
    }
    if before != stamps:
        write_sealed(_stamps_path(folder, records.root), {"schema": 1, "files": stamps})


def _stamps_path(folder: Path, root: Path) -> Path:
    return folder / "stamps" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.json"
