"""The training from one progress to its end: epochs of steps, validation, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NoReturn, Protocol

from genmed.engine.checkpoint import Checkpoint
from genmed.engine.checkpoint_store import CheckpointStore, NoStore
from genmed.engine.evaluation import StoppedError, evaluate
from genmed.engine.learner import Learner, fingerprint_learner, fingerprint_state
from genmed.engine.module_trace import ModuleTrace
from genmed.engine.progress import Progress
from genmed.engine.step import Draws, LaunchedStep, StepRecord, launch_step
from genmed.engine.task import Task
from genmed.engine.trace import TraceSink
from genmed.ground.errors import Interrupted, RunError
from genmed.parts.data.augmentation import draw_epoch
from genmed.parts.data.device import Loader
from genmed.parts.data.loader import Batch, plan_epoch
from genmed.parts.models.build import set_training_mode


@dataclass(frozen=True)
class EpochReport:
    """What there is to say when an epoch is over."""

    epoch: int
    step: int
    metrics: dict[str, float | None]
    """lr, train_loss, and the validation's unless this epoch had none."""
    is_best: bool
    images_per_second: float
    seconds: float


class Observer(Protocol):
    """Is told how the training goes; nothing that it does can change a bit of it."""

    def on_step(self, record: StepRecord, images: int) -> None: ...

    def on_epoch(self, report: EpochReport) -> None: ...

    def on_checkpoint(self, kept: Sequence[Checkpoint], best_epoch: int) -> None:
        """Called beside the training, when one is safe and the old ones are gone."""

    def stop_asked(self) -> str | None:
        """The name of the signal that asked to stop, if one did."""


@dataclass(frozen=True)
class _Waiting:
    """A step that an accelerator is still at: it is accounted for when the next one is launched, or it would idle."""

    launched: LaunchedStep
    images: int
    """Of the epoch so far."""
    ends_epoch: bool


@dataclass(frozen=True)
class Training:
    """A learner on its way through a task."""

    task: Task
    learner: Learner
    progress: Progress
    loader: Loader
    trace: TraceSink
    store: CheckpointStore | NoStore
    observer: Observer
    modules: ModuleTrace | None = None
    """Where the digests of modules go, if they are wanted."""

    def run(self) -> str:
        """Trains to the end and returns the final state's fingerprint; the last checkpoint may still be on its way.

        Raises Interrupted, after a checkpoint, where the observer was asked to stop; RunError at a loss of nan or inf;
        StorageError where a checkpoint or the trace cannot be written.
        """
        while not self.progress.finished:
            if self.progress.epoch_over:
                self.progress.begin_next_epoch()
            self._run_epoch()
        return self.fingerprint()

    def fingerprint(self) -> str:
        """Of the present state."""
        return fingerprint_learner(self.learner, self.progress)

    def _run_epoch(self) -> None:
        task, progress = self.task, self.progress
        config = task.config
        plan = plan_epoch(
            config.seed, progress.epoch, task.rows["train"], config.training.batch_size, config.compute.shards
        )
        last = min(len(plan), progress.step_in_epoch + task.total_steps - progress.step)
        draws = draw_epoch(config.seed, progress.epoch, len(task.ids))
        set_training_mode(self.learner.model, config.model, task.outputs)
        images, start = 0, time.perf_counter()
        self._before_reading()
        waiting: _Waiting | None = None
        left = plan[progress.step_in_epoch : last]
        batches = self.loader.read(left, [task.team.part(rows) for rows in left])
        for step, batch in enumerate(batches, start=progress.step + 1):
            launched = self._launch_step(batch, draws, step)
            if waiting:
                self._account_for(waiting)
            images += len(batch.rows)
            ends = progress.step_in_epoch + 1 == last
            due = not ends and self._is_due(step)
            waiting = _Waiting(launched, images, ends)
            record = self._account_for(waiting) if ends or due or launched.is_done or task.team.size > 1 else None
            signal = self._stop_asked()
            if signal and not record:
                record = self._account_for(waiting)
            if record:
                waiting = None
                if signal or due:
                    self._save(self._state_of(record))
            if signal:
                self._stop(signal)
        self._end_epoch(images, time.perf_counter() - start)

    def _launch_step(self, batch: Batch, draws: Draws, step: int) -> LaunchedStep:
        with self.modules.watch(self.learner, step) if self.modules else nullcontext():
            return launch_step(self.learner, self.task, batch, draws, step, self.progress.epoch)

    def _stop_asked(self) -> str | None:
        """By a signal to any of the processes."""
        return self.task.team.first(self.observer.stop_asked())

    def _account_for(self, waiting: _Waiting) -> StepRecord:
        """Waits for a step, and enters it into progress and trace."""
        record, progress = waiting.launched.wait(), self.progress
        progress.step += 1
        progress.step_in_epoch += 1
        progress.loss_sum += record.mean_loss
        progress.lr = record.lr
        self.trace.record(record, self._state_of(record) if waiting.ends_epoch else None)
        self._refuse_broken_loss(record)
        self.observer.on_step(record, waiting.images)
        self.store.check()
        return record

    def _end_epoch(self, images: int, seconds: float) -> None:
        task, progress = self.task, self.progress
        training, asked = task.config.training, self.observer.stop_asked
        final = progress.step >= task.total_steps
        metrics: dict[str, float | None] = {
            "lr": progress.lr,
            "train_loss": progress.loss_sum / progress.step_in_epoch,
        }
        is_best = False
        if final or progress.epoch % training.validate_every == 0:
            self._before_reading()
            try:
                metrics |= evaluate(self.learner, task, self.loader, "val", asked).metrics
            except StoppedError as stopped:
                self._save(self.fingerprint())
                self._stop(str(stopped))
            is_best = self._note_best(metrics[f"val_{training.monitor}"])
        exhausted = bool(training.patience) and progress.epochs_without_better >= training.patience
        progress.epoch_over, progress.finished = True, final or exhausted
        speed = images / seconds if images else 0.0
        # The observer writes metrics.csv, which resume cuts back to the checkpoint: so it comes first.
        self.observer.on_epoch(EpochReport(progress.epoch, progress.step, metrics, is_best, speed, seconds))
        self._save(self._agree_on_state())

    def _agree_on_state(self) -> str:
        """Its fingerprint. Raises RunError where a process of the team has come to another."""
        found = self.task.team.tell(self.fingerprint())
        for rank, state in enumerate(found):
            if state != found[0]:
                raise RunError(
                    f"after step {self.progress.step} rank {rank} has another state than rank 0",
                    "the processes' machines or libraries differ, or a model keeps what it has seen outside BatchNorm",
                )
        return found[0]

    def _note_best(self, value: float | None) -> bool:
        """Takes note of a validation; strictly better counts, and the first one in any case."""
        progress = self.progress
        sign = -1 if self.task.config.training.monitor == "loss" else 1
        better = not progress.best_epoch or (
            value is not None and (progress.best_value is None or sign * value > sign * progress.best_value)
        )
        if better:
            progress.best_value, progress.best_epoch, progress.epochs_without_better = value, progress.epoch, 0
        else:
            progress.epochs_without_better += 1
        return better

    def _before_reading(self) -> None:
        """The loader may start its workers by forking this process, in which no thread should be at work then."""
        if self.task.config.compute.num_workers:
            self.store.wait()

    def _is_due(self, step: int) -> bool:
        """Whether a checkpoint is wanted after the step, though the epoch goes on."""
        if not self.task.team.leads:
            return False
        kept = self.task.config.checkpoints
        if any(every and step % every == 0 for every in (kept.every_steps, kept.keep_every_steps)):
            return True
        minutes = kept.every_minutes
        return minutes is not None and self.store.seconds_since_save >= 60 * minutes and not self.store.busy

    def _save(self, state: str) -> None:
        best_epoch = self.progress.best_epoch
        self.store.save(
            self.learner,
            self.progress,
            state,
            self.trace.chain,
            before=self.trace.sync,  # what a checkpoint counts on is on the disk before it
            after=lambda kept: self.observer.on_checkpoint(kept, best_epoch),
        )

    def _stop(self, signal: str) -> NoReturn:
        self.store.wait()
        raise Interrupted(f"{signal} at epoch {self.progress.epoch}, step {self.progress.step_in_epoch}")

    def _state_of(self, record: StepRecord) -> str:
        if not record.param:
            return self.fingerprint()
        return fingerprint_state(record.param, record.buffer, record.optim, record.lr, record.epoch, record.step)

    def _refuse_broken_loss(self, record: StepRecord) -> None:
        if record.mean_loss - record.mean_loss != 0:  # infinite or not a number
            precision = self.task.config.compute.precision
            raise RunError(
                f"the loss is {record.mean_loss} at step {record.step} (epoch {record.epoch})",
                "lower --lr, or set optimizer.clip_norm" + ("" if precision == "fp32" else ", or use --precision fp32"),
            )
