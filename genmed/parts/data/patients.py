"""Patients of images whose table names none: read from the path, by a regular expression of the user's."""

import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from genmed.ground.errors import DataError

SECONDS = 60.0


def find_patients(ids: Sequence[str], pattern: str) -> tuple[str, ...]:
    """What the pattern finds in each id, its first group if it has one.

    Raises DataError with the first id in which it finds nothing: patients that are half known make a wrong split.
    """
    expression = re.compile(pattern)
    with _at_most(SECONDS, pattern):
        found = [expression.search(name) for name in ids]
    without = [name for name, match in zip(ids, found, strict=True) if not match or not match[expression.groups and 1]]
    if without:
        raise DataError(
            f"data.patient_pattern {pattern!r} finds no patient in {len(without)} of {len(ids)} images ({without[0]})",
            "change the pattern, or leave it out and split by image",
        )
    return tuple(match[expression.groups and 1] for match in found if match)


@contextmanager
def _at_most(seconds: float, pattern: str) -> Iterator[None]:
    """A pattern may take for ever, and it may be a stranger's. Python's engine minds signals, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise DataError(
            f"data.patient_pattern {pattern!r} takes more than {seconds:g} s", "one repetition within another may"
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
