"""Seeds every source of randomness that a PyTorch program draws from; for genmed and for anybody's own code.

set_seed(42)
DataLoader(dataset, shuffle=True, generator=get_generator(42), worker_init_fn=worker_init_fn, num_workers=4)
"""

from __future__ import annotations

import operator
import os
import random
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from genmed.ground.errors import ConfigError

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**32 - 1


def check_seed(seed: SupportsIndex) -> int:
    """The seed as Python's integer, or ConfigError: NumPy and PYTHONHASHSEED take 0 to 2**32 - 1 and nothing else."""
    if isinstance(seed, bool) or not isinstance(seed, SupportsIndex):
        raise ConfigError(f"seed must be an integer, got {seed!r}")
    number = operator.index(seed)
    if not 0 <= number <= MAX_SEED:
        raise ConfigError(f"seed must be between 0 and {MAX_SEED}, got {number}")
    return number


def set_seed(seed: SupportsIndex) -> None:
    """Seeds Python's random, NumPy, torch on the CPU, on every CUDA device and on MPS.

    PYTHONHASHSEED is read by the interpreter when it starts: it is set here for the processes that this one will
    start. `genmed train` starts its interpreter anew with it; in a script of your own, set it before `python`.

    Raises ConfigError for what is no integer from 0 to 2**32 - 1.
    """
    import torch

    number = check_seed(seed)
    os.environ["PYTHONHASHSEED"] = str(number)
    seed_generators(number)
    torch.manual_seed(number)  # devices that have not started yet remember it


def seed_generators(seed: int) -> None:
    """Sets the global generators alone: python, numpy, torch CPU, and CUDA (all devices) and MPS where they run.

    Cheap enough for every step; `torch.manual_seed` formats a stack each time where CUDA has not started.
    """
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def get_generator(seed: SupportsIndex) -> torch.Generator:
    """A generator of its own, for a DataLoader's order and its workers' base seed."""
    import torch

    return torch.Generator().manual_seed(check_seed(seed))


def worker_init_fn(worker_id: int) -> None:
    """Seeds Python's random and NumPy in a loader worker; each worker and each epoch draws differently.

    torch gives the worker base_seed + worker_id and seeds itself; libraries that know nothing of torch are seeded
    from that number here.
    """
    import torch

    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)
