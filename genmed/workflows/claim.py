"""Which process works on a run: one at a time, told by the process itself, not by a file that outlives it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from genmed.ground.errors import GenmedError, RecordError, RequestError
from genmed.ground.files import storage_errors
from genmed.records.environment import host_name, is_alive
from genmed.records.registry import RunSummary, open_registry
from genmed.records.run_folder import RunDocument, RunFolder, now, this_process

SILENT_FOR = timedelta(minutes=5)
"""After which a process that cannot be asked, on another host, is taken for dead."""


def lives(process: dict[str, Any], last_heard: datetime | None) -> bool:
    """Whether the process works; one that cannot be asked, of another host, is judged by when it was last heard of."""
    alive = is_alive(process)
    return alive if alive is not None else last_heard is not None and now() - last_heard < SILENT_FOR


def find_last_sign(folder: RunFolder, heartbeat: datetime | None) -> datetime | None:
    """When the run's process last wrote anything: into the registry, the trace or run.json."""
    signs = [heartbeat] if heartbeat else []
    for path in (folder.trace_path, folder.document_path):
        if path.is_file():
            signs.append(datetime.fromtimestamp(path.stat().st_mtime).astimezone())
    return max(signs, default=None)


def runs_elsewhere(row: RunSummary) -> bool:
    """Whether a run whose folder is not here works on another host, as far as the registry knows."""
    silent = row.heartbeat is None or now() - row.heartbeat >= SILENT_FOR
    return row.status == "running" and row.host not in (None, host_name()) and not silent


def refuse_running(folder: RunFolder, document: RunDocument, root: Path) -> None:
    """Raises RequestError, naming the process, where one works on the run."""
    process = document.process
    if document.status != "running" or not lives(process, find_last_sign(folder, _read_heartbeat(document, root))):
        return
    if is_alive(process):
        raise RequestError(f"{document.name} is running now, as process {process['pid']}", "wait for its end")
    raise RequestError(
        f"{document.name} is running now, as process {process['pid']} of {process['host']}",
        f"wait for its end; if it is dead, it is taken for that {SILENT_FOR.seconds // 60} minutes after its last sign",
    )


def _read_heartbeat(document: RunDocument, root: Path) -> datetime | None:
    try:
        registry = open_registry(root, create=False)
        return registry.run(document.id).heartbeat if registry else None
    except GenmedError:  # what the registry lost, the folder has
        return None


@contextmanager
def claimed(folder: RunFolder, root: Path) -> Iterator[RunDocument]:
    """Makes this process the one that works on the run, unless it is complete; gives the document as it was before.

    Of two that claim at once the second is refused. Where what is done within fails, the document is put back: nothing
    was begun. Raises RequestError, also where another host has taken the run meanwhile; RecordError.
    """
    with alone_with(folder):
        before = folder.read()
        refuse_running(folder, before, root)
        ours = {"status": "running", "started": now(), "process": this_process()}
        if before.status != "completed":
            folder.write(before.model_copy(update=ours))
    try:
        yield before
    except BaseException:
        with alone_with(folder):
            if folder.read().process == ours["process"]:
                folder.write(before)
        raise
    if before.status != "completed" and (found := folder.read()).process != ours["process"]:
        raise RequestError(f"{folder.name} was taken by process {found.process['pid']} of {found.process['host']}")


@contextmanager
def alone_with(folder: RunFolder) -> Iterator[None]:
    """A lock for as long as it takes to read and write run.json; the system frees it when the process dies.

    On config.yaml, the one file that is neither replaced nor opened meanwhile: closing any other handle of the process
    on the same file would free it.
    """
    if not folder.config_path.is_file():
        raise RecordError(f"{folder.config_path} is missing")
    with storage_errors(folder.config_path), open(folder.config_path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
