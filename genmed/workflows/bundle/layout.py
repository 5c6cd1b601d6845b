"""What a bundle may hold: names, and how large each file may be. Export keeps to it, and opening insists on it.

    bundle.json                                          first; sealed; the digest and size of each other file
    run.json, config.yaml, environment.json, data.json, data-images.csv, trace.jsonl, metrics.csv, modules.jsonl
    code/<name>, code/<package>/<name>                   the user's own files
    checkpoints/step-NNNNNNN-epoch-NNNN[-end]/           manifest.json, state.json, model.safetensors,
                                                         optimizer.safetensors; copies of run.json, environment.json
                                                         and metrics.csv

Limits: 20,000 files; of each the size below, safetensors 64 GiB; no packed file unpacks to more than 100 times its size
in the archive and 64 KiB, and all of them to no more than 100 times the archive and 1 MiB, nor than the disk has room.
"""

import re
from pathlib import PurePosixPath

from genmed.ground.archive import MEND, Archive
from genmed.ground.errors import RecordError

MIB = 1 << 20
MOST_FILES = 20_000
MOST_GROWTH = 100
SLACK, SLACK_OF_ALL = 64 << 10, MIB

BUNDLE = "bundle.json"
SCHEMA = 1
CODE = "code"
DOCUMENTS = {
    "run.json": 4 * MIB,
    "config.yaml": MIB // 16,
    "environment.json": 16 * MIB,
    "data.json": 4 * MIB,
    "data-images.csv": 256 * MIB,
    "trace.jsonl": 256 * MIB,
    "metrics.csv": 16 * MIB,
    "modules.jsonl": 256 * MIB,
}
"""Largest size in bytes; some are read whole into memory."""
OPTIONAL = {"metrics.csv", "modules.jsonl"}
STATE = {
    "manifest.json": MIB,
    "state.json": MIB,
    "model.safetensors": 64 << 30,
    "optimizer.safetensors": 64 << 30,
}
COPIES = {name: DOCUMENTS[name] for name in ("run.json", "environment.json", "metrics.csv")}
LARGEST_CODE = MIB
LARGEST_BUNDLE = 16 * MIB

_CHECKPOINT = re.compile(r"step-[0-9]{7,12}-epoch-[0-9]{4,9}(-end)?")
_CODE = re.compile(r"[^\W.-][^/\\:*?\"<>|]{0,99}")
_COMPILED = (".so", ".pyd", ".dll", ".dylib", ".pyc", ".exe")
DEEPEST_CODE = 12


def limit_of(name: str) -> int | None:
    """The largest size in bytes of a file of this name; None where a bundle may not hold it."""
    match name.split("/"):
        case [document]:
            return LARGEST_BUNDLE if document == BUNDLE else DOCUMENTS.get(document)
        case ["code", *parts] if is_code_name("/".join(parts)) and not name.endswith(_COMPILED):
            return LARGEST_CODE
        case ["checkpoints", folder, file] if _CHECKPOINT.fullmatch(folder):
            return (STATE | COPIES).get(file)
    return None


def is_code_name(name: str) -> bool:
    """Whether a file of code may have the name: a few ordinary folders, and nothing that leads out of them."""
    parts = name.split("/")
    return len(parts) <= DEEPEST_CODE and name.isprintable() and all(_CODE.fullmatch(part) for part in parts)


def check_sizes(archive: Archive) -> None:
    """Raises RecordError where a file has no place in a bundle, is too large, or unpacks to far more than it takes."""
    for entry in archive.entries:
        limit = limit_of(entry.name)
        if limit is None:
            raise RecordError(f"it holds {entry.name!a}, which has no place in a bundle", MEND)
        if entry.size > limit:
            raise RecordError(f"{entry.name} is {entry.size} bytes long, more than the {limit} allowed", MEND)
        if entry.size > MOST_GROWTH * entry.packed + SLACK:
            raise RecordError(f"{entry.name} unpacks {entry.packed} bytes to {entry.size}: a zip bomb", MEND)
    total = sum(entry.size for entry in archive.entries)
    if total > MOST_GROWTH * archive.size + SLACK_OF_ALL:
        raise RecordError(f"it unpacks {archive.size} bytes to {total}: a zip bomb", MEND)


def is_text(name: str) -> bool:
    """Whether it is packed, and read by this program as text."""
    return PurePosixPath(name).suffix in (".json", ".jsonl", ".csv", ".yaml")


def is_packed(name: str) -> bool:
    """Whether it is worth deflating: not weights."""
    return not name.endswith(".safetensors")
