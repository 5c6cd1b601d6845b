"""Finished runs that differ from a run in the seed alone: what they spread over is what a seed makes of a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genmed.ground.errors import RecordError, StorageError
from genmed.ground.fingerprints import digest_json
from genmed.records.registry import open_registry
from genmed.records.run_folder import RUNS, RunDocument, RunFolder, list_run_folders
from genmed.workflows.code import read_code


@dataclass(frozen=True)
class Sibling:
    """A run as its folder tells it."""

    folder: RunFolder
    document: RunDocument


def list_siblings(root: Path, document: RunDocument) -> list[Sibling]:
    """Those below `root` of the same config but for the seed, on the same data by the same code from the same weights,
    the oldest first; the run itself is one of them, if it lies there. Hidden ones do not count, nor those that went on
    in spite of a difference. Their environments may differ.
    """
    found, later = [], _read_later_code(RunFolder(root / RUNS / document.name))
    for folder in _list_candidates(root, document):
        try:
            other = folder.read()
        except RecordError:  # a broken neighbour is no matter of this run
            continue
        own = other.id == document.id
        counts = other.status == "completed" and (own or not (other.hidden or other.accepted))
        if counts and _identify(other) == _identify(document):
            theirs = _read_later_code(folder)
            if all(theirs.get(name, digest) == digest for name, digest in later.items()):
                found.append(Sibling(folder, other))
    return sorted(found, key=lambda sibling: sibling.document.created)


def _list_candidates(root: Path, document: RunDocument) -> list[RunFolder]:
    """Those whose configs fit by the registry, of thousands a few; and all that it does not know."""
    try:
        registry = open_registry(root, create=False)
        rows = registry.runs(include_hidden=True) if registry else []
    except StorageError:
        rows = []
    wanted = {seed: digest_json({**document.config, "seed": seed}) for seed in {row.seed for row in rows}}
    fitting = [RunFolder(root / row.path) for row in rows if row.config_fingerprint == wanted[row.seed]]
    return fitting + list_run_folders(root, {Path(row.path).name for row in rows})


def _read_later_code(folder: RunFolder) -> Mapping[str, str]:
    """Digests of what the run imported after it began; empty where the folder is not here."""
    try:
        return read_code(folder).later
    except RecordError:
        return {}


def _identify(document: RunDocument) -> tuple[object, ...]:
    config = {key: value for key, value in document.config.items() if key != "seed"}
    weights = (document.weights or {}).get("digest")
    begin = document.start and document.start.step
    return config, document.data_fingerprint, document.code_digest, weights, begin
