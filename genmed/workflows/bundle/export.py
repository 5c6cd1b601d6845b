"""export: packs a run into one file. Equal runs give equal bytes, and the run stays as it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmed import __version__
from genmed.engine.checkpoint import Checkpoint, describe_checkpoint, list_checkpoints
from genmed.ground.archive import CHUNK, Archive, ArchiveWriter
from genmed.ground.errors import RecordError, RequestError
from genmed.ground.files import storage_errors, sync_folder, temporary_beside
from genmed.ground.fingerprints import digest_bytes, digest_file
from genmed.ground.sealed import seal_document
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.bundle import layout
from genmed.workflows.bundle.record import check_record
from genmed.workflows.claim import refuse_running
from genmed.workflows.code import read_code
from genmed.workflows.integrity import find_damage
from genmed.workflows.places import check_place

CHECKPOINTS = ("all", "best", "last", "none")
Content = bytes | Path
"""Of a file to be packed: its bytes, or where they lie."""


@dataclass(frozen=True)
class Export:
    """What was written, as one would publish it."""

    file: Path
    size: int
    """In bytes."""
    files: int
    sha256: str
    run: str
    trace_digest: str | None
    checkpoints: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "run": self.run,
            "file": str(self.file),
            "bytes": self.size,
            "files": self.files,
            "sha256": self.sha256,
            "trace_digest": self.trace_digest,
            "checkpoints": list(self.checkpoints),
        }


def export_bundle(folder: RunFolder, root: Path, out: Path, checkpoints: str = "all") -> Export:
    """Writes the run as a bundle, whole or not at all, under a name that is free.

    checkpoints: one of CHECKPOINTS; those that a continued run began from are always there, for it is verified from
    them. Raises RecordError where the run is damaged, RequestError where it is running, StorageError.
    """
    document = folder.read()
    refuse_running(folder, document, root)
    check_place(out, "--out")
    if damage := find_damage(folder, document):
        raise RecordError(f"{document.name} is damaged: {'; '.join(damage)}", "mend it first: genmed resume")
    check_record(folder, document)  # what would be refused elsewhere is refused here
    chosen = _choose(folder, document, checkpoints)
    contents = _collect(folder, document, chosen)
    described = {name: _describe(name, content) for name, content in sorted(contents.items())}
    bundle = {"schema": layout.SCHEMA, "run": document.name, "genmed": __version__, "files": described}
    packed = {layout.BUNDLE: seal_document(bundle).encode(), **dict(sorted(contents.items()))}
    if len(packed) > layout.MOST_FILES:
        raise RecordError(f"{document.name} has {len(packed)} files, more than the {layout.MOST_FILES} of a bundle")
    sha256 = _write(out, packed, described)
    names = tuple(checkpoint.path for checkpoint in chosen)
    return Export(out, out.stat().st_size, len(packed), sha256, document.name, digest_file(folder.trace_path), names)


def _choose(folder: RunFolder, document: RunDocument, wanted: str) -> list[Checkpoint]:
    kept = [describe_checkpoint(path) for path in list_checkpoints(folder.checkpoints_path)]
    chosen = {
        "all": kept,
        "best": [entry for entry in kept if entry.is_end_of(document.best_epoch)],
        "last": kept[-1:],
        "none": [],
    }[wanted]
    if not chosen and wanted in ("best", "last"):
        raise RequestError(f"{document.name} has no {wanted} checkpoint", "choose --checkpoints none")
    begun = [entry for entry in kept if document.start and entry.step <= document.start.step]
    return [entry for entry in kept if entry in chosen or entry in begun]


def _collect(folder: RunFolder, document: RunDocument, chosen: list[Checkpoint]) -> dict[str, Content]:
    """What is packed, by its name in the bundle."""
    contents: dict[str, Content] = {name: folder.path / name for name in layout.DOCUMENTS}
    contents = {name: path for name, path in contents.items() if isinstance(path, Path) and path.is_file()}
    if document.status == "running":  # its process is dead, which nobody elsewhere can tell
        true = document.model_copy(update={"status": "interrupted"}).model_dump(mode="json")
        contents["run.json"] = seal_document({"schema": true.pop("schema_"), **true}).encode()
    for name in read_code(folder).copied:
        contents[f"{layout.CODE}/{name}"] = folder.code_path / name
    for checkpoint in chosen:
        contents.update({f"{checkpoint.path}/{path.name}": path for path in checkpoint.folder.iterdir()})
    return contents


def _describe(name: str, content: Content) -> dict[str, Any]:
    """Raises RecordError where no bundle may hold it."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    limit = layout.limit_of(name)
    if limit is None:
        raise RecordError(f"a bundle cannot hold a file named {name!r}", "rename it, and train the run again")
    if size > limit:
        raise RecordError(f"{name} is {size} bytes long, more than the {limit} that a bundle may hold of it")
    return {"sha256": digest_bytes(content) if isinstance(content, bytes) else digest_file(content), "bytes": size}


def _write(out: Path, contents: dict[str, Content], described: dict[str, dict[str, Any]]) -> str:
    """SHA-256 of the file. Raises StorageError; RecordError where a file is not what was digested."""
    building = temporary_beside(out)
    with storage_errors(out):
        try:
            with open(building, "xb") as file:
                archive = ArchiveWriter(file)
                for name, content in contents.items():
                    size = described[name]["bytes"] if name in described else len(content)  # type: ignore[arg-type]
                    digest = hashlib.sha256()
                    archive.add(name, _watch(content, digest), size, deflate=layout.is_packed(name))
                    if name in described and f"sha256:{digest.hexdigest()}" != described[name]["sha256"]:
                        raise RecordError(f"{name} changed while it was packed", "wait until nothing works on the run")
                archive.close()
                file.flush()
                os.fsync(file.fileno())
            with open(building, "rb") as file:
                layout.check_sizes(Archive(file, layout.MOST_FILES))
            sha256 = digest_file(building)
            check_place(out, "--out")  # by another process meanwhile
            building.rename(out)
            sync_folder(out.absolute().parent)
        except BaseException:
            building.unlink(missing_ok=True)
            raise
    return sha256


def _watch(content: Content, digest: Any) -> Iterator[bytes]:
    if isinstance(content, bytes):
        digest.update(content)
        yield content
        return
    with open(content, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            yield chunk
