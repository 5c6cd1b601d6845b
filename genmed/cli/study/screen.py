"""A study under way: one table on a terminal, that is drawn anew as it goes on; plain lines off it; on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from genmed.cli.output import STYLES, print_line, show_number
from genmed.cli.screen import Bar, Plain

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from genmed.workflows.studies.conduct import View

AROUND = 6
"""Lines of a terminal that are not rows of the table."""


@contextmanager
def open_study_screen() -> Iterator[Lines | LiveTable]:
    """Both the reporter of what comes before, and the watcher of the trainings."""
    screen = LiveTable() if sys.stderr.isatty() else Lines()
    try:
        yield screen
    finally:
        screen.end()


class Lines(Plain):
    """For logs, pipes and batch systems."""

    def begin(self, views: Sequence[View]) -> None:
        self._views = views
        done = sum(view.status == "completed" for view in views)
        print_line(f"Study: {len(views)} runs, {done} of them done")
        for view in views:
            if view.status == "failed":
                print_line(f"{name_view(view)}: failed before: {view.error}")

    def changed(self, view: View, what: str, told: str = "") -> None:
        if what == "ended":
            done = sum(entry.status == "completed" for entry in self._views)
            print_line(f"{name_view(view)}: {describe_end(view)}, {done} of {len(self._views)} done")
        elif told:
            print_line(f"{name_view(view)}: {told}")

    def end(self) -> None:
        self.end_steps()


class LiveTable(Bar):
    """For people: a row a run; those under way if there is no room for all."""

    def __init__(self) -> None:
        super().__init__()
        self._live: Live | None = None
        self._views: Sequence[View] = ()

    def begin(self, views: Sequence[View]) -> None:
        from rich.live import Live

        self.end_steps()
        self._views = views
        self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=2)
        self._live.start()

    def changed(self, view: View, what: str, told: str = "") -> None:
        if what == "ended" and view.status == "failed":
            self.message(f"{name_view(view)}: {describe_end(view)}")

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self.end_steps()

    def _draw(self) -> Table:
        return draw_views(self._views, self._console.height - AROUND)


def draw_views(views: Sequence[View], room: int) -> Table:
    """A row a run, at most as many as there is room for: around the first that is not done."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    done = sum(view.status == "completed" for view in views)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption=_caption(views, done), caption_justify="left")
    for column in ("cell", "seed", "status", "epoch", "val AUROC", "result", "time left"):
        right = column not in ("cell", "status")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    first = next((at for at, view in enumerate(views) if view.status == "running"), 0)
    start = max(min(first - 2, len(views) - room), 0)
    for view in views[start : start + max(room, 1)]:
        left = view.seconds_left if view.status == "running" else None
        table.add_row(
            Text(view.cell),
            str(view.seed),
            Text(view.status, style=STYLES.get(view.status, "")),
            f"{view.epoch}/{view.epochs}" if view.epochs else str(view.epoch or ""),
            show_number(view.val_auroc),
            show_number(view.result),
            show_time(left) if left is not None else "",
        )
    return table


def name_view(view: View) -> str:
    return f"{view.cell} seed {view.seed}"


def describe_end(view: View) -> str:
    """`completed, 0.9123 on the test`, `failed: ...`."""
    if view.status == "completed":
        return "completed" + (f", {view.result:.4f} on the test" if view.result is not None else "")
    return f"{view.status}: {view.error}"


def show_time(seconds: float) -> str:
    """`1:02:03`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def _caption(views: Sequence[View], done: int) -> str:
    """How much is done, and how long the rest takes if it goes on as so far."""
    took = [view.seconds for view in views if view.status == "completed" and view.seconds]
    under_way = [view for view in views if view.status == "running"]
    due = sum(view.status in ("pending", "interrupted") for view in views)
    told = f"{done} of {len(views)} runs done"
    if not took or not under_way:
        return told
    typical = sum(took) / len(took)
    begun = [typical - (time.monotonic() + (view.seconds or 0)) for view in under_way]
    left = (due * typical + sum(max(rest, 0) for rest in begun)) / len(under_way)
    return f"{told}, some {show_time(left)} left"
