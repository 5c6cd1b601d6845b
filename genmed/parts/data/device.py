"""Images beside the step: in the accelerator's memory where they fit, else batches that are read ahead of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.loader import Batch, Rows
from genmed.parts.data.records import Labels

if TYPE_CHECKING:
    import torch

SHARE = 0.5
"""Of the free memory: the rest is for activations, which nobody knows beforehand."""
ROWS_AT_ONCE = 1024


class Loader(Protocol):
    """Gives planned batches."""

    def read(self, batches: Sequence[Rows], own: Sequence[Rows] | None = None) -> Iterator[Batch]:
        """In order; how they are read cannot change a bit of them. own: what is read of each batch, else all."""


def fits_on(device: str, images: ImageBytes) -> bool:
    """Whether all images take at most half of the free memory of a CUDA device; another has none of its own."""
    if device != "cuda":
        return False
    import torch

    free, _ = torch.cuda.mem_get_info()
    return bool(len(images) * int(np.prod(images.shape[1:])) <= SHARE * free)


class ResidentLoader:
    """All images and targets as tensors on the device: a batch is gathered there, and only its rows travel."""

    def __init__(self, images: ImageBytes, targets: Labels, device: str) -> None:
        import torch

        self._device = device
        self._images = torch.empty((len(images), *images.shape[1:]), dtype=torch.uint8, device=device)
        self._targets = torch.from_numpy(targets).to(device)
        for start in range(0, len(images), ROWS_AT_ONCE):
            part = torch.from_numpy(images.read(slice(start, start + ROWS_AT_ONCE)))
            self._images[start : start + len(part)].copy_(part)

    def read(self, batches: Sequence[Rows], own: Sequence[Rows] | None = None) -> Iterator[Batch]:
        for rows, part in zip(batches, own or batches, strict=True):
            yield self._gather(rows, part)

    def _gather(self, rows: Rows, part: Rows) -> Batch:
        import torch

        there: torch.Tensor = torch.from_numpy(part).to(self._device, non_blocking=True)
        return Batch(torch.from_numpy(rows), self._images.index_select(0, there), self._targets.index_select(0, there))


class ReadAhead:
    """Another loader's batches, read by a thread while the step computes; at most `depth` wait."""

    def __init__(self, loader: Loader, depth: int) -> None:
        self._loader, self._depth = loader, depth

    def read(self, batches: Sequence[Rows], own: Sequence[Rows] | None = None) -> Iterator[Batch]:
        """Raises in the reader's place what the other loader raised."""
        waiting: queue.Queue[Batch | BaseException | None] = queue.Queue(self._depth)
        abandoned = threading.Event()

        def put(item: Batch | BaseException | None) -> None:
            while not abandoned.is_set():
                try:
                    return waiting.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def fill() -> None:
            try:
                for batch in self._loader.read(batches, own):
                    if abandoned.is_set():
                        return
                    put(batch)
                put(None)
            except BaseException as error:  # told where it can be heard
                put(error)

        thread = threading.Thread(target=fill, name="genmed-read-ahead", daemon=True)
        thread.start()
        try:
            while (item := waiting.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            abandoned.set()
            thread.join()
