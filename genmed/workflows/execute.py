"""The part that train, resume and verify share: from a progress to the end of training, and to a finished run."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from genmed.engine.checkpoint import MANIFEST, list_checkpoints, restore_weights
from genmed.engine.checkpoint_store import CheckpointStore
from genmed.engine.evaluation import Evaluation, StoppedError, evaluate
from genmed.engine.loop import Training
from genmed.engine.module_trace import ModuleTrace
from genmed.engine.progress import Progress
from genmed.engine.task import Task
from genmed.engine.trace import NoTrace, TraceFile, make_header, trace_digest
from genmed.ground.errors import GenmedError, Interrupted, RecordError, RunError, StorageError
from genmed.ground.fingerprints import digest_file
from genmed.ground.team import TeamError
from genmed.ground.wording import begin_sentence
from genmed.parts.data.device import Loader, ReadAhead, ResidentLoader, fits_on
from genmed.parts.data.loader import BatchLoader
from genmed.records.predictions import Prediction, write_predictions
from genmed.records.run_folder import RunDocument, RunFolder, now, this_process
from genmed.workflows.assemble import Session
from genmed.workflows.early_stop import explain_early_stop
from genmed.workflows.evaluation.kept import evaluate_own
from genmed.workflows.index import Index, life_of
from genmed.workflows.recording import Recorder, StopSignal
from genmed.workflows.report.run import write_report_at_hand
from genmed.workflows.reporting import Reporter
from genmed.workflows.tensorboard import EventFile

MEASURED = ("val", "test")
LAST = "last_"
"""Begins the names of metrics of the last epoch's state, where the others are of the best one's."""


@dataclass(frozen=True)
class Final:
    """Validation and test when the training has ended, by side."""

    selected: dict[str, Evaluation]
    """By the state that `training.select` names."""
    last: dict[str, Evaluation] = field(default_factory=dict)
    """By the last epoch's, where `training.also_last` asks for it beside the best one's."""

    @property
    def metrics(self) -> dict[str, float | None]:
        """Of a finished run."""
        metrics = {name: value for found in self.selected.values() for name, value in found.metrics.items()}
        return metrics | {
            f"{LAST}{name}": value for found in self.last.values() for name, value in found.metrics.items()
        }


def execute(
    session: Session,
    folder: RunFolder,
    index: Index,
    reporter: Reporter,
    store: CheckpointStore,
    progress: Progress,
    *,
    data_root: Path | None = None,
    replace_steps: bool = False,
    tensorboard: bool = False,
) -> RunDocument:
    """Trains to the end, evaluates, and completes the record. The learner is in the state that `progress` says.

    data_root: what the command to go on has to say of the data. replace_steps: see `TraceFile`. tensorboard: write
    event files though the config does not ask for them. Raises Interrupted after the state is safe, RunError; the run's
    status is right in every case.
    """
    with _recorded_end(folder, index, resume_command(folder, data_root)):
        document = folder.update(status="running", started=now(), ended=None, process=this_process(), error=None)
        index.attempt(lambda registry: registry.update_run(document.id, **life_of(document)))
        trace = _open_trace(folder, document, session, replace_steps)
        traces_modules = session.task.config.run.trace_modules
        modules = ModuleTrace(folder.modules_path, progress.step) if traces_modules else None
        wanted = tensorboard or session.task.config.run.tensorboard
        events = EventFile(folder.path, progress.step + 1) if wanted else None
        stop = StopSignal()
        recorder = Recorder(folder, document, index, reporter, stop, events)
        training = Training(
            task=session.task,
            learner=session.learner,
            progress=progress,
            loader=make_loader(session.task),
            trace=trace,
            store=store,
            observer=recorder,
            modules=modules,
        )
        reporter.begin_steps(progress.step, session.task.total_steps, session.task.config.training.batch_size)
        store.replace = replace_steps
        with stop.heard():
            try:
                trace.start_at(progress.step)
                with store:
                    fingerprint = training.run()
                if progress.step < session.task.total_steps:
                    _tell_early_stop(folder, reporter)
            finally:
                reporter.end_steps()
                trace.close()
                if modules:
                    modules.close()
                if events:
                    events.close()
            if trace.parted_at is not None:
                folder.log(f"From step {trace.parted_at} on the steps took the place of others, recorded before")
            final = evaluate_final(training)
            recorder.note_imports(at_end=True)
        for path, results in ((folder.predictions_path, final.selected), (folder.last_predictions_path, final.last)):
            if results:
                write_predictions(path, session.task.classes, list_predictions(session, results))
        document = _complete(folder, index, progress, final.metrics, fingerprint)
    index.settle(patiently=True)
    _evaluate(session, folder, reporter)
    return document


def _tell_early_stop(folder: RunFolder, reporter: Reporter) -> None:
    text = f"stopped early {explain_early_stop(folder.read(), folder.read_metrics())}"
    folder.log(begin_sentence(text))
    reporter.message(text)


def _open_trace(folder: RunFolder, document: RunDocument, session: Session, replace: bool) -> TraceFile | NoTrace:
    if not session.task.config.run.trace:
        return NoTrace()
    start = document.start
    header = make_header(start.state, start.model_dump()) if start else make_header(session.initial)
    return TraceFile(folder.trace_path, header, replace=replace, keep_header=bool(document.accepted))


def make_loader(task: Task) -> Loader:
    """The loader that config and device ask for."""
    compute, cuda = task.config.compute, task.device == "cuda"
    if compute.images == "resident" or (compute.images == "auto" and fits_on(task.device, task.images)):
        return ResidentLoader(task.images, task.targets, task.device)
    loader = BatchLoader(
        task.images,
        task.targets,
        workers=compute.num_workers,
        prefetch=compute.prefetch,
        persistent=compute.persistent_workers,
        pin=cuda,
    )
    return ReadAhead(loader, compute.prefetch) if cuda else loader


def evaluate_final(training: Training) -> Final:
    """Of a training that has ended; leaves the learner with the weights of the state that `training.select` names.

    Raises Interrupted where the observer was asked to stop; the training is complete by then.
    """
    asked, choice = training.observer.stop_asked, training.task.config.training

    def measure() -> dict[str, Evaluation]:
        return {side: evaluate(training.learner, training.task, training.loader, side, asked) for side in MEASURED}

    try:
        if choice.select == "last":
            return Final(measure())
        last = measure() if choice.also_last else {}
        if isinstance(training.store, CheckpointStore):
            restore_weights(training.store.best(training.progress), training.learner)
        training.task.team.take(list(training.learner.weights().values()))
        return Final(measure(), last)
    except StoppedError as stopped:
        raise Interrupted(f"{stopped} in the final evaluation") from None


def list_predictions(session: Session, results: dict[str, Evaluation]) -> Iterator[Prediction]:
    """Of validation and test."""
    task, records = session.task, session.data.records
    for side, result in results.items():
        for row, scores in zip(task.rows[side], result.scores, strict=True):
            yield Prediction(*records.describe(row), side, task.labels[row].tolist(), scores.tolist())


def _complete(
    folder: RunFolder, index: Index, progress: Progress, metrics: dict[str, float | None], fingerprint: str
) -> RunDocument:
    document = folder.update(
        status="completed",
        ended=now(),
        epochs_done=progress.epoch,
        steps_done=progress.step,
        best_epoch=progress.best_epoch,
        metrics=metrics,
        fingerprint=fingerprint,
        trace_digest=trace_digest(folder.trace_path),
        files=_digest_what_is_left(folder),
    )
    index.attempt(
        lambda registry: registry.record_final_metrics(
            document.id,
            metrics,
            **life_of(document),
            fingerprint=document.fingerprint,
            trace_digest=document.trace_digest,
        )
    )
    folder.log(f"Final state: {fingerprint}")
    if document.trace_digest:
        folder.log(f"Trace: {document.trace_digest}")
    headline = metrics.get("test_auroc_macro")
    folder.log(f"Test AUROC (mean of classes): {'undefined' if headline is None else f'{headline:.4f}'}")
    folder.log("Completed")
    return document


def _evaluate(session: Session, folder: RunFolder, reporter: Reporter) -> None:
    """Results with intervals, and the report; the run is complete without them, and commands make them anew."""
    try:
        evaluate_own(folder, reporter)
    except GenmedError as error:
        reporter.message(f"No results: {error.say()}")
        return
    if session.task.config.run.report:
        write_report_at_hand(session, folder, reporter)


def _digest_what_is_left(folder: RunFolder) -> dict[str, str]:
    manifests = [path / MANIFEST for path in list_checkpoints(folder.checkpoints_path)]
    tables = [folder.metrics_path, folder.predictions_path]
    tables += [folder.last_predictions_path] if folder.last_predictions_path.exists() else []
    return {path.relative_to(folder.path).as_posix(): digest_file(path) for path in [*tables, *manifests]}


@contextmanager
def _recorded_end(folder: RunFolder, index: Index, command: str) -> Iterator[None]:
    """Leaves the right status behind however the training ends, and says by which command to go on."""
    try:
        yield
    except Interrupted as error:
        _note_end(folder, index, "interrupted", error.message)
        raise Interrupted(error.message, f"the state is safe; go on with: {command}") from None
    except KeyboardInterrupt:
        _note_end(folder, index, "interrupted", "broken off")
        raise Interrupted("broken off", f"go on from the last checkpoint with: {command}") from None
    except StorageError as error:
        _note_end(folder, index, "failed", error.message)
        raise RunError(error.message, f"make room, or mend what is named; then go on with: {command}") from error
    except TeamError as error:
        _note_end(folder, index, "failed", error.message)
        hint = f"{error.hint}; then go on with: {command}" if error.hint else f"go on with: {command}"
        raise TeamError(error.message, hint, error.exit_code) from error
    except GenmedError as error:
        _note_end(folder, index, "failed", error.message)
        raise
    except Exception as error:
        _note_end(folder, index, "failed", f"{type(error).__name__}: {error}", traceback.format_exc())
        raise


def _note_end(folder: RunFolder, index: Index, status: str, reason: str, details: str = "") -> None:
    try:
        if folder.read().status == "completed":  # all that is left to do is to tell of it
            return
        document = folder.update(status=status, ended=now(), error=reason)
        folder.log(f"{status.capitalize()}: {reason}" + (f"\n{details}" if details else ""))
    except (StorageError, RecordError):  # run.json still says running, and the process that it names will be dead
        return
    index.attempt(lambda registry: registry.update_run(document.id, **life_of(document)))
    index.settle(patiently=False)


def resume_command(folder: RunFolder, data_root: Path | None = None) -> str:
    """The exact command, with --root where the run does not lie below the current folder."""
    root = folder.path.parent.parent
    words = ["genmed", "resume", folder.name]
    if root.resolve() != Path.cwd().resolve():
        words += ["--root", str(root)]
    if data_root:
        words += ["--data-root", str(data_root)]
    return shlex.join(words)
