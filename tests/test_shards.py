"""A step over slices of its batch: combined as a tree, BatchNorm's figures as if one layer had seen the whole."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from genmed.engine.learner import build_learner
from genmed.engine.shards import RunningStatistics, combine_as_tree
from genmed.engine.step import compute_gradients, run_step, to_input
from genmed.ground.randomness import step_seed
from genmed.ground.tensor_fingerprints import fingerprint_tensors
from genmed.parts.data.augmentation import draw_epoch
from genmed.parts.data.loader import Batch
from genmed.parts.models.build import set_training_mode
from tests.harness import Genmed
from tests.test_step import CLASSES, COUNT, list_batches, make_task, run_steps

WITHOUT_BATCHNORM = """
from torch import nn


def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )
"""
KILLING = """
import os
import signal
from torch import nn


def build(num_classes):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )
    passes = []

    def count(module, inputs):
        passes.extend([None] * module.training)
        if len(passes) == int(os.environ.get("GENMED_TEST_KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)

    model.register_forward_pre_hook(count)
    return model
"""
Arguments = Callable[..., list[object]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, "0"), (2, "(0 1)"), (4, "((0 1) (2 3))"), (8, "(((0 1) (2 3)) ((4 5) (6 7)))")]
)
def test_tree_combines_neighbours_by_number(count: int, expected: str) -> None:
    assert combine_as_tree([str(n) for n in range(count)], lambda a, b: f"({a} {b})") == expected


def test_tree_leaves_its_values_alone() -> None:
    values = [1, 2, 3, 4]
    assert combine_as_tree(values, lambda a, b: a + b) == 10
    assert values == [1, 2, 3, 4]


def make_layers(momentum: float | None = 0.1) -> nn.ModuleList:
    """BatchNorm layers whose running figures are no longer the initial ones."""
    layers = nn.ModuleList([nn.BatchNorm2d(5, momentum=momentum), nn.BatchNorm1d(7, momentum=momentum)])
    for layer in layers:
        layer.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))  # type: ignore[operator]
        layer.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))  # type: ignore[operator]
        layer.num_batches_tracked.fill_(3)  # type: ignore[operator]
    return layers


def draw_batch(step: int, count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices with unlike means and variances."""
    generator = torch.Generator().manual_seed(step)
    shift = torch.arange(count).float()
    images = torch.randn(count, 5, 4, 3, generator=generator) * (1 + shift.view(-1, 1, 1, 1)) + shift.view(-1, 1, 1, 1)
    return images, torch.randn(count, 7, generator=generator) - 2 * shift.view(-1, 1)


def see_in_slices(layers: nn.ModuleList, shards: int, batch: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
    """Forward passes over the slices, combined; returns the first layer's outputs."""
    statistics = RunningStatistics(layers, shards)
    outputs = []
    for parts in zip(*(tensor.chunk(shards) for tensor in batch), strict=True):
        with statistics.watch_shard():
            outputs.append([layer(part) for layer, part in zip(layers, parts, strict=True)])
    statistics.combine()
    return [output for output, _ in outputs]


def figures(layers: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in layers.named_buffers()}


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0, None])
@pytest.mark.parametrize("shards", [2, 4, 8])
def test_running_figures_are_those_of_a_layer_that_saw_the_whole_batch(shards: int, momentum: float | None) -> None:
    sliced, whole = make_layers(momentum), make_layers(momentum)
    for step in range(3):
        batch = draw_batch(step)
        see_in_slices(sliced, shards, batch)
        for layer, part in zip(whole, batch, strict=True):
            layer(part)
    expected = figures(whole)
    for name, value in figures(sliced).items():
        torch.testing.assert_close(value, expected[name], rtol=2e-6, atol=1e-6)
    assert [int(value) for name, value in figures(sliced).items() if "num" in name] == [6, 6]
    assert [layer.momentum for layer in sliced] == [momentum, momentum]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.sampled_from([2, 4]), st.integers(1, 4), st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 100.0]))
def test_law_of_total_variance_holds_for_any_slices(shards: int, images: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = scale * torch.randn(shards * images, 3, 2, 2, generator=generator, dtype=torch.float64)
    layer = nn.BatchNorm2d(3, momentum=1.0).double()
    statistics = RunningStatistics(layer, shards)
    for part in batch.chunk(shards):
        with statistics.watch_shard():
            layer(part)
    statistics.combine()
    assert layer.running_mean is not None
    assert layer.running_var is not None
    torch.testing.assert_close(layer.running_mean, batch.mean((0, 2, 3)), rtol=1e-12, atol=1e-12 * scale)
    torch.testing.assert_close(layer.running_var, batch.var((0, 2, 3)), rtol=1e-12, atol=1e-24)


def test_mean_of_variances_would_be_wrong_here() -> None:
    """The batch of these tests tells the law of total variance from the mean of the slices' variances."""
    images, _ = draw_batch(0)
    whole = images.var((0, 2, 3))
    mean = torch.stack([part.var((0, 2, 3)) for part in images.chunk(4)]).mean(0)
    assert ((whole - mean).abs() / whole).min() > 0.05


def test_each_slice_is_normalised_by_its_own_figures() -> None:
    batch = draw_batch(0)
    outputs = see_in_slices(make_layers(), 4, batch)
    for output, part in zip(outputs, batch[0].chunk(4), strict=True):
        plain = nn.BatchNorm2d(5)
        assert torch.equal(output, plain(part))


def test_one_shard_leaves_the_layers_to_themselves() -> None:
    watched, plain = make_layers(), make_layers()
    for step in range(3):
        batch = draw_batch(step)
        see_in_slices(watched, 1, batch)
        for layer, part in zip(plain, batch, strict=True):
            layer(part)
    expected = figures(plain)
    assert all(torch.equal(value, expected[name]) for name, value in figures(watched).items())


def test_layers_at_rest_or_without_running_figures_are_left_alone() -> None:
    layers = nn.ModuleList([nn.BatchNorm2d(5), nn.BatchNorm1d(7, track_running_stats=False)])
    layers[0].eval()
    before = figures(layers)
    see_in_slices(layers, 2, draw_batch(0))
    assert all(torch.equal(value, before[name]) for name, value in figures(layers).items())


def test_momentum_is_put_back_where_a_pass_fails() -> None:
    layers = make_layers(0.3)
    with pytest.raises(RuntimeError, match="running_mean"), RunningStatistics(layers, 2).watch_shard():
        layers[0](torch.zeros(2, 3, 4, 4))
    assert [layer.momentum for layer in layers] == [0.3, 0.3]
    assert not layers[0]._forward_pre_hooks


def test_layer_that_no_pass_reaches_keeps_its_figures() -> None:
    layers = make_layers()
    before = figures(layers)
    statistics = RunningStatistics(layers, 2)
    for part in draw_batch(0)[0].chunk(2):
        with statistics.watch_shard():
            layers[0](part)
    statistics.combine()
    after = figures(layers)
    assert [name for name in before if not torch.equal(before[name], after[name])] == [
        "0.running_mean",
        "0.running_var",
        "0.num_batches_tracked",
    ]


def compute(folder: Path, shards: int, **changes: Any) -> tuple[dict[str, torch.Tensor], Any, Any]:
    """Gradients, the parts of the loss and the buffers after one pass over the first batch."""
    task = make_task(folder, {"compute.shards": shards, **changes})
    learner = build_learner(task)
    set_training_mode(learner.model, task.config.model, len(CLASSES))
    _, batch = list_batches(task)[0]
    _, losses = compute_gradients(learner, task, batch, draw_epoch(42, 1, COUNT), 1)
    gradients = {name: value.grad for name, value in learner.trained.items() if value.grad is not None}
    return gradients, losses, dict(learner.model.named_buffers())


@pytest.mark.parametrize("shards", [2, 4])
def test_gradients_of_slices_add_up_to_those_of_the_batch(tmp_path: Path, shards: int) -> None:
    (tmp_path / "plain.py").write_text(WITHOUT_BATCHNORM)
    keys = {"model.name": f"{tmp_path / 'plain.py'}:build"}
    whole, loss, _ = compute(tmp_path, 1, **keys)
    sliced, losses, _ = compute(tmp_path, shards, **keys)
    assert len(whole) == len(sliced) == 6
    for name, gradient in whole.items():
        torch.testing.assert_close(sliced[name], gradient, rtol=1e-4, atol=1e-7)
    assert losses.shape == (shards,)
    assert float(losses.sum()) == pytest.approx(float(loss), rel=1e-6)


def test_slices_are_neighbours_with_dropout_of_their_own(tmp_path: Path) -> None:
    """Each part is what a step over that half alone computes, given the same seed."""
    task = make_task(tmp_path, {"compute.shards": 2})
    records = run_steps(build_learner(task), task, 1, 1)[0]
    assert len(set(records.input)) == len(set(records.loss)) == 2
    single = make_task(tmp_path, {"compute.shards": 1})
    learner = build_learner(single)
    rows = list_batches(task)[0][1].rows
    halves = [
        to_input(torch.from_numpy(single.images.read(part.numpy())), learner, single, None) for part in rows.chunk(2)
    ]
    assert list(records.input) == [fingerprint_tensors([("input", half)]) for half in halves]


def test_each_slice_of_each_step_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    """Halves of the same images, through dropout: no two of four parts of the loss are equal, and all come again."""
    task = make_task(tmp_path, {"compute.shards": 2})
    rows = torch.arange(4).repeat(2)
    batch = Batch(rows, torch.from_numpy(task.images.read(rows.numpy())), torch.from_numpy(task.targets[rows.numpy()]))

    def parts(step: int) -> tuple[float, ...]:
        learner = build_learner(task)
        set_training_mode(learner.model, task.config.model, len(CLASSES))
        record = run_step(learner, task, batch, draw_epoch(42, 1, COUNT), step, 1)
        assert record.input[0] == record.input[1]
        return record.loss

    assert len({*parts(1), *parts(2)}) == 4
    assert parts(1) == parts(1)


def test_step_of_slices_moves_the_running_figures_once(tmp_path: Path) -> None:
    """The first BatchNorm sees the same numbers whether or not the batch is cut."""
    _, _, whole = compute(tmp_path, 1)
    for shards in (2, 4):
        _, _, sliced = compute(tmp_path, shards)
        for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
            torch.testing.assert_close(sliced[name], whole[name], rtol=1e-5, atol=1e-6)


def test_parameter_that_no_gradient_reaches_stays_without_one(tmp_path: Path) -> None:
    text = WITHOUT_BATCHNORM.replace("    return nn.Sequential(", "    model = nn.Sequential(")
    (tmp_path / "idle.py").write_text(
        text + "    model[0].idle = nn.Parameter(model[0].bias.detach().clone())\n    return model\n"
    )
    gradients, _, _ = compute(tmp_path, 2, **{"model.name": f"{tmp_path / 'idle.py'}:build"})
    assert "0.bias" in gradients
    assert "0.idle" not in gradients


def test_one_shard_is_a_plain_pass_to_the_bit(tmp_path: Path) -> None:
    """Running figures and gradients are those of one forward and backward pass of the model."""
    gradients, loss, buffers = compute(tmp_path, 1)
    task = make_task(tmp_path)
    learner = build_learner(task)
    model = copy.deepcopy(learner.model).train()
    _, batch = list_batches(task)[0]
    torch.manual_seed(step_seed(42, 1))
    images = to_input(batch.images, learner, task, None)
    plain = nn.functional.binary_cross_entropy_with_logits(model(images), batch.targets.float())
    plain.backward()  # type: ignore[no-untyped-call]
    assert loss.tolist() == [plain.item()]
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())
    assert int(buffers["1.num_batches_tracked"]) == 1
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(gradients[name], parameter.grad)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()[1:]]


def test_run_of_two_shards_has_two_parts_a_step_and_is_reproducible_and_resumable(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    (tmp_path / "killing.py").write_text(KILLING)
    command = tiny("--model", f"{tmp_path / 'killing.py'}:build", "--epochs", 2, "--shards", 2)
    whole = genmed(*command)
    assert whole.code == 0, whole.err
    lines = read_lines(genmed.root / whole.json["path"])
    assert {(len(line["input"]), len(line["loss"])) for line in lines} == {(2, 2)}
    assert all(len(set(line["input"])) == len(set(line["loss"])) == 2 for line in lines)

    killed = genmed(*command, "--set", "checkpoints.every_steps=3", GENMED_TEST_KILL_AT="22")
    assert killed.code == -9
    resumed = genmed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    assert "resuming" in resumed.err
    assert resumed.json["trace_digest"] == whole.json["trace_digest"]
    assert resumed.json["fingerprint"] == whole.json["fingerprint"]

    other = genmed(*command, "--shards", 1)
    assert other.json["fingerprint"] != whole.json["fingerprint"]
    first = read_lines(genmed.root / other.json["path"])[0]
    assert (len(first["input"]), len(first["loss"])) == (1, 1)
    assert first["samples"] == lines[0]["samples"]


@pytest.mark.parametrize(
    ("shards", "batch", "message"),
    [
        (3, 12, "compute.shards must be a power of two"),
        (8, 8, "training.batch_size must be at least 2 a shard"),
        (4, 10, "compute.shards must divide training.batch_size"),
    ],
)
def test_shards_that_the_batch_cannot_be_cut_into_are_refused(
    genmed: Genmed, tiny: Arguments, shards: int, batch: int, message: str
) -> None:
    result = genmed(*tiny("--shards", shards, "--batch-size", batch))
    assert result.code == 2
    assert result.json["error"]["kind"] == "ConfigError"
    assert message in result.json["error"]["message"]
    assert not (genmed.root / "runs").exists()
