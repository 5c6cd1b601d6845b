"""Opening the registry: for reading nothing is made, for writing what is missing is."""

import os
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, Engine

from genmed.ground.errors import StorageError
from genmed.ground.files import storage_errors
from genmed.records.registry.migrate import HEAD, migrate, read_version
from genmed.records.registry.place import find_place, name_place
from genmed.records.registry.postgresql import server_engines
from genmed.records.registry.refusals import PLACE_HINT, REBUILD_HINT, DamageError, attempt
from genmed.records.registry.sqlite import create_database, sqlite_engine
from genmed.records.registry.store import Registry
from genmed.records.sqlite_file import file_size

SIDE_FILES = ("-wal", "-shm", "-journal")


def open_registry(root: Path, *, create: bool) -> Registry | None:
    """The registry of the root.

    create: make the folder, the file and the tables if they are missing. Otherwise nothing is made: None where there
    is no registry, or one without tables. An old schema is brought up to date in both cases; nothing else is written.
    Raises StorageError where it cannot be opened, is damaged or is something else.
    """
    return open_place(find_place(root), create=create)


def open_place(place: Path | URL, *, create: bool) -> Registry | None:
    """As `open_registry`, of a place that `place.parse_place` gave."""
    return _open_file(place, create) if isinstance(place, Path) else _open_server(place, create)


def set_aside(root: Path) -> Path | None:
    """Gives a damaged registry file another name, `registry.db.damaged-<UTC time>`, and returns its new path.

    Reads all of it; None where it is sound, missing, or on a server, whose rows a rebuild mends where they are. Raises
    StorageError for one that is refused for another reason: locked, of a newer genmed or another program, not
    permitted.
    """
    path = find_place(root)
    if isinstance(path, URL) or not path.is_file():
        return None
    try:
        registry = open_registry(root, create=False)
        if registry is not None:
            registry.check()
    except DamageError:
        return _rename(path)
    return None


def _rename(path: Path) -> Path:
    """The log goes first: SQLite would play it into a new file of the old name."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    with storage_errors(path):
        for side in SIDE_FILES:
            if os.path.lexists(f"{path}{side}"):
                os.rename(f"{path}{side}", f"{aside}{side}")
        path.rename(aside)
    return aside


def _open_file(path: Path, create: bool) -> Registry | None:
    with storage_errors(path):
        if path.parent.exists() and not path.parent.is_dir():
            raise StorageError(f"cannot keep a registry in {path.parent}: it is not a folder", PLACE_HINT)
        if path.is_dir():
            hint = f"move the folder away: {REBUILD_HINT}"
            raise StorageError(f"{path} is a folder where the registry's file should be", hint)
        _refuse_empty(path)
        if create:
            _make_folder(path.parent)
            attempt(path, lambda: create_database(path))
        elif not path.exists():
            return None
    reading, writing = sqlite_engine(path, "read"), sqlite_engine(path, "write")
    return _open(Registry(path, reading, writing), sqlite_engine(path, "migrate"), create)


def _refuse_empty(path: Path) -> None:
    """SQLite takes a file of no or one byte for a new one; ours never is so, but where it was cut."""
    if path.exists() and file_size(path) <= 1:
        raise DamageError(f"{path} is damaged: it is empty", REBUILD_HINT)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror}", PLACE_HINT) from error


def _open_server(url: URL, create: bool) -> Registry | None:
    reading, writing = server_engines(url)
    return _open(Registry(name_place(url), reading, writing), writing, create)


def _open(registry: Registry, migrating: Engine, create: bool) -> Registry | None:
    version = registry.read(lambda connection: read_version(connection, registry.place))
    if version is None and not create:
        return None
    if version != HEAD:
        attempt(registry.place, lambda: migrate(migrating, registry.place))
    return registry
