"""What a run's damaged files can be made anew from: its checkpoints' copies, the data, the registry."""

from __future__ import annotations

from pathlib import Path

from genmed.engine.checkpoint import check_checkpoint, list_checkpoints
from genmed.ground.errors import GenmedError, RecordError
from genmed.ground.files import write_bytes
from genmed.ground.sealed import read_sealed
from genmed.records.registry import open_registry
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.assemble import Session, write_data
from genmed.workflows.identity import read_images
from genmed.workflows.reporting import Reporter


def mend_document(folder: RunFolder, root: Path) -> list[str]:
    """Puts a damaged run.json or environment.json back from the newest whole checkpoint; says what was done.

    What was accepted after that checkpoint stands in the registry. Where no copy is left the file stays as it is, for
    the next reader to refuse.
    """
    told = []
    for path in (folder.document_path, folder.environment_path):
        try:
            read_sealed(path)
        except RecordError as error:
            copy = _find_copy(folder, path.name)
            if copy is not None:
                write_bytes(path, copy.read_bytes())
                told.append(f"{error.message}; it is taken from {copy}")
                if path == folder.document_path:
                    _keep_marks(folder, root)
    return told


def mend_data_record(folder: RunFolder, document: RunDocument, session: Session, reporter: Reporter) -> None:
    """Writes data.json and its table anew where they are damaged and the data are those of the run."""
    if session.data.fingerprint != document.data_fingerprint:
        return
    try:
        read_images(folder)
    except RecordError as error:
        write_data(folder, session)
        reporter.message(f"{error.message}; the data are those of the run, so it is written anew")


def _find_copy(folder: RunFolder, name: str) -> Path | None:
    checkpoints = reversed(list_checkpoints(folder.checkpoints_path))
    return next((path / name for path in checkpoints if (path / name).is_file() and not check_checkpoint(path)), None)


def _keep_marks(folder: RunFolder, root: Path) -> None:
    document = folder.read()
    try:
        registry = open_registry(root, create=False)
        accepted = registry.run(document.id).accepted if registry else []
    except GenmedError:  # the registry is damaged too
        return
    if len(accepted) > len(document.accepted):
        folder.update(accepted=accepted)
