"""verify: runs a recorded configuration again, compares it step for step, gives a verdict."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint import Checkpoint, describe_checkpoint, list_checkpoints
from genmed.engine.checkpoint_store import CheckpointStore
from genmed.engine.learner import fingerprint_learner
from genmed.engine.loop import EpochReport, Training
from genmed.engine.progress import Progress
from genmed.engine.step import StepRecord
from genmed.engine.trace import (
    Divergence,
    RecordedTrace,
    find_divergence,
    make_line,
)
from genmed.ground.errors import ConfigError, DataError, Interrupted, RecordError, RunError
from genmed.records.config import Config
from genmed.records.run_folder import RunDocument, RunFolder, now
from genmed.workflows.assemble import Session, assemble
from genmed.workflows.claim import refuse_running
from genmed.workflows.execute import evaluate_selected, make_loader, merge_metrics
from genmed.workflows.identity import Mismatch, compare_data, compare_session, read_config
from genmed.workflows.index import Index, open_for_writing, verification_row
from genmed.workflows.integrity import check_trace, find_damage
from genmed.workflows.recording import StopSignal
from genmed.workflows.reporting import Reporter
from genmed.workflows.train import open_store

EXIT_CODES = {"identical": 0, "consistent": 1, "diverged": 1, "not comparable": 2}


@dataclass(frozen=True)
class MetricComparison:
    """One metric then and now; `found` is None where training stopped before."""

    name: str
    recorded: float | None
    found: float | None

    @property
    def difference(self) -> float | None:
        if self.recorded is None or self.found is None:
            return None
        return self.found - self.recorded


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    run: str
    verdict: str
    steps_compared: int
    steps_total: int
    first_divergence: Divergence | None = None
    cause: Sequence[Mismatch] = ()
    metrics: Sequence[MetricComparison] = ()
    problems: Sequence[str] = ()
    """Why it is not comparable."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        parted = self.first_divergence
        return {
            "schema": 1,
            "verdict": self.verdict,
            "run": self.run,
            "steps_compared": self.steps_compared,
            "steps_total": self.steps_total,
            "first_divergence": parted and {**parted.__dict__, "module": None},
            "cause": [entry.to_json() for entry in self.cause],
            "metrics": [
                {"name": m.name, "recorded": m.recorded, "found": m.found, "difference": m.difference}
                for m in self.metrics
            ],
            "problems": list(self.problems),
        }


@dataclass
class _Comparison:
    """The trace sink: compares each line with the recorded one as it comes."""

    recorded: RecordedTrace
    full: bool
    compared: int = 0
    divergence: Divergence | None = None
    chain: None = None

    def record(self, step: StepRecord, state: str | None) -> None:
        if step.step > self.recorded.last:
            raise _EnoughError
        recorded = self.recorded.line(step.step)
        found = find_divergence(recorded, make_line(step, state if "state" in recorded else None, ""))
        self.compared = step.step - self.recorded.start
        self.divergence = self.divergence or found
        if found and not self.full:
            raise _EnoughError

    def sync(self) -> None: ...


class _EnoughError(Exception):
    """Nothing more is to be learned."""


@dataclass
class _Watcher:
    """The engine's observer: shows progress, hears signals, writes nothing."""

    reporter: Reporter
    stop: StopSignal
    epochs: int

    def on_step(self, record: StepRecord, images: int) -> None:
        self.reporter.step(record.step, record.epoch, record.mean_loss)

    def on_epoch(self, report: EpochReport) -> None:
        self.reporter.epoch(report, self.epochs)

    def on_checkpoint(self, kept: Sequence[Checkpoint], best_epoch: int) -> None: ...

    def stop_asked(self) -> str | None:
        return self.stop.name


def verify(
    folder: RunFolder,
    root: Path,
    reporter: Reporter,
    *,
    full: bool = False,
    data_root: Path | None = None,
    config: Config | None = None,
    keep: bool = True,
) -> Report:
    """Runs the recorded config again in a scratch folder and compares; writes only a verification record.

    full: go on after the first difference. data_root: where the data lie now, if not where they lay. config: what to
    run instead of config.yaml, where that is a stranger's. keep: whether the record is written. Raises Interrupted;
    RequestError where the run is still running.
    """
    report = _judge(folder, root, reporter, full, data_root, config)
    return _keep(folder, root, reporter, report) if keep else report


def _judge(
    folder: RunFolder, root: Path, reporter: Reporter, full: bool, data_root: Path | None, config: Config | None
) -> Report:
    document = folder.read()
    refuse_running(folder, document, root)
    if damage := find_damage(folder, document):
        return _refuse(document, damage)
    trace = check_trace(folder, document)
    if not trace.lines:
        return _refuse(document, [f"{folder.trace_path} has no step to compare"])
    try:
        session = assemble(config or read_config(folder, document, data_root), reporter, trust_stamps=False)
        changed = compare_data(folder, document, session.data)
        causes = compare_session(folder, document, session) + _list_accepted(document)
    except (RecordError, DataError, ConfigError) as error:
        return _refuse(document, [error.message])
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        problem = f"the data are not those of the run: {changed[0].what}{more}"
        return _refuse(document, [problem], changed[:100])
    elsewhere = any(entry.changes_bits for entry in causes)
    return _run_again(folder, session, document, trace, causes, full or elsewhere, reporter)


def _list_accepted(document: RunDocument) -> list[Mismatch]:
    """The run itself was not made under one code, environment or data."""
    return [
        Mismatch(entry.what, f"{change['what']}, until step {entry.step}", change["recorded"], change["found"], True)
        for entry in document.accepted
        for change in entry.changes
    ]


def _run_again(
    folder: RunFolder,
    session: Session,
    document: RunDocument,
    recorded: RecordedTrace,
    causes: Sequence[Mismatch],
    full: bool,
    reporter: Reporter,
) -> Report:
    task, stop = session.task, StopSignal()
    total = len(recorded.lines)
    comparison = _Comparison(recorded, full)
    metrics: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory(prefix="genmed-verify-") as scratch:
        progress, initial = Progress(), session.initial
        if document.start:
            progress = _begin_where_it_began(folder, document, session, Path(scratch))
            initial = fingerprint_learner(session.learner, progress)
        if initial != recorded.header["initial"]:
            comparison.divergence = Divergence(recorded.start, progress.epoch, "initial")
        store = CheckpointStore(Path(scratch), session.identity)
        watcher = _Watcher(reporter, stop, task.total_epochs)
        training = Training(task, session.learner, progress, make_loader(task), comparison, store, watcher)
        with stop.heard():
            reporter.begin_steps(recorded.start, recorded.last, task.config.training.batch_size)
            try:
                if full or not comparison.divergence:
                    with store:
                        training.run()
                    metrics = merge_metrics(evaluate_selected(training))
            except _EnoughError:
                pass
            except Interrupted as error:
                raise Interrupted(f"verify was stopped by {error.message}: no verdict", "start it again") from None
            except RunError as error:  # as the run itself ended, or else fewer steps than recorded were compared
                reporter.message(error.message)
            finally:
                reporter.end_steps()
    compared = [MetricComparison(name, value, metrics.get(name)) for name, value in document.metrics.items()]
    divergence = comparison.divergence
    if divergence is None and metrics and any(entry.recorded != entry.found for entry in compared):
        divergence = Divergence(recorded.last, training.progress.epoch, "metrics")
    whole = comparison.compared == total
    verdict = "identical" if divergence is None and whole else "diverged"
    return Report(document.name, verdict, comparison.compared, total, divergence, causes, compared)


def _begin_where_it_began(folder: RunFolder, document: RunDocument, session: Session, scratch: Path) -> Progress:
    """The state in which the run that this one continues ended, and that one's best: both are kept in this one."""
    store = open_store(folder, document, session)
    whole, _ = store.list_whole()
    start = next(
        (checkpoint for checkpoint in whole if document.start and checkpoint.step == document.start.step), None
    )
    if start is None:
        raise RecordError(f"{folder.checkpoints_path} has no whole checkpoint of the step from which the run began")
    progress = store.restore(start, session.learner)
    for path in list_checkpoints(folder.checkpoints_path):
        if describe_checkpoint(path).is_end_of(progress.best_epoch):
            shutil.copytree(path, scratch / path.name)
    return progress


def _refuse(document: RunDocument, problems: Sequence[str], causes: Sequence[Mismatch] = ()) -> Report:
    metrics = [MetricComparison(name, value, None) for name, value in document.metrics.items()]
    return Report(
        document.name, "not comparable", 0, document.steps_done, cause=causes, metrics=metrics, problems=problems
    )


def _keep(folder: RunFolder, root: Path, reporter: Reporter, report: Report) -> Report:
    """Notes the verdict in the run's folder and in the registry."""
    line = {"created": now().isoformat(), **report.to_json()}
    folder.add_verification(line)
    index = Index(open_for_writing(root), reporter)
    index.attempt(lambda registry: registry.record_verification(verification_row(folder.read().id, line)))
    return report
