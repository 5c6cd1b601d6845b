"""The step against a plain PyTorch loop and plain formulas; precisions, and the ways in which a training ends."""

import copy
import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genmed.engine.checkpoint import CheckpointStore
from genmed.engine.learner import Learner, build_learner, fingerprint_learner
from genmed.engine.loop import EpochReport, Training
from genmed.engine.normalise import Scaling, choose_scaling
from genmed.engine.progress import Progress
from genmed.engine.schedule import learning_rate
from genmed.engine.step import StepRecord, run_step, sum_loss, to_input
from genmed.engine.task import Task, weigh_positives
from genmed.ground.randomness import derive_seed
from genmed.parts.data.augmentation import PRESETS, draw_epoch
from genmed.parts.data.cache import ImageBytes, ImageDigests
from genmed.parts.data.loader import Batch, BatchLoader, plan_epoch
from genmed.parts.models.build import set_training_mode
from genmed.records.config import Config
from genmed.records.config.sections import Normalisation, Optimizer, Schedule
from tests.harness import TINY_MODEL, Genmed

CLASSES = ("Effusion", "Mass", "Hernia")
SIZE, COUNT, STEPS = 16, 44, 5

NETWORK = """
import os
import signal
from torch import nn


def build(num_classes):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )
    passes = []

    def count(module, inputs):
        passes.extend([None] * module.training)
        if len(passes) == int(os.environ.get("GENMED_TEST_KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)

    model.register_forward_pre_hook(count)
    return model
"""


@pytest.fixture
def network(tmp_path: Path) -> str:
    """A network without dropout; it kills its process at training pass GENMED_TEST_KILL_AT (the dry one is the first)."""
    path = tmp_path / "network.py"
    path.write_text(NETWORK)
    return f"{path}:build"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_task(folder: Path, scaling: Scaling | None = None, **changes: Any) -> Task:
    """44 noise images with 3 findings in this process, 28 of them to train on: 3 full batches of 8 and one of 4."""
    keys: dict[str, Any] = {
        "model.name": TINY_MODEL,
        "data.image_size": SIZE,
        "augmentation.preset": "none",
        "training.batch_size": 8,
        "training.epochs": 4,
        "compute.device": "cpu",
    }
    config = Config().replace(**{**keys, **changes})
    random = np.random.Generator(np.random.Philox(11))
    labels = (random.random((COUNT, len(CLASSES))) < 0.4).astype(np.uint8)
    pixels = random.integers(0, 100, (COUNT, 1, SIZE, SIZE)).astype(np.uint8)
    pixels += (labels @ np.array([30, 60, 65], dtype=np.uint8))[:, None, None, None]
    path = folder / "pixels.u8"
    path.write_bytes(pixels.tobytes())
    rows = {"train": np.arange(28), "val": np.arange(28, 36), "test": np.arange(36, COUNT)}
    return Task(
        config=config,
        device="cpu",
        classes=CLASSES,
        ids=tuple(f"image{row:03d}" for row in range(COUNT)),
        labels=labels,
        images=ImageBytes(path, pixels.shape, ImageDigests((), (), ())),
        rows=rows,
        scaling=scaling or choose_scaling(config.normalisation, pixels, rows["train"]),
        strength=PRESETS[config.augmentation.preset],
        positive_weights=weigh_positives(labels[rows["train"]], config.loss.positive_weights),
    )


def list_batches(task: Task, epochs: int = 4) -> list[tuple[int, Batch]]:
    """(epoch, batch) of each step."""
    pixels = task.images.map()
    found = []
    for epoch in range(1, epochs + 1):
        plan = plan_epoch(
            task.config.seed, epoch, task.rows["train"], task.config.training.batch_size, task.config.compute.shards
        )
        for rows in plan:
            tensors = torch.from_numpy(rows), torch.from_numpy(pixels[rows]), torch.from_numpy(task.labels[rows])
            found.append((epoch, Batch(*tensors)))
    return found


def run_steps(learner: Learner, task: Task, first: int, last: int) -> list[StepRecord]:
    """The records of steps `first` to `last`."""
    set_training_mode(learner.model, task.config.model, len(task.classes))
    batches = list_batches(task)
    records = []
    for step in range(first, last + 1):
        epoch, batch = batches[step - 1]
        draws = draw_epoch(task.config.seed, epoch, len(task.ids))
        records.append(run_step(learner, task, batch, draws, step, epoch))
    return records


def cosine(step: int, total: int, peak: float) -> float:
    return peak * 0.5 * (1 + math.cos(math.pi * step / total))


def train_plainly(
    task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, prepare: Callable[[torch.Tensor], torch.Tensor]
) -> list[float]:
    """What a careful colleague would write: five steps on the same batches, the mean loss of each."""
    model.train()
    losses = []
    for step, (_, batch) in enumerate(list_batches(task)[:STEPS], start=1):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, task.total_steps, task.config.optimizer.lr)
        optimizer.zero_grad()
        images = prepare(batch.images).expand(-1, 3, -1, -1)
        if task.config.compute.memory_format == "channels_last":
            images = images.contiguous(memory_format=torch.channels_last)
        loss = nn.functional.binary_cross_entropy_with_logits(model(images.contiguous() if False else images), batch.labels.float())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[..., torch.optim.Optimizer]]] = {
    "adamw": (
        {"optimizer.name": "adamw", "optimizer.lr": 0.01, "optimizer.weight_decay": 0.1},
        lambda parameters, **how: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1, **how),
    ),
    "adam": (
        {"optimizer.name": "adam", "optimizer.lr": 0.01, "optimizer.weight_decay": 0.1, "optimizer.beta1": 0.8},
        lambda parameters, **how: torch.optim.Adam(parameters, lr=0.01, weight_decay=0.1, betas=(0.8, 0.999), **how),
    ),
    "sgd": (
        {"optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.weight_decay": 0.01, "optimizer.momentum": 0.8},
        lambda parameters, **how: torch.optim.SGD(parameters, lr=0.1, momentum=0.8, weight_decay=0.01, **how),
    ),
}


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_five_steps_are_those_of_a_plain_loop(tmp_path: Path, network: str, name: str, memory_format: str) -> None:
    changes, make_optimizer = OPTIMIZERS[name]
    keys = {"model.name": network, "schedule.warmup": 0, "compute.memory_format": memory_format, **changes}
    task = make_task(tmp_path, scaling=Scaling(0.0, 64 / 255), **keys)  # exact in both ways of writing it
    learner = build_learner(task)
    same, plain = copy.deepcopy(learner.model), copy.deepcopy(learner.model)
    records = run_steps(learner, task, 1, STEPS)

    losses = train_plainly(task, same, make_optimizer(same.parameters(), fused=True), lambda x: x / 64)
    assert [record.mean_loss for record in records] == pytest.approx(losses, rel=1e-6)
    found, expected = learner.model.state_dict(), same.state_dict()
    assert [key for key in found if not torch.equal(found[key], expected[key])] == []

    train_plainly(task, plain, make_optimizer(plain.parameters()), lambda x: (x / 255 - 0.0) / (64 / 255))
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
