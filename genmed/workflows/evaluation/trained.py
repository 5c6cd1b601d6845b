"""A finished run's network, ready to score other images: in the state that the run's results are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from genmed.engine.checkpoint import Checkpoint, restore_weights
from genmed.engine.evaluation import evaluate
from genmed.engine.learner import Learner, build_learner
from genmed.engine.normalise import Scaling
from genmed.engine.objective import choose_objective, count_outputs
from genmed.engine.task import Task
from genmed.ground.determinism import apply_settings
from genmed.ground.sealed import read_sealed
from genmed.ground.user_files import is_user_file
from genmed.parts.data.augmentation import Strength
from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.loader import BatchLoader
from genmed.parts.data.records import UNKNOWN, TaskKind
from genmed.parts.metrics import Scores
from genmed.records.config import Config
from genmed.records.environment import compare_environments
from genmed.records.environment.capture import describe_packages
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.assemble import choose_device
from genmed.workflows.code import describe_changes, diff_code, find_code, read_code
from genmed.workflows.finished import check_complete, find_selected
from genmed.workflows.identity import read_config
from genmed.workflows.reporting import Reporter


@dataclass(frozen=True)
class Trained:
    """What a run needs to score images."""

    document: RunDocument
    config: Config
    """With the device of here, and the run's own copy of a model's file."""
    classes: tuple[str, ...]
    kind: TaskKind
    channels: int
    """Of the images: 1 or 3."""
    scaling: Scaling
    checkpoint: Checkpoint


def load_trained(folder: RunFolder, reporter: Reporter, device: str = "auto") -> Trained:
    """Reads what the run left. Raises RequestError where it is not complete, RecordError where its state is gone.

    Where code of the user's is not as recorded, the run's own copies are taken; that, and packages of other versions,
    are reported.
    """
    document = folder.read()
    check_complete(document)
    config, described = read_config(folder, document), read_sealed(folder.data_path)
    values: dict[str, Any] = {"compute.device": choose_device(device), "model.weights": "random"}
    values["model.mode"] = "full_finetune"  # which parameters were trained is no matter any more
    if is_user_file(config.model.name) and _report_code(folder, config, reporter):
        file, _, function = config.model.name.rpartition(":")
        values["model.name"] = f"{folder.code_path / file.rpartition('/')[2]}:{function}"
    scaling = described["normalisation"]
    return Trained(
        document=document,
        config=config.replace(**values),
        classes=tuple(described["classes"]),
        kind=described.get("task", "multi-label"),
        channels=described.get("channels", 3 if config.data.colour == "rgb" else 1),
        scaling=Scaling(_plain(scaling["mean"]), _plain(scaling["std"])),
        checkpoint=find_selected(folder, document),
    )


def _report_code(folder: RunFolder, config: Config, reporter: Reporter) -> bool:
    """Whether files of the user's are not as recorded."""
    found = find_code(folder, config)
    changed = describe_changes(read_code(folder), found)
    if changed:
        reporter.message(f"not as recorded: {changed}; the scores are by the run's own copies of its code")
        reporter.message(diff_code(folder, found, own=False))
    return bool(changed)


def report_packages(trained: Trained, folder: RunFolder, reporter: Reporter) -> None:
    """Reports packages of other versions than recorded that can change the scores; once the model is built, which
    imports them."""
    recorded = read_sealed(folder.environment_path)
    for entry in compare_environments(recorded, {**recorded, **describe_packages()}, trained.document.device):
        if entry.changes_bits:
            told = f"{entry.field} was {entry.recorded}, is {entry.found} (can change the scores: {entry.why})"
            reporter.message(f"not as recorded: {told}")


def _plain(value: float | list[float]) -> float | tuple[float, ...]:
    return tuple(value) if isinstance(value, list) else value


def restore_learner(trained: Trained, images: ImageBytes, side: str) -> tuple[Learner, Task]:
    """The network with the run's weights, and the images as a task of one side, without truth."""
    config, compute = trained.config, trained.config.compute
    apply_settings(strict=compute.determinism == "strict", tf32=compute.tf32, threads=compute.threads)
    count, outputs = len(images), count_outputs(choose_objective(trained.kind, config.loss), len(trained.classes))
    task = Task(
        config=config,
        device=compute.device,
        classes=trained.classes,
        ids=("",) * count,
        kind=trained.kind,
        labels=np.full((count, len(trained.classes)), UNKNOWN, np.int8),
        targets=np.full((count, outputs), UNKNOWN, np.int8),
        studies=(),
        images=images,
        rows={side: np.arange(count)},
        scaling=trained.scaling,
        strength=Strength(),
        weights=None,
    )
    learner = build_learner(task)
    restore_weights(trained.checkpoint, learner)
    return learner, task


def score_images(trained: Trained, images: ImageBytes, side: str) -> Scores:
    """(N, L) probabilities of prepared images; of those of a side of the run, its own to the bit."""
    learner, task = restore_learner(trained, images, side)
    loader = BatchLoader(images, task.targets, workers=0, prefetch=1, persistent=False, pin=False)
    return evaluate(learner, task, loader, side).scores
