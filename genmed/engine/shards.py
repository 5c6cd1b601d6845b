"""Combining what the shards of a batch computed, as a binary tree by shard number, whoever computed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from genmed.ground.team import ALONE, Team

if TYPE_CHECKING:
    import torch
    from torch import nn

Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")

Gradients = list[Any]
"""One tensor a trained parameter, None where none reached it."""


def combine_as_tree(values: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """combine(combine(v0, v1), combine(v2, v3)) and so on; the count is a power of two."""
    level = list(values)
    while len(level) > 1:
        level = [combine(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


class GrowingTree(Generic[T]):
    """The same, of values that come one after the other: no more than one of each size of subtree is held."""

    def __init__(self, combine: Callable[[T, T], T]) -> None:
        self._combine = combine
        self._sizes: list[int] = []
        self.subtrees: list[T] = []
        """The largest first: what the next value, if it is the last, will be combined with from the right."""

    def add(self, value: T) -> None:
        size = 1
        while self._sizes and self._sizes[-1] == size:
            value, size = self._combine(self.subtrees.pop(), value), size + self._sizes.pop()
        self._sizes.append(size)
        self.subtrees.append(value)


def add(a: Any, b: Any) -> Any:
    """The sum of two gradients; what is there alone stands."""
    return b if a is None else a if b is None else a + b


def add_all(left: Gradients, right: Gradients) -> Gradients:
    return [add(a, b) for a, b in zip(left, right, strict=True)]


@dataclass
class _Moments:
    """Count, mean and biased variance of what a BatchNorm layer saw."""

    count: int
    mean: torch.Tensor
    variance: torch.Tensor


class RunningStatistics:
    """BatchNorm's running mean and variance when a batch is computed in slices.

    Each slice leaves its own batch's mean and variance behind; they are combined by the law of total variance (Chan et
    al. 1979) and enter the running figures once a step, as if one layer had normalised by slices and watched the whole.
    With one shard nothing is done: the layers' own update stands.
    """

    def __init__(self, model: nn.Module, shards: int) -> None:
        from torch.nn.modules.batchnorm import _BatchNorm

        layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
        self._layers = layers if shards > 1 else []
        self._before = [_copy_figures(layer) for layer in self._layers]
        self._seen: list[list[_Moments | None]] = []

    @contextmanager
    def watch_shard(self) -> Iterator[None]:
        """Around one slice's forward: leaves exactly the slice's moments in the layers, then takes them."""
        momenta = [layer.momentum for layer in self._layers]
        counts: dict[int, int] = {}
        hooks = [
            layer.register_forward_pre_hook(
                lambda _, inputs, at=position: counts.update({at: inputs[0].numel() // inputs[0].shape[1]})
            )
            for position, layer in enumerate(self._layers)
        ]
        for layer in self._layers:
            layer.momentum = 1.0
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for layer, momentum in zip(self._layers, momenta, strict=True):
                layer.momentum = momentum
        self._seen.append([_read_moments(layer, counts.get(position)) for position, layer in enumerate(self._layers)])

    def combine(self, team: Team = ALONE) -> None:
        """Enters the whole batch's moments into the running figures, and counts one batch."""
        import torch

        if not self._layers:
            return
        seen = self._seen
        if team.size > 1:
            seen = [self._receive(*shard) for shards in team.tell([*map(_send, seen)]) for shard in shards]
        with torch.no_grad():
            for position, layer in enumerate(self._layers):
                whole = combine_as_tree([of_shard[position] for of_shard in seen], _merge)
                if whole is None:
                    continue  # a layer that the model did not use
                mean, variance, batches = self._before[position]
                batches += 1
                rate = 1 / float(batches) if layer.momentum is None else layer.momentum
                unbiased = whole.variance * (whole.count / max(whole.count - 1, 1))
                after = mean * (1 - rate) + whole.mean * rate, variance * (1 - rate) + unbiased * rate, batches
                for figure, value in zip(_figures(layer), after, strict=True):
                    figure.copy_(value)

    def _receive(self, counts: Sequence[int | None], content: Bytes) -> list[_Moments | None]:
        """Of one shard, as `_send` has it."""
        import torch

        start = 0

        def take(like: Any) -> torch.Tensor:
            nonlocal start
            part = content[start : start + like.nbytes].copy()
            start += like.nbytes
            return torch.from_numpy(part).view(like.dtype).to(like.device)

        return [
            None if count is None else _Moments(count, take(layer.running_mean), take(layer.running_var))
            for layer, count in zip(self._layers, counts, strict=True)
        ]


def _send(seen: Sequence[_Moments | None]) -> tuple[list[int | None], Bytes]:
    """What a shard left in all layers, in one block: so it is copied from an accelerator, and told, at once."""
    import torch

    figures = [figure.view(torch.uint8) for entry in seen if entry for figure in (entry.mean, entry.variance)]
    content = torch.cat(figures).cpu().numpy() if figures else np.empty(0, dtype=np.uint8)
    return [entry.count if entry else None for entry in seen], content


def _figures(layer: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return layer.running_mean, layer.running_var, layer.num_batches_tracked


def _copy_figures(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mean, variance, batches = _figures(layer)
    return mean.clone(), variance.clone(), batches.clone()


def _read_moments(layer: nn.Module, count: int | None) -> _Moments | None:
    """What a slice has left in the layer, which saw `count` values a channel; None where no pass came by."""
    if count is None:
        return None
    mean, variance, _ = _copy_figures(layer)
    return _Moments(count, mean, variance * ((count - 1) / count))


def _merge(a: _Moments | None, b: _Moments | None) -> _Moments | None:
    if a is None or b is None:
        return b if a is None else a
    count = a.count + b.count
    shift = b.mean - a.mean
    mean = a.mean + shift * (b.count / count)
    spread = a.variance * (a.count / count) + b.variance * (b.count / count)
    return _Moments(count, mean, spread + shift * shift * (a.count * b.count / (count * count)))
