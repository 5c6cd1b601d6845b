"""Rows in and out of the tables, inside a transaction that the caller holds; and the rebuild of them all."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select

from genmed.ground.errors import RecordError
from genmed.records.registry.postgresql import lock_runs
from genmed.records.registry.seals import seal_metrics, seal_row
from genmed.records.registry.tables import (
    CHECKPOINTS,
    EVALUATIONS,
    METRICS,
    RUNS,
    VERIFICATIONS,
    CheckpointRow,
    EvaluationRow,
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
    evaluations: Sequence[EvaluationRow] = ()


Progress = dict[str, tuple[Any, ...]]

MAX_VALUES = 10_000
"""In one statement; SQLite takes 32,766, PostgreSQL 65,535."""

NO_TEXT = re.compile("[\\0\ud800-\udfff]")
"""What not every database takes as text: NUL, and halves of a letter."""


def insert_rows(connection: Connection, table: Table, rows: Iterable[Record]) -> None:
    """Seals the rows and adds them; metrics have `insert_metrics`."""
    _insert(connection, table, [seal_row(table, columns_of(row)) for row in rows])


def is_added(connection: Connection, run: RunRow) -> bool:
    """Whether this very run is there, however far it has come since: same id, name and moment of birth."""
    sealed = seal_row(RUNS, columns_of(run))
    query = select(RUNS.c.id).where(RUNS.c.id == run.id, RUNS.c.name_seal == sealed["name_seal"])
    return connection.execute(query).first() is not None


def is_recorded(connection: Connection, verification: VerificationRow) -> bool:
    """Whether this very verification is there."""
    sealed = seal_row(VERIFICATIONS, columns_of(verification))
    of_run = VERIFICATIONS.c.run_id == verification.run_id
    query = select(VERIFICATIONS.c.number).where(of_run, VERIFICATIONS.c.seal == sealed["seal"])
    return connection.execute(query).first() is not None


def insert_metrics(connection: Connection, epochs: Iterable[tuple[str, int, Metrics]]) -> None:
    """epochs: run, number and metrics of each."""
    _insert(connection, METRICS, [row for epoch in epochs for row in _metric_rows(*epoch)])


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:  # of an empty list SQLAlchemy would make one row of defaults
        connection.execute(insert(table), rows)


def columns_of(row: Record) -> dict[str, Any]:
    """The row's fields by name, storable. Not `model_dump`, which copies and converts what lies inside."""
    return {name: storable(getattr(row, name)) for name in type(row).model_fields}


def storable(value: Any) -> Any:
    """As every database gives it back: in text U+FFFD for what is no letter, and no negative zero."""
    if isinstance(value, str):
        return NO_TEXT.sub("\ufffd", value)
    return value + 0.0 if isinstance(value, float) else value


def _metric_rows(run_id: str, epoch: int, metrics: Metrics) -> list[dict[str, Any]]:
    """One row a metric; NaN and infinity are undefined, hence null."""
    values = {storable(name): _finite(value) for name, value in metrics.items()}
    seal = seal_metrics(run_id, epoch, values)
    return [
        {"run_id": run_id, "epoch": epoch, "name": name, "value": value, "seal": seal} for name, value in values.items()
    ]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else storable(float(value))


def read_progress(connection: Connection) -> Progress:
    """What changes whenever a run's row is written, by id: its seals, unchecked: a rebuild mends damaged rows."""
    columns = (RUNS.c.id, RUNS.c.seal, RUNS.c.rest_seal)
    return {row[0]: tuple(row[1:]) for row in connection.execute(select(*columns))}


def check_distinct(records: Sequence[RunRecord]) -> None:
    """Raises RecordError if two folders claim to be the same run, as after copying one."""
    paths: dict[str, str] = {}
    for record in records:
        for key in (record.run.id, record.run.name):
            other = paths.setdefault(key, record.run.path)
            if other != record.run.path:
                raise RecordError(f"{other} and {record.run.path} are both run {key}", "move one of them away")


def replace_rows(
    connection: Connection, records: Sequence[RunRecord], before: Progress, keep: Collection[str] = ()
) -> int:
    """Makes the tables hold the records and nothing else; returns the number of runs then held.

    before: the progress when reading the folders began. A run that was added, written to or removed since then is left
    as it is: the registry knows it better than the record. keep: ids of runs that are left though no record is theirs.
    """
    lock_runs(connection)
    now = read_progress(connection)
    changed = {run_id for run_id in before.keys() | now.keys() if before.get(run_id) != now.get(run_id)}
    renewed = [record for record in records if record.run.id not in changed]
    left = now.keys() & (changed | (set(keep) - {record.run.id for record in records}))
    for some in batches(now.keys() - left):
        connection.execute(delete(RUNS).where(RUNS.c.id.in_(some)))  # and, by the foreign keys, all that is theirs
    insert_records(connection, renewed)
    return len(renewed) + len(left)


def batches(values: Iterable[str]) -> Iterator[list[str]]:
    """As many as a statement takes."""
    rest = iter(values)
    while some := list(islice(rest, MAX_VALUES)):
        yield some


def insert_records(connection: Connection, records: Sequence[RunRecord]) -> None:
    """All rows of runs that the tables do not hold."""
    insert_rows(connection, RUNS, (record.run for record in records))
    insert_rows(connection, CHECKPOINTS, (row for record in records for row in record.checkpoints))
    insert_rows(connection, VERIFICATIONS, (row for record in records for row in record.verifications))
    insert_rows(connection, EVALUATIONS, (row for record in records for row in record.evaluations))
    insert_metrics(
        connection,
        ((record.run.id, epoch, metrics) for record in records for epoch, metrics in record.metrics.items()),
    )
