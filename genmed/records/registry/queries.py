"""What is read from the tables, inside a transaction that the caller holds. A damaged row raises Damage."""

from collections.abc import Collection
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Select

from genmed.ground.errors import RunNotFoundError
from genmed.records.registry.finding import RunName
from genmed.records.registry.rows import batches
from genmed.records.registry.seals import (
    CHECKPOINT,
    EVALUATION,
    NAME,
    PIECEMEAL,
    RUN_PARTS,
    SUMMARY,
    VERIFICATION,
    read_metrics,
)
from genmed.records.registry.tables import (
    CHECKPOINTS,
    EVALUATIONS,
    FINAL,
    METRICS,
    RUNS,
    VERIFICATIONS,
    CheckpointRow,
    EvaluationRow,
    RunRow,
    RunSummary,
    Status,
    VerificationRow,
)

NEWEST_FIRST = (RUNS.c.created.desc(), RUNS.c.id.desc())
BLANK = RunSummary.model_construct()
"""Filling a copy takes 6 microseconds, constructing a summary 11."""


def run_not_found(run_id: str) -> RunNotFoundError:
    return RunNotFoundError(
        f"the registry holds no run with id {run_id}", "`genmed list --rebuild` makes the registry anew from runs/"
    )


def select_run(connection: Connection, run_id: str, *, lock: bool = False) -> RunRow:
    """lock: other writers of this run wait until the transaction ends. Raises RunNotFoundError."""

    def narrow(query: Select[Any]) -> Select[Any]:
        of_run = query.where(RUNS.c.id == run_id)
        return of_run.with_for_update() if lock else of_run

    row: dict[str, Any] = {}
    for part in RUN_PARTS:
        for values in part.read(connection, narrow):
            row |= values
    if not row:
        raise run_not_found(run_id)
    return RunRow.model_construct(**row)


def select_whole_runs(connection: Connection) -> list[RunRow]:
    rows: dict[str, dict[str, Any]] = {}
    for part in RUN_PARTS:
        for values in part.read(connection):
            rows.setdefault(values["id"], {}).update(values)
    return [RunRow.model_construct(**row) for row in rows.values()]


def select_names(connection: Connection) -> list[RunName]:
    rows = NAME.read(connection, _newest_first)
    return [RunName(row["id"], row["name"], row["hidden"]) for row in rows]


def select_runs(
    connection: Connection,
    limit: int | None,
    status: Status | None,
    dataset: str | None,
    tag: str | None,
    include_hidden: bool,
) -> list[RunSummary]:
    """Summaries alone: to read and parse each run's config as well takes three times as long."""

    def fits(row: dict[str, Any]) -> bool:
        return (
            (include_hidden or not row["hidden"])
            and (status is None or row["status"] == status)
            and (dataset is None or row["dataset"] == dataset)
            and (tag is None or tag in row["tags"])
        )

    # Compared here, not by the database: a row that it left out for a damaged value would not be checked. Reading
    # stops at the limit, and so does a server's sending.
    rows = filter(fits, SUMMARY.read(connection, lambda query: _newest_first(query).execution_options(**PIECEMEAL)))
    return [BLANK.model_copy(update=row) for row in islice(rows, limit)]


def select_running(connection: Connection) -> list[RunSummary]:
    """Those that say that a process works on them."""
    rows = SUMMARY.read(connection, lambda query: query.where(RUNS.c.status == "running"))
    return [BLANK.model_copy(update=row) for row in rows]


def _newest_first(query: Select[Any]) -> Select[Any]:
    return query.order_by(*NEWEST_FIRST)


def select_metrics(connection: Connection, run_id: str) -> dict[int, dict[str, float | None]]:
    found = read_metrics(connection, lambda query: query.where(METRICS.c.run_id == run_id))
    return {epoch: values for (_, epoch), values in found.items()}


def select_final_metrics(connection: Connection, run_ids: Collection[str]) -> dict[str, dict[str, float | None]]:
    """By id and name; a run without final metrics has an empty mapping."""
    found: dict[str, dict[str, float | None]] = {run_id: {} for run_id in run_ids}
    for ids in batches(run_ids):
        some = METRICS.c.run_id.in_(ids)
        read = read_metrics(connection, lambda query, some=some: query.where(METRICS.c.epoch == FINAL, some))  # type: ignore[misc]
        found.update((run_id, values) for (run_id, _), values in read.items())
    return found


def select_checkpoints(connection: Connection, run_id: str) -> list[CheckpointRow]:
    def narrow(query: Select[Any]) -> Select[Any]:
        return query.where(CHECKPOINTS.c.run_id == run_id).order_by(CHECKPOINTS.c.step, CHECKPOINTS.c.path)

    return [CheckpointRow.model_construct(**row) for row in CHECKPOINT.read(connection, narrow)]


def select_verifications(connection: Connection, run_id: str) -> list[VerificationRow]:
    def narrow(query: Select[Any]) -> Select[Any]:
        of_run = query.where(VERIFICATIONS.c.run_id == run_id)
        return of_run.order_by(VERIFICATIONS.c.created, VERIFICATIONS.c.number)

    return [VerificationRow.model_construct(**row) for row in VERIFICATION.read(connection, narrow)]


def select_last_verifications(connection: Connection, run_ids: Collection[str]) -> dict[str, VerificationRow]:
    found: dict[str, VerificationRow] = {}
    for ids in batches(run_ids):

        def narrow(query: Select[Any], ids: Collection[str] = ids) -> Select[Any]:
            of_runs = query.where(VERIFICATIONS.c.run_id.in_(ids))
            return of_runs.order_by(VERIFICATIONS.c.created, VERIFICATIONS.c.number)

        read = VERIFICATION.read(connection, narrow)
        found.update((row["run_id"], VerificationRow.model_construct(**row)) for row in read)
    return found


def select_evaluations(connection: Connection, run_id: str) -> list[EvaluationRow]:
    def narrow(query: Select[Any]) -> Select[Any]:
        return query.where(EVALUATIONS.c.run_id == run_id).order_by(EVALUATIONS.c.created, EVALUATIONS.c.name)

    return [EvaluationRow.model_construct(**row) for row in EVALUATION.read(connection, narrow)]


def select_evaluations_of(connection: Connection, run_ids: Collection[str], name: str) -> dict[str, EvaluationRow]:
    found: dict[str, EvaluationRow] = {}
    for ids in batches(run_ids):
        some = EVALUATIONS.c.run_id.in_(ids)
        read = EVALUATION.read(connection, lambda query, some=some: query.where(EVALUATIONS.c.name == name, some))  # type: ignore[misc]
        found.update((row["run_id"], EvaluationRow.model_construct(**row)) for row in read)
    return found
