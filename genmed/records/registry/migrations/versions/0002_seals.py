"""Each row carries seals over its other columns; the rows that are there get theirs."""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa
from alembic import op

from genmed.records.registry.seals import fetch, seal
from genmed.records.registry.tables import UtcDateTime

revision = "0002"
down_revision = "0001"

MANY = 1000
NAME = ["created", "hidden", "id", "name"]
SUMMARY = [
    *("boot_id", "config_fingerprint", "created", "dataset", "device", "ended", "epochs_done", "epochs_total", "error"),
    *("fingerprint", "heartbeat", "hidden", "host", "id", "model", "name", "note", "parent", "path", "pid"),
    *("process_started", "seed", "started", "status", "steps_done", "tags", "trace_digest"),
]
REST = [
    *("accepted", "code_digest", "config", "data_fingerprint", "git_commit", "git_dirty", "hardware", "id", "versions")
]
CHECKPOINT = ["created", "epoch", "kinds", "path", "run_id", "sha256", "step"]
VERIFICATION = ["created", "report", "run_id", "steps_compared", "steps_total", "verdict"]

TYPES: dict[str, Any] = {
    **dict.fromkeys(("created", "started", "ended", "heartbeat"), UtcDateTime()),
    **dict.fromkeys(("tags", "accepted", "config", "hardware", "versions", "kinds", "report"), sa.JSON()),
    **dict.fromkeys(("hidden", "git_dirty"), sa.Boolean()),
    **dict.fromkeys(("process_started", "value"), sa.Double()),
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # Before the long columns of the config, so that a list of runs need not read these.
        with op.batch_alter_table("runs", recreate="always") as batch:
            batch.add_column(sa.Column("name_seal", sa.String()), insert_after="hidden")
            batch.add_column(sa.Column("seal", sa.String()), insert_after="name_seal")
            batch.add_column(sa.Column("rest_seal", sa.String()), insert_after="seal")
    else:
        for name in ("name_seal", "seal", "rest_seal"):
            op.add_column("runs", sa.Column(name, sa.String()))
    for name in ("checkpoints", "metrics", "verifications"):
        op.add_column(name, sa.Column("seal", sa.String()))
    _seal("runs", ["id"], {"name_seal": NAME, "seal": SUMMARY, "rest_seal": REST})
    _seal("checkpoints", ["run_id", "path"], {"seal": CHECKPOINT})
    _seal("verifications", ["number"], {"seal": VERIFICATION})
    _seal_metrics()


def _seal(name: str, key: list[str], parts: dict[str, list[str]]) -> None:
    columns = [*key, *sorted({column for part in parts.values() for column in part} - set(key))]
    rows = (dict(zip(columns, row, strict=True)) for row in _read(name, columns, len(key)))
    sealed = (
        {column: row[column] for column in key}
        | {into: seal([row[column] for column in part]) for into, part in parts.items()}
        for row in rows
    )
    _write(name, key, list(parts), sealed)


def _seal_metrics() -> None:
    rows = _read("metrics", ["run_id", "epoch", "name", "value"], 3)
    sealed = (
        {"run_id": run_id, "epoch": epoch, "seal": seal([run_id, epoch, sorted((row[2], row[3]) for row in group)])}
        for (run_id, epoch), group in groupby(rows, key=lambda row: (row[0], row[1]))
    )
    _write("metrics", ["run_id", "epoch"], ["seal"], sealed)


def _read(name: str, columns: list[str], ordered: int) -> list[Any]:
    table = sa.table(name, *(sa.column(column, TYPES.get(column)) for column in columns))
    query = sa.select(*(table.c[column] for column in columns))
    return list(fetch(op.get_bind(), query.order_by(*(table.c[column] for column in columns[:ordered])), name))


def _write(name: str, key: list[str], seals: list[str], rows: Iterable[dict[str, Any]]) -> None:
    table = sa.table(name, *(sa.column(column) for column in (*key, *seals)))
    statement = table.update().where(*(table.c[column] == sa.bindparam(f"its_{column}") for column in key))
    statement = statement.values({column: sa.bindparam(f"new_{column}") for column in seals})
    named = ({f"{'its' if column in key else 'new'}_{column}": value for column, value in row.items()} for row in rows)
    for some in _batches(named):
        op.get_bind().execute(statement, some)


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while some := list(islice(rows, MANY)):
        yield some
