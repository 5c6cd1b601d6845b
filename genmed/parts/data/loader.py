"""Batches of bytes: which images a step sees, and how their bytes get to the device.

Whole batches are read, by this process or by the workers of a `DataLoader`; these copy bytes and hold no randomness and
no float arithmetic, so their number cannot change a bit.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from genmed.ground.randomness import draw_order
from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.processes import start_method
from genmed.parts.data.records import Labels

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

Rows = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """`rows` (B,) int64 in the dataset's records, `images` (b, C, S, S) uint8, `targets` (b, outputs) int8.

    b is B, or less where this process reads a part of the batch.
    """

    rows: "torch.Tensor"
    images: "torch.Tensor"
    targets: "torch.Tensor"


def plan_epoch(seed: int, epoch: int, train: Rows, batch_size: int, shards: int) -> list[Rows]:
    """The rows of each step of an epoch (counted from 1): a function of (seed, epoch).

    A short batch at the end is cut to a multiple of the shards; less than two images a shard are left out of this
    epoch (another epoch has another order), so that BatchNorm never sees a single one.
    """
    order = train[draw_order((seed, "order", epoch), len(train))]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    last = len(batches[-1]) // shards * shards
    batches[-1] = batches[-1][:last]
    return batches if last >= 2 * shards else batches[:-1]


def plan_evaluation(rows: Rows, batch_size: int) -> list[Rows]:
    """All rows in their own order."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


class _ByteBatches:
    """A map-style dataset whose keys are batches of rows, and what is read of each; opens the file where it is read."""

    def __init__(self, images: ImageBytes, targets: Labels) -> None:
        self.images, self.targets = images, targets

    def __getitem__(self, key: tuple[Rows, Rows]) -> Batch:
        import torch

        rows, own = key
        pixels, targets = self.images.read(own), self.targets[own]
        return Batch(torch.from_numpy(rows), torch.from_numpy(pixels), torch.from_numpy(targets))


class _Plan:
    """The sampler: batches of rows, set anew for each epoch."""

    def __init__(self) -> None:
        self.batches: Sequence[tuple[Rows, Rows]] = ()

    def __iter__(self) -> Iterator[tuple[Rows, Rows]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class BatchLoader:
    """Reads planned batches: in this process, or by workers that stay for the whole training."""

    def __init__(
        self, images: ImageBytes, targets: Labels, *, workers: int, prefetch: int, persistent: bool, pin: bool
    ) -> None:
        self._batches, self._pin = _ByteBatches(images, targets), pin
        self._plan = _Plan()
        self._workers = self._start(workers, prefetch, persistent) if workers else None

    def read(self, batches: Sequence[Rows], own: Sequence[Rows] | None = None) -> Iterator[Batch]:
        """The batches' bytes, in order; in pinned memory if that was asked for. own: what is read of each, else all."""
        keys = list(zip(batches, own or batches, strict=True))
        if self._workers is None:  # a DataLoader without workers would take as long as reading the bytes does
            for key in keys:
                batch = self._batches[key]
                yield Batch(*(tensor.pin_memory() for tensor in batch)) if self._pin else batch
            return
        self._plan.batches = keys
        yield from self._workers

    def _start(self, workers: int, prefetch: int, persistent: bool) -> "DataLoader[Batch]":
        from torch.utils.data import DataLoader

        from genmed.seed import get_generator

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores: as was asked
            return DataLoader(
                self._batches,  # type: ignore[arg-type]
                batch_size=None,
                sampler=self._plan,
                num_workers=workers,
                multiprocessing_context=start_method(),
                prefetch_factor=prefetch,
                persistent_workers=persistent,
                pin_memory=self._pin,
                generator=get_generator(0),  # creating an iterator draws a seed: not from the global generator
            )
