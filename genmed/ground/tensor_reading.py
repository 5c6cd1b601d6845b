"""What there is to digest of named tensors: a description of each, and its elements where they lie.

A training asks for the same thousands of tensors at each step, so how they lie is remembered, and what is asked of each
anew is asked of all by one `map`: in Python, one by one, it took longer than the digests. Tensors of a group may live
on different devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ctypes import Array, c_char
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Reading:
    """Good as long as none of the tensors comes to lie elsewhere."""

    chunks: Sequence[Any]
    """Descriptions, and the bytes of what is in the CPU's memory, in order."""
    size: int
    """Of these bytes."""
    on_device: Sequence[torch.Tensor]
    """What is digested where it is, in stored order."""
    held: Sequence[torch.Tensor]
    """Whose memory the chunks are."""


@dataclass(frozen=True)
class _Way:
    """How to come by the elements of a tensor."""

    description: bytes
    order: tuple[int, ...] | None
    """Of its dimensions in memory; None where it has holes or overlaps, and is copied."""
    block: type[Array[Any]] | None
    """As many bytes as it has, where they can be read in place."""


class Reader:
    """Reads a group again and again. Remembers how its tensors lie, not where: it holds none of them."""

    def __init__(self) -> None:
        self._layout: list[list[Any]] = []
        self._ways: list[_Way] = []
        self._blocks: list[type[Array[Any]] | None] = []
        self._descriptions: list[bytes] = []

    def read(self, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> Reading:
        """Of tensors, each with its name, as they lie now."""
        import torch

        looks = attrgetter("is_cpu"), attrgetter("dtype"), torch.Tensor.size, torch.Tensor.stride
        layout = [list(names), *(list(map(look, tensors)) for look in looks)]
        if layout != self._layout:
            self._remember(layout, [_find_way(*item) for item in zip(names, tensors, strict=True)])
        held, on_device = list(tensors), []
        contents: list[Any] = [
            block.from_address(place) if block else b""
            for block, place in zip(self._blocks, map(torch.Tensor.data_ptr, tensors), strict=True)
        ]
        for index in [index for index, block in enumerate(self._blocks) if block is None]:
            stored = _store(tensors[index], self._ways[index].order)
            if stored.device.type == "cpu":
                held.append(stored)
                contents[index] = _block(stored).from_address(stored.data_ptr())
            else:
                on_device.append(stored)
        chunks = [b""] * (2 * len(contents))
        chunks[::2], chunks[1::2] = self._descriptions, contents
        return Reading(chunks, sum(map(len, contents)), on_device, held)

    def _remember(self, layout: list[list[Any]], ways: list[_Way]) -> None:
        self._layout, self._ways = layout, ways
        self._descriptions, self._blocks = [way.description for way in ways], [way.block for way in ways]


def read_tensors(group: Iterable[tuple[str, torch.Tensor]]) -> Reading:
    """Of a group that is read once."""
    items = list(group)
    return Reader().read([name for name, _ in items], [tensor for _, tensor in items])


def _find_way(name: str, tensor: torch.Tensor) -> _Way:
    order = _find_order(tensor)
    stored = _store(tensor, order)
    spelt = "" if order is None or order == tuple(range(tensor.dim())) else ",".join(map(str, order))
    description = f"{name}\0{stored.dtype}\0{tuple(stored.shape)}\0{spelt}\0".encode()
    in_place = order is not None and tensor.device.type == "cpu"
    return _Way(description, order, _block(tensor) if in_place else None)


def _find_order(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """Of the dimensions, so that the tensor's C order is the order in memory; None where none is.

    Dimensions of size 1 may have any stride; they are put last, so that equal memory has one name.
    """
    if tensor.is_conj() or tensor.is_neg():  # its memory is not yet what it says
        return None
    if tensor.is_contiguous():
        return tuple(range(tensor.dim()))
    order = sorted(range(tensor.dim()), key=lambda d: (tensor.shape[d] == 1, -tensor.stride()[d], d))
    return tuple(order) if tensor.permute(order).is_contiguous() else None


def _store(tensor: torch.Tensor, order: tuple[int, ...] | None) -> torch.Tensor:
    """The tensor with its dimensions in the order in which they are stored; a copy where they have none."""
    tensor = tensor.detach()
    return tensor.resolve_conj().resolve_neg().contiguous() if order is None else tensor.permute(order)


def _block(tensor: torch.Tensor) -> type[Array[Any]]:
    return c_char * tensor.nbytes
