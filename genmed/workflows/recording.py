"""Keeps a running training on the record: log, metrics, registry, the screen; and hears the signals to stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from genmed.engine.checkpoint import Checkpoint
from genmed.engine.loop import EpochReport
from genmed.engine.step import StepRecord
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.code import add_imports
from genmed.workflows.index import Index, checkpoint_rows
from genmed.workflows.reporting import Reporter
from genmed.workflows.tensorboard import EventFile

HEARTBEAT_SECONDS = 30
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignal:
    """The first signal asks to stop when the state is safe; a second SIGINT breaks off at once."""

    name: str | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While this lasts signals are noted instead of ending the process."""
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def note(number: int, frame: FrameType | None) -> None:
            if self.name is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.name = signal.Signals(number).name

        for number in SIGNALS:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Recorder:
    """The engine's observer for a run with a folder."""

    def __init__(
        self,
        folder: RunFolder,
        document: RunDocument,
        index: Index,
        reporter: Reporter,
        stop: StopSignal,
        events: EventFile | None = None,
    ) -> None:
        self._folder, self._document, self._events = folder, document, events
        self._index, self._reporter, self._stop = index, reporter, stop
        self._beaten = time.monotonic()
        self._modules = 0
        self._one_at_a_time = threading.Lock()
        """Checkpoints are told of from beside the training; run.json is read, changed and written."""

    def note_imports(self, *, at_end: bool = False) -> None:
        """Enter what was imported since into the record of code and packages; nothing is read where nothing was."""
        if len(sys.modules) != self._modules or at_end:
            for name in add_imports(self._folder, at_end=at_end):
                self._folder.log(f"Imported after the start: {name}")
            self._modules = len(sys.modules)

    def on_step(self, record: StepRecord, images: int) -> None:
        self.note_imports()
        self._reporter.step(record.step, record.epoch, record.mean_loss)
        if self._events:
            self._events.write(record.step, {"train/loss": record.mean_loss, "train/lr": record.lr})

    def on_epoch(self, report: EpochReport) -> None:
        memory = peak_memory_mib()
        row = {"epoch": report.epoch, "step": report.step, **report.metrics}
        row |= {"images_per_second": report.images_per_second, "peak_memory_mib": memory}
        earlier = [line for line in self._folder.read_metrics() if (line["epoch"] or 0) < report.epoch]
        self._folder.write_metrics([*earlier, row])
        self._folder.log(describe_epoch(report, self._document.epochs_total))
        done: dict[str, int] = {"epochs_done": report.epoch, "steps_done": report.step}
        best = {"best_epoch": report.epoch} if report.is_best else {}
        with self._one_at_a_time:
            self._folder.update(**done, **best)
        self._index.attempt(
            lambda registry: registry.record_epoch(self._document.id, report.epoch, report.metrics, **done)
        )
        self._reporter.epoch(report, self._document.epochs_total)
        if self._events:
            found = {name: value for name, value in report.metrics.items() if name.startswith("val_")}
            self._events.write(report.step, {name.replace("_", "/", 1): value for name, value in found.items()})

    def on_checkpoint(self, kept: Sequence[Checkpoint], best_epoch: int) -> None:
        with self._one_at_a_time:
            self._folder.update(checkpoint_step=kept[-1].step)
        rows = checkpoint_rows(self._document.id, kept, best_epoch)
        self._index.attempt(lambda registry: registry.record_checkpoints(self._document.id, rows))

    def stop_asked(self) -> str | None:
        """Asked at each step and each batch of an evaluation: so it is also the place for a sign of life."""
        if time.monotonic() - self._beaten > HEARTBEAT_SECONDS:
            self._beaten = time.monotonic()
            self._index.attempt(lambda registry: registry.beat(self._document.id), lasting=False)
        return self._stop.name


def describe_epoch(report: EpochReport, epochs: int) -> str:
    """One line for people: what an epoch came to."""
    parts = [f"Epoch {report.epoch}/{epochs}"]
    named = ("train_loss", "train loss"), ("val_loss", "val loss"), ("val_auroc_macro", "val AUROC")
    parts += [f"{words} {value:.4f}" for name, words in named if (value := report.metrics.get(name)) is not None]
    parts.append(f"{report.images_per_second:.0f} images/s")
    return ", ".join(parts) + (" (best)" if report.is_best else "")


def peak_memory_mib() -> float:
    """Of this process, in MiB: the most it ever held."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
