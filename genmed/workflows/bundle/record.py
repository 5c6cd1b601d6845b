"""Reads all of a stranger's record that a verification will read, so that none of it can go wrong later on."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from genmed.engine.checkpoint import (
    END,
    MANIFEST,
    check_checkpoint,
    describe_checkpoint,
    list_checkpoints,
    read_chain,
    read_progress,
)
from genmed.engine.progress import Progress
from genmed.ground.errors import RecordError
from genmed.ground.sealed import read_sealed
from genmed.parts.data.traits import TRAITS
from genmed.records.config import Config
from genmed.records.environment.code import is_of_user
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.assemble import IMAGE_COLUMNS
from genmed.workflows.bundle import layout
from genmed.workflows.bundle.layout import MIB
from genmed.workflows.code import read_code
from genmed.workflows.identity import read_config
from genmed.workflows.integrity import check_data, check_trace, find_code_damage

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, csv.Error)
"""What code that reads a record may raise where a stranger wrote it."""
DEEPEST = 16
"""Levels of a JSON document."""
MOST_VALUES = 20_000
"""In one JSON document."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor or turns the direction of writing."""
NEVER_SHOWN = {"run.json": ("note", "tags", "error"), "environment.json": ("git.diff",)}
"""Texts that may hold anything: a verification neither compares nor prints them."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
COLUMNS = ["id", *IMAGE_COLUMNS, "file", "prepared"]
PROCESS: dict[str, tuple[type, ...]] = {"host": (str,), "boot_id": (str, type(None)), "pid": (int,)}
CHANGE = {"what", "recorded", "found", "changes_bits"}
PARTS = ("model", "optimizer")
OPTIMIZER = {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Names the file where reading it fails in a way that only a stranger's file can bring about."""
    try:
        yield
    except UNREADABLE as error:
        raise RecordError(f"{path} cannot be read: {type(error).__name__}: {str(error)[:200]}") from error


def read_whole_record(folder: RunFolder) -> None:
    """Raises RecordError."""
    document = read_bundled(folder)
    check_record(folder, document)
    with _reading(folder.code_path):
        _check_code(folder)
    for path in sorted(folder.checkpoints_path.glob("*")):
        with _reading(path):
            _check_checkpoint(path)
    steps = [read_progress(path).step for path in list_checkpoints(folder.checkpoints_path)]
    if document.start and document.start.step not in steps:
        raise RecordError(f"it lacks the checkpoint of step {document.start.step}, from which the run began")


def check_record(folder: RunFolder, document: RunDocument) -> None:
    """All but code and checkpoints, also for a run that is to be bundled. Raises RecordError."""
    read_config_safely(folder, document)
    with _reading(folder.environment_path):
        _check_environment(folder, document)
    with _reading(folder.images_path):
        _check_images(folder)
    with _reading(folder.data_path):
        _check_documents(folder.data_path)
        check_data(folder, document)
    with _reading(folder.trace_path):
        _check_trace(folder, document)
    if folder.metrics_path.exists():
        with _reading(folder.metrics_path):
            _check_text(folder.metrics_path)
            folder.read_metrics()


def _check_trace(folder: RunFolder, document: RunDocument) -> None:
    _check_text(folder.trace_path)
    trace = check_trace(folder, document)
    if not trace.lines:
        raise RecordError(f"{folder.trace_path} has no step to compare")
    if trace.start != (document.start.step if document.start else 0) or trace.start < 0:
        raise RecordError(
            f"{folder.trace_path} begins after step {trace.start}, which {folder.document_path} does not say"
        )
    if not isinstance(trace.header.get("initial"), str):
        raise RecordError(f"{folder.trace_path} names no initial state")


def read_bundled(folder: RunFolder) -> RunDocument:
    """run.json. Raises RecordError."""
    path = folder.document_path
    with _reading(path):
        _check_documents(path)
    document = folder.read()
    if document.status == "running":
        raise RecordError(f"{path} says that the run is running: it was not made by `genmed export`")
    if not NAME.fullmatch(document.name):
        raise RecordError(f"{path}: {document.name[:80]!a} is no name of a run")
    if document.device not in ("cpu", "cuda", "mps"):
        raise RecordError(f"{path}: there is no device {document.device[:80]!a}")
    if not all(isinstance(document.process.get(key), kind) for key, kind in PROCESS.items()):
        raise RecordError(f"{path}: process lacks one of {', '.join(PROCESS)}, or it is of another type")
    for accepted in document.accepted:
        if not all(change.keys() == CHANGE for change in accepted.changes):
            raise RecordError(f"{path}: accepted changes have {', '.join(sorted(CHANGE))}, and nothing else")
    return document


def read_config_safely(folder: RunFolder, document: RunDocument) -> Config:
    """config.yaml, without aliases, which can unfold a line into gigabytes. Raises RecordError, ConfigError."""
    with _reading(folder.config_path):
        _check_yaml(folder.config_path)
        return read_config(folder, document)


def _check_yaml(path: Path) -> None:
    depth = 0
    try:
        for token in yaml.scan(path.read_text(encoding="utf-8"), yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken | yaml.DirectiveToken):
                kind = type(token).__name__.removesuffix("Token").lower()
                raise RecordError(
                    f"{path} has the {kind} {str(getattr(token, 'value', '?'))[:40]!a}, which is not read"
                )
            depth += isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken)
            depth += isinstance(token, yaml.BlockSequenceStartToken | yaml.BlockMappingStartToken)
            depth -= isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken | yaml.BlockEndToken)
            if depth > DEEPEST:
                raise RecordError(f"{path} nests more than {DEEPEST} levels deep")
    except yaml.YAMLError as error:
        raise RecordError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _check_text(path: Path) -> None:
    with open(path, encoding="utf-8", newline="") as file:
        for chunk in iter(lambda: file.read(MIB), ""):
            if found := CONTROL.search(chunk):
                raise RecordError(f"{path} holds the control character {found[0]!a}")


def _check_documents(path: Path) -> dict[str, Any]:
    """A sealed document that nests little, holds finite numbers and nothing that a terminal would obey."""
    document = read_sealed(path)
    if not isinstance(document, dict):
        raise RecordError(f"{path} holds no document")
    anything = NEVER_SHOWN.get(path.name, ())
    for number, (place, value) in enumerate(_walk(document, path)):
        if number > MOST_VALUES:
            raise RecordError(f"{path} holds more than {MOST_VALUES} values")
        if isinstance(value, float) and not math.isfinite(value):
            raise RecordError(f"{path}: {place} is {value}")
        if isinstance(value, str) and place not in anything and (found := CONTROL.search(value)):
            raise RecordError(f"{path}: {place!a} holds the control character {found[0]!a}")
    return document


def _walk(document: dict[str, Any], path: Path) -> Iterator[tuple[str, Any]]:
    """(dotted place, value) of all leaves, and of all keys as values; without recursion."""
    waiting: list[tuple[str, Any, int]] = [("", document, 1)]
    while waiting:
        place, value, depth = waiting.pop()
        if depth > DEEPEST:
            raise RecordError(f"{path} nests more than {DEEPEST} levels deep")
        if isinstance(value, dict):
            yield from ((f"a key of {place or 'the document'}", key) for key in value)
            waiting += [(f"{place}.{key}" if place else key, inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(place, inner, depth + 1) for inner in value]
        else:
            yield place, value


def _check_environment(folder: RunFolder, document: RunDocument) -> None:
    path = folder.environment_path
    environment = _check_documents(path)
    code, where = environment["code"], environment["where"]
    if not (isinstance(code.get("digest"), str) and isinstance(code.get("files"), dict)):
        raise RecordError(f"{path}: code has no digest or no files")
    if code["digest"] != document.code_digest:
        raise RecordError(f"{path} was edited: its code is not that of {folder.document_path.name}")
    _check_texts(path, "code.files", code["files"])
    tables = {"code.later": code.get("later", {}), "where.code": where.get("code", {})}
    tables |= {name: environment.get(name, {}) for name in ("packages", "package_sources")}
    for place, entry in environment.get("installed", {}).items():
        tables[f"installed.{place[:100]}"] = {key: entry[key] for key in ("version", "source")}
    for name, table in tables.items():
        _check_texts(path, name, table)
    if not all(isinstance(name, str) for name in code.get("without_copy", ())):
        raise RecordError(f"{path}: code.without_copy has a name that is no text")
    for name in filter(is_of_user, {**code["files"], **code.get("later", {})}):
        if not layout.is_code_name(name):
            raise RecordError(f"{path}: {name[:100]!a} is no name of a code file")


def _check_texts(path: Path, name: str, table: Any) -> None:
    if not (isinstance(table, dict) and all(isinstance(value, str | None) for value in table.values())):
        raise RecordError(f"{path}: {name} has a value that is no text")


def _check_code(folder: RunFolder) -> None:
    """The user's files are there, as the run knew them, and no others; limit_of has judged the names of those there."""
    names = set(read_code(folder).copied)
    packed = {path.relative_to(folder.code_path).as_posix() for path in folder.code_path.rglob("*") if path.is_file()}
    for name in sorted(packed - names):
        raise RecordError(f"{layout.CODE}/{name} is no file of the run's code")
    for name in sorted(names - packed):
        raise RecordError(f"it lacks {layout.CODE}/{name[:100]!a}, which {folder.environment_path.name} names")
    if damage := find_code_damage(folder):
        raise RecordError(damage[0])


def _check_images(folder: RunFolder) -> None:
    _check_text(folder.images_path)
    with open(folder.images_path, newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        more = [trait for trait in TRAITS if trait in header]
        if header != [*COLUMNS, *more]:
            raise RecordError(
                f"{folder.images_path} has the columns {', '.join(header)[:200]}, not {', '.join(COLUMNS)}"
            )
        seen = set()
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header) or row[0] in seen:
                raise RecordError(
                    f"{folder.images_path}, row {number}: too few or many columns, or an image named twice"
                )
            seen.add(row[0])


def _check_checkpoint(folder: Path) -> None:
    """Manifest first: it names files, and must name those of the folder, for they are opened by these names."""
    for path in (folder / MANIFEST, folder / "state.json", *(folder / f"{part}.safetensors" for part in PARTS)):
        if not path.is_file():
            raise RecordError(f"it lacks {path}")
    manifest = _check_documents(folder / MANIFEST)
    files = {path.name for path in folder.iterdir()} - {MANIFEST}
    if not isinstance(manifest["files"], dict) or manifest["files"].keys() != files:
        raise RecordError(f"{folder / MANIFEST} does not name the files that are there")
    if broken := check_checkpoint(folder):
        raise RecordError(broken[0])
    _check_state(folder / "state.json")
    checkpoint, progress = describe_checkpoint(folder), read_progress(folder)
    name = f"step-{progress.step:07d}-epoch-{progress.epoch:04d}{END if progress.epoch_over else ''}"
    if name != folder.name or not isinstance(checkpoint.state, str):
        raise RecordError(f"{folder} is of step {progress.step}, epoch {progress.epoch}")
    read_chain(folder)
    shapes = {part: _read_shapes(folder / f"{part}.safetensors") for part in PARTS}
    for name, shape in shapes["optimizer"].items():
        parameter, _, key = name.rpartition("/")
        if key not in OPTIMIZER or shape not in ([], [1], shapes["model"].get(parameter)):
            raise RecordError(f"{folder}: {name[:80]!a} is no state of an optimizer")


def _check_state(path: Path) -> None:
    """state.json has no seal, and a verification that begins from it takes its numbers as they are."""
    document = json.loads(path.read_text(encoding="utf-8"))
    list(_walk(document, path))
    for name, value in Progress().to_json().items():
        found = document["progress"][name]
        if type(found) is not type(value) and not (name == "best_value" and isinstance(found, str)):
            raise RecordError(f"{path}: progress.{name} is of another type")
    identity, scaler = document["identity"], document["scaler"]
    if not all(isinstance(value, str | None) for value in identity.values()):
        raise RecordError(f"{path}: identity holds what is no fingerprint")
    if not all(type(value) in (int, float) for value in scaler.values()):
        raise RecordError(f"{path}: scaler holds what is no number")


def _read_shapes(path: Path) -> dict[str, list[int]]:
    """Of all tensors, from the file's header, which safetensors checks against its length; no tensor is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    except SafetensorError as error:
        raise RecordError(f"{path} is no safetensors file: {error}") from None
