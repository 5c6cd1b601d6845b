"""SQLite as the registry uses it: many processes at once, on a local or a network disk, killed at any moment.

A connection lives for one transaction. So nothing is open when a process forks, and nothing needs to be closed.
"""

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from genmed.ground.files import sweep_temporaries, sync_file, sync_folder, temporary_beside
from genmed.records.sqlite_file import reading_mode

BUSY_TIMEOUT = 30.0
"""Seconds that SQLite itself waits for a lock."""

# WAL shares memory between its processes through a mapped file, which other hosts do not see.
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "drvfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "ocfs2",
        "orangefs",
        "panfs",
        "pvfs2",
        "vboxsf",
        "webdav",
    ]
)
NETWORK_FAMILIES = ("fuse.", "nfs", "smb")

Access = Literal["read", "write", "create", "migrate"]


def dump_json(value: Any) -> str:
    """JSON as every database accepts it: NaN is refused."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


_scan = json.JSONDecoder().raw_decode


def load_json(text: str) -> Any:
    """What `dump_json` wrote; json.loads would first look for white space, which takes it longer than the rest."""
    value, end = _scan(text)
    if end != len(text):
        raise ValueError("there is more than one JSON value")
    return value


def sqlite_engine(path: Path, access: Access) -> Engine:
    """An engine whose transactions are SQLAlchemy's own, not pysqlite's.

    pysqlite begins only before a change and never before a CREATE TABLE: reads would not be repeatable and a migration
    not atomic. A write begins with BEGIN IMMEDIATE, because upgrading a read lock does not wait.
    """
    engine = create_engine(
        "sqlite://",
        creator=lambda: connect(path, access),
        poolclass=NullPool,
        json_serializer=dump_json,
        json_deserializer=load_json,
    )
    event.listen(engine, "begin", _begin("BEGIN" if access == "read" else "BEGIN IMMEDIATE"))
    return engine


def _begin(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin


def connect(path: Path, access: Access) -> sqlite3.Connection:
    """A connection in autocommit mode; only `create` makes the file.

    Foreign keys are enforced but for `migrate`: a migration that builds a table anew drops the old one, which would
    delete the rows that refer to it.
    """
    address = f"{path.as_uri()}?{_open_mode(path, access)}"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA foreign_keys = {'OFF' if access == 'migrate' else 'ON'}")
        if access != "read" and _current_journal(connection) == "wal":
            # A power cut may lose the last commits but not damage the file, and the run's folder has them.
            connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _open_mode(path: Path, access: Access) -> str:
    if access != "read":
        return "mode=rwc" if access == "create" else "mode=rw"
    return reading_mode(path)


def create_database(path: Path) -> None:
    """Makes the file if it is missing, whole from the first moment on, and gives it the journal that its disk needs."""
    if not path.exists():
        sweep_temporaries(path.parent)
        building = temporary_beside(path)
        try:
            _make_whole(building)
            _give_name(building, path)
        finally:
            building.unlink(missing_ok=True)
    with closing(connect(path, "write")) as connection:
        _keep_suitable_journal(connection, path)


def _make_whole(path: Path) -> None:
    with closing(connect(path, "create")) as connection:
        connection.execute("PRAGMA user_version = 0")  # writes the first page
        _keep_suitable_journal(connection, path)
    sync_file(path)


def _give_name(building: Path, path: Path) -> None:
    """Unless another process was faster. A rename would take that one's file away."""
    with contextlib.suppress(FileExistsError):
        try:
            os.link(building, path)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                raise
            _make_whole(path)  # no hard links on this disk
    sync_folder(path.parent)


def _keep_suitable_journal(connection: sqlite3.Connection, path: Path) -> None:
    journal = suitable_journal(path)
    if _current_journal(connection) != journal:
        connection.execute(f"PRAGMA journal_mode = {journal}")


def _current_journal(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def suitable_journal(path: Path) -> Literal["wal", "delete"]:
    """`wal`, or the rollback journal `delete` where several hosts may reach the file."""
    kind = file_system_type(path)
    return "delete" if kind in NETWORK_FILE_SYSTEMS or kind.startswith(NETWORK_FAMILIES) else "wal"


def file_system_type(path: Path) -> str:
    """The type of the file system that holds the path, e.g. `ext4` or `nfs4`; empty if unknown."""
    import psutil

    path = path.resolve()
    depth, kind = 0, ""
    for mount in psutil.disk_partitions(all=True):
        folder = Path(mount.mountpoint)
        if len(folder.parts) >= depth and path.is_relative_to(folder):  # of two on one folder the later hides the other
            depth, kind = len(folder.parts), mount.fstype
    return kind.lower()
