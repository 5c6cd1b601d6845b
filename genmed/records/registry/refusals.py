"""What a database refuses, told in one line; what it refuses only for the moment, asked again."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError

from genmed.ground.errors import StorageError
from genmed.records.registry.seals import Damage

PATIENCE = 60.0
"""Seconds after which a database that is still locked is given up; a single wait is `sqlite.BUSY_TIMEOUT`."""

DAMAGED = ("Could not decode to UTF-8", "no such column")
"""What SQLite and its driver say, without a code of its own, of a text or a table's definition that nobody wrote."""

PLACE_HINT = "choose a folder that you may write, with --root or GENMED_REGISTRY"
REBUILD_HINT = "`genmed list --rebuild` makes it anew from the folders in runs/"

Result = TypeVar("Result")


class DamageError(StorageError):
    """The database is not as it was written: what `set_aside` asks for; to people it is any StorageError."""

    @property
    def kind(self) -> str:
        return StorageError.__name__


def attempt(place: Path | str, work: Callable[[], Result]) -> Result:
    """The result of `work`, a whole transaction, which is begun anew as long as the database is locked.

    place: the database's file, or its URL without the password. Raises StorageError for what the database refuses;
    a broken constraint (IntegrityError) is left to the caller, who knows what it means.
    """
    start = time.monotonic()
    pause = 0.01
    while True:
        try:
            return work()
        except IntegrityError:
            raise
        except UnicodeDecodeError as error:  # a name in a damaged schema
            raise DamageError(f"{place} is damaged: {error}", REBUILD_HINT) from error
        except Damage as error:
            raise DamageError(f"{place} is damaged: {error}", REBUILD_HINT) from error
        except (DBAPIError, sqlite3.Error) as error:
            if not _is_locked(error) or time.monotonic() - start > PATIENCE:
                raise refusal(place, error) from error
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def refusal(place: Path | str, error: DBAPIError | sqlite3.Error) -> StorageError:
    """The database's error as one line that says what, where and how to mend it."""
    line = str(_original(error)).strip().partition("\n")[0]
    reason = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)  # of a damaged schema
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageError(f"{place} is locked by another process", "wait, or end the process that holds it")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return DamageError(f"{place} is damaged or no registry: {reason}", REBUILD_HINT)
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return StorageError(
                f"cannot read or write {place}: {reason}{_free_space(place)}",
                "make room or mend the disk, or choose another place with --root or GENMED_REGISTRY",
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StorageError(f"cannot open {place}: {reason}", PLACE_HINT)
    if isinstance(place, Path) and reason.startswith(DAMAGED):
        return DamageError(f"{place} is damaged: {reason}", REBUILD_HINT)
    return StorageError(
        f"the registry {place} cannot be used: {reason}",
        REBUILD_HINT if isinstance(place, Path) else "check GENMED_REGISTRY",
    )


def _original(error: DBAPIError | sqlite3.Error) -> BaseException:
    return error.orig or error if isinstance(error, DBAPIError) else error


def _code(error: DBAPIError | sqlite3.Error) -> int | None:
    """SQLite's primary result code; None from another database or where the driver itself refused."""
    code = getattr(_original(error), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_locked(error: DBAPIError | sqlite3.Error) -> bool:
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _free_space(place: Path | str) -> str:
    if isinstance(place, str) or not place.parent.is_dir():
        return ""
    return f" ({shutil.disk_usage(place.parent).free / 2**20:.0f} MiB free)"
