"""Where the registry is, and opening it: for reading nothing is made, for writing what is missing is."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from genmed.ground.errors import StorageError
from genmed.ground.files import storage_errors
from genmed.records.registry.migrate import HEAD, migrate, read_version
from genmed.records.registry.refusals import PLACE_HINT, REBUILD_HINT, DamageError, attempt
from genmed.records.registry.seals import check_rows
from genmed.records.registry.sqlite import create_database, dump_json, load_json, sqlite_engine
from genmed.records.registry.store import Registry
from genmed.records.sqlite_file import file_size

VARIABLE = "GENMED_REGISTRY"
SIDE_FILES = ("-wal", "-shm", "-journal")
URL_HINT = "a database URL is wanted, e.g. sqlite:////data/registry.db"


def registry_url(root: Path, environ: Mapping[str, str]) -> str:
    """The registry's database URL: GENMED_REGISTRY if it is set, else that of the file `registry.db` in the root."""
    return environ.get(VARIABLE) or f"sqlite:///{root.absolute() / 'registry.db'}"


def open_registry(root: Path, *, create: bool) -> Registry | None:
    """The registry of the root.

    create: make the folder, the file and the tables if they are missing. Otherwise nothing is made: None where there
    is no registry, or one without tables. An old schema is brought up to date in both cases; nothing else is written.
    Raises StorageError where it cannot be opened, is damaged or is something else.
    """
    place = _find_place(root)
    if isinstance(place, URL):
        return _open_server(place, create)
    return _open_file(place, create)


def set_aside(root: Path) -> Path | None:
    """Gives a damaged registry file another name, `registry.db.damaged-<UTC time>`, and returns its new path.

    Reads all of it; None where it is sound, missing, or a database that is no file. Raises StorageError for one that
    is refused for another reason: locked, of a newer genmed or another program, not permitted.
    """
    path = _find_place(root)
    if isinstance(path, URL) or not path.is_file():
        return None
    try:
        registry = open_registry(root, create=False)
        if registry is not None:
            registry.read(check_rows)
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


def _find_place(root: Path) -> Path | URL:
    url = os.environ.get(VARIABLE)
    return _parse(url) if url else root.absolute() / "registry.db"


def _parse(url: str) -> Path | URL:
    """The file of an SQLite URL, another database's URL as it is."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StorageError(f"{VARIABLE} is not a database URL", URL_HINT) from error
    if parsed.get_backend_name() != "sqlite":
        return parsed
    if parsed.database in {None, "", ":memory:"}:
        raise StorageError(f"{VARIABLE} is a database in memory, which would be lost", URL_HINT)
    return Path(str(parsed.database)).absolute()


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
    place = url.render_as_string(hide_password=True)
    try:
        engine: Engine = create_engine(url, poolclass=NullPool, json_serializer=dump_json, json_deserializer=load_json)
    except (ArgumentError, ImportError) as error:
        raise StorageError(f"cannot use the registry {place}: {error}", "install that database's driver") from error
    return _open(Registry(place, engine, engine), engine, create)


def _open(registry: Registry, migrating: Engine, create: bool) -> Registry | None:
    version = registry.read(lambda connection: read_version(connection, registry.place))
    if version is None and not create:
        return None
    if version != HEAD:
        attempt(registry.place, lambda: migrate(migrating, registry.place))
    return registry
