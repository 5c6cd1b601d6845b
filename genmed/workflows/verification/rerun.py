"""Computes a stretch of a run again and compares it with the trace, line by line as the steps come."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from genmed.engine.checkpoint import Checkpoint, restore_checkpoint
from genmed.engine.checkpoint_store import CheckpointStore
from genmed.engine.learner import Learner, fingerprint_learner
from genmed.engine.loop import EpochReport, Training
from genmed.engine.progress import Progress
from genmed.engine.step import StepRecord
from genmed.engine.trace import Divergence, RecordedTrace, find_divergence, make_line
from genmed.ground.errors import Interrupted, RunError
from genmed.ground.team import Team, TeamError
from genmed.records.config import Config
from genmed.records.run_folder import RunDocument
from genmed.workflows.assemble import Session, assemble, renew_learner
from genmed.workflows.execute import evaluate_final, make_loader
from genmed.workflows.identity import list_former
from genmed.workflows.recording import StopSignal
from genmed.workflows.reporting import Reporter, Silent
from genmed.workflows.team import agree, assist, hand_over
from genmed.workflows.verification.stretches import Stretch, find_end_of_epoch, read_expected


@dataclass(frozen=True)
class Found:
    """What computing a stretch again came to."""

    stretch: Stretch
    steps_compared: int
    divergence: Divergence | None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Empty unless it went to the end of a finished training."""

    @property
    def identical(self) -> bool:
        return self.divergence is None and self.steps_compared == self.stretch.steps


ENOUGH = "enough"


class _EnoughError(Exception):
    """Nothing more is to be learned."""


@dataclass
class _Comparison:
    """The trace sink: compares each line with the recorded one as it comes."""

    recorded: RecordedTrace
    stretch: Stretch
    full: bool
    in_team: bool
    compared: int = 0
    divergence: Divergence | None = None
    is_enough: bool = False
    """Others compute along, and have to be told to stop."""
    chain: None = None

    def record(self, step: StepRecord, state: str | None) -> None:
        if self.is_enough:
            return
        if step.step > self.recorded.last:
            self.divergence = self.divergence or Divergence(step.step, step.epoch, "metrics")
            return self.end()
        recorded = self.recorded.line(step.step)
        self.compared = step.step - self.stretch.after
        self.note(find_divergence(recorded, make_line(step, state if "state" in recorded else None, "")))

    def note(self, found: Divergence | None) -> None:
        self.divergence = self.divergence or found
        if found and not self.full:
            self.end()

    def end(self) -> None:
        """Ends the stretch."""
        self.is_enough = True
        if not self.in_team:
            raise _EnoughError

    def sync(self) -> None: ...


@dataclass
class _Watcher:
    """The engine's observer: shows progress, hears signals, ends the stretch; writes nothing."""

    comparison: _Comparison
    progress: Progress
    expected: Mapping[tuple[int, bool], Mapping[str, object]]
    reporter: Reporter
    stop: StopSignal
    epochs: int
    trains_on: bool
    """Whether the stretch goes on to the end of the training, whenever that is."""

    def on_step(self, record: StepRecord, images: int) -> None:
        self.reporter.step(record.step, record.epoch, record.mean_loss)
        self._compare_position()
        stretch = self.comparison.stretch
        if record.step == stretch.last and not self.trains_on and not (stretch.end and stretch.end.ends_epoch):
            self.comparison.end()

    def on_epoch(self, report: EpochReport) -> None:
        self._compare_position()
        if self.comparison.divergence is None:
            last = self.comparison.recorded.last
            self.reporter.message(f"equal up to step {report.step} of {last} (epoch {report.epoch} of {self.epochs})")
        if report.step == self.comparison.stretch.last and not self.trains_on:
            self.comparison.end()

    def _compare_position(self) -> None:
        """What the step has no part in: the loss so far, the best epoch and its figure, early stopping."""
        expected = self.expected.get((self.progress.step, self.progress.epoch_over))
        if expected is not None and expected != self.progress.to_json():
            self.comparison.note(Divergence(self.progress.step, self.progress.epoch, "metrics"))

    def on_checkpoint(self, kept: Sequence[Checkpoint], best_epoch: int) -> None: ...

    def stop_asked(self) -> str | None:
        return self.stop.name or (ENOUGH if self.comparison.is_enough else None)


@dataclass(frozen=True)
class Rerun:
    """Computes stretches of one recorded run again, each from a learner that has computed nothing else."""

    session: Session
    document: RunDocument
    recorded: RecordedTrace
    kept: Sequence[Checkpoint]
    """The run's checkpoints, oldest first."""
    reporter: Reporter
    stop: StopSignal
    scratch: Path
    """A folder for the checkpoints of what is computed; those of a stretch that differs stay there."""
    full: bool

    def run(self, stretch: Stretch) -> Found:
        """Raises Interrupted where a signal asked to stop, RecordError where the state does not fit the model."""
        task = self.session.task
        task.team.hear(RUN, patiently=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"segment-{stretch.number}-", dir=self.scratch))
        learner, progress = self.begin_at(stretch.begin)
        hand_over(replace(self.session, learner=learner), progress)
        comparison = _Comparison(self.recorded, stretch, self.full, in_team=task.team.size > 1)
        if stretch.number == 1 and fingerprint_learner(learner, progress) != self.recorded.header["initial"]:
            comparison.divergence = Divergence(self.recorded.start, progress.epoch, "initial")
        trains_on = stretch.is_last and self.document.status == "completed"
        best = find_end_of_epoch(self.kept, progress.best_epoch)
        if trains_on and best and best.step <= stretch.after:  # the final metrics may be of this one
            shutil.copytree(best.folder, scratch / best.folder.name)
        watcher = _Watcher(
            comparison,
            progress,
            {} if self.document.accepted else read_expected(self.kept, stretch),
            self.reporter,
            self.stop,
            task.total_epochs,
            trains_on,
        )
        store = CheckpointStore(scratch, self.session.identity)
        training = Training(task, learner, progress, make_loader(task), comparison, store, watcher)
        metrics = self._train(training, comparison)
        found = Found(stretch, comparison.compared, comparison.divergence, metrics)
        if found.identical:
            shutil.rmtree(scratch)
        return found

    def _train(self, training: Training, comparison: _Comparison) -> dict[str, float | None]:
        """Until enough is known. The final metrics where it went on to the end of the training, else none."""
        if comparison.divergence and not self.full:
            return {}
        stretch, batch_size = comparison.stretch, training.task.config.training.batch_size
        self.reporter.begin_steps(stretch.after, stretch.last, batch_size, "verifying")
        try:
            with training.store:
                training.run()
            metrics = evaluate_final(training).metrics
        except _EnoughError:
            return {}
        except Interrupted:
            if comparison.is_enough:
                return {}
            raise
        except TeamError:
            raise
        except RunError as error:  # as the run itself ended, or else fewer steps than recorded were compared
            self.reporter.message(error.message)
            return {}
        finally:
            self.reporter.end_steps()
        # One that ended before the recorded one, by early stopping, or has other final metrics, differs.
        if comparison.compared < stretch.steps or metrics != self.document.metrics:
            progress = training.progress
            comparison.divergence = comparison.divergence or Divergence(progress.step, progress.epoch, "metrics")
        return metrics

    def begin_at(self, checkpoint: Checkpoint | None) -> tuple[Learner, Progress]:
        """A learner that has computed nothing, in the state of a checkpoint or the initial one. Raises RecordError."""
        learner = renew_learner(self.session.task)
        if checkpoint is None:
            return learner, Progress()
        identity, former = self.session.identity, list_former(self.document)
        return learner, restore_checkpoint(checkpoint, learner, identity, former)


ASSEMBLE, RUN, END = "assemble", "run", "end"
"""What the leader of a team orders the others to do."""


def assist_reruns(config: Config, team: Team) -> None:
    """Computes this process's shards of whatever the leader runs again, until it says that this is all."""
    session: Session | None = None
    while (order := team.hear(END, patiently=True)) != END:
        if order == ASSEMBLE:
            session = assemble(config, Silent(), trust_stamps=False, team=team)
            agree(session)
            continue
        assert session
        session = replace(session, learner=renew_learner(session.task))
        try:
            assist(session, hand_over(session, None))
        except TeamError:
            raise
        except RunError:  # as the leader has it, too: enough, a signal, or a loss of nan
            continue
