"""Seeding for anybody's own PyTorch code: each of the seven sources of randomness, in processes of their own."""

import json
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmed.ground.errors import ConfigError
from genmed.parts.data.processes import start_method
from genmed.seed import MAX_SEED, get_generator, seed_generators, set_seed, worker_init_fn
from tests.harness import Genmed

Seeder = Callable[[int], None]
each_seeder = pytest.mark.parametrize("seeder", [set_seed, seed_generators])


def run_cleanly(server: ForkServerContext, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a process that has imported torch and done nothing; warnings in it are errors."""
    with ProcessPoolExecutor(1, mp_context=server, initializer=warnings.simplefilter, initargs=("error",)) as processes:
        return processes.submit(function, *arguments).result()


# 1, 2, 3: Python's random, NumPy, torch on the CPU


@each_seeder
def test_pythons_random_draws_what_its_seed_says(server: ForkServerContext, seeder: Seeder) -> None:
    assert run_cleanly(server, draw_from_random, seeder, 42) == [0.6394267984578837, 0.025010755222666936]
    assert run_cleanly(server, draw_from_random, seeder, 43)[0] == random_of(43)


def draw_from_random(seeder: Seeder, seed: int) -> list[float]:
    random.random()
    seeder(seed)
    return [random.random(), random.random()]


def random_of(seed: int) -> float:
    return random.Random(seed).random()


@each_seeder
def test_numpy_draws_what_its_seed_says(server: ForkServerContext, seeder: Seeder) -> None:
    assert run_cleanly(server, draw_from_numpy, seeder, 42) == [0.3745401188473625, 0.9507143064099162]
    assert run_cleanly(server, draw_from_numpy, seeder, 43) == np.random.RandomState(43).random(2).tolist()


def draw_from_numpy(seeder: Seeder, seed: int) -> list[float]:
    np.random.random()
    seeder(seed)
    return [float(value) for value in np.random.random(2)]


@each_seeder
def test_torch_on_the_cpu_draws_what_its_seed_says(server: ForkServerContext, seeder: Seeder) -> None:
    drawn = [run_cleanly(server, draw_from_torch, seeder, seed) for seed in (42, 42, 43)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert all(numbers == private for numbers, private in drawn)


def draw_from_torch(seeder: Seeder, seed: int) -> tuple[list[float], list[float]]:
    """Numbers of the global generator, and of a private one that has the same seed."""
    import torch

    torch.rand(3)
    seeder(seed)
    assert torch.initial_seed() == seed
    return torch.rand(3).tolist(), torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist()


# 4, 5: CUDA and MPS


def test_all_cuda_devices_have_the_seed_when_cuda_starts(server: ForkServerContext) -> None:
    assert run_cleanly(server, start_cuda_stand_ins_after, set_seed, 42) == [42, 42]


def start_cuda_stand_ins_after(seeder: Seeder, seed: int) -> list[int]:
    """The seeds that two devices have once CUDA has started, as torch starts it: with the calls that it has queued.

    Two CPU generators stand for the devices, since a machine for tests has no GPU; the queue is torch's own.
    """
    import torch

    devices = put_cuda_stand_ins()
    seeder(seed)
    assert not torch.cuda.is_initialized()
    for queued in torch.cuda._lazy_seed_tracker.get_calls():
        if queued:
            queued[0]()
    return [device.initial_seed() for device in devices]


@each_seeder
def test_all_cuda_devices_are_seeded_anew_while_cuda_runs(server: ForkServerContext, seeder: Seeder) -> None:
    assert run_cleanly(server, seed_running_cuda_stand_ins, seeder, 42) == [42, 42]


def seed_running_cuda_stand_ins(seeder: Seeder, seed: int) -> list[int]:
    import torch

    devices = put_cuda_stand_ins()
    torch.cuda.is_initialized = torch.cuda.random.is_initialized = lambda: True
    seeder(seed)
    return [device.initial_seed() for device in devices]


def put_cuda_stand_ins() -> Any:
    import torch

    devices = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    torch.cuda.default_generators = devices
    torch.cuda.device_count = torch.cuda.random.device_count = lambda: len(devices)
    return devices


def test_seeding_each_step_leaves_cuda_alone_where_it_does_not_run(server: ForkServerContext) -> None:
    assert run_cleanly(server, start_cuda_stand_ins_after, seed_generators, 42) == [1, 2]


@each_seeder
def test_mps_is_given_the_seed(server: ForkServerContext, seeder: Seeder) -> None:
    """torch is told that it has MPS, in a process of its own, and the call is recorded: no such machine is at hand."""
    assert set(run_cleanly(server, record_seeds_of_mps, seeder, 42)) == {42}


def record_seeds_of_mps(seeder: Seeder, seed: int) -> list[int]:
    import torch

    seeds: list[int] = []
    torch.backends.mps.is_available = lambda: True
    torch.mps.manual_seed = seeds.append
    seeder(seed)
    return seeds


@pytest.mark.parametrize("device", ["cuda", "mps"])
@each_seeder
def test_accelerator_draws_the_same_again(server: ForkServerContext, seeder: Seeder, device: str) -> None:
    drawn = [run_cleanly(server, draw_on_devices, seeder, seed, device) for seed in (42, 42, 43)]
    if not drawn[0]:
        pytest.skip(f"torch finds no {device} here")
    assert drawn[0] == drawn[1] != drawn[2]


def draw_on_devices(seeder: Seeder, seed: int, kind: str) -> list[list[float]]:
    """Numbers from each device of that kind that is here, before and after seeding it while it runs."""
    import torch

    if kind == "cuda":
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    else:
        devices = ["mps"] if torch.backends.mps.is_available() else []
    set_seed(seed)
    drawn = [torch.rand(3, device=device).tolist() for device in devices]
    seeder(seed + 1)
    return drawn + [torch.rand(3, device=device).tolist() for device in devices]


# 6: hashes


TELLING_MODEL = """
import json, os, subprocess, sys

def build_telling(num_classes):
    child = subprocess.run(
        [sys.executable, "-c", "print(hash('genmed'))"], capture_output=True, text=True, check=True
    )
    with open(os.environ["TOLD"], "w") as file:
        json.dump([hash("genmed"), int(child.stdout)], file)
    return build(num_classes)
"""


def test_training_and_its_children_hash_by_the_seed(
    genmed: Genmed, tiny: Callable[..., list[object]], tmp_path: Path
) -> None:
    model, told = tmp_path / "telling.py", tmp_path / "told.json"
    model.write_text((Path(__file__).parent / "models" / "tiny.py").read_text() + TELLING_MODEL)
    arguments = tiny("--seed", 7, "--model", f"{model}:build_telling", "--epochs", 1)
    result = genmed(*arguments, TOLD=str(told), PYTHONHASHSEED="random")
    assert result.code == 0, result.err
    environment = json.loads((genmed.run_folder() / "environment.json").read_text())
    assert environment["determinism"]["PYTHONHASHSEED"] == "7"
    assert json.loads(told.read_text()) == [hash_in_child("7")] * 2
    assert hash_in_child("7") != hash_in_child("8")


def test_set_seed_seeds_the_hashes_of_child_processes(server: ForkServerContext) -> None:
    assert run_cleanly(server, hash_after, set_seed, 7) == hash_in_child("7")


def hash_after(seeder: Seeder, seed: int) -> int:
    seeder(seed)
    return hash_in_child(os.environ["PYTHONHASHSEED"], **os.environ)


def hash_in_child(seed: str, **environ: str) -> int:
    """The hash of a text in an interpreter that was started with this seed of hashes."""
    done = subprocess.run(
        [sys.executable, "-c", "print(hash('genmed'))"],
        env={**environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


# 7: workers of a DataLoader

NUM_ITEMS, NUM_WORKERS = 12, 2
Epochs = list[list[list[float]]]
"""By epoch and position: index, worker, and a number each of Python's random, NumPy and torch."""


class Drawing:
    """A map-style dataset that draws from every global generator."""

    def __len__(self) -> int:
        return NUM_ITEMS

    def __getitem__(self, index: int) -> list[float]:
        import torch
        from torch.utils.data import get_worker_info

        return [index, get_worker_info().id, random.random(), float(np.random.random()), torch.rand(()).item()]


def read_epochs(seed: int, persistent: bool, disturbance: int, epochs: int = 2) -> Epochs:
    import torch
    from torch.utils.data import DataLoader

    seed_generators(disturbance)
    before = torch.get_rng_state()
    loader: Any = DataLoader(
        Drawing(),
        shuffle=True,
        generator=get_generator(seed),
        worker_init_fn=worker_init_fn,
        num_workers=NUM_WORKERS,
        persistent_workers=persistent,
        multiprocessing_context=start_method(),  # fork; as the child of a fork server it would be spawned anew
        collate_fn=_take_only,
    )
    read = [list(loader) for _ in range(epochs)]
    assert torch.equal(torch.get_rng_state(), before), "the loader drew from the global generator"
    return read


def _take_only(items: list[Any]) -> Any:
    return items[0]


@pytest.mark.parametrize("persistent", [False, True])
def test_loader_gives_the_same_order_and_draws_again(server: ForkServerContext, persistent: bool) -> None:
    first, second, other = (
        run_cleanly(server, read_epochs, seed, persistent, disturbance)
        for seed, disturbance in ((42, 1), (42, 2), (43, 1))
    )
    assert first == second
    assert list_indices(first) != list_indices(other)
    assert not numbers_of(first) & numbers_of(other)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_and_epochs_all_draw_differently(server: ForkServerContext, persistent: bool) -> None:
    epochs = run_cleanly(server, read_epochs, 42, persistent, 1)
    assert {worker for epoch in epochs for _, worker, *_ in epoch} == set(range(NUM_WORKERS))
    assert len(numbers_of(epochs)) == 3 * 2 * NUM_ITEMS, "a number was drawn twice"
    orders = list_indices(epochs)
    assert orders[0] != orders[1]
    assert all(sorted(order) == list(range(NUM_ITEMS)) for order in orders)


def list_indices(epochs: Epochs) -> list[list[float]]:
    return [[index for index, *_ in epoch] for epoch in epochs]


def numbers_of(epochs: Epochs) -> set[float]:
    return {number for epoch in epochs for _, _, *numbers in epoch for number in numbers}


def test_worker_init_fn_seeds_random_and_numpy_by_the_number_that_torch_gave_the_worker(
    server: ForkServerContext,
) -> None:
    given = 2**40 + 12345
    expected = random.Random(given % 2**32).random(), np.random.RandomState(given % 2**32).random()
    assert run_cleanly(server, draw_as_worker, given, 0) == expected
    assert run_cleanly(server, draw_as_worker, given, 1) == expected  # torch has added the worker's number already


def draw_as_worker(given: int, worker: int) -> tuple[float, float]:
    import torch

    torch.manual_seed(given)
    worker_init_fn(worker)
    assert torch.initial_seed() == given
    return random.random(), float(np.random.random())


def test_generator_is_its_own_and_leaves_the_global_one_alone(server: ForkServerContext) -> None:
    assert run_cleanly(server, draw_from_own_generator, 42) == run_cleanly(server, draw_from_own_generator, 42)
    assert run_cleanly(server, draw_from_own_generator, 42) != run_cleanly(server, draw_from_own_generator, 43)


def draw_from_own_generator(seed: int) -> list[float]:
    import torch

    before = torch.get_rng_state()
    drawn: list[float] = torch.rand(3, generator=get_generator(seed)).tolist()
    assert torch.equal(torch.get_rng_state(), before)
    return drawn


# what is no seed


@pytest.mark.parametrize("seeder", [set_seed, get_generator])
@pytest.mark.parametrize("seed", [-1, 2**32, 2**64, -(2**40)])
def test_seed_out_of_range_is_refused_and_nothing_is_seeded(
    server: ForkServerContext, seeder: Seeder, seed: int
) -> None:
    message = f"seed must be between 0 and {2**32 - 1}, got {seed}"
    assert run_cleanly(server, try_seed, seeder, seed) == (message, True)


@pytest.mark.parametrize("seeder", [set_seed, get_generator])
@pytest.mark.parametrize("seed", [1.5, 42.0, True, "42", None])
def test_seed_that_is_no_integer_is_refused_and_nothing_is_seeded(
    server: ForkServerContext, seeder: Seeder, seed: Any
) -> None:
    assert run_cleanly(server, try_seed, seeder, seed) == (f"seed must be an integer, got {seed!r}", True)


@pytest.mark.parametrize("seeder", [set_seed, get_generator])
def test_seed_of_numpys_is_as_good_as_pythons(server: ForkServerContext, seeder: Seeder) -> None:
    assert run_cleanly(server, draw_from_random, set_seed, np.int64(42)) == [0.6394267984578837, 0.025010755222666936]
    assert run_cleanly(server, try_seed, seeder, np.uint32(2**32 - 1))[0] is None


def try_seed(seeder: Seeder, seed: Any) -> tuple[str | None, bool]:
    """The refusal's message, and whether hash seed and generators are as they were."""
    import torch

    def states() -> list[Any]:
        return [os.environ.get("PYTHONHASHSEED"), random.getstate(), repr(np.random.get_state()), torch.initial_seed()]

    before, message = states(), None
    try:
        seeder(seed)
    except ConfigError as error:
        message = error.message
    return message, states() == before


@pytest.mark.parametrize("seed", [0, MAX_SEED])
def test_first_and_last_seed_are_taken_by_every_source(server: ForkServerContext, seed: int) -> None:
    assert run_cleanly(server, draw_from_random, set_seed, seed)[0] == random_of(seed)
    assert run_cleanly(server, draw_from_numpy, set_seed, seed) == np.random.RandomState(seed).random(2).tolist()
    assert run_cleanly(server, hash_after, set_seed, seed) == hash_in_child(str(seed))
    assert run_cleanly(server, draw_from_own_generator, seed)
