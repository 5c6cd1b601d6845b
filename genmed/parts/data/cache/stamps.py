"""What is known of files without reading them: the digest of each that has its former size, time and inode."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmed.ground.errors import RecordError
from genmed.ground.sealed import read_sealed, write_sealed
from genmed.parts.data.records import Records


@dataclass(frozen=True)
class Stamps:
    """Of the files of a folder, now and when it was last opened."""

    ids: tuple[str, ...]
    now: list[tuple[int, ...] | None]
    """By row; None where there is no file."""
    before: dict[str, list[Any]]
    """By image: the stamp, and after it the file's digest; empty where the folder was not seen before."""

    def find_unchanged(self) -> dict[int, str]:
        """The digests of the files that are as they were, by row."""
        known = {}
        for row, (name, stamp) in enumerate(zip(self.ids, self.now, strict=True)):
            entry = self.before.get(name)
            if isinstance(entry, list) and stamp and entry[:-1] == list(stamp):
                known[row] = str(entry[-1])
        return known


def take_stamps(folder: Path, records: Records, report: Callable[[str], None]) -> Stamps:
    """To be taken before the files are read, so that one which changes meanwhile is read again the next time.

    What was kept of the folder and is damaged is named and left: all files are read again.
    """
    if records.root is None:
        return Stamps(records.ids, [None] * len(records), {})
    now = [records.images.stamp(row) for row in range(len(records))]
    before: dict[str, list[Any]] = {}
    if (path := _stamps_path(folder, records.root)).exists():
        try:
            before = dict(read_sealed(path)["files"])
        except RecordError as error:
            report(f"{error.message}; all files are read again")
    return Stamps(records.ids, now, before)


def write_stamps(folder: Path, records: Records, stamps: Stamps, files: Sequence[str]) -> None:
    """files: digests by row; '' for one that cannot be read."""
    if records.root is None:
        return
    after = {
        name: [*stamp, digest]
        for name, stamp, digest in zip(stamps.ids, stamps.now, files, strict=True)
        if digest and stamp
    }
    if stamps.before != after:
        write_sealed(_stamps_path(folder, records.root), {"schema": 1, "files": after})


def _stamps_path(folder: Path, root: Path) -> Path:
    return folder / "stamps" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.json"
