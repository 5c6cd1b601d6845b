"""Seals: each row carries digests over its other columns, so that a row that was damaged on the disk is known by them.

The encoding is part of the schema: another one, or a new column, needs a migration that seals all rows anew.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from genmed.records.registry.tables import (
    CHECKPOINTS,
    EVALUATIONS,
    METRICS,
    RUNS,
    VERIFICATIONS,
    CheckpointRow,
    EvaluationRow,
    RunRow,
    RunSummary,
    VerificationRow,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
UNREADABLE = (ValueError, TypeError, ArithmeticError, LookupError)
"""What SQLAlchemy and the parsers of times and JSON raise over a value that nobody wrote."""

ROWS_AT_ONCE = 100
PIECEMEAL = {"yield_per": ROWS_AT_ONCE}
"""Options of a query that may have many rows: a server sends no more at a time."""

Narrow = Callable[[Select[Any]], Select[Any]]


class Damage(Exception):
    """What is stored is not what was written; `refusals.attempt` adds where."""


def _encode_moment(value: Any) -> int:
    return int((value - EPOCH) // MICROSECOND)


_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=_encode_moment
).encode


def seal(values: Sequence[Any]) -> str:
    """`blake2b-64:` and 16 hexadecimal digits, of the values as JSON in UTF-8; times are microseconds since 1970 UTC.

    64 bits are much for accidents and no help against forgery, which the run's folder is for. JSON columns count as
    they are, with the order of their keys.
    """
    return f"blake2b-64:{blake2b(_encode(values).encode(), digest_size=8).hexdigest()}"


class Part:
    """Columns of a table that are read and sealed together."""

    def __init__(self, table: Table, seal_column: str, columns: Iterable[str]) -> None:
        self.table, self.seal_column = table, seal_column
        self.columns = sorted(columns)  # by name: the order of a class's fields may change
        self._owner = self.columns.index("id" if table is RUNS else "run_id")
        self._query = select(*(table.c[name] for name in [*self.columns, seal_column]))

    def seal(self, row: Mapping[str, Any]) -> str:
        return seal([row[name] for name in self.columns])

    def check(self, row: Mapping[str, Any]) -> None:
        """Raises Damage if the row does not fit its seal."""
        values = [row[name] for name in self.columns]
        if not self._fits(values, row[self.seal_column]):
            raise self._damage(values)

    def read(self, connection: Connection, narrow: Narrow = lambda query: query) -> Iterator[dict[str, Any]]:
        """The rows' columns by name, each row checked before it is given out. Raises Damage."""
        columns = self.columns
        for *values, held in fetch(connection, narrow(self._query), self.table.name):
            if not self._fits(values, held):
                raise self._damage(values)
            yield dict(zip(columns, values, strict=True))

    def list_damaged(self, connection: Connection) -> Iterator[str]:
        """The ids of the runs whose rows do not fit their seals."""
        for *values, held in fetch(connection, self._query, self.table.name):
            if not self._fits(values, held):
                yield str(values[self._owner])

    def _fits(self, values: Sequence[Any], held: Any) -> bool:
        return bool(_seal_found(seal, values) == held)

    def _damage(self, values: Sequence[Any]) -> Damage:
        return Damage(f"the row of run {_show(values[self._owner])} in {self.table.name} does not fit its seal")


def fetch(connection: Connection, query: Select[Any], name: str) -> Iterator[Any]:
    """The rows of a query on the table of that name. Raises Damage where a value cannot be parsed."""
    with connection.execute(query) as rows:  # a server keeps what was not read until it is told
        try:
            for some in rows.partitions(ROWS_AT_ONCE):
                yield from some
        except UNREADABLE as error:
            raise Damage(f"a row in {name} cannot be read ({str(error).partition(chr(10))[0]})") from error


def _seal_found(compute: Callable[..., str], *values: Any) -> str:
    """No seal at all for values of a type that the column never holds."""
    try:
        return compute(*values)
    except UNREADABLE:
        return ""


def _show(run_id: Any) -> str:
    return str(run_id) if str(run_id).isprintable() else repr(run_id)


NAME = Part(RUNS, "name_seal", ("id", "name", "created", "hidden"))
SUMMARY = Part(RUNS, "seal", RunSummary.model_fields)
REST = Part(RUNS, "rest_seal", {"id", *RunRow.model_fields} - (RunSummary.model_fields.keys() - {"id"}))
CHECKPOINT = Part(CHECKPOINTS, "seal", CheckpointRow.model_fields)
VERIFICATION = Part(VERIFICATIONS, "seal", VerificationRow.model_fields)
EVALUATION = Part(EVALUATIONS, "seal", EvaluationRow.model_fields)
RUN_PARTS = (NAME, SUMMARY, REST)
"""Three, so that names and summaries are checked without reading a run's config, and names without the summaries."""

PARTS = {
    "runs": RUN_PARTS,
    "checkpoints": (CHECKPOINT,),
    "verifications": (VERIFICATION,),
    "evaluations": (EVALUATION,),
}


def seal_row(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its seals; not for metrics."""
    return {**row, **{part.seal_column: part.seal(row) for part in PARTS[table.name]}}


def seal_metrics(run_id: str, epoch: int, values: Mapping[str, float | None]) -> str:
    """The one seal that all rows of an epoch carry: it costs a fifth of one for each, and misses a row that is lost."""
    return seal([run_id, epoch, sorted(values.items())])


def read_metrics(connection: Connection, narrow: Narrow) -> dict[tuple[str, int], dict[str, float | None]]:
    """By run and epoch, then name; whole epochs, checked. Raises Damage."""
    return dict(read_epochs(connection, narrow))


def read_epochs(
    connection: Connection, narrow: Narrow = lambda query: query
) -> Iterator[tuple[tuple[str, int], dict[str, float | None]]]:
    """Run and epoch, and the metrics by name; each epoch checked before it is given out. Raises Damage."""
    for (run_id, epoch), values, fits in _group_epochs(connection, narrow):
        if not fits:
            raise Damage(f"the rows of run {_show(run_id)} in {METRICS.name} of epoch {epoch} do not fit their seal")
        yield (run_id, epoch), values


def _group_epochs(
    connection: Connection, narrow: Narrow
) -> Iterator[tuple[tuple[str, int], dict[str, float | None], bool]]:
    query = narrow(select(METRICS.c.run_id, METRICS.c.epoch, METRICS.c.name, METRICS.c.value, METRICS.c.seal))
    rows = fetch(connection, query.order_by(*METRICS.primary_key), METRICS.name)
    for (run_id, epoch), group in groupby(rows, key=itemgetter(0, 1)):
        _, _, names, values, seals = zip(*group, strict=True)
        of_epoch = dict(zip(names, values, strict=True))
        yield (run_id, epoch), of_epoch, set(seals) == {_seal_found(seal_metrics, run_id, epoch, of_epoch)}


def read_whole(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    """All columns of all rows, seals too, by name and in the order of the key; each row checked before it is given
    out. Not for metrics. Raises Damage.
    """
    query = select(table).order_by(*table.primary_key).execution_options(**PIECEMEAL)
    for row in fetch(connection, query, table.name):
        values = dict(row._mapping)
        for part in PARTS[table.name]:
            part.check(values)
        yield values


def list_damaged(connection: Connection) -> set[str]:
    """The ids of the runs of which a row does not fit its seal."""
    found = {run_id for parts in PARTS.values() for part in parts for run_id in part.list_damaged(connection)}
    return found | {run_id for (run_id, _), _, fits in _group_epochs(connection, lambda query: query) if not fits}


def check_rows(connection: Connection) -> None:
    """Reads every row of every table. Raises Damage."""
    for parts in PARTS.values():
        for part in parts:
            for _ in part.read(connection):
                pass
    for _ in read_epochs(connection):
        pass
