"""rm --purge: removes a run, its row and its folder, so that however far a crash lets it come no half of it is left."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from genmed.ground.errors import RecordError, RequestError, RunNotFoundError
from genmed.ground.files import storage_errors, sweep_temporaries, sync_folder, temporary_beside
from genmed.records.registry import Registry
from genmed.records.run_folder import RUNS, RunFolder
from genmed.workflows.claim import alone_with, refuse_running, runs_elsewhere
from genmed.workflows.known import open_true


@dataclass(frozen=True)
class Doomed:
    """A run that is to be removed."""

    id: str
    name: str
    folder: RunFolder
    """It may be gone: a row alone is left then."""
    size: int
    """Of its files, in bytes."""
    children: Sequence[str]
    """Names of the runs that continue it; each has a copy of the state that it began with."""


def find_doomed(references: Sequence[str], root: Path) -> list[Doomed]:
    """Each run once. Raises RunNotFoundError, and RequestError where a process works on one; nothing is done yet."""
    registry = open_true(root)
    if registry is None:
        raise RunNotFoundError(f"no run {references[0]!r}: there are no runs below {root}", "name it with --root")
    rows = {row.id: row for row in map(registry.find, references)}
    known = registry.runs(include_hidden=True)
    doomed = []
    for row in rows.values():
        folder = RunFolder(root / row.path)
        _refuse_running(folder, root)
        if not folder.path.is_dir() and runs_elsewhere(row):
            raise RequestError(f"{row.name} is running now, as process {row.pid} of {row.host}", "wait for its end")
        children = [run.name for run in known if run.parent == row.id and run.id not in rows]
        doomed.append(Doomed(row.id, row.name, folder, _measure(folder.path), children))
    return doomed


def purge(doomed: Doomed, root: Path) -> None:
    """Row first, so that a crash leaves a whole run, which the next command takes in again; then the folder gives up
    its name at once, and what is left of it by a crash is swept when the next run is removed or born.

    Raises RequestError where a process works on the run by now; StorageError.
    """
    folder, registry = doomed.folder, open_true(root)
    assert registry is not None
    leaving = temporary_beside(folder.path)
    with alone_with(folder) if folder.config_path.is_file() else nullcontext():
        _refuse_running(folder, root)
        _drop_row(registry, doomed.id)
        if folder.path.is_dir():
            with storage_errors(folder.path):
                folder.path.rename(leaving)
                sync_folder(leaving.parent)
    _drop_row(registry, doomed.id)  # a list that was read between the two took it in again
    with storage_errors(folder.path):
        if leaving.is_dir():
            shutil.rmtree(leaving)
        if (root / RUNS).is_dir():
            sweep_temporaries(root / RUNS)


def _refuse_running(folder: RunFolder, root: Path) -> None:
    try:
        document = folder.read()
    except RecordError:  # no process works on a run whose document is gone or damaged: it writes that anew
        return
    refuse_running(folder, document, root)


def _drop_row(registry: Registry, run_id: str) -> None:
    try:
        registry.remove_run(run_id)
    except RunNotFoundError:
        return


def _measure(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*")) if folder.is_dir() else 0
