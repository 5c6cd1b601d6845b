"""Brings a database to the newest schema; alembic is imported only when that is due (it takes half a second).

Migrations are append-only: a released one is never changed. A new one is the next number, and `HEAD` with it.
"""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from genmed.ground.errors import StorageError
from genmed.records.registry.integrity import check_schema, check_structure, mark_schema
from genmed.records.registry.postgresql import ENCODING, is_server, lock_migration, read_encoding
from genmed.records.registry.seals import Damage
from genmed.records.registry.tables import Record

HEAD = "0004"
MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"
OTHER_HINT = "choose another place with --root or GENMED_REGISTRY"


def read_version(connection: Connection, place: Path | str) -> str | None:
    """The schema's number, or None for a database without a table.

    Raises StorageError for a schema that this genmed does not know, and for a database that is not a registry; Damage
    for an SQLite file that is inconsistent, and where tables are lost.
    """
    if is_server(connection) and (encoding := read_encoding(connection)) != ENCODING:
        hint = f"make another: createdb --encoding {ENCODING} --template template0 NAME"
        raise StorageError(f"the database {place} has the encoding {encoding}, which not all names fit into", hint)
    tables = inspect(connection).get_table_names()
    ours = set(Record.metadata.tables)
    file = connection.dialect.name == "sqlite"
    if file and (not tables or ours & set(tables)):  # another program's file is none of our business
        check_structure(connection)
    if VERSION_TABLE not in tables:
        if ours <= set(tables):
            raise Damage(f"its table {VERSION_TABLE} is lost")
        if tables:
            raise StorageError(f"{place} is not a registry: it holds the tables {', '.join(tables[:5])}", OTHER_HINT)
        return None
    versions = [str(row[0]) for row in connection.execute(text("SELECT version_num FROM alembic_version"))]
    if len(versions) != 1:
        raise Damage(f"it has {len(versions)} schema versions where it should have one")
    version = versions[0]
    if not version.isdigit() or version > HEAD:
        raise StorageError(
            f"the registry {place} has schema {version}; this genmed knows schemas up to {HEAD}",
            f"use the genmed that wrote it, or a newer one, or {OTHER_HINT}",
        )
    if version == HEAD:
        if lost := sorted(ours - set(tables)):
            raise Damage(f"its tables {', '.join(lost)} are lost")
        if file:
            check_schema(connection)
    return version


def migrate(engine: Engine, place: Path | str) -> None:
    """Runs the migrations that are due, in one transaction. Of several processes one does it, the others wait."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        lock_migration(connection)
        if read_version(connection, place) != HEAD:  # another process may have been here before the lock was ours
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
            if connection.dialect.name == "sqlite":
                mark_schema(connection)
