"""PostgreSQL as the registry uses it: one server for processes of many hosts, restarted or cut off at any moment.

A connection lives for one transaction. So nothing is open when a process forks, nothing needs to be closed, and a
server that was started anew is found again by the next transaction. psycopg is imported where a server is used, and
nowhere else.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, text
from sqlalchemy.pool import NullPool

from genmed.ground.errors import StorageError
from genmed.records.registry.place import DRIVER, SERVER, name_place
from genmed.records.registry.sqlite import BUSY_TIMEOUT, dump_json, load_json

if TYPE_CHECKING:
    import psycopg

PARAMETERS: dict[str, Any] = {
    "application_name": "genmed",
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "prepare_threshold": None,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Of a connection, unless the URL says otherwise: a host that is gone or cut off is given up after half a minute.
Nothing is prepared, which at a pooler, such as PgBouncer, would outlive its transaction."""

OF_A_PING = ("host", "hostaddr", "port", "service", "dbname", "user", "connect_timeout")
"""It needs no right to connect, and asks for no encryption, which may be what is refused."""

ENCODING = "UTF8"
MIGRATING = 0x67656E6D6564
"""The advisory lock (`genmed` in ASCII) of the one process that migrates."""

# A lock is waited for as long as SQLite waits. A host that dies within a transaction does not keep its locks for ever.
BEGIN_WRITE = f"""
SET LOCAL lock_timeout = '{BUSY_TIMEOUT:.0f}s';
SET LOCAL idle_in_transaction_session_timeout = '{2 * BUSY_TIMEOUT:.0f}s'
"""


def server_engines(url: URL) -> tuple[Engine, Engine]:
    """For reading one consistent state of the database, and for writing. Raises StorageError without the driver."""
    try:
        engine = create_engine(
            url, poolclass=NullPool, use_native_hstore=False, json_serializer=dump_json, json_deserializer=_load_json
        )
    except ImportError as error:
        raise StorageError(
            f"the registry {name_place(url)} needs the package {DRIVER}, which is not here: {error}",
            "pip install 'genmed[postgres]'",
        ) from error
    event.listen(engine, "do_connect", _connect)
    reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    writing = engine.execution_options(isolation_level="READ COMMITTED")
    event.listen(writing, "begin", lambda connection: connection.exec_driver_sql(BEGIN_WRITE))
    return reading, writing


def is_server(connection: Connection) -> bool:
    return connection.dialect.name == SERVER


def lock_migration(connection: Connection) -> None:
    """Waits for another process that migrates, and keeps others waiting until the transaction ends."""
    if is_server(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATING})


def lock_runs(connection: Connection) -> None:
    """Keeps all other writers waiting until the transaction ends, as SQLite does for every write; readers go on.

    What is written of one run locks that run's row alone.
    """
    if is_server(connection):
        connection.execute(text("LOCK TABLE runs IN EXCLUSIVE MODE"))


def read_encoding(connection: Connection) -> str:
    return str(connection.execute(text("SHOW server_encoding")).scalar_one())


def _load_json(found: str | bytes) -> Any:
    return load_json(found if isinstance(found, str) else found.decode())


def _connect(
    dialect: Dialect, record: object, arguments: list[Any], parameters: dict[str, Any]
) -> "psycopg.Connection[Any]":
    """A connection; where another attempt may succeed, its refusal has the SQLSTATE that libpq keeps to itself."""
    import psycopg

    log = logging.getLogger("psycopg")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # else Python prints what it logs of connections that broke
    wanted = {**PARAMETERS, **parameters}

    def connect() -> "psycopg.Connection[Any]":
        return psycopg.connect(*arguments, **wanted)

    try:
        return connect()
    except psycopg.OperationalError as error:
        return _connect_again(error, connect, wanted)


def _connect_again(
    refused: "psycopg.OperationalError", connect: Callable[[], "psycopg.Connection[Any]"], parameters: dict[str, Any]
) -> "psycopg.Connection[Any]":
    """What the refusal says is in the language of the server: a ping tells whether it takes connections at all. That
    there are too many of them a ping does not tell.
    """
    from psycopg import errors
    from psycopg.conninfo import make_conninfo
    from psycopg.pq import PGconn, Ping

    said = str(refused)
    if "too many clients" in said or "connection slots" in said or "too many connections" in said:
        raise errors.TooManyConnections(said) from refused
    if isinstance(refused, errors.ConnectionTimeout):
        raise errors.SqlclientUnableToEstablishSqlconnection(said) from refused
    if said.startswith("failed to resolve host"):
        raise refused
    place = {name: value for name, value in parameters.items() if name in OF_A_PING}
    match PGconn.ping(make_conninfo(**place, sslmode="disable", gssencmode="disable").encode()):
        case Ping.OK:  # it refuses these parameters; or it was not ready a moment ago
            return connect()
        case Ping.REJECT:
            raise errors.CannotConnectNow(said) from refused
        case Ping.NO_RESPONSE:
            raise errors.SqlclientUnableToEstablishSqlconnection(said) from refused
    raise refused
