"""Between run folders and the registry: rows are made from folders, so that the registry can be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint import MANIFEST, Checkpoint, check_checkpoint, describe_checkpoint, list_checkpoints
from genmed.ground.errors import ConfigError, RecordError, RunNotFoundError, StorageError
from genmed.ground.sealed import read_sealed
from genmed.records.config import flatten
from genmed.records.config.sources import layer_of_file, resolve
from genmed.records.registry import (
    FINAL,
    CheckpointRow,
    Registry,
    RunRecord,
    RunRow,
    VerificationRow,
    open_registry,
    set_aside,
)
from genmed.records.run_folder import RUNS, RunDocument, RunFolder, list_run_folders
from genmed.workflows.claim import find_last_sign, lives
from genmed.workflows.reporting import Reporter


class Index:
    """The registry as a running training uses it: what cannot be written now is said once, and `runs/` has it all."""

    def __init__(self, registry: Registry, reporter: Reporter) -> None:
        self.registry, self._reporter, self._complained = registry, reporter, False

    def attempt(self, write: Callable[[Registry], Any]) -> None:
        try:
            write(self.registry)
        except (StorageError, RunNotFoundError) as error:
            if not self._complained:
                self._reporter.message(f"{error.message}; going on, `genmed list --rebuild` will make up for it")
                self._complained = True


def open_for_writing(root: Path) -> Registry:
    """Raises StorageError."""
    registry = open_registry(root, create=True)
    assert registry is not None
    return registry


def open_true(root: Path) -> Registry | None:
    """The registry, after adding runs whose folders it does not know; None where there is neither.

    A power cut may take its last rows, or all of it may be gone. A run that is being born is left to its own process.
    """
    registry = open_registry(root, create=False)
    known = {run.name for run in registry.names()} if registry else set()
    for folder in list_run_folders(root, known):
        try:
            document = folder.read()
            if document.status != "running" or not lives(document.process, find_last_sign(folder, None)):
                registry = registry or open_for_writing(root)
                registry.replace_run(record_of(folder))
        except (RecordError, ConfigError, StorageError):  # `genmed list --rebuild` tells of it
            continue
    return registry


def rebuild(root: Path, reporter: Reporter) -> int:
    """Makes the registry anew from `runs/`; a folder that cannot be read is named and left out. Returns the count.

    A damaged registry is kept under another name.
    """
    if aside := set_aside(root):
        reporter.message(f"the damaged registry is kept as {aside}")
    if not list_run_folders(root) and open_registry(root, create=False) is None:
        return 0  # reading where there is nothing makes nothing
    return open_for_writing(root).rebuild(_read_records(root, reporter))


def _read_records(root: Path, reporter: Reporter) -> Iterator[RunRecord]:
    for folder in list_run_folders(root):
        try:
            yield record_of(folder)
        except (RecordError, ConfigError) as error:
            reporter.message(f"left out {folder.name}: {error.message}")


def record_of(folder: RunFolder) -> RunRecord:
    """All rows of one run. Raises RecordError."""
    document = folder.read()
    metrics: dict[int, dict[str, float | None]] = {}
    for row in folder.read_metrics():
        figures = {name: value for name, value in row.items() if name not in NOT_METRICS}
        metrics[int(row["epoch"] or 0)] = figures
    if document.metrics:
        metrics[FINAL] = dict(document.metrics)
    verifications = [verification_row(document.id, line) for line in folder.read_verifications()]
    whole = [path for path in list_checkpoints(folder.checkpoints_path) if not check_checkpoint(path)]
    checkpoints = checkpoint_rows(document.id, [describe_checkpoint(path) for path in whole], document.best_epoch)
    return RunRecord(row_of(folder, document), metrics, checkpoints, verifications)


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
