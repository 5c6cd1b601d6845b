"""The step against a plain PyTorch loop and plain formulas; precisions, and the ways in which a training ends."""

import contextlib
import copy
import csv
import json
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genmed.engine import loop
from genmed.engine.checkpoint import Checkpoint
from genmed.engine.checkpoint_store import CheckpointStore, Retention
from genmed.engine.evaluation import Evaluation
from genmed.engine.learner import Learner, build_learner, fingerprint_learner
from genmed.engine.loop import EpochReport, Training
from genmed.engine.normalise import Scaling, choose_scaling
from genmed.engine.objective import sum_loss, weigh_targets
from genmed.engine.progress import Progress
from genmed.engine.schedule import learning_rate
from genmed.engine.step import LaunchedStep, StepRecord, run_step, to_input
from genmed.engine.task import Task
from genmed.ground.errors import Interrupted
from genmed.ground.randomness import derive_seed
from genmed.parts.data.augmentation import PRESETS, draw_epoch
from genmed.parts.data.cache import ImageBytes, ImageDigests
from genmed.parts.data.loader import Batch, BatchLoader, plan_epoch
from genmed.parts.models.build import set_training_mode
from genmed.records.config import Config
from genmed.records.config.sections import Optimizer, Schedule
from tests.harness import TINY_MODEL, Genmed

STEPS_PER_EPOCH = 7  # of `tiny`
CLASSES = ("Effusion", "Mass", "Hernia", "Edema")
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
    """A network without dropout that kills its process at training pass GENMED_TEST_KILL_AT; the dry one is pass 1."""
    path = tmp_path / "network.py"
    path.write_text(NETWORK)
    return f"{path}:build"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_task(folder: Path, changes: Mapping[str, Any] | None = None, scaling: Scaling | None = None) -> Task:
    """44 noise images with 4 findings in this process, 28 of them to train on: 3 full batches of 8 and one of 4."""
    keys: dict[str, Any] = {
        "model.name": TINY_MODEL,
        "data.image_size": SIZE,
        "augmentation.preset": "none",
        "training.batch_size": 8,
        "training.epochs": 4,
        "compute.device": "cpu",
    }
    config = Config().replace(**{**keys, **(changes or {})})
    generator = np.random.Generator(np.random.Philox(11))
    labels = (generator.random((COUNT, len(CLASSES))) < 0.4).astype(np.int8)
    pixels = generator.integers(0, 80, (COUNT, 1, SIZE, SIZE)).astype(np.uint8)
    pixels += (labels.astype(np.uint8) @ np.array([20, 40, 50, 60], dtype=np.uint8))[:, None, None, None]
    path = folder / "pixels.u8"
    path.write_bytes(pixels.tobytes())
    images = ImageBytes(path, pixels.shape, ImageDigests((), (), ()))
    rows = {"train": np.arange(28), "val": np.arange(28, 36), "test": np.arange(36, COUNT)}
    return Task(
        config=config,
        device="cpu",
        classes=CLASSES,
        ids=tuple(f"image{row:03d}" for row in range(COUNT)),
        kind="multi-label",
        labels=labels,
        targets=labels,
        studies=(),
        images=images,
        rows=rows,
        scaling=scaling or choose_scaling(config.normalisation, images, rows["train"]),
        strength=PRESETS[config.augmentation.preset],
        weights=weigh_targets("sigmoid", labels[rows["train"]], config.loss.positive_weights),
    )


def list_batches(task: Task, epochs: int = 4) -> list[tuple[int, Batch]]:
    """(epoch, batch) of each step."""
    found = []
    for epoch in range(1, epochs + 1):
        plan = plan_epoch(
            task.config.seed, epoch, task.rows["train"], task.config.training.batch_size, task.config.compute.shards
        )
        for rows in plan:
            tensors = (
                torch.from_numpy(rows),
                torch.from_numpy(task.images.read(rows)),
                torch.from_numpy(task.targets[rows]),
            )
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
        images = prepare(batch.images).repeat(1, 3, 1, 1)
        if task.config.compute.memory_format == "channels_last":
            images = images.to(memory_format=torch.channels_last)
        loss = nn.functional.binary_cross_entropy_with_logits(model(images), batch.targets.float())
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
    task = make_task(tmp_path, keys, Scaling(0.0, 64 / 255))  # exact in both ways of writing it
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


def test_initial_weights_are_those_of_torch_seeded_for_them(tmp_path: Path, network: str) -> None:
    first = build_learner(make_task(tmp_path, {"model.name": network}))
    torch.manual_seed(derive_seed(42, "init"))
    names: dict[str, Any] = {}
    exec(NETWORK, names)
    plain = names["build"](len(CLASSES)).state_dict()
    found = first.model.state_dict()
    assert [key for key in plain if not torch.equal(plain[key], found[key])] == []
    other = build_learner(make_task(tmp_path, {"model.name": network, "seed": 43})).model.state_dict()
    assert not torch.equal(found["0.weight"], other["0.weight"])


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_input_is_scaled_repeated_and_laid_out_as_the_config_says(tmp_path: Path, memory_format: str) -> None:
    task = make_task(tmp_path, {"compute.memory_format": memory_format})
    learner = build_learner(task)
    images = list_batches(task)[0][1].images
    found = to_input(images, learner, task, None)
    train = task.images.read(task.rows["train"]) / 255
    expected = ((images.double() / 255 - train.mean()) / train.std()).repeat(1, 3, 1, 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=getattr(torch, f"{memory_format}_format", torch.channels_last))
    assert found.is_contiguous() == (memory_format == "contiguous")
    weight = learner.model[0].weight  # type: ignore[index]
    assert weight.is_contiguous() == (memory_format == "contiguous")


@pytest.mark.parametrize(
    ("smoothing", "weights"),
    [(0.0, "none"), (0.2, "none"), (0.0, (0.5, 2.0, 3.0, 1.0)), (0.1, (0.5, 2.0, 3.0, 1.0)), (0.0, "balanced")],
)
def test_loss_is_cross_entropy_with_its_adjustments(tmp_path: Path, smoothing: float, weights: Any) -> None:
    task = make_task(tmp_path, {"loss.label_smoothing": smoothing, "loss.positive_weights": weights})
    logits = torch.randn(8, len(CLASSES), generator=torch.Generator().manual_seed(2))
    labels = torch.from_numpy(task.labels[:8])
    truth = task.labels[:8].astype(float)
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    if weights == "balanced":
        train = task.labels[task.rows["train"]]
        w = (train == 0).sum(0) / (train == 1).sum(0)
    else:
        w = np.ones(len(CLASSES)) if weights == "none" else np.array(weights)
    target = truth * (1 - smoothing) + (1 - truth) * smoothing / 2 + truth * smoothing / 2
    expected = -(w * target * np.log(p) + (1 - target) * np.log(1 - p)).sum()
    found = sum_loss("sigmoid", logits, labels, task.config.loss, task.weights)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_class_without_positives_has_a_finite_balanced_weight() -> None:
    labels = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=np.int8)
    assert weigh_targets("sigmoid", labels, "balanced") == (3.0, 3.0, 0.0)
    assert weigh_targets("sigmoid", labels, "none") is None


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_clipping_scales_all_gradients_by_one_factor(tmp_path: Path, network: str, limit: float) -> None:
    plainly = {
        "optimizer.name": "sgd",
        "optimizer.momentum": 0,
        "optimizer.weight_decay": 0,
        "schedule.name": "constant",
    }
    keys = {"model.name": network, "schedule.warmup": 0, "optimizer.lr": 1.0, **plainly}
    free, clipped = (make_task(tmp_path, {**keys, **more}) for more in ({}, {"optimizer.clip_norm": limit}))
    learners = build_learner(free), build_learner(clipped)
    before = copy.deepcopy(learners[0].trained)
    records = [run_steps(learner, task, 1, 1)[0] for learner, task in zip(learners, (free, clipped), strict=True)]
    gradients, found = ({n: before[n].detach() - p.detach() for n, p in each.trained.items()} for each in learners)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))
    assert norm > 0.02
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient * min(1.0, limit / norm), rtol=1e-3, atol=1e-6)
    assert (records[0].grad == records[1].grad) == (limit > norm)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant", "warmup": 0}, {1: 1, 50: 1, 100: 1}),
        ({"name": "constant", "warmup": 0.1}, {1: 0.1, 5: 0.5, 10: 1, 11: 1, 100: 1}),
        ({"name": "cosine", "warmup": 0}, {25: 0.5 + math.sqrt(0.125), 50: 0.5, 75: 0.5 - math.sqrt(0.125), 100: 0}),
        ({"name": "cosine", "warmup": 0.2}, {1: 0.05, 10: 0.5, 20: 1, 40: 0.5 + math.sqrt(0.125), 60: 0.5, 100: 0}),
        (
            {"name": "multistep", "warmup": 0, "milestones": (0.5, 0.75), "gamma": 0.1},
            {1: 1, 50: 1, 51: 0.1, 75: 0.1, 76: 0.01, 100: 0.01},
        ),
        (
            {"name": "multistep", "warmup": 0.04, "milestones": (0.25,), "gamma": 0.5},
            {1: 0.25, 4: 1, 25: 1, 26: 0.5, 100: 0.5},
        ),
    ],
    ids=str,
)
def test_learning_rate_has_closed_values(schedule: dict[str, Any], expected: dict[int, float]) -> None:
    found = {step: learning_rate(step, 100, Optimizer(lr=0.3), Schedule(**schedule)) for step in expected}
    assert found == pytest.approx({step: 0.3 * value for step, value in expected.items()}, abs=1e-15)


def test_learning_rate_rises_to_the_top_and_then_falls() -> None:
    rates = [learning_rate(step, 40, Optimizer(lr=1.0), Schedule(warmup=0.25)) for step in range(1, 41)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[9] == 1.0 == max(rates)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_steps_are_counted_as_the_epochs_are_planned(tmp_path: Path) -> None:
    for count in range(2, 40):
        for shards in (1, 2, 4):
            task = make_task(tmp_path, {"compute.shards": shards})
            task.rows["train"] = np.arange(count)
            plan = plan_epoch(42, 1, task.rows["train"], 8, shards)
            assert len(plan) == task.steps_per_epoch
            assert all(len(rows) % shards == 0 and len(rows) >= 2 * shards for rows in plan)
            assert count - sum(map(len, plan)) < 2 * shards
            assert len({row for rows in plan for row in rows}) == sum(map(len, plan))


def draw_from_all_generators() -> None:
    random.random()
    np.random.random(3)
    torch.rand(5)


def test_draws_between_steps_change_nothing(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"augmentation.preset": "standard"})
    left_alone, disturbed = build_learner(task), build_learner(task)
    expected = run_steps(left_alone, task, 1, STEPS)
    found = []
    for step in range(1, STEPS + 1):
        draw_from_all_generators()
        found += run_steps(disturbed, task, step, step)
    assert found == expected


def test_dropout_and_augmentation_are_drawn_for_the_step_and_the_epoch(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"augmentation.preset": "standard"})
    _, batch = list_batches(task)[0]

    def first_step(step: int, epoch: int, seed: int = 42) -> StepRecord:
        learner = build_learner(task)
        set_training_mode(learner.model, task.config.model, len(CLASSES))
        return run_step(learner, task, batch, draw_epoch(seed, epoch, COUNT), step, epoch)

    one, again, later, other_epoch = first_step(3, 1), first_step(3, 1), first_step(4, 1), first_step(3, 2)
    assert one == again
    assert one.input == later.input
    assert one.loss != later.loss
    assert one.input != other_epoch.input
    assert one.input != first_step(3, 1, seed=43).input


def test_record_of_a_step_has_a_fingerprint_for_each_part_and_none_without_a_trace(tmp_path: Path) -> None:
    records = {}
    for traced in (True, False):
        task = make_task(tmp_path, {"run.trace": traced})
        learner = build_learner(task)
        records[traced] = run_steps(learner, task, 1, 3)[-1], fingerprint_learner(learner, Progress(step=3))
    (traced_record, traced_state), (bare, bare_state) = records[True], records[False]
    assert traced_state == bare_state
    assert traced_record.loss == bare.loss
    parts = (bare.samples, bare.grad, bare.param, bare.buffer, bare.optim)
    assert parts == ("",) * 5
    assert bare.input == ()
    full = {traced_record.samples, traced_record.grad, traced_record.param, traced_record.buffer, traced_record.optim}
    assert len(full) == 5
    assert all(part.startswith("xxh3-128:") for part in full)


class Lines:
    """A trace kept in memory, and an observer that stops the training after a given step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.records: list[tuple[StepRecord, str | None]] = []
        self.reports: list[EpochReport] = []
        self.stop_after = stop_after

    chain = None

    def record(self, step: StepRecord, state: str | None) -> None:
        self.records.append((step, state))

    def sync(self) -> None: ...

    def on_step(self, record: StepRecord, images: int) -> None: ...

    def on_epoch(self, report: EpochReport) -> None:
        self.reports.append(report)

    def on_checkpoint(self, kept: Sequence[Checkpoint], best_epoch: int) -> None: ...

    def stop_asked(self) -> str | None:
        done = self.records[-1][0].step if self.records else 0
        return "SIGTERM" if self.stop_after and done >= self.stop_after else None


def make_store(folder: Path, keep: int = 1) -> CheckpointStore:
    return CheckpointStore(folder, {"config": "c"}, Retention(newest=keep))


def train(
    task: Task, store: CheckpointStore, learner: Learner, progress: Progress, stop_after: int | None = None
) -> Lines:
    """A training in this process from `progress` to its end, or to Interrupted."""
    lines = Lines(stop_after)
    loader = BatchLoader(task.images, task.targets, workers=0, prefetch=2, persistent=False, pin=False)
    training = Training(task, learner, progress, loader, lines, store, lines)
    with contextlib.ExitStack() as stack:
        if stop_after:
            stack.enter_context(pytest.raises(Interrupted))
        stack.enter_context(store)
        training.run()
    return lines


WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"compute.precision": "bf16"},
    "fp16": {"compute.precision": "fp16"},
    "contiguous": {"compute.memory_format": "contiguous"},
    "sgd": {"optimizer.name": "sgd"},
    "plain sgd": {"optimizer.name": "sgd", "optimizer.momentum": 0},
    "adam": {"optimizer.name": "adam"},
    "two shards": {"compute.shards": 2},
    "standard augmentation": {"augmentation.preset": "standard"},
}


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS)
def test_training_is_reproducible_and_goes_on_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    task = make_task(tmp_path, changes)
    whole = train(task, make_store(tmp_path / "whole"), build_learner(task), Progress())
    again = train(task, make_store(tmp_path / "again"), build_learner(task), Progress())
    assert whole.records == again.records
    assert len(whole.records) == 16
    for epoch, report in enumerate(whole.reports):
        losses = [record.mean_loss for record, _ in whole.records[4 * epoch : 4 * epoch + 4]]
        assert report.metrics["train_loss"] == pytest.approx(np.mean(losses), rel=1e-12)
        assert (report.epoch, report.step, report.metrics["lr"]) == (
            epoch + 1,
            4 * epoch + 4,
            whole.records[report.step - 1][0].lr,
        )
    for stop_after in (1, 4, 6):
        folder = tmp_path / f"stopped-{stop_after}"
        before = train(task, make_store(folder), build_learner(task), Progress(), stop_after)
        (checkpoint, *_), broken = make_store(folder).list_whole()
        assert (checkpoint.step, broken) == (stop_after, {})
        learner = build_learner(task)
        learner.model.eval()
        after = train(task, make_store(folder), learner, make_store(folder).restore(checkpoint, learner))
        assert before.records + after.records == whole.records
        assert [report.metrics for report in (before.reports + after.reports)] == [r.metrics for r in whole.reports]


def test_steps_that_are_waited_for_later_leave_the_same_trace_and_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator, which is still at a step when the next one is launched."""
    task = make_task(tmp_path, {"checkpoints.every_steps": 3})
    learners = [build_learner(task) for _ in range(2)]
    at_once = train(task, make_store(tmp_path / "at once", keep=9), learners[0], Progress())
    launched: list[int] = []
    launch = loop.launch_step

    def note_launch(*arguments: Any) -> LaunchedStep:
        launched.append(arguments[4])
        return launch(*arguments)

    class Late(Lines):
        def record(self, step: StepRecord, state: str | None) -> None:
            super().record(step, state)
            ahead.append(launched[-1] - step.step)

    ahead: list[int] = []
    monkeypatch.setattr(loop, "launch_step", note_launch)
    monkeypatch.setattr(LaunchedStep, "is_done", False)
    monkeypatch.setattr("tests.test_step.Lines", Late)
    later = train(task, make_store(tmp_path / "later", keep=9), learners[1], Progress())
    assert later.records == at_once.records
    assert [report.metrics for report in later.reports] == [report.metrics for report in at_once.reports]
    # Nothing is ahead where a state is saved: at every third step, and at the end of an epoch.
    assert ahead == [0 if step % 3 == 0 or step % 4 == 0 else 1 for step in range(1, 17)]
    states = [
        [(found.step, found.state) for found in make_store(tmp_path / name).list_whole()[0]]
        for name in ("at once", "later")
    ]
    assert states[0] == states[1]
    assert len(states[0]) > 5
    for step in (1, 2, 3):
        folder = tmp_path / f"stopped-{step}"
        before = train(task, make_store(folder), build_learner(task), Progress(), stop_after=step)
        (checkpoint, *_), _ = make_store(folder).list_whole()
        assert before.records == at_once.records[: checkpoint.step]
        assert step <= checkpoint.step <= step + 2


@pytest.mark.parametrize(
    ("monitor", "patience", "figures", "best", "epochs"),
    [
        ("auroc_macro", 0, [0.5, 0.7, 0.6, 0.7], 2, 4),
        ("auroc_macro", 2, [0.5, 0.7, 0.7, 0.6, 0.9], 2, 4),
        ("auroc_macro", 1, [0.5, 0.5, 0.9], 1, 2),
        ("auroc_macro", 2, [0.5, 0.4, 0.6, 0.4, 0.4, 0.9], 3, 5),
        ("auroc_macro", 0, [None, 0.1, None, 0.2], 4, 4),
        ("auroc_macro", 2, [None, None, None, 0.9], 1, 3),
        ("loss", 0, [0.5, 0.4, 0.4, 0.6], 2, 4),
        ("loss", 1, [0.5, 0.6, 0.1], 1, 2),
    ],
)
def test_best_epoch_is_the_first_strictly_better_one_and_patience_counts_from_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    monitor: str,
    patience: int,
    figures: list[float | None],
    best: int,
    epochs: int,
) -> None:
    coming = iter(figures)

    def evaluate(*_: object) -> Evaluation:
        return Evaluation(np.zeros((0, 0), np.float32), {f"val_{monitor}": next(coming)})

    monkeypatch.setattr("genmed.engine.loop.evaluate", evaluate)
    keys = {"training.monitor": monitor, "training.patience": patience, "training.epochs": len(figures)}
    task, progress = make_task(tmp_path, keys), Progress()
    lines = train(task, make_store(tmp_path / "checkpoints"), build_learner(task), progress)
    assert (progress.best_epoch, progress.best_value, len(lines.reports)) == (best, figures[best - 1], epochs)
    assert progress.finished
    assert [report.epoch for report in lines.reports if report.is_best][-1] == best


def test_validation_comes_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"training.validate_every": 3, "training.epochs": 5})
    lines = train(task, make_store(tmp_path / "checkpoints"), build_learner(task), Progress())
    assert ["val_loss" in report.metrics for report in lines.reports] == [False, False, True, False, True]
    every = train(
        make_task(tmp_path, {"training.epochs": 5}), make_store(tmp_path / "c"), build_learner(task), Progress()
    )
    assert every.records == lines.records


def test_precisions_formats_and_optimizers_are_different_trainings(tmp_path: Path) -> None:
    states = {
        name: train(
            make_task(tmp_path, changes),
            make_store(tmp_path / name),
            build_learner(make_task(tmp_path, changes)),
            Progress(),
        ).records[-1][1]
        for name, changes in WAYS.items()
    }
    assert len(set(states.values())) == len(WAYS)


def test_fp16_counts_on_its_scaler(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"compute.precision": "fp16"})
    learner = build_learner(task)
    assert learner.scaler is not None
    learner.scaler.load_state_dict({**learner.scaler_state(), "growth_interval": 3})
    scales = []
    for step in range(1, 8):
        run_steps(learner, task, step, step)
        scales.append((learner.scaler_state()["scale"], learner.scaler_state()["_growth_tracker"]))
    assert scales == [(2.0**16, 1), (2.0**16, 2), (2.0**17, 0), (2.0**17, 1), (2.0**17, 2), (2.0**18, 0), (2.0**18, 1)]
    before = fingerprint_learner(learner, Progress())
    learner.scaler.load_state_dict({**learner.scaler_state(), "_growth_tracker": 0})
    assert fingerprint_learner(learner, Progress()) != before


def test_fp16_gradients_are_unscaled_before_they_are_clipped_and_used(tmp_path: Path, network: str) -> None:
    plainly = {
        "optimizer.name": "sgd",
        "optimizer.momentum": 0,
        "optimizer.weight_decay": 0,
        "schedule.name": "constant",
    }
    keys = {"model.name": network, "schedule.warmup": 0, "optimizer.lr": 1.0, "optimizer.clip_norm": 0.05, **plainly}
    changes = []
    for precision in ("fp32", "fp16"):
        task = make_task(tmp_path, {**keys, "compute.precision": precision})
        learner = build_learner(task)
        before = copy.deepcopy(learner.trained)
        run_steps(learner, task, 1, 1)
        changes.append(torch.cat([(before[n] - p).detach().reshape(-1) for n, p in learner.trained.items()]))
    assert float(changes[0].norm()) == pytest.approx(0.05, rel=1e-3)
    torch.testing.assert_close(changes[1], changes[0], rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_killed_run_of_low_precision_resumes_to_the_bit(
    genmed: Genmed, tiny: Callable[..., list[object]], network: str, precision: str
) -> None:
    command = tiny("--model", network, "--precision", precision, "--epochs", 2, "--set", "checkpoints.every_steps=2")
    whole = genmed(*command)
    assert whole.code == 0, whole.err
    killed = genmed(*command, GENMED_TEST_KILL_AT="10")
    assert killed.code == -9
    resumed = genmed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    assert "resuming" in resumed.err
    assert re.search(r"epoch [12]/2, step \d/7", resumed.err)
    assert resumed.json["trace_digest"] == whole.json["trace_digest"]
    assert resumed.json["fingerprint"] == whole.json["fingerprint"]
    assert resumed.json["metrics"] == whole.json["metrics"]


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_early_stopping_ends_after_so_many_epochs_without_a_better_one(
    genmed: Genmed, tiny: Callable[..., list[object]]
) -> None:
    result = genmed(*tiny("--epochs", 40, "--lr", 1e-9, "--set", "training.patience=2"))
    assert result.code == 0, result.err
    rows = read_metrics(genmed.run_folder())
    figures = [float(row["val_auroc_macro"]) for row in rows]
    best = figures.index(max(figures))
    assert len(rows) == best + 1 + 2 < 40
    assert result.json["epochs_done"] == len(rows)
    assert result.json["steps_done"] == STEPS_PER_EPOCH * len(rows)
    assert result.json["metrics"]["val_auroc_macro"] == figures[best]


def test_max_steps_ends_within_an_epoch_with_the_state_on_the_last_line(
    genmed: Genmed, tiny: Callable[..., list[object]]
) -> None:
    result = genmed(*tiny("--set", "training.max_steps=9"))
    assert result.code == 0, result.err
    assert (result.json["epochs_done"], result.json["steps_done"], result.json["status"]) == (2, 9, "completed")
    lines = [json.loads(line) for line in (genmed.run_folder() / "trace.jsonl").read_text().splitlines()[1:]]
    assert [(line["step"], line["epoch"]) for line in lines] == [(step, 1 + (step > 7)) for step in range(1, 10)]
    assert [line["step"] for line in lines if "state" in line] == [7, 9]
    assert lines[-1]["state"] == result.json["fingerprint"]
    assert float.fromhex(lines[-1]["lr"]) == 0
    assert [(row["epoch"], row["step"]) for row in read_metrics(genmed.run_folder())] == [("1", "7"), ("2", "9")]


def test_loss_that_is_no_number_ends_the_run_as_failed(genmed: Genmed, tiny: Callable[..., list[object]]) -> None:
    result = genmed(*(argument for argument in tiny("--lr", 1e30) if argument != "--json"))
    assert result.code == 1
    last = result.err.splitlines()[-1]
    assert re.fullmatch(
        r"error: the loss is nan at step \d \(epoch 1\)"
        r" \(lower --lr, or set optimizer.clip_norm\)",
        last,
    ), result.err
    assert "Traceback" not in result.err
    folder = genmed.run_folder()
    document = json.loads((folder / "run.json").read_text())
    assert document["status"] == "failed"
    assert document["error"].startswith("the loss is nan at step")
    assert genmed("list", "--json").json[0]["status"] == "failed"
    step = int(last.split()[7])
    assert len((folder / "trace.jsonl").read_text().splitlines()) == 1 + step
    assert (folder / "train.log").read_text().splitlines()[-1].endswith(document["error"])
