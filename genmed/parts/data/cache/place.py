"""Where the image cache lies, who uses which part of it, and how large it may grow.

<cache>/stamps/<root>.json    digests of files by (size, mtime, inode), so that an unchanged file is not read
<cache>/images/<key>/         an entry; `in-use` in it is locked by the processes that read it
<cache>/locks/                one file for each set of images: who decodes it has the lock
<cache>/limit                 bytes that all entries together may take, or `none`, if somebody chose that
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from genmed.ground.errors import ConfigError
from genmed.ground.files import TEMPORARY, remove_folder, storage_errors, sweep_temporaries, write_text

DEFAULT_LIMIT = 64 * 2**30
NO_LIMIT = "none"
IN_USE = "in-use"
_held: dict[Path, IO[bytes]] = {}
"""Locks of this process on entries; they last as long as it lives."""


@dataclass(frozen=True)
class Stored:
    """One entry as it lies on the disk."""

    folder: Path
    size: int
    """Bytes."""
    used: float
    """When it was last opened, in seconds since 1970."""
    what: str
    """Of which images it was made."""


def cache_folder() -> Path:
    """GENMED_CACHE, else genmed/ in the user's cache folder."""
    if chosen := os.environ.get("GENMED_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genmed"


def make_folders() -> Path:
    """The cache's folder, with its parts; what dead processes left half made is swept away."""
    folder = cache_folder()
    with storage_errors(folder):
        for part in ("images", "stamps", "locks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    sweep_temporaries(folder / "images")
    return folder


@contextmanager
def alone(folder: Path, name: str, report: Callable[[str], None]) -> Iterator[bool]:
    """One process at a time for one set of images; yields whether another was at work on them, which is over by now.

    Where the file system knows no locks, both decode, and the first one's stays.
    """
    with storage_errors(folder), open(folder / "locks" / name, "wb") as file:
        waited = False
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            report("Another process is decoding these images; waiting for it")
            fcntl.lockf(file, fcntl.LOCK_EX)
            waited = True
        except OSError:
            pass
        yield waited


def hold(entry: Path) -> bool:
    """Keeps an entry from being removed while this process lives, and notes that it is used now; False: there is none.

    Where the file system knows no locks, an entry in use may be removed: a training that has opened it goes on.
    """
    if entry in _held:
        return True
    try:
        file = open(entry / IN_USE, "a+b")  # noqa: SIM115 - the lock lasts as long as the file is open
    except (FileNotFoundError, NotADirectoryError):
        return False
    os.utime(entry / IN_USE)
    with suppress(OSError):
        fcntl.lockf(file, fcntl.LOCK_SH)
    try:
        same = os.path.samestat(os.fstat(file.fileno()), os.stat(entry / IN_USE))
    except (FileNotFoundError, NotADirectoryError):
        same = False
    if not same:  # it was removed before the lock was taken, and there may be another by now
        file.close()
        return hold(entry)
    _held[entry] = file
    return True


def release(entry: Path) -> None:
    """The end of `hold`."""
    if file := _held.pop(entry, None):
        file.close()


def list_stored(folder: Path) -> list[Stored]:
    """Those used longest ago come first."""
    found = []
    for path in (folder / "images").glob("*"):
        if path.name.startswith(TEMPORARY):
            continue
        with suppress(OSError):  # another process may be removing it
            size = sum(file.stat().st_size for file in path.iterdir())
            found.append(Stored(path, size, (path / IN_USE).stat().st_mtime, _read_note(path)))
    return sorted(found, key=lambda stored: (stored.used, stored.folder.name))


def _read_note(entry: Path) -> str:
    """What stands in `in-use`, else the key's beginning. To open and close it would end this process's own lock."""
    content = os.pread(_held[entry].fileno(), 500, 0) if entry in _held else (entry / IN_USE).read_bytes()[:500]
    return " ".join(content.decode(errors="replace").split()) or f"images {entry.name[:8]}"


def is_in_use(entry: Path) -> bool:
    """Whether a process holds the entry. One that this process may not remove counts as in use."""
    if entry in _held:  # to open and close the file would end this process's own lock
        return True
    try:
        with open(entry / IN_USE, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # it is being removed, or there are no locks here
        pass
    return False


def read_limit(folder: Path) -> int | None:
    """Bytes; None: no limit. Raises ConfigError where the file was spoiled."""
    try:
        text = (folder / "limit").read_text().strip()
        return None if text == NO_LIMIT else int(text)
    except FileNotFoundError:
        return DEFAULT_LIMIT
    except ValueError:
        raise ConfigError(f"{folder / 'limit'} holds no number", "set it by `genmed data cache --limit 64GB`") from None


def write_limit(folder: Path, limit: int | None) -> None:
    write_text(folder / "limit", f"{NO_LIMIT if limit is None else limit}\n")


def keep_within(folder: Path, limit: int | None) -> list[Stored]:
    """Removes what was used longest ago until the rest takes at most `limit` bytes; what is in use stays.

    None: no limit. Returns what was removed.
    """
    if limit is None:
        return []
    stored = list_stored(folder)
    excess = sum(entry.size for entry in stored) - limit
    removed = []
    for entry in stored:
        if excess > 0 and _remove_unused(entry.folder):
            excess -= entry.size
            removed.append(entry)
    return removed


def _remove_unused(entry: Path) -> bool:
    if entry in _held:
        return False
    try:
        with open(entry / IN_USE, "r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return False
            except OSError:  # no locks here: whoever asks to clear it knows
                pass
            remove_folder(entry)
    except FileNotFoundError:
        return False
    return True


def clear(folder: Path) -> list[Stored]:
    """Removes all that is not in use, and what is known of files. Returns the entries that were removed."""
    removed = keep_within(folder, 0)
    for path in (folder / "stamps").glob("*.json"):  # the folder stays: another process may be about to write there
        path.unlink(missing_ok=True)
    return removed
