"""What is read from the tables, inside a transaction that the caller holds."""

from collections import defaultdict
from collections.abc import Collection
from itertools import islice

from sqlalchemy import Connection, select

from genmed.ground.errors import RunNotFoundError
from genmed.records.registry.finding import RunName
from genmed.records.registry.tables import (
    CHECKPOINTS,
    FINAL,
    METRICS,
    RUNS,
    VERIFICATIONS,
    CheckpointRow,
    RunRow,
    RunSummary,
    Status,
    VerificationRow,
)

NEWEST_FIRST = (RUNS.c.created.desc(), RUNS.c.id.desc())
MAX_VALUES = 10_000
"""In one statement; SQLite takes 32,766."""

BLANK = RunSummary.model_construct()
"""Filling a copy takes 6 microseconds, constructing a summary 11."""


def run_not_found(run_id: str) -> RunNotFoundError:
    return RunNotFoundError(
        f"the registry holds no run with id {run_id}", "`genmed list --rebuild` makes the registry anew from runs/"
    )


def select_run(connection: Connection, run_id: str) -> RunRow:
    row = connection.execute(select(RUNS).where(RUNS.c.id == run_id)).mappings().one_or_none()
    if row is None:
        raise run_not_found(run_id)
    return RunRow.model_construct(**row)


def select_names(connection: Connection) -> list[RunName]:
    query = select(RUNS.c.id, RUNS.c.name, RUNS.c.hidden).order_by(*NEWEST_FIRST)
    return [RunName(*row) for row in connection.execute(query)]


def select_runs(
    connection: Connection,
    limit: int | None,
    status: Status | None,
    dataset: str | None,
    tag: str | None,
    include_hidden: bool,
) -> list[RunSummary]:
    """Summaries alone: to read and parse each run's config as well takes three times as long."""
    columns = tuple(RunSummary.model_fields)
    query = select(*(RUNS.c[name] for name in columns)).order_by(*NEWEST_FIRST)
    if status is not None:
        query = query.where(RUNS.c.status == status)
    if dataset is not None:
        query = query.where(RUNS.c.dataset == dataset)
    if not include_hidden:
        query = query.where(RUNS.c.hidden.is_(False))
    if tag is None:
        query = query.limit(limit)
    # No two databases search a JSON list alike: tags are compared here, and reading stops at the limit.
    rows = (row for row in connection.execute(query) if tag is None or tag in row.tags)
    return [BLANK.model_copy(update=dict(zip(columns, row, strict=True))) for row in islice(rows, limit)]


def select_metrics(connection: Connection, run_id: str) -> dict[int, dict[str, float | None]]:
    query = select(METRICS.c.epoch, METRICS.c.name, METRICS.c.value).where(METRICS.c.run_id == run_id)
    found: dict[int, dict[str, float | None]] = defaultdict(dict)
    for epoch, name, value in connection.execute(query.order_by(*METRICS.primary_key)):
        found[epoch][name] = value
    return dict(found)


def select_final_metrics(connection: Connection, run_ids: Collection[str]) -> dict[str, dict[str, float | None]]:
    """By id and name; a run without final metrics has an empty mapping."""
    found: dict[str, dict[str, float | None]] = {run_id: {} for run_id in run_ids}
    query = select(METRICS.c.run_id, METRICS.c.name, METRICS.c.value).where(METRICS.c.epoch == FINAL)
    ids = list(found)
    for start in range(0, len(ids), MAX_VALUES):
        part = query.where(METRICS.c.run_id.in_(ids[start : start + MAX_VALUES]))
        for run_id, name, value in connection.execute(part.order_by(*METRICS.primary_key)):
            found[run_id][name] = value
    return found


def select_checkpoints(connection: Connection, run_id: str) -> list[CheckpointRow]:
    query = select(CHECKPOINTS).where(CHECKPOINTS.c.run_id == run_id)
    rows = connection.execute(query.order_by(CHECKPOINTS.c.step, CHECKPOINTS.c.path)).mappings()
    return [CheckpointRow.model_construct(**row) for row in rows]


def select_verifications(connection: Connection, run_id: str) -> list[VerificationRow]:
    columns = [VERIFICATIONS.c[name] for name in VerificationRow.model_fields]
    query = select(*columns).where(VERIFICATIONS.c.run_id == run_id)
    rows = connection.execute(query.order_by(VERIFICATIONS.c.created, VERIFICATIONS.c.number)).mappings()
    return [VerificationRow.model_construct(**row) for row in rows]
