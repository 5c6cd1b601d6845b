"""The runs that a root knows of: opening the registry, finding the run that is meant. Quick to import."""

from __future__ import annotations

from pathlib import Path

from genmed.ground.errors import ConfigError, RecordError, RunNotFoundError, StorageError
from genmed.records.registry import Registry, open_registry
from genmed.records.run_folder import RunFolder, list_run_folders
from genmed.workflows.claim import find_last_sign, lives


def open_for_writing(root: Path) -> Registry:
    """Raises StorageError."""
    registry = open_registry(root, create=True)
    assert registry is not None
    return registry


def open_true(root: Path) -> Registry | None:
    """The registry, after adding runs whose folders it does not know; None where there is neither.

    A power cut may take its last rows, or all of it may be gone. A run that is being born is left to its own process.
    """
    registry = open_registry(root, create=False)
    known = {run.name for run in registry.names()} if registry else set()
    for folder in list_run_folders(root, known):
        from genmed.workflows.index import record_of  # which reads states: NumPy and the config's sections

        try:
            document = folder.read()
            if document.status != "running" or not lives(document.process, find_last_sign(folder, None)):
                registry = registry or open_for_writing(root)
                registry.replace_run(record_of(folder))
        except (RecordError, ConfigError, StorageError):  # `genmed list --rebuild` tells of it
            continue
    return registry


def find_run(reference: str, root: Path) -> RunFolder:
    """The folder of the run that goes by this name, id, prefix, `latest` or `latest~N`. Raises RunNotFoundError."""
    registry = open_true(root)
    if registry is None:
        raise RunNotFoundError(f"no run {reference!r}: there are no runs below {root}", "name their root with --root")
    folder = RunFolder(root / registry.find(reference).path)
    if not folder.path.is_dir():
        raise RunNotFoundError(
            f"the folder of {folder.name} is gone: {folder.path}", "`genmed list --rebuild` makes the list true"
        )
    return folder
