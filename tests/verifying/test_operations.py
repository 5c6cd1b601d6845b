"""The log of operations: what it names, and that looking changes no bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from genmed.engine.module_trace import ModuleTrace, read_modules
from genmed.engine.operations import OUTSIDE, Operation, OperationLog, group_by_module
from tests.harness import Genmed
from tests.resuming.runs import assert_same_run
from tests.verifying.faults import OFTEN, Arguments


class Block(nn.Module):
    """A residual block, with an operation of its own between its layers, and in-place ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.norm(self.first(x))
        out += x
        return self.act(out)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = nn.Sequential(Block(), nn.Flatten(), nn.Linear(32, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1, foreach=False, fused=True)


def compute(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(4)
    images = torch.randn(4, 2, 4, 4) * 2
    functional.cross_entropy(model(images), torch.zeros(4, dtype=torch.long)).backward()
    optimizer.step()


def record() -> list[Operation]:
    model, optimizer = build()
    log = OperationLog(model, optimizer)
    with log.watching():
        compute(model, optimizer)
    return log.operations


def test_two_logs_of_one_computation_are_equal_and_of_another_are_not() -> None:
    first = record()
    assert first == record()
    assert len(first) > 20


def test_operations_are_put_to_the_innermost_module_forward_and_backward() -> None:
    found = {(entry.phase, entry.module, entry.name) for entry in record()}
    assert {
        ("forward", OUTSIDE, "aten::mul"),
        ("forward", "0.first", "aten::convolution"),
        ("forward", "0", "aten::add_"),
        ("forward", "2", "aten::addmm"),
        ("forward", OUTSIDE, "aten::_log_softmax"),
        ("backward", OUTSIDE, "aten::_log_softmax_backward_data"),
        ("backward", "2", "aten::mm"),
        ("backward", "0.act", "aten::threshold_backward"),
        ("backward", "0.norm", "aten::native_batch_norm_backward"),
        ("backward", "0.first", "aten::convolution_backward"),
        ("update", OUTSIDE, "aten::_fused_adamw_"),
    } <= found
    assert not any(name.startswith("aten::empty") for _, _, name in found)


def test_looking_changes_no_bit_and_leaves_no_hook() -> None:
    watched, optimizer = build()
    log = OperationLog(watched, optimizer)
    with log.watching():
        compute(watched, optimizer)
    alone, other = build()
    compute(alone, other)
    for one, two in zip(watched.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())


def test_one_changed_gradient_is_put_to_the_module_in_whose_backward_it_arose() -> None:
    class Twist(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
            context.factor = factor
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
            return gradient * context.factor, None

    class Twisted(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Twist.apply(x, self.factor)  # type: ignore[no-any-return, no-untyped-call]

    logs = []
    for factor in (1.0, 1.001):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(2, 2, 3), Twisted(factor), nn.Flatten(), nn.Linear(8, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
        log = OperationLog(model, optimizer)
        with log.watching():
            compute(model, optimizer)
        logs.append(log.operations)
    first = next(one for one, two in zip(*logs, strict=True) if one != two)
    assert (first.phase, first.module, first.name) == ("backward", "1", "aten::mul")


def test_forward_that_is_broken_off_and_computed_again_is_left() -> None:
    """As activation checkpointing does: its second forward ends by an exception once it has what it needs."""
    torch.manual_seed(3)

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)  # type: ignore[no-any-return]

    model = nn.Sequential(Checkpointed(), nn.Flatten(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False, fused=True)
    log = OperationLog(model, optimizer)
    with log.watching():
        compute(model, optimizer)
    assert log.frames.running is None
    assert {(entry.phase, entry.module) for entry in log.operations if "backward" in entry.name} >= {
        ("backward", "0.inner.0"),
        ("backward", "0.inner.1"),
    }
    assert log.operations[-1].phase == "update"
    assert log.operations[-1].module == OUTSIDE


def test_groups_keep_the_order_and_merge_neighbours() -> None:
    operations = [
        Operation("forward", "a", "x", "1"),
        Operation("forward", "a", "y", "2"),
        Operation("forward", "b", "x", "3"),
        Operation("forward", "a", "x", "4"),
        Operation("backward", "a", "x", "5"),
    ]
    groups = group_by_module(operations)
    assert [(entry.phase, entry.module) for entry in groups] == [
        ("forward", "a"),
        ("forward", "b"),
        ("forward", "a"),
        ("backward", "a"),
    ]
    assert len({entry.digest for entry in groups}) == 4


def test_file_of_modules_goes_on_after_a_step_and_drops_what_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "modules.jsonl"

    class Holder:
        model, optimizer = build()

    def write(first: int, last: int) -> None:
        trace = ModuleTrace(path, first - 1)
        for step in range(first, last + 1):
            with trace.watch(Holder, step):  # type: ignore[arg-type]
                compute(Holder.model, Holder.optimizer)
        trace.close()

    write(1, 3)
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b'{"step":4,"mod')
    write(3, 4)
    assert path.read_bytes().startswith(whole[: whole.index(b'{"step":3')])
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    assert read_modules(path, 5) is None
    found = read_modules(path, 2)
    assert found is not None
    assert found[0].module == OUTSIDE
    path.write_bytes(path.read_bytes().replace(b'"step":2', b'"step":7'))
    assert read_modules(path, 2) is None


ATTENTION = """
from torch import nn


def build(num_classes):
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    patches = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.Flatten(2), Across())
    return nn.Sequential(patches, layer, nn.Flatten(), nn.Linear(256, num_classes))


class Across(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)
"""


@pytest.mark.parametrize("model", ["resnet18", "densenet121", "attention"])
def test_trace_is_the_same_with_modules_and_without(
    genmed: Genmed, tiny: Arguments, tmp_path: Path, model: str
) -> None:
    (tmp_path / "attention.py").write_text(ATTENTION)
    name = f"{tmp_path / 'attention.py'}:build" if model == "attention" else model
    size = 32 if model == "densenet121" else 16
    short = ("--model", name, "--image-size", size, "--epochs", 1, "--set", "training.max_steps=2")
    plain, traced = (genmed(*tiny(*short, *more)) for more in ((), ("--trace-modules",)))
    assert plain.code == traced.code == 0, plain.err + traced.err
    assert plain.json["trace_digest"] == traced.json["trace_digest"]
    [lines] = [path.read_text().splitlines() for path in genmed.root.glob("runs/*/modules.jsonl")]
    assert len(lines) == 2


def test_killed_run_has_the_modules_of_one_left_alone(recorded: Genmed, genmed: Genmed, tiny: Arguments) -> None:
    model = json.loads((recorded.run_folder() / "run.json").read_text())["model"]
    command = tiny("--model", model, "--trace-modules", *OFTEN)
    process = genmed.start(*command)
    while not list(genmed.root.glob("runs/*/checkpoints/step-0000008*/manifest.json")):
        assert process.running
    process.send(9)  # type: ignore[arg-type]
    process.wait()
    assert genmed("resume", "latest", "--json").code == 0
    assert_same_run(genmed, recorded)
    names = [folder.run_folder() / "modules.jsonl" for folder in (genmed, recorded)]
    assert names[0].read_bytes() == names[1].read_bytes()
