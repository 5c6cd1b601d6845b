"""Files that are whole or absent: written beside their final name, synced, renamed, the folder synced."""

import errno
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genmed.ground.errors import StorageError

TEMPORARY = ".tmp-"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write at `path` into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            free = shutil.disk_usage(_nearest_folder(path)).free / 2**20
            raise StorageError(
                f"no disk space to write {path} ({error.strerror}; {free:.0f} MiB free)",
                "make room or choose another place with --root or GENMED_CACHE",
            ) from error
        if error.errno in REFUSED:
            raise StorageError(
                f"cannot write {path}: {error.strerror}",
                "choose a folder that you may write, with --root or GENMED_CACHE",
            ) from error
        raise


def _nearest_folder(path: Path) -> Path:
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Puts a file that another writer has closed on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def remove_folder(folder: Path) -> None:
    """Removes a folder so that, however far a crash lets it come, no half of it is left under its name."""
    leaving = temporary_beside(folder.with_name(f"{folder.name}-old"))
    shutil.rmtree(leaving, ignore_errors=True)
    try:
        folder.rename(leaving)
    except FileNotFoundError:  # another process was faster
        return
    shutil.rmtree(leaving)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder, with the writer's host and pid, so that a sweep can tell whether it still lives."""
    return path.with_name(f"{_own_prefix()}{os.getpid()}-{path.name}")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the file whole or not at all; a crash leaves the old one."""
    temporary = temporary_beside(path)
    with storage_errors(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Indented, keys in the order given, ending in a line break."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sweep_temporaries(folder: Path, *, alone: bool = False) -> None:
    """Removes what writers that were killed have left in the folder.

    Others' may be under way, and another host's cannot be told: they stay, unless this process is `alone` there.
    """
    for path in sorted(folder.iterdir()):
        pid = path.name.removeprefix(_own_prefix()).split("-", 1)[0]
        dead = path.name.startswith(_own_prefix()) and pid.isdigit() and not _lives(int(pid))
        if dead or (alone and path.name.startswith(TEMPORARY)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _own_prefix() -> str:
    """Two containers of one name count their processes apart."""
    try:
        namespace = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        namespace = "0"
    return f"{TEMPORARY}{platform.node()}-{namespace}-"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def allocate(path: Path, size: int) -> None:
    """Makes a file whose `size` bytes are there: a memory map of a sparse file dies by SIGBUS on a full disk."""
    with storage_errors(path):
        if size > shutil.disk_usage(path.parent).free:  # else others on this disk would run out of room meanwhile
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with storage_errors(path), open(path, "wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
