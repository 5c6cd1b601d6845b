"""Stretches of a run computed again beside each other, each process with the run's own number of threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

from genmed.engine.trace import read_trace
from genmed.ground.errors import Interrupted, RunError
from genmed.records.config import Config
from genmed.records.run_folder import RunFolder
from genmed.workflows.recording import StopSignal
from genmed.workflows.reporting import Silent
from genmed.workflows.verification.rerun import Found, Rerun
from genmed.workflows.verification.stretches import Stretch, list_kept

ASKED_EACH_SECONDS = 0.2
METHOD = "forkserver" if sys.platform == "linux" else "spawn"


@dataclass(frozen=True)
class Assignment:
    """What each of the processes needs to know."""

    folder: Path
    config: Config
    scratch: Path
    full: bool


_assignment: Assignment | None = None
_rerun: Rerun | None = None
"""Of this process, if it is one of the pool."""


def start_server() -> None:
    """Lets the process from which the others are forked import torch, while this one has other work."""
    if METHOD == "forkserver":
        multiprocessing.set_forkserver_preload([__name__])
        with _interrupt_blocked():
            forkserver.ensure_running()


def run_beside(assignment: Assignment, stretches: Sequence[Stretch], jobs: int, stop: StopSignal) -> Iterator[Found]:
    """What came of each, in the order in which they end.

    Unless wanted in full, those after one that differs are left, and those before it waited for, so that the first is
    found. Raises Interrupted where a signal asked to stop, RunError where a process was killed.
    """
    context = multiprocessing.get_context(METHOD)
    executor = ProcessPoolExecutor(min(jobs, len(stretches)), context, _begin, (assignment, dict(os.environ)))
    try:
        with _interrupt_blocked():  # the terminal sends it to all processes; this one sees to the others
            pending = {executor.submit(_run, stretch): stretch.number for stretch in stretches}
        while pending:
            done, _ = wait(pending, ASKED_EACH_SECONDS, FIRST_COMPLETED)
            if stop.name:
                raise Interrupted(str(stop.name))
            for future in done:
                number = pending.pop(future)
                yield (found := future.result())
                if not found.identical and not assignment.full:
                    pending = {other: before for other, before in pending.items() if before < number}
    except BrokenProcessPool:
        hint = "with fewer --jobs it takes less memory"
        raise RunError("a process that verified a segment was killed: no verdict", hint) from None
    finally:
        for process in multiprocessing.active_children():  # a step may take minutes, and nobody waits for it
            process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Processes that are started meanwhile are deaf to it for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(assignment: Assignment, environ: dict[str, str]) -> None:
    """In a new process."""
    global _assignment
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.update(environ)  # a server that was started before has its own
    _assignment = assignment


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(stretch: Stretch) -> Found:
    """In one of the processes; the first one makes it ready."""
    global _rerun
    assert _assignment is not None
    _rerun = _rerun or _prepare(_assignment)
    return _rerun.run(stretch)


def _prepare(assignment: Assignment) -> Rerun:
    from genmed.workflows.assemble import assemble

    folder = RunFolder(assignment.folder)
    return Rerun(
        assemble(assignment.config, Silent()),  # the first process has read the files' bytes
        folder.read(),
        read_trace(folder.trace_path),
        list_kept(folder),
        Silent(),
        StopSignal(),
        assignment.scratch,
        assignment.full,
    )
