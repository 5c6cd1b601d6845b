"""What a run was recorded with against what is here now: config, data, code, environment."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genmed.ground.errors import RecordError
from genmed.ground.fingerprints import digest_file
from genmed.ground.sealed import read_sealed
from genmed.ground.wording import name_some
from genmed.records.config import Config
from genmed.records.config.sources import layer_of_file, resolve
from genmed.records.environment import Code, compare_environments
from genmed.records.environment.code import is_of_user
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.assemble import IMAGE_COLUMNS, LoadedData, Session, list_images
from genmed.workflows.code import RecordedCode, find_code, list_changes, read_code

ImageRow = Mapping[str, str]
"""An image by column of data-images.csv."""


OF_DATA = ("data", "split")
"""Parts of a mismatch."""
CODE_FILES = "code.files."
"""Begins the name of a mismatch in one file of code."""


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as recorded."""

    part: str
    """code, environment, data; or split, where images came, went or changed sides."""
    what: str
    recorded: Any
    found: Any
    changes_bits: bool
    why: str = ""

    def describe(self) -> str:
        """`packages.torch was 2.10.0, is 2.11.0 (can change bits: ...)`; that data can goes without saying."""
        if self.part in OF_DATA:
            return f"{self.what} was {shorten(self.recorded)}, is {shorten(self.found)}"
        weight = "can change bits" if self.changes_bits else "cannot change bits"
        why = f": {self.why}" if self.why else ""
        return f"{self.what} was {shorten(self.recorded)}, is {shorten(self.found)} ({weight}{why})"

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key not in ("part", "why")}


def shorten(value: Any) -> str:
    """Twelve digits of a digest are enough for people."""
    return re.sub(r"^(sha256|xxh3-128|mix64x2\+xxh3-128):([0-9a-f]{12})[0-9a-f]+$", r"\1:\2", str(value)) or "none"


def read_config(folder: RunFolder, document: RunDocument, data_root: Path | None = None) -> Config:
    """The run's config, with the data elsewhere if they are.

    Raises RecordError where config.yaml is missing or was edited in what affects bits.
    """
    if not folder.config_path.is_file():
        raise RecordError(f"{folder.config_path} is missing")
    config = resolve([layer_of_file(folder.config_path)]).config
    if config.fingerprint != document.config_fingerprint:
        found = config.affecting_bits()
        edited = [key for key in found | document.config if found.get(key) != document.config.get(key)]
        shown = [f"{key} was {document.config.get(key)}, is {found.get(key)}" for key in edited[:3]]
        more = f"; and {len(edited) - 3} more" if len(edited) > 3 else ""
        raise RecordError(
            f"{folder.config_path} was edited: {'; '.join(shown)}{more}",
            "put it back, or train a new run from it with --config",
        )
    return config.replace(**{"data.root": str(data_root.absolute())}) if data_root else config


def list_former(document: RunDocument) -> dict[str, list[str]]:
    """Fingerprints that states of the run may belong to, by part: the recorded ones, and those before a change that was
    accepted."""
    former = {"code": [document.code_digest], "data": [document.data_fingerprint]}
    for accepted in document.accepted:
        former.setdefault(accepted.what, []).extend(
            change["recorded"] for change in accepted.changes if change["what"] == accepted.what
        )
    return former


def compare_session(folder: RunFolder, document: RunDocument, session: Session) -> list[Mismatch]:
    """All that differs: code, then environment by field. Data are for `compare_data`. Raises RecordError."""
    code = compare_code(document, read_code(folder), find_code(folder, session.task.config, session.code))
    return code + compare_environment(folder, document, session)


def compare_environment(folder: RunFolder, document: RunDocument, session: Session) -> list[Mismatch]:
    """By field, without the code. Raises RecordError."""
    recorded = read_sealed(folder.environment_path)
    found = {**session.environment, "code": recorded["code"]}
    return [
        Mismatch("environment", entry.field, entry.recorded, entry.found, entry.changes_bits, entry.why)
        for entry in compare_environments(recorded, found, document.device)
    ]


def compare_weights(document: RunDocument, session: Session) -> list[Mismatch]:
    """Whether the file that the run began from is another."""
    then, now = document.weights or {}, session.weights or {}
    if then.get("digest") == now.get("digest"):
        return []
    why = "the first step begins from them"
    return [Mismatch("code", "initial weights", then.get("digest"), now.get("digest"), True, why)]


def compare_code(document: RunDocument, recorded: RecordedCode, found: Code) -> list[Mismatch]:
    """The code as a whole, to which states belong; then each file of the user's that is not as recorded.

    run.json decides: environment.json may be behind it, where a crash came between them.
    """
    changed = list_changes(recorded, found)
    whole = compare_code_digest(document, found.without(recorded.later))
    if not whole:
        changed = [name for name in changed if name in recorded.later]
    before, after = recorded.all_files, found.files
    return [replace(entry, why=f"changed: {name_some(changed)}" if changed else "") for entry in whole] + [
        Mismatch("code", f"{CODE_FILES}{name}", before.get(name), after.get(name), True)
        for name in filter(is_of_user, changed)
    ]


def compare_code_digest(document: RunDocument, code: Code) -> list[Mismatch]:
    """Whether the code with which the run began is another."""
    digest = code.digest
    return [] if digest == document.code_digest else [Mismatch("code", "code", document.code_digest, digest, True)]


def read_images(folder: RunFolder) -> dict[str, dict[str, str]]:
    """The rows of data-images.csv by image. Raises RecordError where it or data.json is missing or damaged."""
    described = read_sealed(folder.data_path)
    if not folder.images_path.is_file():
        raise RecordError(f"{folder.images_path} is missing")
    if digest_file(folder.images_path) != described["images"]["sha256"]:
        raise RecordError(f"{folder.images_path} is damaged or was edited: it fails its digest in {folder.data_path}")
    with open(folder.images_path, newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def compare_data(folder: RunFolder, document: RunDocument, data: LoadedData) -> list[Mismatch]:
    """What differs between the recorded images and those here, by image. Raises RecordError for a damaged record."""
    if data.fingerprint == document.data_fingerprint:
        return []
    found = compare_images(read_images(folder), _list_images(data))
    return found or [Mismatch("data", "data", document.data_fingerprint, data.fingerprint, True)]


def compare_images(recorded: Mapping[str, ImageRow], found: Mapping[str, ImageRow]) -> list[Mismatch]:
    """What differs of which image; those that are gone come last. Both by the image's id."""
    mismatches: list[Mismatch] = []
    for name, now in found.items():
        then = recorded.get(name)
        if then is None:
            mismatches.append(Mismatch("split", f"image {name}", None, "present", True))
            continue
        for column in IMAGE_COLUMNS:
            before = then.get(column, "")  # a column that came after the run was made
            if before != now[column]:
                what = "pixels" if column == "decoded" else column
                part = "split" if column == "split" else "data"
                mismatches.append(Mismatch(part, f"{what} of {name}", before, now[column], True))
    gone = [name for name in recorded if name not in found]
    return mismatches + [Mismatch("split", f"image {name}", "present", None, True) for name in gone]


def _list_images(data: LoadedData) -> dict[str, ImageRow]:
    """Images here by id, as `read_images` gives those recorded."""
    return {name: dict(zip(IMAGE_COLUMNS, known, strict=False)) for name, *known in list_images(data)}
