"""Fingerprints of tensors: name, dtype, shape, storage order and raw elements of each, in the order given.

Elements are read as raw bits in stored order, so -0.0 differs from 0.0 and no NaN is lost; a channels-last tensor is
told from a contiguous one. On the CPU by xxh3-128, as fast as memory can be read; where a tensor lives on an
accelerator, its content is digested there (mixing.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any

import xxhash

from genmed.ground.fingerprints import FAST_ALGORITHM
from genmed.ground.mixing import mix_on_device
from genmed.ground.tensor_reading import Reading, read_tensors

if TYPE_CHECKING:
    import torch

TENSOR_ALGORITHM = FAST_ALGORITHM
DEVICE_ALGORITHM = "mix64x2"


def fingerprint_tensors(tensors: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]) -> str:
    """One fingerprint of named tensors."""
    reading = read_tensors(tensors.items() if isinstance(tensors, Mapping) else tensors)
    [fingerprint] = Snapshot([reading]).wait()
    return fingerprint


class Snapshot:
    """Fingerprints of groups of tensors as they are now, whatever becomes of the tensors.

    Of what is in the CPU's memory they are computed at once; on an accelerator the computation is queued, and `wait`
    waits for it.
    """

    def __init__(self, groups: Sequence[Reading], threads: int = 1) -> None:
        """threads: with more than one the groups are shared out to two, which is as fast as memory can be read."""
        self._states = [xxhash.xxh3_128() for _ in groups]
        self._counts = [len(group.on_device) for group in groups]
        work = sorted(zip(self._states, groups, strict=True), key=lambda item: -item[1].size)
        # The largest is that of the optimizer, which is about half of all.
        beside = Thread(target=_digest, args=(work[:1],)) if threads > 1 and len(work) > 1 else None
        if beside:
            beside.start()
        _digest(work[1:] if beside else work)
        if beside:
            beside.join()
        there = [tensor for group in groups for tensor in group.on_device]
        self._mixture = mix_on_device(there) if there else None
        self._sums = Transfer(self._mixture.sums) if self._mixture else None

    def wait(self) -> list[str]:
        """One a group."""
        sums = self._mixture.combine(self._sums.wait()) if self._mixture and self._sums else None
        fingerprints, start = [], 0
        for state, count in zip(self._states, self._counts, strict=True):
            if sums is None or not count:
                fingerprints.append(f"{TENSOR_ALGORITHM}:{state.hexdigest()}")
                continue
            whole = state.copy()
            whole.update(sums[start : start + count].tobytes())
            start += count
            fingerprints.append(f"{DEVICE_ALGORITHM}+{TENSOR_ALGORITHM}:{whole.hexdigest()}")
        return fingerprints


class Transfer:
    """A small tensor on its way from an accelerator, which goes on with what it has to do."""

    def __init__(self, tensor: torch.Tensor) -> None:
        """On the CPU there is no way to go: the tensor must stay as it is until it is waited for."""
        import torch

        self._here, self._arrived = tensor, None
        if tensor.device.type == "cuda":
            self._here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._here.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    @property
    def has_arrived(self) -> bool:
        return self._arrived is None or bool(self._arrived.query())  # type: ignore[no-untyped-call]

    def wait(self) -> torch.Tensor:
        """The tensor, in the CPU's memory."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._here.cpu()


def _digest(work: Iterable[tuple[Any, Reading]]) -> None:
    for state, group in work:
        for chunk in group.chunks:
            state.update(chunk)
