"""Stretches of a run computed again beside each other, each process with the run's own number of threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Assignment:
    """What each of the processes needs to know."""

    folder: Path
    config: Config
    scratch: Path
    full: bool


_rerun: Rerun | None = None
"""Of this process, if it is one of the pool."""


def run_beside(assignment: Assignment, stretches: Sequence[Stretch], jobs: int, stop: StopSignal) -> Iterator[Found]:
    """What came of each, in the order in which they end. Raises Interrupted where a signal asked to stop."""
    method = "forkserver" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    executor = ProcessPoolExecutor(min(jobs, len(stretches)), context, _begin, (assignment, dict(os.environ)))
    try:
        pending: set[Future[Found]] = {executor.submit(_run, stretch) for stretch in stretches}
        while pending:
            done, pending = wait(pending, ASKED_EACH_SECONDS, FIRST_COMPLETED)
            if stop.name:
                raise Interrupted(str(stop.name))
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise RunError(
            "a process that verified a segment was killed", "with fewer --jobs it takes less memory"
        ) from None
    finally:
        for process in multiprocessing.active_children():  # a step may take minutes, and nobody waits for it
            process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)


def _begin(assignment: Assignment, environ: dict[str, str]) -> None:
    """In a new process: makes it ready to compute stretches."""
    global _rerun
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the first process sees to the others
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.update(environ)  # a server that was started before has its own

    from genmed.workflows.assemble import assemble

    folder = RunFolder(assignment.folder)
    session = assemble(assignment.config, Silent())  # the first process has read the files' bytes
    _rerun = Rerun(
        session,
        folder.read(),
        read_trace(folder.trace_path),
        list_kept(folder),
        Silent(),
        StopSignal(),
        assignment.scratch,
        assignment.full,
    )


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(stretch: Stretch) -> Found:
    assert _rerun is not None
    return _rerun.run(stretch)
