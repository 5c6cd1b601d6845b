"""verify: runs a recorded configuration again, compares it step for step, gives a verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint import Checkpoint, CheckpointStore, check_checkpoint, list_checkpoints
from genmed.engine.loop import EpochReport, Training
from genmed.engine.progress import Progress
from genmed.engine.step import StepRecord
from genmed.engine.trace import (
    Divergence,
    RecordedTrace,
    find_divergence,
    make_header,
    make_line,
    read_trace,
    trace_digest,
)
from genmed.ground.errors import ConfigError, DataError, Interrupted, RecordError, RequestError, RunError
from genmed.ground.fingerprints import digest_file
from genmed.records.environment import is_alive
from genmed.records.run_folder import RunDocument, RunFolder, now
from genmed.workflows.assemble import Session, assemble
from genmed.workflows.execute import evaluate_selected, make_loader, merge_metrics
from genmed.workflows.identity import Mismatch, compare_data, compare_session, read_config
from genmed.workflows.index import Index, open_for_writing, verification_row
from genmed.workflows.recording import StopSignal
from genmed.workflows.reporting import Reporter

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
    _chain: str = field(default="", init=False)

    def record(self, step: StepRecord, state: str | None) -> None:
        if step.step > len(self.recorded.lines):
            raise _EnoughError
        recorded = self.recorded.lines[step.step - 1]
        found = find_divergence(recorded, make_line(step, state if "state" in recorded else None, self._chain))
        self.compared = step.step
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

    def on_checkpoint(self, checkpoint: Checkpoint) -> None: ...

    def stop_asked(self) -> str | None:
        return self.stop.name


def verify(
    folder: RunFolder, root: Path, reporter: Reporter, *, full: bool = False, data_root: Path | None = None
) -> Report:
    """Runs the recorded config again in a scratch folder and compares; writes only a verification record.

    full: go on after the first difference. data_root: where the data lie now, if not where they lay. Raises
    Interrupted; RequestError where the run is still running.
    """
    document = folder.read()
    if document.status == "running" and is_alive(document.process):
        raise RequestError(f"{document.name} is running now, as process {document.process['pid']}", "wait for its end")
    try:
        trace = _read_checked_trace(folder, document)
        _check_record(folder, document, trace)
        config = read_config(folder, document, data_root)
        session = assemble(config, reporter, trust_stamps=False)
        changed = compare_data(folder, document, session.data)
        causes = compare_session(folder, document, session)
    except (RecordError, DataError, ConfigError) as error:
        return _keep(folder, root, reporter, _refuse(document, error.message))
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        problem = f"the data are not those of the run: {changed[0].what}{more}"
        return _keep(folder, root, reporter, _refuse(document, problem, changed[:100]))
    elsewhere = any(entry.changes_bits for entry in causes)
    report = _run_again(session, document, trace, causes, full or elsewhere, reporter)
    return _keep(folder, root, reporter, report)


def _read_checked_trace(folder: RunFolder, document: RunDocument) -> RecordedTrace:
    trace = read_trace(folder.trace_path)
    digest = trace_digest(folder.trace_path)
    if document.trace_digest and digest != document.trace_digest:
        raise RecordError(f"{folder.trace_path} was edited: it is {digest}, recorded is {document.trace_digest}")
    if not trace.lines:
        raise RecordError(f"{folder.trace_path} has no step to compare")
    if len(trace.lines) < document.steps_done:
        raise RecordError(f"{folder.trace_path} ends at step {len(trace.lines)} of {document.steps_done}")
    return trace


def _check_record(folder: RunFolder, document: RunDocument, trace: RecordedTrace) -> None:
    """Raises RecordError where checkpoints, data record or final state are missing, edited or not of one run."""
    broken = [problem for path in list_checkpoints(folder.checkpoints_path) for problem in check_checkpoint(path)]
    if broken:
        raise RecordError("; ".join(broken))
    if document.status == "completed" and not list_checkpoints(folder.checkpoints_path):
        raise RecordError(f"{folder.checkpoints_path} is empty")
    described = folder.read_json(folder.data_path)
    if described["fingerprint"] != document.data_fingerprint:
        raise RecordError(f"{folder.data_path} was edited: its fingerprint is not that of {folder.document_path.name}")
    if not folder.images_path.is_file() or digest_file(folder.images_path) != described["images"]["sha256"]:
        raise RecordError(f"{folder.images_path} is missing or was edited")
    if document.fingerprint and trace.lines[-1].get("state") != document.fingerprint:
        raise RecordError(f"{folder.document_path} was edited: its final state is not the trace's last")


def _run_again(
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
    if make_header(session.initial) != recorded.header:
        comparison.divergence = Divergence(0, 0, "initial")
    with tempfile.TemporaryDirectory(prefix="genmed-verify-") as scratch:
        store = CheckpointStore(Path(scratch), session.identity, keep=1, every_epochs=None)
        watcher = _Watcher(reporter, stop, task.total_epochs)
        training = Training(task, session.learner, Progress(), make_loader(task), comparison, store, watcher)
        with stop.heard():
            reporter.begin_steps(0, total, task.config.training.batch_size)
            try:
                if full or not comparison.divergence:
                    training.run()
                    metrics = merge_metrics(evaluate_selected(training))
            except _EnoughError:
                pass
            except Interrupted as error:
                raise Interrupted(f"verify {error.message}: no verdict", "start it again") from None
            except RunError as error:  # as the run itself ended, or else fewer steps than recorded were compared
                reporter.message(error.message)
            finally:
                reporter.end_steps()
    compared = [MetricComparison(name, value, metrics.get(name)) for name, value in document.metrics.items()]
    divergence = comparison.divergence
    if divergence is None and metrics and any(entry.recorded != entry.found for entry in compared):
        divergence = Divergence(comparison.compared, training.progress.epoch, "metrics")
    whole = comparison.compared == total
    verdict = "identical" if divergence is None and whole else "diverged"
    return Report(document.name, verdict, comparison.compared, total, divergence, causes, compared)


def _refuse(document: RunDocument, problem: str, causes: Sequence[Mismatch] = ()) -> Report:
    metrics = [MetricComparison(name, value, None) for name, value in document.metrics.items()]
    return Report(
        document.name, "not comparable", 0, document.steps_done, cause=causes, metrics=metrics, problems=(problem,)
    )


def _keep(folder: RunFolder, root: Path, reporter: Reporter, report: Report) -> Report:
    """Notes the verdict in the run's folder and in the registry."""
    line = {"created": now().isoformat(), **report.to_json()}
    folder.add_verification(line)
    index = Index(open_for_writing(root), reporter)
    index.attempt(lambda registry: registry.record_verification(verification_row(folder.read().id, line)))
    return report
