"""Which runs below a root are a study's: told by their fingerprints, whoever started them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from genmed.ground.errors import RecordError, StorageError
from genmed.ground.fingerprints import digest_file, digest_json
from genmed.records.config import Config
from genmed.records.environment.code import is_of_user
from genmed.records.run_folder import RUNS, RunDocument, RunFolder, list_run_folders
from genmed.records.study_folder import StudyCell, StudyDocument
from genmed.workflows.claim import alone_with, find_last_sign, lives
from genmed.workflows.code import find_code, read_code
from genmed.workflows.index import Tell, write_now
from genmed.workflows.known import open_true

RunStatus = Literal["pending", "running", "completed", "interrupted", "failed"]
Place = tuple[int, int]
"""(number of the cell, seed)"""
FIRST = ("completed", "running", "interrupted", "failed")
"""Of several runs of one place, which one counts."""


@dataclass(frozen=True)
class Found:
    """How it stands with one cell and seed."""

    status: RunStatus
    folder: RunFolder | None = None
    document: RunDocument | None = None
    failure: str | None = None
    """Why it could not even begin, which is not on record."""

    @property
    def error(self) -> str | None:
        return self.failure or (self.document.error if self.document and self.status == "failed" else None)


PENDING = Found("pending")


def find_runs(root: Path, study: StudyDocument) -> dict[Place, Found]:
    """All places of the study, seed by seed. Raises StorageError."""
    return _place(study, _list_known(root))


def _list_known(root: Path) -> list[tuple[RunFolder, str | None, datetime | None]]:
    """Folder, fingerprint of the config and last heartbeat of each run, the oldest first. Raises StorageError."""
    registry = open_true(root)
    rows = registry.runs() if registry else []
    return [(RunFolder(root / row.path), row.config_fingerprint, row.heartbeat) for row in reversed(rows)]


def find_imported(root: Path, config: Config, seeds: Iterable[int], named: Collection[str]) -> dict[str, str]:
    """What runs of the config have imported besides the named files, as it is now: name -> digest."""
    wanted = {config.replace(seed=seed).fingerprint for seed in seeds}
    found: dict[str, str] = {}
    for folder, fingerprint, _ in _list_known(root):
        with suppress(RecordError):  # a broken run is no matter of the study
            if fingerprint in wanted and (recorded := read_code(folder)).paths is not None:
                here = find_code(folder, config).files
                names = [name for name in recorded.all_files if is_of_user(name) and name not in named]
                found |= {name: here.get(name, "gone") for name in names}
    return dict(sorted(found.items()))


def find_runs_now(root: Path, study: StudyDocument, tell: Tell) -> dict[Place, Found]:
    """As `find_runs`, for a study under way, which goes on where the registry is away: from the folders alone."""
    try:
        return find_runs(root, study)
    except StorageError as error:
        tell(f"{error.message}; going on, by the folders in {RUNS}/")
    documents = []
    for folder in list_run_folders(root):
        with suppress(RecordError):
            documents.append((folder.read(), folder))
    documents.sort(key=lambda pair: pair[0].created)
    shown = [(folder, document.config_fingerprint, None) for document, folder in documents if not document.hidden]
    return _place(study, shown)


def _place(
    study: StudyDocument, oldest_first: Iterable[tuple[RunFolder, str | None, datetime | None]]
) -> dict[Place, Found]:
    """oldest_first: folder, fingerprint of the config and last heartbeat of each run."""
    wanted = {
        cell.config(seed).fingerprint: (number, seed) for seed in study.seeds for number, cell in enumerate(study.cells)
    }
    found: dict[Place, Found] = dict.fromkeys(wanted.values(), PENDING)
    for folder, fingerprint, heartbeat in oldest_first:
        place = wanted.get(fingerprint or "")
        candidate = place and _judge(folder, heartbeat, study.cells[place[0]])
        if place and candidate and _rank(candidate) > _rank(found[place]):
            found[place] = candidate
    return found


def _rank(found: Found) -> tuple[int, int]:
    if found.status == "pending" or found.document is None:
        return -len(FIRST), 0
    return -FIRST.index(found.status), found.document.steps_done


def _judge(folder: RunFolder, heartbeat: datetime | None, cell: StudyCell) -> Found | None:
    """None where it is not this cell's: of other data, code or weights, changed on its way, or damaged."""
    try:
        document = folder.read()
        if not _is_of(folder, document, cell):
            return None
        if document.status == "completed":
            return Found("completed", folder, document) if _is_whole(folder, document) else None
    except (RecordError, OSError):  # a broken run is no matter of the study: it is trained again
        return None
    if document.status == "running":
        alive = lives(document.process, find_last_sign(folder, heartbeat))
        return Found("running" if alive else "interrupted", folder, document)
    return Found(document.status, folder, document)


def _is_of(folder: RunFolder, document: RunDocument, cell: StudyCell) -> bool:
    unchanged = not document.accepted and document.start is None
    weights = (document.weights or {}).get("digest")
    return (
        unchanged
        and document.data_fingerprint == cell.data_fingerprint
        and _has_code_of(folder, document, cell)
        and (cell.weights_digest is None or weights == cell.weights_digest)
    )


def _has_code_of(folder: RunFolder, document: RunDocument, cell: StudyCell) -> bool:
    if document.code_digest == cell.code_digest and not cell.imported:
        return True
    recorded = read_code(folder)
    named = {name: digest for name, digest in recorded.files.items() if not is_of_user(name) or name in cell.code_files}
    unchanged = all(recorded.all_files.get(name, digest) == digest for name, digest in cell.imported.items())
    return unchanged and recorded.digest == document.code_digest and digest_json(named) == cell.code_digest


def _is_whole(folder: RunFolder, document: RunDocument) -> bool:
    """As far as results are made of it."""
    name = folder.predictions_path.name
    return folder.predictions_path.is_file() and digest_file(folder.predictions_path) == document.files.get(name)


def tag_run(folder: RunFolder, root: Path, tag: str, tell: Tell) -> None:
    """So that `genmed list` shows that a run made before is part of the study."""
    with alone_with(folder):
        document = folder.read()
        if tag in document.tags:
            return
        tags = (*document.tags, tag)
        folder.update(tags=tags)
    write_now(root, tell, lambda registry: registry.update_run(document.id, tags=list(tags)))
