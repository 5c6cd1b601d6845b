"""The state is fingerprinted as it is now, though its names are not looked up at each step."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from genmed.engine.learner import Learner, build_learner
from genmed.ground.tensor_fingerprints import Snapshot, fingerprint_tensors
from tests.test_step import make_task, run_steps


@pytest.fixture
def learner(tmp_path: Path) -> Learner:
    task = make_task(tmp_path, {})
    learner = build_learner(task)
    run_steps(learner, task, 1, 2)
    return learner


def fingerprint_by_names(learner: Learner) -> list[str]:
    model = learner.model
    groups = model.named_parameters(), model.named_buffers(), learner.optimizer_tensors().items()
    return [fingerprint_tensors(group) for group in groups]


def last_module(learner: Learner) -> nn.Linear:
    [*_, module] = learner.model.modules()
    assert isinstance(module, nn.Linear)
    return module


def rename_a_module(learner: Learner) -> None:
    name, module = list(learner.model.named_children())[-1]
    delattr(learner.model, name)
    learner.model.add_module(f"{name}_renamed", module)


def replace_a_parameter(learner: Learner) -> None:
    module = last_module(learner)
    module.weight = nn.Parameter(module.weight.detach() + 1)


def share_a_parameter(learner: Learner) -> None:
    last_module(learner).bias2 = last_module(learner).bias


def replace_the_optimizers_state(learner: Learner) -> None:
    state = learner.optimizer.state_dict()
    for entry in state["state"].values():
        entry["exp_avg"] = entry["exp_avg"] + 1
    learner.optimizer.load_state_dict(state)


CHANGES: dict[str, tuple[Callable[[Learner], object], list[bool]]] = {
    "a parameter changed in place": (lambda it: last_module(it).bias.data.add_(1), [True, False, False]),
    "a parameter whose memory is another": (
        lambda it: setattr(last_module(it).bias, "data", last_module(it).bias.data + 1),
        [True, False, False],
    ),
    "a parameter of another": (replace_a_parameter, [True, False, False]),
    "a parameter of two names": (share_a_parameter, [False, False, False]),
    "a frozen parameter": (lambda it: last_module(it).bias.requires_grad_(False), [False, False, False]),
    "a parameter gone": (lambda it: last_module(it).register_parameter("bias", None), [True, False, False]),
    "a buffer more": (lambda it: last_module(it).register_buffer("more", torch.ones(2)), [False, True, False]),
    "a module more": (lambda it: last_module(it).add_module("more", nn.BatchNorm1d(2)), [True, True, False]),
    "a module of another name": (rename_a_module, [True, False, False]),
    "the optimizer's state restored": (replace_the_optimizers_state, [False, False, True]),
    "the optimizer's state gone": (lambda it: it.optimizer.state.clear(), [False, False, True]),
}


@pytest.mark.parametrize(("change", "differs"), CHANGES.values(), ids=CHANGES)
def test_change_of_the_state_is_read(
    change: Callable[[Learner], object], differs: list[bool], learner: Learner
) -> None:
    before = Snapshot(learner.read_state()).wait()
    assert before == fingerprint_by_names(learner)
    trained = learner.trained
    change(learner)
    after = Snapshot(learner.read_state()).wait()
    assert after == Snapshot(learner.read_state()).wait() == fingerprint_by_names(learner)
    assert learner.trained is trained
    assert [one != other for one, other in zip(before, after, strict=True)] == differs
