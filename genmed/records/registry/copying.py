"""All of one registry into another, of whatever kind each is: nothing is lost, and nothing damaged is taken along."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Table, delete, func, insert, select, text

from genmed.ground.errors import RequestError
from genmed.records.registry.postgresql import is_server, lock_runs
from genmed.records.registry.queries import select_names
from genmed.records.registry.rows import Metrics, insert_metrics, storable
from genmed.records.registry.seals import PARTS, read_epochs, read_whole, seal_row
from genmed.records.registry.store import Registry
from genmed.records.registry.tables import CHECKPOINTS, EVALUATIONS, METRICS, RUNS, VERIFICATIONS

Existing = Literal["refuse", "merge", "replace"]
"""What becomes of runs that the target holds: there may be none; they stay, and one that the source holds too must be
the same; or they are dropped first."""

OF_RUNS = (CHECKPOINTS, VERIFICATIONS, EVALUATIONS)
MANY = 1000
"""Rows in one statement; of epochs a tenth, which have a row for each metric."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Copied:
    """How many rows were written, by table."""

    runs: int
    metrics: int
    checkpoints: int
    verifications: int
    evaluations: int
    there: int
    """Runs that the target had already, and which are the same there."""

    def to_json(self) -> dict[str, int]:
        return asdict(self)


class _SourceError(Exception):
    """Carries what went wrong at the source past the transaction at the target, which is undone."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def copy_registry(source: Registry, target: Registry, existing: Existing = "refuse") -> Copied:
    """Writes all that the source holds into the target, in one transaction; each row is held against its seal.

    Raises RequestError where the target holds runs that it may not hold, StorageError where either cannot be used or
    the source is damaged; the target is then as it was.
    """
    done: Copied | None = None
    """By an attempt that came to its end, though it may not have been heard of."""

    def read(connection: Connection) -> Copied:
        def write(other: Connection) -> Copied:
            nonlocal done
            copied = _pour(connection, other, "merge" if done and existing == "refuse" else existing, target.place)
            done = done if done and not copied.runs else copied
            return done

        try:
            return target.write(write)
        except _SourceError as error:
            raise error.error from None

    return source.read(read)


def _pour(source: Connection, target: Connection, existing: Existing, place: object) -> Copied:
    lock_runs(target)
    held = target.execute(select(func.count()).select_from(RUNS)).scalar_one()
    if held and existing == "refuse":
        runs = "1 run" if held == 1 else f"{held:,} runs"
        raise RequestError(
            f"{place} holds {runs} already", "--merge adds to them what it lacks, --replace drops them first"
        )
    if held and existing == "replace":
        target.execute(delete(RUNS))  # and, by the foreign keys, all that is theirs
        held = 0
    there = _find_shared(source, target, place) if held else set()
    counts = {"runs": _copy_rows(source, target, RUNS, there)}
    for table in OF_RUNS:
        counts[table.name] = _copy_rows(source, target, table, there, renumber=bool(held))
    counts["metrics"] = _copy_metrics(source, target, there)
    if is_server(target) and counts["verifications"]:  # the next one's number follows those that were given
        target.execute(text("SELECT setval('verifications_number_seq', (SELECT max(number) FROM verifications))"))
    return Copied(**counts, there=len(there))


def _copy_rows(source: Connection, target: Connection, table: Table, there: set[str], *, renumber: bool = False) -> int:
    """renumber: rows are numbered by the target, which has others."""
    owner = "id" if table is RUNS else "run_id"

    def make_row(row: Mapping[str, Any]) -> dict[str, Any]:
        left_out = ("number",) if renumber else ()
        return seal_row(table, {name: storable(value) for name, value in row.items() if name not in left_out})

    rows = (make_row(row) for row in read_whole(source, table) if row[owner] not in there)
    count = 0
    for some in _batches(rows, MANY):
        target.execute(insert(table), some)
        count += len(some)
    return count


def _copy_metrics(source: Connection, target: Connection, there: set[str]) -> int:
    epochs: Iterator[tuple[str, int, Metrics]] = (
        (run_id, epoch, values) for (run_id, epoch), values in read_epochs(source) if run_id not in there
    )
    count = 0
    for some in _batches(epochs, -(-MANY // 10)):
        insert_metrics(target, some)
        count += sum(len(values) for _, _, values in some)
    return count


def _batches(rows: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """rows: of the source."""
    rest = iter(rows)
    while True:
        with _source_errors():
            some = list(islice(rest, size))
        if not some:
            return
        yield some


@contextmanager
def _source_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _SourceError(error) from error


def _find_shared(source: Connection, target: Connection, place: object) -> set[str]:
    """The ids of the runs that both hold. Raises RequestError where one is not the same in both."""
    with _source_errors():
        names, seals = {run.id: run.name for run in select_names(source)}, _read_seals(source)
    known, others = {run.name: run.id for run in select_names(target)}, _read_seals(target)
    differing = [
        name
        for run_id, name in names.items()
        if others.get(run_id, seals[run_id]) != seals[run_id] or known.get(name, run_id) != run_id
    ]
    if differing:
        more = f" (and {len(differing) - 1:,} more)" if len(differing) > 1 else ""
        raise RequestError(
            f"{differing[0]} is in {place} too and is not the same there{more}", "remove it from one of the two"
        )
    return seals.keys() & others.keys()


def _read_seals(connection: Connection) -> dict[str, set[tuple[Any, ...]]]:
    """Of all rows of each run, by its id."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    for table in (RUNS, *OF_RUNS, METRICS):
        owner = table.c["id" if table is RUNS else "run_id"]
        seals = [METRICS.c.epoch, METRICS.c.seal]
        if table is not METRICS:
            seals = [table.c[part.seal_column] for part in PARTS[table.name]]
        for run_id, *values in connection.execute(select(owner, *seals).distinct()):
            found.setdefault(run_id, set()).add((table.name, *values))
    return found
