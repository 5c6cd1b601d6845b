"""Brings a database to the newest schema; alembic is imported only when that is due (it takes half a second).

Migrations are append-only: a released one is never changed. A new one is the next number, and `HEAD` with it.
"""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from genmed.ground.errors import StorageError
from genmed.records.registry.refusals import REBUILD_HINT

HEAD = "0001"
MIGRATIONS = Path(__file__).parent / "migrations"
OTHER_HINT = "choose another place with --root or GENMED_REGISTRY"


def read_version(connection: Connection, place: Path | str) -> str | None:
    """The schema's number, or None for a database without a table.

    Raises StorageError for a schema that this genmed does not know, and for a database that is not a registry.
    """
    inspector = inspect(connection)
    if not inspector.has_table("alembic_version"):
        tables = inspector.get_table_names()
        if tables:
            raise StorageError(f"{place} is not a registry: it holds the tables {', '.join(tables[:5])}", OTHER_HINT)
        return None
    versions = [str(row[0]) for row in connection.execute(text("SELECT version_num FROM alembic_version"))]
    if len(versions) != 1:
        raise StorageError(f"{place} has {len(versions)} schema versions where it should have one", REBUILD_HINT)
    version = versions[0]
    if not version.isdigit() or version > HEAD:
        raise StorageError(
            f"the registry {place} has schema {version}; this genmed knows schemas up to {HEAD}",
            f"use the genmed that wrote it, or a newer one, or {OTHER_HINT}",
        )
    return version


def migrate(engine: Engine, place: Path | str) -> None:
    """Runs the migrations that are due, in one transaction. Of several processes one does it, the others wait."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if read_version(connection, place) != HEAD:  # another process may have been here before the lock was ours
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
