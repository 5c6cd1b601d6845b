"""study: trains what is not done, several at a time if asked, and says how it stands."""

from __future__ import annotations

import queue
import shlex
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from genmed.ground.errors import Interrupted
from genmed.records.study_folder import StudyDocument, StudyFolder
from genmed.workflows.recording import StopSignal
from genmed.workflows.studies.found import Found, Place, RunStatus, find_runs, find_runs_now, tag_run
from genmed.workflows.studies.trainings import Order, Training

ASKED_EACH_SECONDS = 0.2
WAIT_SECONDS = 2.0
"""Between two looks at a run on which a process of somebody else works."""


@dataclass
class View:
    """How it stands with one cell and seed, for whoever watches."""

    cell: str
    seed: int
    status: RunStatus
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    val_auroc: float | None = None
    result: float | None = None
    """The study's metric on the test."""
    error: str | None = None
    begun: float | None = None
    """By the monotonic clock, when its steps began here, after `begun_at` steps."""
    begun_at: int = 0
    seconds: float | None = None
    """How long its process took."""

    @property
    def seconds_left(self) -> float | None:
        done = self.step - self.begun_at
        if self.begun is None or done <= 0:
            return None
        return (time.monotonic() - self.begun) / done * (self.steps - self.step)


class Watcher(Protocol):
    """Is shown how a study goes on."""

    def begin(self, views: Sequence[View]) -> None:
        """All of them, in the order in which they are trained."""

    def changed(self, view: View, what: str, told: str = "") -> None:
        """what: begun, resumed, step, epoch or ended; told: a line for people."""

    def message(self, text: str) -> None:
        """One line."""


def conduct(
    folder: StudyFolder, study: StudyDocument, root: Path, watcher: Watcher, *, jobs: int, retry_failed: bool
) -> dict[Place, str]:
    """Trains all that is not complete; the caller holds the study. A run that fails does not keep others from theirs.

    Returns what failed here, and why. retry_failed: also what failed before, from its last state. Raises Interrupted
    where a signal asked to stop, after all states are safe.
    """
    found = find_runs(root, study)
    for entry in found.values():
        if entry.status == "completed" and entry.folder:
            tag_run(entry.folder, root, study.tag, watcher.message)
    stop = StopSignal()
    work = _Work(study, root, watcher, found, retry_failed)
    with stop.heard():
        watcher.begin(list(work.views.values()))
        for view in work.views.values():
            if view.status == "running":
                watcher.message(f"{view.cell} seed {view.seed} is under way in another process, which is waited for")
        try:
            work.run(jobs, stop)
        except KeyboardInterrupt:  # a second Ctrl-C
            hint = f"go on from the last checkpoints with: {go_on_command(folder, root, jobs)}"
            raise Interrupted("broken off", hint) from None
    if stop.name:
        done = sum(view.status == "completed" for view in work.views.values())
        raise Interrupted(
            f"{stop.name} after {done} of {len(work.views)} runs",
            f"all states are safe; go on with: {go_on_command(folder, root, jobs)}",
        )
    failed = {place: view.error for place, view in work.views.items() if view.status == "failed"}
    return {place: error for place, error in failed.items() if error is not None}


def go_on_command(folder: StudyFolder, root: Path, jobs: int) -> str:
    """The exact command, with --root where the study does not lie below the current folder."""
    words = ["genmed", "study", "resume", folder.name]
    words += ["--jobs", str(jobs)] if jobs > 1 else []
    words += ["--root", str(root)] if root.resolve() != Path.cwd().resolve() else []
    return shlex.join(words)


class _Work:
    """The queue of what is to be trained, and what is under way."""

    def __init__(
        self, study: StudyDocument, root: Path, watcher: Watcher, found: dict[Place, Found], retry_failed: bool
    ) -> None:
        self._study, self._root, self._watcher, self._found = study, root, watcher, found
        self.views = {place: _view(study, place, entry) for place, entry in found.items()}
        due = {"pending", "running", "interrupted", *(["failed"] if retry_failed else [])}
        self._waiting = deque(place for place, entry in found.items() if entry.status in due)
        self._under_way: dict[Training, Place] = {}
        self._heard: queue.SimpleQueue[tuple[Training, dict[str, Any]]] = queue.SimpleQueue()
        self._looked = time.monotonic()

    def run(self, jobs: int, stop: StopSignal) -> None:
        asked = False
        try:
            while self._under_way or (self._waiting and not stop.name):
                if stop.name and not asked:
                    asked = True
                    for training in self._under_way:
                        training.stop()
                if not stop.name:
                    self._start(jobs)
                self._listen()
        finally:
            for training in self._under_way:  # only where a second Ctrl-C broke off
                training.kill()

    def _start(self, jobs: int) -> None:
        """As many as may be; those on which another process works are left until it ends."""
        elsewhere = []
        while self._waiting and len(self._under_way) < jobs:
            place = self._waiting.popleft()
            if self._found[place].status == "running":
                elsewhere.append(place)
            else:
                self._begin(place, beside=jobs > 1)
        self._waiting.extend(elsewhere)
        if elsewhere and time.monotonic() - self._looked > WAIT_SECONDS:
            self._look_again(elsewhere)

    def _look_again(self, places: Sequence[Place]) -> None:
        self._looked = time.monotonic()
        found = find_runs_now(self._root, self._study, self._watcher.message)
        for place in places:
            self._found[place] = found[place]
            self.views[place].status = found[place].status
            if found[place].status in ("completed", "failed"):
                self._waiting.remove(place)
                self._finish(place, found[place])

    def _begin(self, place: Place, *, beside: bool) -> None:
        number, seed = place
        cell, entry, view = self._study.cells[number], self._found[place], self.views[place]
        config = cell.config(seed)
        tags = tuple(dict.fromkeys((*config.run.tags, self._study.tag)))
        config = config.replace(**{"run.tags": list(tags)})
        name = entry.folder.name if entry.folder else None
        if entry.folder:
            tag_run(entry.folder, self._root, self._study.tag, self._watcher.message)
        training = Training(Order(self._root, config, dict(cell.origins), name), self._heard, beside=beside)
        self._under_way[training] = place
        view.status, view.error, view.seconds = "running", None, -time.monotonic()
        self._watcher.changed(view, "resumed" if name else "begun", f"resuming {name}" if name else "begun")

    def _listen(self) -> None:
        try:
            training, event = self._heard.get(timeout=ASKED_EACH_SECONDS)
        except queue.Empty:
            return
        place = self._under_way[training]
        view = self.views[place]
        if event["event"] == "ended":
            del self._under_way[training]
            self._end(place, event)
            return
        if event["event"] == "begun":
            view.begun, view.begun_at = time.monotonic(), event["step"]
        for name in event.keys() & {"epoch", "epochs", "step", "steps", "val_auroc"}:
            setattr(view, name, event[name])
        self._watcher.changed(view, event["event"], event.get("line", ""))

    def _end(self, place: Place, event: dict[str, Any]) -> None:
        view = self.views[place]
        view.seconds = (view.seconds or 0) + time.monotonic()
        found = find_runs_now(self._root, self._study, self._watcher.message)[place]
        if found.status == "completed":
            self._finish(place, found)
            return
        if event["status"] == "completed":
            event = {"status": "failed", "error": "code or data changed while it was trained: the run does not count"}
        view.status, view.error = event["status"], event["error"]
        self._watcher.changed(view, "ended", event["error"])

    def _finish(self, place: Place, found: Found) -> None:
        view = self.views[place]
        fresh = _view(self._study, place, found)
        view.status, view.result, view.epoch, view.error = fresh.status, fresh.result, fresh.epoch, fresh.error
        self._watcher.changed(view, "ended")


def _view(study: StudyDocument, place: Place, found: Found) -> View:
    cell = study.cells[place[0]]
    view = View(cell.name, place[1], found.status, epochs=cell.values["training.epochs"], error=found.error)
    if found.document:
        view.epoch, view.epochs = found.document.epochs_done, found.document.epochs_total
        view.val_auroc = found.document.metrics.get("val_auroc_macro")
        view.result = found.document.metrics.get(f"test_{study.metric}")
    return view
