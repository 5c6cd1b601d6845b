"""Digests of tensors that live on an accelerator, computed there: what travels is 16 bytes a tensor.

Of each tensor the sum mod 2**64 of its bits, as integers, under two weightings by position. Weights are odd (no bit of
an element is lost) and mixed by splitmix64's finaliser (Steele et al. 2014), so swaps, shifts and equal changes in two
places do not cancel. Integer sums do not depend on the order of summation. (`torch.hash_tensor` is a plain xor of
doubles: it does not see swaps or two equal changes.)

Many tensors are strung together, so that the number of kernels does not grow with theirs: a launch takes longer than
the sum of a small tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Sums = npt.NDArray[np.uint64]

PIECE = 1 << 22
"""Elements of a tensor that are weighted from one table."""
CHUNK = 1 << 24
"""Elements that are strung together at most: bounds the memory that this takes, some 64 bytes each."""
GAMMAS = -7046029254386353131, -4417276706812531889


@dataclass(frozen=True)
class Mixture:
    """Sums on the device, by pieces of tensors."""

    sums: torch.Tensor
    """(P, 2) int64."""
    owners: Sequence[int]
    """Which tensor each piece belongs to."""
    count: int
    """Of tensors."""

    def combine(self, sums: torch.Tensor) -> Sums:
        """(count, 2): by tensor, once `sums` have come from the device."""
        whole = np.zeros((self.count, 2), dtype=np.uint64)
        np.add.at(whole, list(self.owners), sums.numpy().view(np.uint64))
        return whole


@dataclass(frozen=True)
class _Piece:
    """Of a tensor's flat bits."""

    owner: int
    index: int
    """It begins at index * PIECE."""
    bits: torch.Tensor
    """(n,) int32."""


def mix_on_device(tensors: Sequence[torch.Tensor]) -> Mixture:
    """Of tensors of one device, whose C order is the order that counts. Queued there, not waited for."""
    import torch

    pieces = [piece for owner, tensor in enumerate(tensors) for piece in _split(owner, tensor)]
    sums = [_mix_together(group) for group in _gather(pieces)]
    device = tensors[0].device
    joined = torch.cat(sums) if sums else torch.zeros((0, 2), dtype=torch.int64, device=device)
    return Mixture(joined, [piece.owner for piece in pieces], len(tensors))


def _split(owner: int, tensor: torch.Tensor) -> Iterator[_Piece]:
    import torch

    flat = tensor.reshape(-1).contiguous()
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    # As halves, for two changes of bit 63 would cancel: odd weights times 2**63 are all the same.
    flat = flat.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}[flat.element_size()])
    for index, start in enumerate(range(0, flat.numel(), PIECE)):
        yield _Piece(owner, index, flat[start : start + PIECE].to(torch.int32))


def _gather(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    """Neighbours, up to CHUNK elements."""
    group: list[_Piece] = []
    for piece in pieces:
        if group and sum(len(other.bits) for other in group) + len(piece.bits) > CHUNK:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _mix_together(pieces: Sequence[_Piece]) -> torch.Tensor:
    """(P, 2) int64. A running sum is cut at the pieces' ends: it wraps, and so do the differences."""
    import torch

    lengths = [len(piece.bits) for piece in pieces]
    device = pieces[0].bits.device
    weights = torch.cat([_weights(p.index, p.bits.device)[:, : len(p.bits)] for p in pieces], dim=1)
    running = (torch.cat([piece.bits for piece in pieces]) * weights).cumsum(1)
    ends = _place_ends(tuple(lengths), device)
    return running.index_select(1, ends).diff(dim=1, prepend=running.new_zeros((2, 1))).T


@lru_cache(maxsize=1024)
def _place_ends(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Where pieces end that are strung together; a step asks for the same each time, and a copy would be waited for."""
    import torch

    return torch.from_numpy(np.cumsum(lengths) - 1).to(device)


@lru_cache(maxsize=64)
def _weights(index: int, device: torch.device) -> torch.Tensor:
    """(2, PIECE) int64: of positions from index * PIECE + 1 on."""
    import torch

    start = index * PIECE + 1
    position = torch.arange(start, start + PIECE, dtype=torch.int64, device=device)
    return torch.stack([_splitmix(position * gamma) | 1 for gamma in GAMMAS])


def _splitmix(x: torch.Tensor) -> torch.Tensor:
    """splitmix64's finaliser on int64, which wraps; `>>` is arithmetic, so the sign bits are masked off."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
