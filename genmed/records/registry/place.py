"""Where a registry is: an SQLite file, or a database on a server, by a URL whose password is never shown."""

import os
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from genmed.ground.errors import StorageError

VARIABLE = "GENMED_REGISTRY"
FILE = "registry.db"
SERVER = "postgresql"
DRIVER = "psycopg"
URL_HINT = "a database URL is wanted, e.g. sqlite:////data/registry.db or postgresql://user@host/database"
TELLING = ("host", "port", "service")
"""Parameters of a URL that say where a database is; others may be secret and are not shown."""


def registry_url(root: Path, environ: Mapping[str, str]) -> str:
    """The registry's database URL: GENMED_REGISTRY if it is set, else that of the file `registry.db` in the root."""
    return environ.get(VARIABLE) or f"sqlite:///{root.absolute() / FILE}"


def find_place(root: Path) -> Path | URL:
    """Where the registry of the root is. Raises StorageError where GENMED_REGISTRY cannot be understood."""
    url = os.environ.get(VARIABLE)
    return parse_url(url, VARIABLE) if url else root.absolute() / FILE


def parse_place(text: str, said_by: str) -> Path | URL:
    """A URL, the path of a file, or a folder in which `registry.db` is. said_by: who is wrong if it cannot be
    understood. Raises StorageError.
    """
    if "://" in text:
        return parse_url(text, said_by)
    if not text:
        raise StorageError(f"{said_by} is empty", URL_HINT)
    path = Path(text).expanduser().absolute()
    return path / FILE if path.is_dir() else path


def parse_url(url: str, said_by: str) -> Path | URL:
    """The file of an SQLite URL, a server's with the driver that is used. Raises StorageError, which has no part of a
    URL that may be its password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: of a port that is no number
        raise StorageError(f"{said_by} is not a database URL", URL_HINT) from None
    backend, _, driver = parsed.drivername.partition("+")
    if backend == "sqlite":
        if parsed.database in {None, "", ":memory:"}:
            raise StorageError(f"{said_by} is a database in memory, which would be lost", URL_HINT)
        return Path(str(parsed.database)).absolute()
    if "@" in (parsed.host or ""):
        raise StorageError(f"{said_by} has an @ in its user or password", "write %40 for it")
    if backend not in (SERVER, "postgres"):
        raise StorageError(
            f"cannot use the registry {name_place(parsed)}: it is kept in SQLite or PostgreSQL, not in {backend}",
            URL_HINT,
        )
    if driver not in ("", DRIVER):
        raise StorageError(
            f"{said_by} names the driver {driver}, and PostgreSQL is spoken to by {DRIVER}",
            f"begin it with {SERVER}:// or {SERVER}+{DRIVER}://",
        )
    return parsed.set(drivername=f"{SERVER}+{DRIVER}")


def name_place(place: Path | URL) -> Path | str:
    """As it is told to people: the path, or the URL without what may be secret."""
    if isinstance(place, Path):
        return place
    telling = {name: value for name, value in place.query.items() if name in TELLING}
    plain = place.set(drivername=place.get_backend_name(), query=telling)
    return plain.render_as_string(hide_password=True)


def is_same(one: Path | URL, other: Path | URL) -> bool:
    """Whether both are one file, by whatever path, or one database as far as the URLs tell."""
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
    if isinstance(one, URL) and isinstance(other, URL):
        return _locate(one) == _locate(other)
    return False


def _locate(url: URL) -> tuple[str, ...]:
    query = {name: str(url.query.get(name, "")) for name in (*TELLING, "options")}  # options may name a schema
    host, port = (url.host or query["host"]).lower(), str(url.port or query["port"] or 5432)
    return host, port, url.database or url.username or "", query["service"], query["options"]
