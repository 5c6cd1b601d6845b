"""Between run folders and the registry: rows are made from folders, so that the registry can be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint import MANIFEST, Checkpoint, check_checkpoint, describe_whole, list_checkpoints
from genmed.ground.errors import ConfigError, RecordError, RunNotFoundError, StorageError
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
from genmed.workflows.known import open_for_writing as open_for_writing
from genmed.workflows.known import open_true as open_true
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
            yield record_of(folder, reporter.message)
        except (RecordError, ConfigError) as error:
            reporter.message(f"left out {folder.name}: {error.message}")


def note_evaluation(folder: RunFolder, evaluation: Mapping[str, Any], reporter: Reporter) -> None:
    """Takes a document of `evaluations/` into the registry, if there is one; what cannot be written is said."""
    try:
        registry = open_registry(folder.path.absolute().parent.parent, create=False)
    except StorageError as error:
        reporter.message(error.say())
        return
    if registry:
        row = evaluation_row(folder.read().id, evaluation)
        Index(registry, reporter).attempt(lambda registry: registry.record_evaluation(row))


def record_of(folder: RunFolder, tell: Callable[[str], object] = lambda text: None) -> RunRecord:
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


def _read_evaluations(folder: RunFolder, tell: Callable[[str], object]) -> Iterator[dict[str, Any]]:
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
