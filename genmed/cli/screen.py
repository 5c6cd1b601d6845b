"""A workflow's reporter for a person: one progress bar on a terminal, one plain line an epoch off it; on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from genmed.cli.output import print_line
from genmed.ground.team import speaks
from genmed.workflows.recording import describe_epoch
from genmed.workflows.reporting import Reporter, Silent

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from genmed.engine.loop import EpochReport


@contextmanager
def open_screen() -> Iterator[Reporter]:
    """The reporter that suits where stderr goes; leaves the terminal clean. Of a team but one speaks."""
    if not speaks():
        yield Silent()
        return
    screen = Bar() if sys.stderr.isatty() else Plain()
    try:
        yield screen
    finally:
        screen.end_steps()


class Plain:
    """Lines: for logs, pipes and batch systems."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def message(self, text: str) -> None:
        print_line(text)

    def progress(self, what: str, done: int, total: int) -> None:
        tenth = 10 * done // total
        if total >= 10_000 and tenth > self._told.get(what, 0):
            self._told[what] = tenth
            print_line(f"{what}: {done} of {total}")

    def begin_steps(self, done: int, total: int, images_a_step: int, what: str = "training") -> None: ...

    def step(self, step: int, epoch: int, loss: float) -> None: ...

    def epoch(self, report: EpochReport, epochs: int) -> None:
        print_line(describe_epoch(report, epochs))

    def end_steps(self) -> None: ...


class Bar:
    """One bar at a time: what is done, images/s, loss, time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._images = 1
        self._waiting = self._console.status("loading PyTorch")  # some seconds in which there is nothing to say
        self._waiting.start()

    def message(self, text: str) -> None:
        self._waiting.stop()
        self._console.print(text, markup=False)

    def progress(self, what: str, done: int, total: int) -> None:
        if self._bar is None or self._what != what:
            self.end_steps()
            self._open(what, total, with_speed=False)
        assert self._bar is not None
        assert self._task is not None
        self._bar.update(self._task, completed=done)
        if done >= total:
            self.end_steps()

    def begin_steps(self, done: int, total: int, images_a_step: int, what: str = "training") -> None:
        self.end_steps()
        self._images = images_a_step
        self._open(what, total, with_speed=True)
        assert self._bar is not None
        assert self._task is not None
        self._bar.update(self._task, completed=done)

    def step(self, step: int, epoch: int, loss: float) -> None:
        if self._bar is not None and self._task is not None:
            task = self._bar.tasks[0]
            speed = f"{task.speed * self._images:.0f} images/s" if task.speed else ""
            self._bar.update(
                self._task,
                completed=step,
                description=f"{self._what}, epoch {epoch}",
                speed=speed,
                loss=f"loss {loss:.4f}",
            )

    def epoch(self, report: EpochReport, epochs: int) -> None:
        self.message(describe_epoch(report, epochs))

    def end_steps(self) -> None:
        self._waiting.stop()
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def _open(self, what: str, total: int, with_speed: bool) -> None:
        self._waiting.stop()
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        if with_speed:
            columns += [TextColumn("{task.fields[speed]}"), TextColumn("{task.fields[loss]}")]
        self._bar = Progress(*columns, TimeRemainingColumn(compact=True), console=self._console, transient=True)
        self._what = what
        self._task = self._bar.add_task(what, total=total, speed="", loss="")
        self._bar.start()
