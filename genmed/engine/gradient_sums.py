"""Sums of gradients over the processes of a team, each as a binary tree by shard number, while the backward goes on.

Recursive halving and doubling (Thakur et al. 2005), but neighbours first: at distance 1, 2, 4 each process swaps half
of what it has with its peer and adds, the lower rank's on the left, so that each element is summed as the tree over the
shards sums it; then the parts travel back the other way. Each process sends 2 (W - 1) / W of the gradients' size, as in
a ring.

Gradients are strung together in buckets, in the order in which they become ready; a full one is on its way while
others are computed. Which bucket an element is in, and when it leaves, does not touch its sum. Processes of one machine
read each other's buckets where they lie: sending them costs the cores a fifth of a step.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genmed.engine.shards import Gradients, add
from genmed.ground.errors import RunError
from genmed.ground.shared_memory import Address, SharedMemory, can_share, open_shared
from genmed.ground.team import Link, Team

if TYPE_CHECKING:
    import torch

BUCKET_BYTES = 8 << 20

Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""Shape and strides."""


class GradientSums:
    """Of the parameters of one learner, step after step. All processes of the team come by at each step."""

    def __init__(self, team: Team, parameters: Sequence[torch.Tensor]) -> None:
        assert team.link
        self._team, self._link, self._parameters = team, team.link, parameters
        self._buckets: list[_Bucket] = []
        self._overlaps = False
        self._came: Counter[int] = Counter()
        """How often each parameter's gradient came in this backward, in the order of their coming."""
        self._earlier: Sequence[Gradients] = ()
        self._under_way: _UnderWay | None = None
        for index, parameter in enumerate(parameters):
            parameter.register_post_accumulate_grad_hook(partial(self._come, index))  # type: ignore[no-untyped-call]

    @contextmanager
    def taken(self, earlier: Sequence[Gradients]) -> Iterator[None]:
        """Around the backward of this process's last shard: after it the parameters have the sums over all shards.

        earlier: sums over this process's other subtrees, the largest first. Raises TeamError; RunError where a
        gradient comes in parts, though in the first step it did not.
        """
        self._earlier = earlier
        self._came.clear()
        self._under_way = self._begin() if self._overlaps else None
        try:
            yield
            left = [index for index in range(len(self._parameters)) if not (self._overlaps and self._came[index])]
            sums = {index: self._sum_own(index) for index in left}
            if not self._buckets:
                self._plan([sums[index] for index in left])
            self._under_way = self._under_way or self._begin()
            for index, gradient in sums.items():
                self._under_way.put(index, gradient)
            for index, gradient in self._under_way.wait():
                self._parameters[index].grad = gradient
        except BaseException:
            if self._under_way:
                self._under_way.abandon()
            raise
        finally:
            self._earlier, self._under_way = (), None

    def _begin(self) -> _UnderWay:
        return _UnderWay(self._buckets, self._team.rank, self._team.size, self._link)

    def _come(self, index: int, _: torch.Tensor) -> None:
        """Called within each backward when a parameter's gradient is there."""
        self._came[index] += 1
        if self._under_way:
            if self._came[index] > 1:
                raise RunError(
                    "a gradient came in parts, which none did in the first step", "train it with --processes 1"
                )
            self._under_way.put(index, self._sum_own(index))

    def _sum_own(self, index: int) -> Any:
        """A parameter's gradient over this process's shards."""
        parameter = self._parameters[index]
        gradient, parameter.grad = parameter.grad, None
        for sums in reversed(self._earlier):
            gradient = add(sums[index], gradient)
        return gradient

    def _plan(self, gradients: Gradients) -> None:
        """Makes the buckets, in the order in which gradients came to the first process."""
        told = self._team.tell((dict(self._came), [None if it is None else _lay_out_sum(it) for it in gradients]))
        came = told[0][0]
        order = [*came, *(index for index in range(len(gradients)) if index not in came)]
        layouts = [next(filter(None, those), None) for those in zip(*(found for _, found in told), strict=True)]
        self._overlaps = all(count == 1 for counts, _ in told for count in counts.values())
        self._buckets = [
            _Bucket(members, [self._parameters[i] for i in members], [layouts[i] for i in members], self._team)
            for members in self._group(order)
        ]
        self._share()

    def _share(self) -> None:
        """Lets the processes of one machine see each other's buckets, where both sides of a pair can."""
        own, rank = self._buckets, self._team.rank
        addresses = self._team.tell([bucket.shared.address if bucket.shared else None for bucket in own])
        for peer in {rank ^ (1 << level) for level in range(self._team.size.bit_length() - 1)}:
            for bucket, address in zip(own, addresses[peer], strict=True):
                bucket.open(peer, address)
        seen = self._team.tell([sorted(bucket.others) for bucket in own])
        for at, bucket in enumerate(own):
            bucket.others = {peer: block for peer, block in bucket.others.items() if rank in seen[peer][at]}

    def _group(self, order: Sequence[int]) -> Iterator[list[int]]:
        """Neighbours of one kind, up to BUCKET_BYTES or one that has more."""
        group: list[int] = []
        size, kind = 0, None
        for index in order:
            parameter = self._parameters[index]
            own = parameter.dtype, parameter.device
            if group and (kind != own or size + parameter.nbytes > BUCKET_BYTES):
                yield group
                group, size = [], 0
            group.append(index)
            size, kind = size + parameter.nbytes, own
        if group:
            yield group


class _Bucket:
    """Gradients one after the other in one block of memory, padded so that it can be halved among the processes."""

    def __init__(
        self, members: Sequence[int], parameters: Sequence[torch.Tensor], layouts: Sequence[Layout | None], team: Team
    ) -> None:
        import torch

        self.members = members
        self._ends = np.cumsum([0, *(parameter.numel() for parameter in parameters)])
        whole = max(1, -(-int(self._ends[-1]) // team.size)) * team.size
        like = parameters[0]
        shares = team.shares_memory and can_share() and like.device.type == "cpu"
        self.shared = SharedMemory(whole * like.element_size()) if shares else None
        self.others: dict[int, torch.Tensor] = {}
        """Blocks of other processes of this machine."""
        if self.shared:
            self._block = torch.frombuffer(self.shared.content, dtype=like.dtype)
        else:
            self._block = torch.zeros(whole, dtype=like.dtype, device=like.device)
        self._other = torch.empty_like(self._block[: whole // 2])
        self._views = [
            self._block[start:].as_strided(*(layout or _lay_out_sum(parameter.detach())))
            for start, parameter, layout in zip(self._ends[:-1], parameters, layouts, strict=True)
        ]
        self._present = torch.zeros(len(members), dtype=torch.uint8)
        self._others_present = torch.zeros_like(self._present)

    def open(self, peer: int, address: Address | None) -> None:
        """Sees the block of a peer, if it can."""
        import torch

        if address and (content := open_shared(address)):
            self.others[peer] = torch.frombuffer(content, dtype=self._block.dtype)

    def put(self, place: int, gradient: torch.Tensor | None) -> None:
        self._present[place] = gradient is not None
        if gradient is not None:
            self._views[place].copy_(gradient)

    def add_up(self, rank: int, size: int, link: Link) -> None:
        """Leaves in the block the sums over all processes."""
        low, high, distance = 0, len(self._block), 1
        while distance < size:
            peer, middle, is_upper = rank ^ distance, (low + high) // 2, bool(rank & distance)
            kept, sent = ((middle, high), (low, middle)) if is_upper else ((low, middle), (middle, high))
            present = self._present, self._others_present
            if peer in self.others:
                link.swap(peer, present)
                theirs = self.others[peer][slice(*kept)]
            else:
                theirs = self._other[: high - middle]
                link.swap(peer, present, (self._block[slice(*sent)], theirs))
            self._add(*kept, theirs, is_left=is_upper)
            (low, high), distance = kept, 2 * distance
        while distance > 1:
            distance //= 2
            peer, length = rank ^ distance, high - low
            begin = low - length if rank & distance else high
            theirs = self._block[begin : begin + length]
            if peer in self.others:
                link.meet(peer)
                theirs.copy_(self.others[peer][begin : begin + length])
            else:
                link.swap(peer, (self._block[low:high], theirs))
            low, high = min(low, begin), max(high, begin + length)

    def _add(self, low: int, high: int, theirs: torch.Tensor, *, is_left: bool) -> None:
        """To a part of the block; is_left: theirs is the left one of the two."""
        import torch

        def add_between(start: int, end: int) -> None:
            mine, other = self._block[start:end], theirs[start - low : end - low]
            torch.add(*((other, mine) if is_left else (mine, other)), out=mine)

        if bool(self._present.all()) and bool(self._others_present.all()):
            add_between(low, high)
            return
        for place, (here, there) in enumerate(zip(self._present.tolist(), self._others_present.tolist(), strict=True)):
            start, end = max(low, int(self._ends[place])), min(high, int(self._ends[place + 1]))
            if start < end and here and there:
                add_between(start, end)
            elif start < end and there:
                self._block[start:end] = theirs[start - low : end - low]
        self._present |= self._others_present

    def get(self) -> Iterator[tuple[int, torch.Tensor | None]]:
        """The sums, by parameter; None where no process had a gradient."""
        for index, view, present in zip(self.members, self._views, self._present.tolist(), strict=True):
            yield index, view if present else None


class _UnderWay:
    """The sums of one step: buckets leave in their order, as they are filled, and are added up by a thread."""

    def __init__(self, buckets: Sequence[_Bucket], rank: int, size: int, link: Link) -> None:
        self._buckets = buckets
        self._places = {index: (bucket, place) for bucket in buckets for place, index in enumerate(bucket.members)}
        self._lacking = {id(bucket): len(bucket.members) for bucket in buckets}
        self._next = 0
        self._leaving: queue.SimpleQueue[_Bucket | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._add_up, args=(rank, size, link), name="genmed-sums", daemon=True)
        self._thread.start()

    def put(self, index: int, gradient: torch.Tensor | None) -> None:
        bucket, place = self._places[index]
        bucket.put(place, gradient)
        self._lacking[id(bucket)] -= 1
        while self._next < len(self._buckets) and not self._lacking[id(self._buckets[self._next])]:
            self._leaving.put(self._buckets[self._next])
            self._next += 1

    def wait(self) -> Iterator[tuple[int, torch.Tensor | None]]:
        """The sums, by parameter, once all have been put. Raises TeamError."""
        self._leaving.put(None)
        self.join()
        for bucket in self._buckets:
            yield from bucket.get()

    def abandon(self) -> None:
        """Ends the thread, without a word to the others."""
        self._abandoned = True
        self._leaving.put(None)

    def join(self) -> None:
        """Waits for what is under way. Raises TeamError."""
        self._thread.join()
        if self._error:
            raise self._error

    def _add_up(self, rank: int, size: int, link: Link) -> None:
        try:
            while (bucket := self._leaving.get()) is not None:
                bucket.add_up(rank, size, link)
            if not self._abandoned:
                for peer in sorted({peer for bucket in self._buckets for peer in bucket.others}):
                    link.meet(peer)  # it has read all of this process's blocks
        except BaseException as error:  # told where it can be heard
            self._error = error


def _lay_out_sum(gradient: torch.Tensor) -> Layout:
    """Of what torch makes of two such gradients: dense, in their order."""
    import torch

    like = torch.empty_strided(gradient.shape, gradient.stride(), dtype=gradient.dtype, device="meta")
    return tuple(gradient.shape), (like + like).stride()
