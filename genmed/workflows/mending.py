"""What a run's damaged files can be made anew from: its checkpoints' copies, the data, the registry."""

from __future__ import annotations

from pathlib import Path

from genmed.engine.checkpoint import check_checkpoint, list_checkpoints
from genmed.ground.errors import GenmedError, RecordError
from genmed.ground.files import write_bytes
from genmed.ground.sealed import read_sealed
from genmed.records.registry import open_registry
from genmed.records.run_folder import AcceptedChange, RunDocument, RunFolder
from genmed.workflows.assemble import Session, write_data
from genmed.workflows.claim import alone_with
from genmed.workflows.code import find_code, read_code, write_copies, write_environment
from genmed.workflows.identity import read_images
from genmed.workflows.integrity import find_code_damage
from genmed.workflows.reporting import Reporter


def mend_document(folder: RunFolder, root: Path) -> list[str]:
    """Puts a damaged run.json or environment.json back from the newest whole checkpoint; says what was done.

    Where no copy is left the file stays as it is, for the next reader to refuse.
    """
    if not folder.config_path.is_file():
        return []
    told = []
    for path in (folder.document_path, folder.environment_path):
        if _is_damaged(path) and (copy := _find_copy(folder, path.name)):
            with alone_with(folder):
                if problem := _is_damaged(path):  # not mended meanwhile, by one that works on the run now
                    if path == folder.document_path:
                        folder.write(_with_marks(RunFolder(copy.parent).read(), root))
                    else:
                        write_bytes(path, copy.read_bytes())
                    told.append(f"{problem}; it is taken from {copy}")
    return told


def mend_data_record(folder: RunFolder, document: RunDocument, session: Session, reporter: Reporter) -> None:
    """Writes data.json and its table anew where they are damaged and the data are those of the run."""
    if session.data.fingerprint != document.data_fingerprint:
        return
    try:
        read_images(folder)
        problem = ""
        if read_sealed(folder.data_path)["fingerprint"] != document.data_fingerprint:
            problem = f"{folder.data_path} is of other data"  # an acceptance was broken off
    except RecordError as error:
        problem = error.message
    if problem:
        write_data(folder, session)
        reporter.message(f"{problem}; the data are those of the run, so it is written anew")


def mend_code_record(folder: RunFolder, session: Session, reporter: Reporter) -> None:
    """Writes the copies of the user's files anew where they are damaged; the code here is that of the run by now.

    environment.json may be behind them: an acceptance was broken off, or it was taken from an older checkpoint.
    """
    recorded = read_sealed(folder.environment_path)
    code = find_code(folder, session.task.config, session.code)
    later = (read_code(folder).later.keys() & code.files.keys()) - session.code.files.keys()
    if recorded["code"]["digest"] != session.code.digest and "code" in recorded["where"]:
        write_environment(folder, recorded, code, later)
    if damage := find_code_damage(folder):
        write_copies(folder, code, [name for name in read_code(folder).copied if name in code.paths])
        reporter.message(f"{'; '.join(damage)}; the code is that of the run, so it is written anew")


def _is_damaged(path: Path) -> str:
    """How; empty for not."""
    try:
        read_sealed(path)
    except RecordError as error:
        return error.message
    return ""


def _find_copy(folder: RunFolder, name: str) -> Path | None:
    checkpoints = reversed(list_checkpoints(folder.checkpoints_path))
    return next((path / name for path in checkpoints if (path / name).is_file() and not check_checkpoint(path)), None)


def _with_marks(document: RunDocument, root: Path) -> RunDocument:
    """What was accepted, and what a person said of the run, after the checkpoint stands in the registry."""
    try:
        registry = open_registry(root, create=False)
        row = registry.run(document.id) if registry else None
    except GenmedError:  # the registry is damaged too
        row = None
    if row is None:
        return document
    marks = tuple(AcceptedChange.model_validate(entry) for entry in row.accepted)
    said = {"tags": tuple(row.tags), "note": row.note, "hidden": row.hidden}
    more = {"accepted": marks} if len(marks) > len(document.accepted) else {}
    return document.model_copy(update={**said, **more})
