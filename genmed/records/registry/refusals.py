"""What a database refuses, told in one line; what it refuses only for the moment, asked again."""

import logging
import re
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
"""Seconds after which a database that is still locked or away is given up; a single wait for a lock is
`sqlite.BUSY_TIMEOUT`."""

SILENCE = 3.0
"""Seconds after which a person is told what is waited for."""

DAMAGED = ("Could not decode to UTF-8", "no such column")
"""What SQLite and its driver say, without a code of its own, of a text or a table's definition that nobody wrote."""

# SQLSTATE of PostgreSQL (appendix A of its manual). Class 08 is of connections that broke or came to nothing.
LOCKED = {"40001", "40P01", "55P03"}
AWAY = {"57P01", "57P02", "57P03"}
FULL_HOUSE = "53300"
NO_ROOM = {"53100", "53200", "54000"}
NOT_ALLOWED = {"42501", "25006"}

PLACE_HINT = "choose a folder that you may write, with --root or GENMED_REGISTRY"
REBUILD_HINT = "`genmed list --rebuild` makes it anew from the folders in runs/"
MEND_HINT = "`genmed list --rebuild` mends rows from the folders in runs/; lost tables need a backup or a new database"
URL_HINT = "the URL has to name a host, a database that `createdb` has made, and a user who may use it"

Result = TypeVar("Result")
Refused = DBAPIError | sqlite3.Error

_log = logging.getLogger(__name__)


class DamageError(StorageError):
    """The database is not as it was written: what `set_aside` asks for; to people it is any StorageError."""

    @property
    def kind(self) -> str:
        return StorageError.__name__


def attempt(place: Path | str, work: Callable[[], Result], patience: float | None = None) -> Result:
    """The result of `work`, a whole transaction, which is begun anew as long as the database is locked or away.

    A transaction whose end was not heard of because the connection broke is begun anew though it may have been
    committed: `work` finds then what it wrote itself. place: the database's file, or its URL without the password.
    patience: seconds, `PATIENCE` unless given. Raises StorageError for what the database refuses; a broken constraint
    (IntegrityError) is left to the caller, who knows what it means.
    """
    start = time.monotonic()
    pause, told = 0.01, False
    patience = PATIENCE if patience is None else patience
    while True:
        try:
            return work()
        except IntegrityError:
            raise
        except (Damage, UnicodeDecodeError) as error:  # the latter: a name in a damaged schema
            raise DamageError(f"{place} is damaged: {error}", _mending(place)) from error
        except (DBAPIError, sqlite3.Error) as error:
            waited = time.monotonic() - start
            if not _may_pass(error) or waited >= patience:
                raise refusal(place, error) from error
            if waited > SILENCE and not told:
                told = True
                _log.warning("%s; waiting up to %.0f s", refusal(place, error).message, patience)
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def refusal(place: Path | str, error: Refused) -> StorageError:
    """The database's error as one line that says what, where and how to mend it."""
    line = str(_original(error)).strip().partition("\n")[0]
    reason = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)  # of a damaged schema
    if isinstance(_original(error), sqlite3.Error):
        return _refusal_of_file(place, _code(error), reason)
    return _refusal_of_server(place, error, reason)


def _refusal_of_file(place: Path | str, code: int | None, reason: str) -> StorageError:
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return _locked(place)
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
    return StorageError(f"the registry {place} cannot be used: {reason}", _mending(place))


def _refusal_of_server(place: Path | str, error: Refused, reason: str) -> StorageError:
    state = _state(error)
    reason = re.sub(r"^connection (failed|is bad): |(?<=failed: )(FATAL|FEHLER|FATALE): +", "", reason)
    if state in LOCKED:
        return _locked(place)
    if _is_away(error):
        hint = "start the server, or mend the way to it; the URL has to name its host and port"
        return StorageError(f"the registry {place} does not answer: {reason}", hint)
    if state == FULL_HOUSE:
        return StorageError(f"the registry {place} takes no more connections: {reason}", "raise its max_connections")
    if state in NO_ROOM:
        return StorageError(f"cannot write the registry {place}: {reason}", "make room on the server")
    if state in NOT_ALLOWED:
        hint = "let the database's owner GRANT it, or name another user or server in the URL"
        return StorageError(f"the registry {place} may not be used so: {reason}", hint)
    hint = "its server's log may say more" if state else URL_HINT
    return StorageError(f"the registry {place} cannot be used: {reason}", hint)


def _locked(place: Path | str) -> StorageError:
    return StorageError(f"{place} is locked by another process", "wait, or end the process that holds it")


def _mending(place: Path | str) -> str:
    return REBUILD_HINT if isinstance(place, Path) else MEND_HINT


def _original(error: Refused) -> BaseException:
    return error.orig or error if isinstance(error, DBAPIError) else error


def _code(error: Refused) -> int | None:
    """SQLite's primary result code; None from another database or where the driver itself refused."""
    code = getattr(_original(error), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _state(error: Refused) -> str | None:
    """PostgreSQL's SQLSTATE; None from another database or where the driver itself refused."""
    return getattr(_original(error), "sqlstate", None)


def _may_pass(error: Refused) -> bool:
    if _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return True
    return _state(error) in {*LOCKED, FULL_HOUSE} or _is_away(error)


def _is_away(error: Refused) -> bool:
    """Whether the server was not reached, or went away meanwhile."""
    state = _state(error) or ""
    broken = isinstance(error, DBAPIError) and error.connection_invalidated
    return broken or state in AWAY or state.startswith("08")


def _free_space(place: Path | str) -> str:
    if isinstance(place, str) or not place.parent.is_dir():
        return ""
    return f" ({shutil.disk_usage(place.parent).free / 2**20:.0f} MiB free)"
