"""export --csv: one row a run, for a spreadsheet: who it is, what of its config differs, what it came to."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from genmed.ground.errors import RecordError, RunNotFoundError
from genmed.ground.files import write_text
from genmed.ground.sealed import read_sealed
from genmed.records.registry import Registry, RunRow, VerificationRow
from genmed.records.run_folder import RunFolder
from genmed.workflows.known import open_true
from genmed.workflows.listing import OWN, Choice, choose_runs, judge_status
from genmed.workflows.places import check_place
from genmed.workflows.verification.last import is_outdated

IDENTITY = ("name", "id", "status", "created", "ended", "dataset", "model", "seed", "device", "parent", "tags", "note")
PROGRESS = ("epochs_done", "epochs_total", "steps_done")
DIGESTS = ("fingerprint", "trace_digest", "config_fingerprint", "data_fingerprint", "code_digest", "git_commit")
VERIFIED = ("verified", "verified_at", "verified_steps", "verified_steps_total")
"""Of the last verification: its verdict (`outdated`: the run was resumed since), when it was, how many steps were
compared, and of how many."""
ELSEWHERE = {"seed", "data.dataset", "model.name", "run.name", "run.tags", "run.note"}
"""Keys of the config that have a column under another name."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Each row has all columns; None where there is nothing."""

    columns: Sequence[str]
    rows: Sequence[Row]

    def to_csv(self) -> str:
        """Times as ISO 8601, numbers in full, tags parted by semicolons."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([[_show(row[name]) for name in self.columns] for row in self.rows])
        return text.getvalue()

    def to_json(self) -> list[Row]:
        """One object a run."""
        plain = [{name: _to_plain(value) for name, value in row.items()} for row in self.rows]
        return [{"schema": 1, **row} for row in plain]

    def write(self, path: Path) -> None:
        """Raises StorageError where the file is there, or cannot be written."""
        check_place(path, "--out")
        write_text(path, self.to_csv())


def tabulate(root: Path, references: Sequence[str], choice: Choice) -> Table:
    """The named runs in this order; of none named those of the choice, newest first. Raises RunNotFoundError."""
    registry = open_true(root)
    if registry is None and not references:
        return Table([*IDENTITY, *PROGRESS, *DIGESTS, *VERIFIED], [])
    runs = _find_runs(registry, root, references, choice) if registry else []
    if not registry:
        raise RunNotFoundError(f"no run {references[0]!r}: there are no runs below {root}", "name another with --root")
    differing = _find_differing(runs)
    metrics = registry.final_metrics([run.id for run in runs])
    verified = registry.last_verifications([run.id for run in runs])
    rows = [
        {
            **{name: getattr(run, name) for name in (*IDENTITY, *PROGRESS, *DIGESTS)},
            "status": judge_status(run, root),
            **_describe_verification(verified.get(run.id), run.started or run.created),
            **{f"config.{key}": run.config.get(key) for key in differing},
            **_measure(metrics[run.id], RunFolder(root / run.path)),
        }
        for run in runs
    ]
    columns = _order([name for row in rows for name in row])
    return Table(columns, [{name: row.get(name) for name in columns} for row in rows])


def _find_runs(registry: Registry, root: Path, references: Sequence[str], choice: Choice) -> list[RunRow]:
    if references:
        ids = dict.fromkeys(registry.find(reference).id for reference in references)
    else:
        ids = dict.fromkeys(run.id for run in choose_runs(registry, root, choice)[0])
    known = {run.id: run for run in registry.whole_runs()}
    return [known[run_id] for run_id in ids if run_id in known]


def _find_differing(runs: Sequence[RunRow]) -> list[str]:
    """Keys of the config that have not the same value in all runs, in the order of the config."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [
        key
        for key in keys
        if key not in ELSEWHERE and any(run.config.get(key) != runs[0].config.get(key) for run in runs)
    ]


def _describe_verification(row: VerificationRow | None, started: datetime) -> Row:
    verdict = "outdated" if row and is_outdated(row.report, started) else row and row.verdict
    values = (verdict, row.created, row.steps_compared, row.steps_total) if row else (None,) * len(VERIFIED)
    return dict(zip(VERIFIED, values, strict=True))


def _measure(metrics: dict[str, float | None], folder: RunFolder) -> Row:
    """Each final metric, and the ends of its interval where the run's own evaluation has it."""
    try:
        evaluated = read_sealed(folder.evaluations_path / f"{OWN}.json")["metrics"]
    except RecordError:  # none, or damaged: `genmed evaluate` makes it anew
        evaluated = {}
    found: Row = {}
    for name, value in metrics.items():
        found[name] = value
        estimate = evaluated.get(name)
        if estimate and estimate["low"] is not None:
            found |= {f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}
    return found


def _order(names: Sequence[str]) -> list[str]:
    """Each once, as they come; an interval beside its metric, though the first run has none."""
    columns = list(dict.fromkeys([*IDENTITY, *PROGRESS, *DIGESTS, *VERIFIED, *names]))
    plain = [name for name in columns if not name.endswith(("_low", "_high"))]
    return [part for name in plain for part in (name, f"{name}_low", f"{name}_high") if part in columns]


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ";".join(map(str, value))
    return "" if value is None else str(_to_plain(value))


def _to_plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
