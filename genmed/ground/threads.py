"""A thread beside the training, for long work of the C library's that holds no lock of Python's."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")

NICENESS = 10
"""A tenth of a core is left to it where others would take all of it; where a core is idle, that is its own."""


def run_aside(work: Callable[[], Result]) -> Future[Result]:
    """Begins the work in a thread that gives way to all others, where the system (Linux) knows priorities of threads.

    Not for Python code: while it waits for its turn it would hold the interpreter's lock against all others.
    """
    future: Future[Result] = Future()

    def run() -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            future.set_result(work())
        except BaseException as error:  # told where it can be heard
            future.set_exception(error)

    threading.Thread(target=run, name="genmed-aside", daemon=True).start()
    return future
