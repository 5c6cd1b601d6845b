"""A checkpoint: a folder of safetensors and JSON, whole or absent, each file's digest in a manifest. No pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmed.engine.learner import Learner, fingerprint_learner
from genmed.engine.progress import Progress
from genmed.engine.tensor_file import TensorFile
from genmed.ground.errors import RecordError, TraceError
from genmed.ground.files import (
    remove_folder,
    storage_errors,
    sync_folder,
    temporary_beside,
    write_bytes,
    write_json,
)
from genmed.ground.fingerprints import digest_file
from genmed.ground.sealed import read_sealed, write_sealed

if TYPE_CHECKING:
    import torch

SCHEMA = 1
MANIFEST, MODEL, OPTIMIZER = "manifest.json", "model.safetensors", "optimizer.safetensors"
END = "-end"
Identity = Mapping[str, str | None]
"""What a state belongs to: fingerprints of config, data and code."""
Tensors = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Checkpoint:
    """One folder below the run's `checkpoints/`."""

    folder: Path
    epoch: int
    step: int
    state: str
    """State fingerprint."""
    sha256: str
    """Digest of the manifest, which holds the digests of the files."""

    @property
    def path(self) -> str:
        """Relative to the run."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def ends_epoch(self) -> bool:
        """Whether the epoch was validated by then."""
        return self.folder.name.endswith(END)

    def is_end_of(self, epoch: int) -> bool:
        return self.epoch == epoch and self.ends_epoch


@dataclass(frozen=True)
class Snapshot:
    """A state in memory, apart from the learner that goes on changing."""

    model: TensorFile
    optimizer: TensorFile
    scaler: dict[str, Any]
    progress: Progress
    state: str
    """State fingerprint."""
    chain: str | None
    """The trace's chain after the last step: where the state stands in it. None where no trace is kept."""

    @property
    def name(self) -> str:
        """Of the folder that will hold it."""
        return name_checkpoint(self.progress)


def name_checkpoint(progress: Progress) -> str:
    return f"step-{progress.step:07d}-epoch-{progress.epoch:04d}{END if progress.epoch_over else ''}"


class Memory:
    """Room for one snapshot, kept from one to the next: the first touch of fresh memory costs more than the copy."""

    def __init__(self) -> None:
        self._model, self._optimizer = TensorFile(), TensorFile()

    def take(self, learner: Learner, progress: Progress, state: str, chain: str | None) -> Snapshot:
        """Copies the state; valid until the next one is taken. Raises RunError where a checkpoint cannot hold it."""
        import torch

        weights = learner.weights()
        self._model.hold(weights)
        self._optimizer.hold(learner.optimizer_tensors())
        if any(tensor.is_cuda for tensor in weights.values()):
            torch.cuda.synchronize()
        return Snapshot(self._model, self._optimizer, learner.scaler_state(), copy(progress), state, chain)


def write_checkpoint(
    folder: Path, snapshot: Snapshot, identity: Identity, companions: Sequence[Path] = (), replace: bool = False
) -> Checkpoint:
    """Writes a checkpoint below `folder` under its final name when it is whole, on the disk when this returns.

    companions: files of which it keeps a copy, if they are there. One of that name that an attempt before left whole
    must be the same, or else is replaced if so wanted. Raises StorageError; TraceError if it is another.
    """
    final = folder / snapshot.name
    if final.exists() and not check_checkpoint(final):
        saved = describe_checkpoint(final)
        if (saved.state, read_progress(final)) == (snapshot.state, snapshot.progress):
            return saved
        if not replace:
            raise _differs(final, saved, snapshot)
    building = temporary_beside(final)
    with storage_errors(final):
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        try:
            _fill(building, snapshot, identity, companions)
            if final.exists():
                remove_folder(final)  # broken, or to be replaced
            building.rename(final)
            sync_folder(folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    return Checkpoint(final, snapshot.progress.epoch, snapshot.progress.step, snapshot.state, _digest(final))


def _fill(building: Path, snapshot: Snapshot, identity: Identity, companions: Sequence[Path]) -> None:
    document = {
        "progress": snapshot.progress.to_json(),
        "scaler": snapshot.scaler,
        "identity": dict(identity),
        "trace": {"step": snapshot.progress.step, "chain": snapshot.chain},
    }
    write_json(building / "state.json", document)
    for path in companions:
        if path.is_file():
            write_bytes(building / path.name, path.read_bytes())
    files = {path.name: digest_file(path) for path in sorted(building.iterdir())}
    for path, content in ((building / MODEL, snapshot.model), (building / OPTIMIZER, snapshot.optimizer)):
        files[path.name] = content.write(path)
    write_sealed(building / MANIFEST, {"schema": SCHEMA, "state": snapshot.state, "files": dict(sorted(files.items()))})


def _differs(final: Path, saved: Checkpoint, snapshot: Snapshot) -> TraceError:
    progress = snapshot.progress
    return TraceError(
        f"step {progress.step} (epoch {progress.epoch}), computed again, has another state than {final}:"
        f" {snapshot.state}, saved is {saved.state}"
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders of checkpoints, oldest first; whether they are whole is for `check_checkpoint` to say."""
    return sorted(folder.glob("step-*-epoch-*"))


def check_checkpoint(folder: Path) -> list[str]:
    """What is broken; empty means good."""
    path = folder / MANIFEST
    try:
        manifest = read_sealed(path)
    except RecordError as error:
        return [error.message]
    if manifest["schema"] != SCHEMA:
        return [f"{path} has schema {manifest['schema']}, this genmed reads {SCHEMA}"]
    broken = []
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file():
            broken.append(f"{folder / name} is missing")
        elif problem := _compare_digest(folder / name, digest):
            broken.append(problem)
    return broken


def _compare_digest(path: Path, digest: str) -> str:
    try:
        return "" if digest_file(path) == digest else f"{path} fails its digest"
    except OSError as error:  # the disk itself may fail
        return f"{path} cannot be read: {error.strerror}"


def describe_checkpoint(folder: Path) -> Checkpoint:
    """Raises RecordError that names what is broken."""
    if broken := check_checkpoint(folder):
        raise RecordError("; ".join(broken))
    return describe_whole(folder)


def describe_whole(folder: Path) -> Checkpoint:
    """Likewise of one that was found to be whole, without digesting its files once more."""
    progress = read_progress(folder)
    state = read_sealed(folder / MANIFEST)["state"]
    return Checkpoint(folder, progress.epoch, progress.step, state, _digest(folder))


def _digest(folder: Path) -> str:
    return digest_file(folder / MANIFEST)


def read_chain(folder: Path) -> str | None:
    """The trace's chain at the checkpoint, None where no trace is kept. Raises RecordError."""
    chain = _read_state(folder)["trace"]["chain"]
    return None if chain is None else str(chain)


def read_identity(folder: Path) -> dict[str, str]:
    """Fingerprints of the config, data and code that the state belongs to. Raises RecordError."""
    return dict(_read_state(folder)["identity"])


def read_progress(folder: Path) -> Progress:
    """Raises RecordError."""
    try:
        return Progress.from_json(_read_state(folder)["progress"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{folder / 'state.json'} is damaged: {error}") from None


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{folder / 'state.json'} is damaged: {error}") from None
    return document


def restore_checkpoint(
    checkpoint: Checkpoint, learner: Learner, identity: Identity, former: Mapping[str, Collection[str]] | None = None
) -> Progress:
    """Puts the whole state back, or stops: nothing is skipped.

    former: fingerprints that the state may belong to as well, because a change of them was accepted. Raises RecordError
    with both values where a key, a shape, a dtype or the identity differs.
    """
    from safetensors.torch import load_file

    folder = checkpoint.folder
    document = _read_state(folder)
    for name, value in identity.items():
        found = document["identity"].get(name)
        if found != value and found not in (former or {}).get(name, ()):
            raise RecordError(f"{folder} belongs to another {name}: {found}, here {value}")
    restore_weights(checkpoint, learner)
    by_parameter: dict[str, Tensors] = {}
    for name, tensor in load_file(folder / OPTIMIZER).items():
        parameter, _, key = name.rpartition("/")
        by_parameter.setdefault(parameter, {})[key] = tensor
    trained = learner.trained
    # A parameter that no gradient has reached has no state; whether another's is missing, the fingerprint tells.
    _refuse_difference(folder, "optimizer", by_parameter.keys(), trained.keys() & by_parameter.keys())
    for name, state in by_parameter.items():
        learner.optimizer.state[trained[name]] = {key: _like(value, trained[name]) for key, value in state.items()}
    _refuse_difference(folder, "scaler", document["scaler"].keys(), learner.scaler_state().keys())
    if learner.scaler:
        learner.scaler.load_state_dict(document["scaler"])
    progress = read_progress(folder)
    if (restored := fingerprint_learner(learner, progress)) != checkpoint.state:
        raise RecordError(f"{folder} was not restored whole: its state is {checkpoint.state}, restored is {restored}")
    return progress


def restore_weights(checkpoint: Checkpoint, learner: Learner) -> None:
    """Parameters and buffers alone. Raises RecordError."""
    import torch
    from safetensors.torch import load_file

    saved, own = load_file(checkpoint.folder / MODEL), learner.weights()
    _refuse_difference(checkpoint.folder, "model", saved.keys(), own.keys())
    with torch.no_grad():
        for name, tensor in saved.items():
            if tensor.shape != own[name].shape or tensor.dtype != own[name].dtype:
                raise RecordError(
                    f"{checkpoint.folder}: {name} is {tuple(tensor.shape)} {tensor.dtype},"
                    f" the model has {tuple(own[name].shape)} {own[name].dtype}"
                )
            own[name].copy_(tensor)


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """An optimizer tensor on the parameter's device and in its memory format, as the optimizer itself would make it."""
    import torch

    if value.shape != parameter.shape:
        return value.to(parameter.device) if parameter.is_cuda else value  # the step counter of a fused kernel
    made = torch.empty_like(parameter, memory_format=torch.preserve_format, requires_grad=False, dtype=value.dtype)
    return made.copy_(value)


def _refuse_difference(folder: Path, what: str, saved: Iterable[str], own: Iterable[str]) -> None:
    saved, own = set(saved), set(own)
    if saved != own:
        only = [f"{name} only in the checkpoint" for name in sorted(saved - own)]
        only += [f"{name} only in the {what}" for name in sorted(own - saved)]
        raise RecordError(f"{folder} does not fit the {what}: {only[0]} ({len(only)} in all)")
