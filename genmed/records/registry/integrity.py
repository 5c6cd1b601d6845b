"""What an SQLite file is asked when it is opened: whether its pages, its indexes and its schema are as they were made.

Seals tell a changed value; this tells a lost row. It takes a tenth of a second for 10,000 runs.
"""

import zlib

from sqlalchemy import Connection, text

from genmed.records.registry.seals import Damage


def check_structure(connection: Connection) -> None:
    """Raises Damage if SQLite finds its file inconsistent, e.g. a row that an index has and the table has not."""
    found = str(connection.execute(text("PRAGMA integrity_check(1)")).scalar_one())
    if found != "ok":
        raise Damage(next(line for line in reversed(found.splitlines()) if line))


def check_schema(connection: Connection) -> None:
    """Raises Damage if the tables are not those that the migrations made: SQLite trusts what its file says of types."""
    if connection.execute(text("PRAGMA user_version")).scalar_one() != _schema_number(connection):
        raise Damage("the definitions of its tables do not fit their seal")


def mark_schema(connection: Connection) -> None:
    """Seals the definitions of the tables; due whenever they were changed."""
    connection.exec_driver_sql(f"PRAGMA user_version = {_schema_number(connection)}")


def _schema_number(connection: Connection) -> int:
    """A CRC-32, signed as SQLite keeps it in the file's header."""
    query = (
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"
    )
    definitions = repr([tuple(row) for row in connection.execute(text(query))])
    return int.from_bytes(zlib.crc32(definitions.encode()).to_bytes(4, "big"), "big", signed=True)
