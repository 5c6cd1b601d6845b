"""Between run folders and the registry: rows are made from folders, so that the registry can be lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint import MANIFEST, Checkpoint, check_checkpoint, describe_whole, list_checkpoints
from genmed.ground.errors import ConfigError, GenmedError, RecordError, RunNotFoundError, StorageError
from genmed.ground.sealed import read_sealed
from genmed.records.config import flatten
from genmed.records.config.sources import layer_of_file, resolve
from genmed.records.registry import (
    FINAL,
    CheckpointRow,
    EvaluationRow,
    Registry,
    RunRecord,
    RunRow,
    VerificationRow,
    open_registry,
    set_aside,
)
from genmed.records.run_folder import RUNS, RunDocument, RunFolder, list_run_folders
from genmed.workflows.known import open_for_writing
from genmed.workflows.reporting import Reporter

Write = Callable[[Registry], Any]
Tell = Callable[[str], object]

HASTE = 1.0
"""Seconds that a training waits for a registry that is locked or away."""
SHARE = 20
"""After an attempt that failed there is no other for so many times as long as it took: a registry that stays away costs
a training a twentieth of its time."""
LONGEST_PAUSE = 300.0


class Index:
    """The registry as a running training uses it: what cannot be written now is said once, and written when it can be.

    Writes that failed are kept, and made in their order before the next one; the last by `settle`. If that fails too,
    or the process is killed, `runs/` has it all, and the next command that lists the runs makes up for it. Checkpoints
    are told of from beside the training, so it may be used by several threads.
    """

    def __init__(self, registry: Registry, reporter: Reporter) -> None:
        self._patient, self._hasty, self._reporter = registry, registry.with_patience(HASTE), reporter
        self._missed: deque[Write] = deque()
        self._not_before, self._complained = 0.0, False
        self._one_at_a_time = threading.Lock()

    def attempt(self, write: Write, *, lasting: bool = True) -> None:
        """lasting: that the write is due also later, as a sign of life is not."""
        with self._one_at_a_time:
            self._missed.append(write)
            if time.monotonic() >= self._not_before:
                self._catch_up(self._hasty)
            if not lasting and self._missed:
                self._missed.pop()

    def settle(self, *, patiently: bool) -> None:
        """Makes the writes that are missing, at the end of a training; patiently: waits as long as a command does."""
        with self._one_at_a_time:
            self._catch_up(self._patient if patiently else self._hasty)

    def _catch_up(self, registry: Registry) -> None:
        while self._missed:
            write, start = self._missed.popleft(), time.monotonic()
            try:
                write(registry)
            except RunNotFoundError as error:  # somebody removed its row; the next command that lists runs adds it
                self._complain(error)
            except StorageError as error:
                self._missed.appendleft(write)
                self._complain(error)
                now = time.monotonic()
                self._not_before = now + min(max(SHARE * (now - start), HASTE), LONGEST_PAUSE)
                return

    def _complain(self, error: GenmedError) -> None:
        if not self._complained:
            self._reporter.message(say_missed(error))
            self._complained = True


def write_now(root: Path, tell: Tell, write: Write, *, create: bool = False) -> None:
    """One write of what a run's folder has by now; that it cannot be made is said, and stops nothing.

    create: the registry, where there is none.
    """
    try:
        if registry := open_registry(root, create=create):
            write(registry)
    except (StorageError, RunNotFoundError) as error:
        tell(say_missed(error))


def say_missed(error: GenmedError) -> str:
    return f"{error.message}; going on, `genmed list --rebuild` will make up for it"


def rebuild(root: Path, reporter: Reporter) -> int:
    """Makes the registry anew from `runs/`; a folder that cannot be read is named and left out. Returns the count.

    A damaged registry file is kept under another name. On a server, where others may keep runs of another root, those
    stay of which there is no folder here, unless their rows are damaged.
    """
    if aside := set_aside(root):
        reporter.message(f"the damaged registry is kept as {aside}")
    if not list_run_folders(root) and open_registry(root, create=False) is None:
        return 0  # reading where there is nothing makes nothing
    registry = open_for_writing(root)
    taken: set[str] = set()

    def read() -> Iterator[RunRecord]:
        for record in _read_records(root, reporter):
            taken.add(record.run.id)
            yield record

    count = registry.rebuild(read(), keep_sound=registry.on_server)
    if elsewhere := sum(run.id not in taken for run in registry.names()) if registry.on_server else 0:
        reporter.message(f"{elsewhere:,} of them have no folder below {root}, and stay as they are")
    return count


def _read_records(root: Path, reporter: Reporter) -> Iterator[RunRecord]:
    for folder in list_run_folders(root):
        try:
            yield record_of(folder, reporter.message)
        except (RecordError, ConfigError) as error:
            reporter.message(f"left out {folder.name}: {error.message}")


def note_evaluation(folder: RunFolder, evaluation: Mapping[str, Any], reporter: Reporter) -> None:
    """Takes a document of `evaluations/` into the registry, if there is one; what cannot be written is said."""
    row = evaluation_row(folder.read().id, evaluation)
    root = folder.path.absolute().parent.parent
    write_now(root, reporter.message, lambda registry: registry.record_evaluation(row))


def record_of(folder: RunFolder, tell: Tell = lambda text: None) -> RunRecord:
    """All rows of one run. tell: of evaluations that are damaged, and left out. Raises RecordError."""
    document = folder.read()
    metrics: dict[int, dict[str, float | None]] = {}
    for row in folder.read_metrics():
        figures = {name: value for name, value in row.items() if name not in NOT_METRICS}
        metrics[int(row["epoch"] or 0)] = figures
    if document.metrics:
        metrics[FINAL] = dict(document.metrics)
    verifications = [verification_row(document.id, line) for line in folder.read_verifications()]
    whole = [path for path in list_checkpoints(folder.checkpoints_path) if not check_checkpoint(path)]
    checkpoints = checkpoint_rows(document.id, [describe_whole(path) for path in whole], document.best_epoch)
    evaluations = [evaluation_row(document.id, found) for found in _read_evaluations(folder, tell)]
    return RunRecord(row_of(folder, document), metrics, checkpoints, verifications, evaluations)


def _read_evaluations(folder: RunFolder, tell: Tell) -> Iterator[dict[str, Any]]:
    """A run can do without them: `genmed evaluate` makes them anew."""
    for path in sorted(folder.evaluations_path.glob("*.json")):
        try:
            yield read_sealed(path)
        except RecordError as error:
            tell(f"left out an evaluation of {folder.name}: {error.message}")


def verification_row(run_id: str, line: dict[str, Any]) -> VerificationRow:
    """The row of one line of verifications.jsonl."""
    return VerificationRow(
        run_id=run_id,
        created=datetime.fromisoformat(line["created"]),
        verdict=line["verdict"],
        steps_compared=line["steps_compared"],
        steps_total=line["steps_total"],
        report=line,
    )


def evaluation_row(run_id: str, evaluation: Mapping[str, Any]) -> EvaluationRow:
    """The row of one document of `evaluations/`: of its metrics those over all classes."""
    of_classes = tuple(f"_{label}" for label in evaluation["classes"])
    metrics = {name: found for name, found in evaluation["metrics"].items() if not name.endswith(of_classes)}
    return EvaluationRow(
        run_id=run_id,
        name=evaluation["name"],
        created=datetime.fromisoformat(evaluation["created"]),
        dataset=evaluation["dataset"],
        split=evaluation["split"],
        images=evaluation["images"],
        report={**{key: evaluation[key] for key in COUNTS}, "metrics": metrics},
    )


COUNTS = ("task", "patients", "studies", "unit", "level", "resamples")
"""Of an evaluation, what else its row has."""
NOT_METRICS = ("epoch", "step", "images_per_second", "peak_memory_mib")


def row_of(folder: RunFolder, document: RunDocument) -> RunRow:
    """The run's own row. Raises RecordError."""
    environment = read_sealed(folder.environment_path)
    config = resolve([layer_of_file(folder.config_path)]).config
    cpu, git = environment["cpu"], environment["git"] or {}
    return RunRow(
        id=document.id,
        name=document.name,
        path=f"{RUNS}/{folder.name}",
        seed=document.seed,
        dataset=document.dataset,
        model=document.model,
        device=document.device,
        config_fingerprint=document.config_fingerprint,
        data_fingerprint=document.data_fingerprint,
        code_digest=document.code_digest,
        created=document.created,
        parent=document.parent,
        tags=list(document.tags),
        note=document.note,
        accepted=[entry.model_dump(mode="json") for entry in document.accepted],
        epochs_total=document.epochs_total,
        fingerprint=document.fingerprint,
        trace_digest=document.trace_digest,
        hidden=document.hidden,
        git_commit=git.get("commit"),
        git_dirty=git.get("dirty"),
        config=flatten(config),
        hardware={"cpu": cpu["model"], "cores": cpu["cores_physical"], "gpus": environment["gpus"]},
        versions={"python": environment["python"]["version"], **environment["packages"]},
        **life_of(document),
    )


def life_of(document: RunDocument) -> dict[str, Any]:
    """The fields of a row that change while the run lives."""
    process = document.process
    return {
        "status": document.status,
        "started": document.started,
        "ended": document.ended,
        "host": process["host"],
        "boot_id": process["boot_id"],
        "pid": process["pid"],
        "process_started": process["started"],
        "heartbeat": document.ended or document.started,
        "epochs_done": document.epochs_done,
        "steps_done": document.steps_done,
        "error": document.error,
    }


def checkpoint_rows(run_id: str, kept: Sequence[Checkpoint], best_epoch: int) -> Sequence[CheckpointRow]:
    """The rows of the checkpoints on the disk, oldest first."""
    return [
        CheckpointRow(
            run_id=run_id,
            path=checkpoint.path,
            epoch=checkpoint.epoch,
            step=checkpoint.step,
            sha256=checkpoint.sha256,
            kinds=[
                *(["best"] if checkpoint.is_end_of(best_epoch) else []),
                *(["last"] if checkpoint is kept[-1] else []),
            ],
            created=datetime.fromtimestamp((checkpoint.folder / MANIFEST).stat().st_mtime).astimezone(),
        )
        for checkpoint in kept
    ]
