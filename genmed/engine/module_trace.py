"""modules.jsonl: a digest of what each module computed in each step, so that a divergence can be put to a module.

An aid beside the trace: nothing is compared by it until the trace has found a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from genmed.engine.learner import Learner
from genmed.ground.errors import RecordError
from genmed.ground.files import storage_errors, write_bytes
from genmed.ground.sealed import open_line, seal_line

if TYPE_CHECKING:
    from genmed.engine.operations import ModuleRecord


class ModuleTrace:
    """Writes the file, a line a step."""

    def __init__(self, path: Path, step: int) -> None:
        """Goes on after `step`: what the file holds of later steps is cut off, and what is torn or damaged."""
        self._path = path
        kept = b"".join(line for line, found in _read_lines(path) if found <= step)
        write_bytes(path, kept)
        self._file = open(path, "ab")  # noqa: SIM115  closed by close()

    @contextmanager
    def watch(self, learner: Learner, step: int) -> Iterator[None]:
        """Around the step's computation."""
        from genmed.engine.operations import OperationLog, group_by_module

        log = OperationLog(learner.model, learner.optimizer)
        with log.watching():
            yield
        records = [[entry.phase, entry.module, entry.digest] for entry in group_by_module(log.operations)]
        with storage_errors(self._path):
            self._file.write(seal_line({"step": step, "modules": records}).encode())
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_modules(path: Path, step: int) -> Sequence[ModuleRecord] | None:
    """What was recorded of the step; None where nothing whole was."""
    from genmed.engine.operations import ModuleRecord

    for line, found in _read_lines(path):
        if found == step:
            return [ModuleRecord(*entry) for entry in open_line(line, str(path))["modules"]]
    return None


def _read_lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """(line, step) of each whole line."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                yield line, int(open_line(line, str(path))["step"])
            except RecordError:
                return
