"""Sums over processes against the tree written out: every bit, whatever has a gradient where, and how it lies."""

import os
import pickle
import random
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from genmed.engine import gradient_sums
from genmed.engine.gradient_sums import GradientSums
from genmed.engine.shards import Gradients, GrowingTree, add_all, combine_as_tree
from genmed.ground.errors import RunError
from genmed.ground.team import Team, TeamError, join
from tests.teams.starting import describe_team

STEPS = 3
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def run_members(
    server: ForkServerContext,
    folder: Path,
    size: int,
    shards: int,
    work: Callable[..., Any],
    *given: Any,
    share_memory: bool = True,
) -> list[Any]:
    """What `work(team, *given)` came to in each process of a team, by rank."""
    paths = [folder / f"{random.randrange(2**32)}-{rank}" for rank in range(size)]
    processes = [
        server.Process(target=_be_member, args=(environ, shards, share_memory, path, work, given))
        for path, environ in zip(paths, describe_team(size), strict=True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [pickle.loads(path.read_bytes()) for path in paths]


def _be_member(
    environ: dict[str, str], shards: int, share_memory: bool, path: Path, work: Callable[..., Any], given: Any
) -> None:
    os.environ.update(environ)
    torch.set_num_threads(1)
    team = join(shards, 20, share_memory=share_memory)
    path.write_bytes(pickle.dumps(work(team, *given)))
    team.tell(None)  # none leaves before all have come so far


def draw_parameters(seed: int) -> list[nn.Parameter]:
    """Of all kinds and sizes, in several orders of memory."""
    generator = random.Random(seed)
    made = []
    for _ in range(generator.randrange(1, 12)):
        shape = [generator.randrange(6) for _ in range(generator.randrange(5))]
        parameter = torch.zeros(shape, dtype=generator.choice(DTYPES))
        if len(shape) == 4 and generator.random() < 0.5:
            parameter = parameter.contiguous(memory_format=torch.channels_last)
        made.append(nn.Parameter(parameter))
    return made


def draw_gradients(seed: int, step: int, shard: int, parameters: list[nn.Parameter]) -> Gradients:
    """Of one shard: odd numbers, zeros of both signs, infinities; some have none, some in this step alone."""
    drawn: Gradients = []
    for number, parameter in enumerate(parameters):
        chance = random.Random(f"{seed} {number}").choice([0, 0, 0, 0.3, 1])
        if random.Random(f"{seed} {step} {shard} {number}").random() < chance:
            drawn.append(None)
            continue
        generator = torch.Generator().manual_seed(hash((seed, step, shard, number)) % 2**31)
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = torch.where(values.abs() < 0.3, torch.copysign(torch.zeros(()), values), values * 10)
        values = torch.where(values > 25, torch.inf, values)
        drawn.append(torch.empty_like(parameter).copy_(values))
    return drawn


def go_back(parameters: list[nn.Parameter], gradients: Gradients) -> None:
    """A backward that leaves these gradients, or none."""
    reached = [(p * g).flatten() for p, g in zip(parameters, gradients, strict=True) if g is not None]
    with torch.autograd.set_grad_enabled(True):
        torch.autograd.backward(reached, [torch.ones_like(part) for part in reached])


def describe(gradients: Gradients) -> list[Any]:
    """Bits and order in memory; of what has no element any order is the same."""
    return [None if it is None else (it.stride() if it.numel() else (), read_bytes(it)) for it in gradients]


def read_bytes(tensor: torch.Tensor) -> list[int]:
    bits: list[int] = tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
    return bits


def sum_together(team: Team, shards: int, seeds: list[int], bucket_bytes: int) -> list[list[Any]]:
    gradient_sums.BUCKET_BYTES = bucket_bytes
    found = []
    for seed in seeds:
        parameters = draw_parameters(seed)
        sums = GradientSums(team, parameters)
        own = team.own(shards)
        for step in range(STEPS):
            tree: GrowingTree[Gradients] = GrowingTree(add_all)
            for shard in own[:-1]:
                go_back(parameters, draw_gradients(seed, step, shard, parameters))
                tree.add([parameter.grad for parameter in parameters])
                for parameter in parameters:
                    parameter.grad = None
            with sums.taken(tree.subtrees):
                go_back(parameters, draw_gradients(seed, step, own[-1], parameters))
            found.append(describe([parameter.grad for parameter in parameters]))
            for parameter in parameters:
                parameter.grad = None
            team.tell(None)  # as after each step
    return found


def sum_alone(shards: int, seeds: list[int]) -> list[list[Any]]:
    found = []
    for seed in seeds:
        parameters = draw_parameters(seed)
        for step in range(STEPS):
            gradients = [draw_gradients(seed, step, shard, parameters) for shard in range(shards)]
            found.append(describe(combine_as_tree(gradients, add_all)))
    return found


@pytest.mark.parametrize("share_memory", [True, False], ids=["read", "sent"])
@pytest.mark.parametrize(("size", "shards"), [(2, 2), (2, 8), (4, 4), (4, 8)])
def test_sums_are_those_of_the_tree(
    size: int, shards: int, share_memory: bool, server: ForkServerContext, tmp_path: Path
) -> None:
    seeds = list(range(6))
    expected = sum_alone(shards, seeds)
    assert any(it is None for of_step in expected for it in of_step)
    for found in run_members(
        server, tmp_path, size, shards, sum_together, shards, seeds, 200, share_memory=share_memory
    ):
        assert found == expected


def take_in_parts(team: Team, in_first: bool) -> list[Any]:
    """The same parameter twice in a backward, as checkpointing that re-enters the engine does."""
    parameter = nn.Parameter(torch.ones(3))
    sums = GradientSums(team, [parameter])
    found = []
    for step in range(3):
        try:
            with sums.taken(()):
                (parameter * (team.rank + 1)).sum().backward()
                if in_first or step:
                    (parameter * 10).sum().backward()
            found.append(parameter.grad.tolist())  # type: ignore[union-attr]
        except RunError as error:
            return [*found, str(error)]
        parameter.grad = None
        team.tell(None)
    return found


def test_gradients_that_come_in_parts_are_summed_whole_or_refused(server: ForkServerContext, tmp_path: Path) -> None:
    whole = run_members(server, tmp_path, 2, 2, take_in_parts, True)
    assert whole == [[[23.0] * 3] * 3] * 2
    refused = run_members(server, tmp_path, 2, 2, take_in_parts, False)
    assert refused == [[[3.0] * 3, "a gradient came in parts, which none did in the first step"]] * 2


def lose_the_other(team: Team) -> str:
    """The second process is gone in the middle of the sums of the second step."""
    parameters = [nn.Parameter(torch.ones(1000)) for _ in range(4)]
    sums = GradientSums(team, parameters)
    for step in range(2):
        try:
            with sums.taken(()):
                if step and team.rank:
                    os._exit(0)
                sum(parameter.sum() for parameter in parameters).backward()  # type: ignore[union-attr]
        except TeamError as error:
            return str(error)
        team.tell(None)
    return "not noticed"


@pytest.mark.parametrize("share_memory", [True, False], ids=["read", "sent"])
def test_process_that_is_gone_is_noticed_within_the_sums(
    share_memory: bool, server: ForkServerContext, tmp_path: Path
) -> None:
    paths = [tmp_path / "0", tmp_path / "1"]
    processes = [
        server.Process(target=_be_member, args=(environ, 2, share_memory, path, lose_the_other, ()))
        for path, environ in zip(paths, describe_team(2), strict=True)
    ]
    for process in processes:
        process.start()
    processes[0].join(60)
    assert pickle.loads(paths[0].read_bytes()).startswith("rank 0 lost contact with rank 1 (")
