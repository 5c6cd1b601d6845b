"""The runs that a root knows of: opening the registry, finding the run that is meant. Quick to import."""

from __future__ import annotations

from pathlib import Path

from genmed.ground.errors import ConfigError, RecordError, RunNotFoundError, StorageError
from genmed.records.registry import DamageError, Registry, RunSummary, open_registry
from genmed.records.run_folder import RunFolder, list_run_folders
from genmed.workflows.claim import find_last_sign, lives


def open_for_writing(root: Path) -> Registry:
    """Raises StorageError."""
    registry = open_registry(root, create=True)
    assert registry is not None
    return registry


def open_true(root: Path) -> Registry | None:
    """The registry, after adding runs whose folders it does not know, and the ends that it was not told of; None where
    there is neither.

    A power cut may take its last rows, all of it may be gone, a server may have been away when a training ended or was
    killed. A run that is being born is left to its own process.
    """
    registry = open_registry(root, create=False)
    known = {run.name for run in registry.names()} if registry else set()
    unknown = [folder for folder in list_run_folders(root, known) if _is_at_rest(folder)]
    behind = [RunFolder(root / row.path) for row in _list_running(registry) if _is_behind(row, root)]
    for folder in [*unknown, *behind]:
        from genmed.workflows.index import record_of  # which reads states: NumPy and the config's sections

        try:
            registry = registry or open_for_writing(root)
            registry.replace_run(record_of(folder))
        except (RecordError, ConfigError, StorageError):  # `genmed list --rebuild` tells of it
            continue
    return registry


def _list_running(registry: Registry | None) -> list[RunSummary]:
    try:
        return registry.running() if registry else []
    except DamageError:  # who reads the row tells of it
        return []


def _is_at_rest(folder: RunFolder) -> bool:
    """Whether its process is not about to tell the registry of it."""
    try:
        document = folder.read()
        return document.status != "running" or not lives(document.process, find_last_sign(folder, None))
    except RecordError:
        return False


def _is_behind(row: RunSummary, root: Path) -> bool:
    """Whether the process of a run that says that it runs has come further, and is dead."""
    folder = RunFolder(root / row.path)
    try:
        document = folder.read()
        come_further = (document.status, document.epochs_done) != (row.status, row.epochs_done)
        return come_further and not lives(document.process, find_last_sign(folder, row.heartbeat))
    except RecordError:  # its folder is gone, or below another root
        return False


def find_run(reference: str, root: Path) -> RunFolder:
    """The folder of the run that goes by this name, id, prefix, `latest` or `latest~N`. Raises RunNotFoundError."""
    registry = open_true(root)
    if registry is None:
        raise RunNotFoundError(f"no run {reference!r}: there are no runs below {root}", "name their root with --root")
    row = registry.find(reference)
    folder = RunFolder(root / row.path)
    if not folder.path.is_dir():
        if registry.on_server:
            hint = f"its host was {row.host}: name the root that it lies below with --root, or reach it from here"
            raise RunNotFoundError(f"the folder of {folder.name} is not here: {folder.path}", hint)
        raise RunNotFoundError(
            f"the folder of {folder.name} is gone: {folder.path}", "`genmed list --rebuild` makes the list true"
        )
    return folder
