"""Opens a bundle from a stranger: checked, unpacked into a private folder, read as a whole, removed afterwards.

Nothing in it is executed or unpickled. What is looked at, in this order: the shape of the archive
(`genmed.ground.archive`), names and sizes (`layout`, where the limits stand), room on the disk, digests of each file,
then what the files say (`record`). Whatever is wrong is a RecordError of one line that names the bundle.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genmed.ground.archive import MEND, Archive, Entry
from genmed.ground.errors import GenmedError, RecordError, RunNotFoundError, StorageError
from genmed.ground.files import storage_errors
from genmed.ground.sealed import read_sealed
from genmed.records.config import Config
from genmed.records.run_folder import RunFolder
from genmed.workflows.bundle import layout
from genmed.workflows.bundle.record import UNREADABLE, read_bundled, read_config_safely, read_whole_record

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LEFT_FREE = 64 << 20
"""Room in bytes that stays free on the disk."""
READ_FIRST = ("run.json", "config.yaml")


@contextmanager
def opened(path: Path) -> Iterator[RunFolder]:
    """The run in a bundle, as a folder that lasts as long as the context. Raises RecordError, RunNotFoundError."""
    with _unpacked(path) as folder:
        with _told_of(path, folder):
            read_whole_record(folder)
        yield folder


def read_bundled_config(path: Path) -> Config:
    """The config alone, as it was recorded: not to be trusted yet. Raises RecordError, RunNotFoundError."""
    with _unpacked(path, READ_FIRST) as folder, _told_of(path, folder):
        return read_config_safely(folder, read_bundled(folder))


@contextmanager
def _unpacked(path: Path, wanted: Collection[str] | None = None) -> Iterator[RunFolder]:
    """wanted: names of the files to be unpacked; None: all."""
    if not path.is_file():
        raise RunNotFoundError(f"no bundle {path}", "give the path of a file that `genmed export` wrote")
    with tempfile.TemporaryDirectory(prefix="genmed-bundle-") as private:  # for this user alone
        folder = RunFolder(Path(private) / "run")
        with _told_of(path, folder), open(path, "rb") as file, storage_errors(folder.path):
            folder.path.mkdir()
            _unpack(Archive(file, layout.MOST_FILES), folder, wanted)
        yield folder


@contextmanager
def _told_of(path: Path, folder: RunFolder) -> Iterator[None]:
    """Turns whatever reading a stranger's files raises into one line that names the bundle and the file in it."""
    try:
        yield
    except StorageError:  # of this machine's disk
        raise
    except GenmedError as error:
        message = error.message.replace(f"{folder.path}/", "").replace(str(folder.path), path.name)
        raise RecordError(f"{path}: {_printable(message)}", MEND) from None
    except UNREADABLE as error:
        reason = _printable(str(error)).strip()[:200]
        raise RecordError(f"{path}: it cannot be read: {type(error).__name__}: {reason}", MEND) from error
    except OSError as error:
        raise RecordError(f"{path}: it cannot be read: {error.strerror}") from error


def _printable(text: str) -> str:
    """A stranger's text may hold what moves a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def _unpack(archive: Archive, folder: RunFolder, wanted: Collection[str] | None) -> None:
    layout.check_sizes(archive)
    total, free = sum(entry.size for entry in archive.entries), shutil.disk_usage(folder.path).free
    if total > free - LEFT_FREE:
        raise RecordError(f"it unpacks to {total} bytes, and {folder.path.parent.parent} has {free} free; see TMPDIR")
    if not archive.entries or archive.entries[0].name != layout.BUNDLE:
        raise RecordError(f"it does not begin with {layout.BUNDLE}", MEND)
    _extract(archive, archive.entries[0], folder)
    described = _read_bundle(folder)
    _compare_names(archive, described)
    for entry in archive.entries[1:]:
        digest, size = described[entry.name]["sha256"], described[entry.name]["bytes"]
        if size != entry.size:
            raise RecordError(f"{entry.name} is {entry.size} bytes long, {layout.BUNDLE} says {size}", MEND)
        if (wanted is None or entry.name in wanted) and _extract(archive, entry, folder) != digest:
            raise RecordError(f"{entry.name} fails its digest in {layout.BUNDLE}", MEND)


def _extract(archive: Archive, entry: Entry, folder: RunFolder) -> str:
    """Writes a new file below the folder; its digest."""
    assert layout.limit_of(entry.name) is not None, entry.name
    path, digest = folder.path / entry.name, hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        for chunk in archive.read(entry):
            digest.update(chunk)
            file.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def _read_bundle(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Digest and size of each file, by name."""
    bundle = read_sealed(folder.bundle_path)
    if bundle.get("schema") != layout.SCHEMA:
        raise RecordError(f"{layout.BUNDLE} has schema {bundle.get('schema')!r}, this genmed reads {layout.SCHEMA}")
    described = bundle["files"]
    for name, entry in described.items():
        if (
            set(entry) != {"sha256", "bytes"}
            or type(entry["bytes"]) is not int
            or not DIGEST.fullmatch(entry["sha256"])
        ):
            raise RecordError(f"{layout.BUNDLE} describes {name!a} wrongly: {str(entry)[:100]!a}", MEND)
    return dict(described)


def _compare_names(archive: Archive, described: dict[str, dict[str, Any]]) -> None:
    names = {entry.name for entry in archive.entries[1:]}
    for name in sorted(names - described.keys()):
        raise RecordError(f"it holds {name}, which {layout.BUNDLE} does not name", MEND)
    for name in sorted(described.keys() - names):
        raise RecordError(f"it lacks {name!a}, which {layout.BUNDLE} names", MEND)
    for name in sorted(layout.DOCUMENTS.keys() - layout.OPTIONAL - names):
        raise RecordError(f"it lacks {name}, without which nothing can be verified", MEND)
