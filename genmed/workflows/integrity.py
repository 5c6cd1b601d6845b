"""Whether a run's own files are whole: each is checked by a digest, and what is damaged is named."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint import (
    check_checkpoint,
    describe_whole,
    list_checkpoints,
    name_checkpoint,
    read_chain,
    read_identity,
    read_progress,
)
from genmed.engine.trace import RecordedTrace, read_trace, state_of, trace_digest
from genmed.ground.errors import ConfigError, RecordError
from genmed.ground.fingerprints import digest_file
from genmed.ground.sealed import read_sealed
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.code import read_code
from genmed.workflows.identity import list_former, read_config, read_images


def find_damage(folder: RunFolder, document: RunDocument) -> list[str]:
    """What is missing, damaged or edited, each with its file; empty means good. run.json was read already."""
    damage: list[str] = []

    def attempt(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except (RecordError, ConfigError) as error:
            damage.append(error.say())
            return None

    attempt(lambda: read_config(folder, document))
    attempt(lambda: damage.extend(find_code_damage(folder)))
    attempt(lambda: check_data(folder, document))
    attempt(folder.read_verifications)
    attempt(folder.read_metrics)
    trace = attempt(lambda: check_trace(folder, document))
    checkpoints = list_checkpoints(folder.checkpoints_path)
    for path in checkpoints:
        broken = check_checkpoint(path)
        damage += broken
        if trace and not broken:
            attempt(partial(_check_place, path, document, trace))
    if document.checkpoint_step and not (checkpoints or document.files or folder.bundle_path.is_file()):
        damage.append(f"{folder.checkpoints_path} is empty")
    damage += _find_lost(folder, document)
    return damage


def _find_lost(folder: RunFolder, document: RunDocument) -> list[str]:
    """What a finished run left and is gone, or another by now; a bundle may leave some of it out."""
    lost = []
    for name, digest in document.files.items():
        path = folder.path / name
        if not path.is_file():
            if not folder.bundle_path.is_file():
                lost.append(f"{path} is missing")
        elif digest_file(path) != digest:
            lost.append(f"{path} was edited: it fails its digest in {folder.document_path.name}")
    return lost


def find_code_damage(folder: RunFolder) -> list[str]:
    """Which copies of the user's files are missing or not those of environment.json. Raises RecordError."""
    damage = []
    for name, digest in read_code(folder).copied.items():
        path = folder.code_path / name
        if not path.is_file():
            damage.append(f"{path} is missing")
        elif digest_file(path) != digest:
            damage.append(f"{path} was edited: it fails its digest in {folder.environment_path.name}")
    return damage


def check_trace(folder: RunFolder, document: RunDocument) -> RecordedTrace:
    """The trace, as run.json knows it. Raises RecordError."""
    trace, path = read_trace(folder.trace_path), folder.trace_path
    digest = trace_digest(path)
    if document.trace_digest and digest != document.trace_digest:
        raise RecordError(f"{path} was edited: it is {digest}, recorded is {document.trace_digest}")
    needed = document.steps_done if document.status == "completed" else document.checkpoint_step
    if trace.last < needed:
        raise RecordError(f"{path} ends at step {trace.last} of {needed}")
    if document.fingerprint and trace.lines and trace.lines[-1].get("state") != document.fingerprint:
        raise RecordError(f"{folder.document_path} was edited: its final state is not the trace's last")
    return trace


def _check_place(path: Path, document: RunDocument, trace: RecordedTrace) -> None:
    """Whether a whole checkpoint is the state that the trace came to at its step, and not another's in its place."""
    progress, identity = read_progress(path), read_identity(path)
    if (name := name_checkpoint(progress)) != path.name:
        raise RecordError(f"{path} is not what it is called: it holds {name}")
    former = {**list_former(document), "config": [document.config_fingerprint]}
    for part, value in identity.items():
        if value not in former[part]:
            raise RecordError(f"{path} belongs to another {part}: {value}, the run's is {former[part][0]}")
    checkpoint, start = describe_whole(path), document.start
    if start and progress.step <= start.step:  # the best state of the run before may be of an earlier epoch
        fits = progress.step < start.step or checkpoint.state == start.state
    else:
        fits = trace.leads_to(progress.step, read_chain(path))
        fits = fits and state_of(trace.line(progress.step)) == checkpoint.state
    if not fits:
        raise RecordError(f"{path} is not the state to which the trace comes at step {progress.step}")


def check_data(folder: RunFolder, document: RunDocument) -> None:
    read_images(folder)
    if read_sealed(folder.data_path)["fingerprint"] != document.data_fingerprint:
        raise RecordError(f"{folder.data_path} was edited: its fingerprint is not that of {folder.document_path.name}")
