"""Rows in and out of the tables, inside a transaction that the caller holds; and the rebuild of them all."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select

from genmed.ground.errors import RecordError
from genmed.records.registry.tables import (
    CHECKPOINTS,
    METRICS,
    RUNS,
    VERIFICATIONS,
    CheckpointRow,
    Record,
    RunRow,
    VerificationRow,
)

Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class RunRecord:
    """All that the registry holds about one run, as read from the run's folder."""

    run: RunRow
    metrics: Mapping[int, Metrics] = field(default_factory=dict)
    """By epoch; those of the whole run under `FINAL`."""
    checkpoints: Sequence[CheckpointRow] = ()
    verifications: Sequence[VerificationRow] = ()


Progress = dict[str, tuple[Any, ...]]


def insert_rows(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    rows = [dict(row) for row in rows]
    if rows:  # of an empty list SQLAlchemy would make one row of defaults
        connection.execute(insert(table), rows)


def columns_of(row: Record) -> dict[str, Any]:
    """The row's fields by name. Not `model_dump`, which copies and converts what lies inside."""
    return {name: getattr(row, name) for name in type(row).model_fields}


def metric_rows(run_id: str, epoch: int, metrics: Metrics) -> list[dict[str, Any]]:
    """One row a metric; NaN and infinity are undefined, hence null."""
    return [
        {"run_id": run_id, "epoch": epoch, "name": name, "value": _finite(value)} for name, value in metrics.items()
    ]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def read_progress(connection: Connection) -> Progress:
    """What changes in a run's row while it trains, by id."""
    columns = (RUNS.c.id, RUNS.c.status, RUNS.c.heartbeat, RUNS.c.epochs_done, RUNS.c.steps_done)
    return {row[0]: tuple(row[1:]) for row in connection.execute(select(*columns))}


def check_distinct(records: Sequence[RunRecord]) -> None:
    """Raises RecordError if two folders claim to be the same run, as after copying one."""
    paths: dict[str, str] = {}
    for record in records:
        for key in (record.run.id, record.run.name):
            other = paths.setdefault(key, record.run.path)
            if other != record.run.path:
                raise RecordError(f"{other} and {record.run.path} are both run {key}", "move one of them away")


def replace_rows(connection: Connection, records: Sequence[RunRecord], before: Progress) -> int:
    """Makes the tables hold the records and nothing else; returns the number of runs then held.

    before: the progress when reading the folders began. A run that was added, written to or removed since then is left
    as it is: the registry knows it better than the record.
    """
    now = read_progress(connection)
    changed = {run_id for run_id in before.keys() | now.keys() if before.get(run_id) != now.get(run_id)}
    kept = [record for record in records if record.run.id not in changed]
    connection.execute(delete(RUNS).where(RUNS.c.id.not_in(changed)))  # and, by the foreign keys, all that is theirs
    insert_records(connection, kept)
    return len(kept) + len(now.keys() & changed)


def insert_records(connection: Connection, records: Sequence[RunRecord]) -> None:
    """All rows of runs that the tables do not hold."""
    insert_rows(connection, RUNS, (columns_of(record.run) for record in records))
    insert_rows(connection, CHECKPOINTS, (columns_of(row) for record in records for row in record.checkpoints))
    insert_rows(connection, VERIFICATIONS, (columns_of(row) for record in records for row in record.verifications))
    insert_rows(
        connection,
        METRICS,
        (
            row
            for record in records
            for epoch, metrics in record.metrics.items()
            for row in metric_rows(record.run.id, epoch, metrics)
        ),
    )
