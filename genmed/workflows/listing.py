"""All runs, or some of them: chosen, sorted, each with its true status and its headline. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmed.ground.errors import RecordError
from genmed.records.registry import EvaluationRow, Registry, RunSummary
from genmed.records.run_folder import RunFolder
from genmed.workflows.claim import find_last_sign, lives, runs_elsewhere
from genmed.workflows.early_stop import is_stopped_early
from genmed.workflows.known import open_true
from genmed.workflows.verification.last import describe_last

HEADLINE = "test_auroc_macro"
OWN = "test"
"""The evaluation on a run's own test images."""


@dataclass(frozen=True)
class Choice:
    """Which runs; None and empty: any."""

    tags: Collection[str] = ()
    """All of them."""
    status: str | None = None
    dataset: str | None = None
    model: str | None = None
    """As the config names it, or the end of its path: `network.py:build`."""
    hidden: bool = False
    """Those that `genmed rm` hid, and no others."""


ANY = Choice()


@dataclass(frozen=True)
class Headline:
    """Mean test AUROC of the classes, with its interval over patients where there is one."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Listing:
    """The runs that are shown, described; and how many more there are."""

    runs: list[dict[str, Any]]
    more: int


Key = Callable[[RunSummary, Headline, str], Any]
SORTS: dict[str, tuple[Key, bool]] = {
    "created": (lambda run, headline, status: (run.created, run.id), True),
    "name": (lambda run, headline, status: run.name, False),
    "auroc": (lambda run, headline, status: headline.value, True),
    "status": (lambda run, headline, status: status, False),
    "dataset": (lambda run, headline, status: run.dataset, False),
    "model": (lambda run, headline, status: run.model, False),
    "seed": (lambda run, headline, status: run.seed, False),
}
"""Name -> what is compared, and whether the highest comes first; of equal ones the newest comes first."""


def list_runs(
    root: Path, limit: int | None = None, choice: Choice = ANY, sort: str = "created", reverse: bool = False
) -> Listing:
    """The first `limit` runs of the choice; empty where there is no registry. sort: of SORTS."""
    registry = open_true(root)
    if registry is None:
        return Listing([], 0)
    if (choice, sort, reverse) == (ANY, "created", False):  # as nearly always: the rest need not be read
        rows = registry.runs(limit=limit)
        more = registry.count(include_hidden=False) - len(rows)
        headlines = read_headlines(registry, [row.id for row in rows])
        statuses = {row.id: judge_status(row, root) for row in rows}
    else:
        found, statuses = choose_runs(registry, root, choice)
        headlines = read_headlines(registry, [row.id for row in found]) if sort == "auroc" else {}
        rows = _sort(found, headlines, statuses, sort, reverse)[:limit]
        more = len(found) - len(rows)
        headlines = headlines or read_headlines(registry, [row.id for row in rows])
    verified = registry.last_verifications([row.id for row in rows])
    described = [
        {
            **_describe(row, statuses[row.id], headlines[row.id]),
            "stopped_early": is_stopped_early(row.status, row.epochs_done, row.epochs_total),
            "verification": describe_last(verified[row.id].report, row.started or row.created)
            if row.id in verified
            else None,
        }
        for row in rows
    ]
    return Listing(described, max(more, 0))


def choose_runs(registry: Registry, root: Path, choice: Choice) -> tuple[list[RunSummary], dict[str, str]]:
    """The runs of the choice, newest first; and the true status of each by id."""
    rows = [row for row in registry.runs(include_hidden=True) if _fits(row, choice)]
    statuses = {row.id: judge_status(row, root) for row in rows}
    return [row for row in rows if choice.status in (None, statuses[row.id])], statuses


def _fits(row: RunSummary, choice: Choice) -> bool:
    return (
        row.hidden == choice.hidden
        and set(choice.tags) <= set(row.tags)
        and choice.dataset in (None, row.dataset)
        and choice.model in (None, row.model, row.model.rpartition("/")[2])
    )


def _sort(
    rows: Iterable[RunSummary], headlines: Mapping[str, Headline], statuses: Mapping[str, str], sort: str, reverse: bool
) -> list[RunSummary]:
    """What is undefined comes last either way."""
    key, highest_first = SORTS[sort]
    keyed = [(key(row, headlines.get(row.id, Headline()), statuses[row.id]), row) for row in rows]
    defined = [pair for pair in keyed if pair[0] is not None]
    defined.sort(key=lambda pair: pair[0], reverse=highest_first != reverse)
    return [row for _, row in [*defined, *(pair for pair in keyed if pair[0] is None)]]


def read_headlines(registry: Registry, run_ids: Collection[str]) -> dict[str, Headline]:
    """By id. Of a run without an evaluation the figure alone."""
    evaluated = registry.evaluations_of(run_ids, OWN)
    bare = registry.final_metrics([run_id for run_id in run_ids if run_id not in evaluated])
    alone = {run_id: Headline(metrics.get(HEADLINE)) for run_id, metrics in bare.items()}
    return {**alone, **{run_id: _headline_of(row) for run_id, row in evaluated.items()}}


def _headline_of(row: EvaluationRow) -> Headline:
    found = row.report["metrics"].get(HEADLINE) or {}
    return Headline(found.get("value"), found.get("low"), found.get("high"))


def judge_status(row: RunSummary, root: Path) -> str:
    """A run that says `running` is judged by its process, one of another host by its heartbeat."""
    if row.status != "running":
        return row.status
    folder = RunFolder(root / row.path)
    try:
        alive = lives(folder.read().process, find_last_sign(folder, row.heartbeat))
    except RecordError:
        alive = not folder.path.is_dir() and runs_elsewhere(row)
    return "running" if alive else "interrupted"


def _describe(row: RunSummary, status: str, headline: Headline) -> dict[str, Any]:
    return {
        "schema": 1,
        "id": row.id,
        "name": row.name,
        "status": status,
        "path": row.path,
        "seed": row.seed,
        "dataset": row.dataset,
        "model": row.model,
        "device": row.device,
        "host": row.host,
        "created": row.created.isoformat(),
        "epochs_done": row.epochs_done,
        "epochs_total": row.epochs_total,
        "steps_done": row.steps_done,
        "test_auroc_macro": headline.value,
        "test_auroc_macro_low": headline.low,
        "test_auroc_macro_high": headline.high,
        "fingerprint": row.fingerprint,
        "trace_digest": row.trace_digest,
        "tags": row.tags,
        "note": row.note,
        "parent": row.parent,
        "hidden": row.hidden,
    }
