"""Checkpoints: folders of safetensors and JSON, whole or absent, each file's digest in a manifest. No pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmed.engine.learner import Learner, fingerprint_learner
from genmed.engine.progress import Progress
from genmed.ground.errors import RecordError
from genmed.ground.files import (
    storage_errors,
    sweep_temporaries,
    sync_folder,
    temporary_beside,
    write_bytes,
    write_json,
)
from genmed.ground.fingerprints import digest_file

if TYPE_CHECKING:
    import torch

SCHEMA = 1
MANIFEST = "manifest.json"
END = "-end"


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


def save_checkpoint(
    folder: Path,
    learner: Learner,
    progress: Progress,
    state: str,
    identity: Mapping[str, str | None],
) -> Checkpoint:
    """Writes a checkpoint below `folder` under its final name when it is whole, on the disk when this returns.

    identity: what the state belongs to (config, data and code fingerprints), compared at restore.
    """
    from safetensors.torch import save

    final = folder / f"step-{progress.step:07d}-epoch-{progress.epoch:04d}{END if progress.epoch_over else ''}"
    if final.exists() and not check_checkpoint(final) and read_progress(final) == progress:
        return describe_checkpoint(final)  # an attempt that was killed had come this far
    building = temporary_beside(final)
    with storage_errors(final):
        folder.mkdir(exist_ok=True)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        try:
            write_bytes(building / "model.safetensors", save(_contiguous(learner.weights())))
            write_bytes(building / "optimizer.safetensors", save(_contiguous(learner.optimizer_tensors())))
            write_json(
                building / "state.json",
                {"progress": progress.to_json(), "scaler": learner.scaler_state(), "identity": dict(identity)},
            )
            files = {path.name: digest_file(path) for path in sorted(building.iterdir())}
            write_json(building / MANIFEST, {"schema": SCHEMA, "state": state, "files": files})
            if final.exists():  # broken, or it would have been returned
                shutil.rmtree(final)
            building.rename(final)
            sync_folder(folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    return Checkpoint(final, progress.epoch, progress.step, state, digest_file(final / MANIFEST))


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders of checkpoints, oldest first; whether they are whole is for `check_checkpoint` to say."""
    return sorted(folder.glob("step-*-epoch-*"))


def check_checkpoint(folder: Path) -> list[str]:
    """What is broken; empty means good."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        if not isinstance(manifest["state"], str):
            return [f"{folder / MANIFEST} names no state"]
        if manifest["schema"] != SCHEMA:
            return [f"{folder / MANIFEST} has schema {manifest['schema']}, this genmed reads {SCHEMA}"]
    except FileNotFoundError:
        return [f"{folder / MANIFEST} is missing"]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{folder / MANIFEST} is damaged: {error}"]
    broken = []
    for name, digest in files.items():
        if not (folder / name).is_file():
            broken.append(f"{folder / name} is missing")
        elif digest_file(folder / name) != digest:
            broken.append(f"{folder / name} fails its digest")
    return broken


def describe_checkpoint(folder: Path) -> Checkpoint:
    """Raises RecordError that names what is broken."""
    if broken := check_checkpoint(folder):
        raise RecordError("; ".join(broken))
    progress = read_progress(folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return Checkpoint(folder, progress.epoch, progress.step, manifest["state"], digest_file(folder / MANIFEST))


def read_progress(folder: Path) -> Progress:
    """Raises RecordError."""
    try:
        return Progress.from_json(json.loads((folder / "state.json").read_text(encoding="utf-8"))["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{folder / 'state.json'} is damaged: {error}") from None


def restore_checkpoint(checkpoint: Checkpoint, learner: Learner, identity: Mapping[str, str | None]) -> Progress:
    """Puts the whole state back, or stops: nothing is skipped.

    Raises RecordError with both values where a key, a shape, a dtype or the identity differs.
    """
    from safetensors.torch import load_file

    folder = checkpoint.folder
    document = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    for name, value in identity.items():
        if document["identity"].get(name) != value:
            raise RecordError(f"{folder} belongs to another {name}: {document['identity'].get(name)}, here {value}")
    restore_weights(checkpoint, learner)
    tensors = load_file(folder / "optimizer.safetensors")
    by_parameter: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition("/")
        by_parameter.setdefault(parameter, {})[key] = tensor
    trained = learner.trained
    _refuse_difference(folder, "optimizer", by_parameter.keys(), trained.keys() if by_parameter else ())
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

    saved, own = load_file(checkpoint.folder / "model.safetensors"), learner.weights()
    _refuse_difference(checkpoint.folder, "model", saved.keys(), own.keys())
    with torch.no_grad():
        for name, tensor in saved.items():
            if tensor.shape != own[name].shape or tensor.dtype != own[name].dtype:
                raise RecordError(
                    f"{checkpoint.folder}: {name} is {tuple(tensor.shape)} {tensor.dtype},"
                    f" the model has {tuple(own[name].shape)} {own[name].dtype}"
                )
            own[name].copy_(tensor)


class CheckpointStore:
    """The checkpoints of one run: writes new ones, and removes old ones after the new one is safe."""

    def __init__(
        self, folder: Path, identity: Mapping[str, str | None], *, keep: int, every_epochs: int | None
    ) -> None:
        self._folder, self._identity = folder, identity
        self._keep, self._every_epochs = keep, every_epochs
        if folder.is_dir():
            sweep_temporaries(folder)

    def save(self, learner: Learner, progress: Progress, state: str) -> Checkpoint:
        """Saves the state and removes what need not be kept: all but the newest K, the best, and each N-th epoch's."""
        saved = save_checkpoint(self._folder, learner, progress, state, self._identity)
        folders = list_checkpoints(self._folder)
        best = self._find_epoch_end(folders, progress.best_epoch)
        for folder in folders[: -self._keep]:
            ends = folder.name.endswith(END)
            if folder != best and not (ends and self._every_epochs and _epoch_of(folder) % self._every_epochs == 0):
                shutil.rmtree(folder)
        return saved

    def restore(self, checkpoint: Checkpoint, learner: Learner) -> Progress:
        return restore_checkpoint(checkpoint, learner, self._identity)

    def newest_whole(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that passes its digests, and what is broken in newer ones."""
        broken: list[str] = []
        for folder in reversed(list_checkpoints(self._folder)):
            if problems := check_checkpoint(folder):
                broken += problems
            else:
                return describe_checkpoint(folder), broken
        return None, broken

    def best(self, progress: Progress) -> Checkpoint:
        """Raises RecordError where it is missing or broken."""
        folder = self._find_epoch_end(list_checkpoints(self._folder), progress.best_epoch)
        if folder is None:
            raise RecordError(f"{self._folder} has no checkpoint of the best epoch, {progress.best_epoch}")
        return describe_checkpoint(folder)

    @staticmethod
    def _find_epoch_end(folders: Iterable[Path], epoch: int) -> Path | None:
        return next((path for path in folders if path.name.endswith(END) and _epoch_of(path) == epoch), None)


def _epoch_of(folder: Path) -> int:
    return int(folder.name.split("-")[3])


def _contiguous(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """safetensors knows no channels-last; restoring copies into tensors that have their format already."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """An optimizer tensor on the parameter's device and in its memory format, as the optimizer itself would make it."""
    import torch

    if value.shape != parameter.shape:
        return value  # the step counter
    made = torch.empty_like(parameter, memory_format=torch.preserve_format, requires_grad=False, dtype=value.dtype)
    return made.copy_(value)


def _refuse_difference(folder: Path, what: str, saved: Iterable[str], own: Iterable[str]) -> None:
    saved, own = set(saved), set(own)
    if saved != own:
        only = [f"{name} only in the checkpoint" for name in sorted(saved - own)]
        only += [f"{name} only in the {what}" for name in sorted(own - saved)]
        raise RecordError(f"{folder} does not fit the {what}: {only[0]} ({len(only)} in all)")
