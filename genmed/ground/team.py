"""The processes that compute one run together, as torchrun started them; what they tell each other, and what ends them.

Messages are carried by torch.distributed: small ones and states by gloo; sums by gloo, or by NCCL where each process
has a GPU of its own.
"""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from genmed.ground.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch._C._distributed_c10d import Store

T = TypeVar("T")

WAIT_FOR_WHY_SECONDS = 1.0
"""One that fails says why before it leaves: where there is no word by then, it was killed or cannot be reached."""


class TookPart(Exception):
    """No error: this process has done its part of a command, and another tells what came of it."""

    def __init__(self, exit_code: int = 0) -> None:
        super().__init__()
        self.exit_code = exit_code


class TeamError(RunError):
    """Another process of the team has failed, is gone, or cannot be reached."""

    def __init__(self, message: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


def speaks() -> bool:
    """Whether this process is the one of its team that talks to people, or alone."""
    return not is_member() or os.environ["RANK"] == "0"


@dataclass(frozen=True)
class Team:
    """This process among those that compute the run: a power of two, each with the same number of shards."""

    rank: int = 0
    size: int = 1
    link: Link | None = None
    """To the others; None where there are none."""
    shares_memory: bool = True
    """Whether those of one machine may read what lies in each other's memory."""

    @property
    def leads(self) -> bool:
        """Whether this is the one that keeps the record."""
        return self.rank == 0

    def own(self, shards: int) -> range:
        """The shards that this process computes: a whole subtree."""
        each = shards // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def part(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Of a batch, which all shards share out evenly."""
        each = len(rows) // self.size
        return rows[self.rank * each : (self.rank + 1) * each]

    def tell(self, mine: T, *, patiently: bool = False) -> list[T]:
        """What each process tells here, in order of rank; all must get here. patiently: some may take hours to."""
        return self.link.tell(mine, patiently) if self.link else [mine]

    def first(self, mine: T | None) -> T | None:
        """What the first tells of those that have anything to tell here."""
        return next((told for told in self.tell(mine) if told is not None), None)

    def hear(self, leaders: T, *, patiently: bool = False) -> T:
        """What the leader tells here; of the others the value does not matter."""
        return self.link.hear(leaders, patiently) if self.link else leaders

    def take(self, tensors: Sequence[torch.Tensor]) -> None:
        """Makes all tensors those of the leader, which are of the same shapes."""
        if self.link:
            self.link.take(tensors)


ALONE = Team()


def is_member() -> bool:
    """Whether torchrun has started this process, as one of several or alone."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def join(shards: int, seconds: float, *, cuda: bool = False, share_memory: bool = True) -> Team:
    """The team of the processes that torchrun has started, once all are there. Raises TookPart in one not needed.

    Of so many as are no power of two, or more than there are shards, the last have nothing to do. seconds: how long one
    is waited for. cuda: each has a GPU of its own. share_memory: see `Team`. Raises TeamError.
    """
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    size = min(1 << count.bit_length() - 1, shards)
    if size == 1:
        if rank:
            raise TookPart
        return ALONE
    patience = timedelta(seconds=seconds)
    with _contact(rank, "the others"):
        server = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
            timeout=patience,
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"genmed/{attempt}", server)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=patience)
        members = list(range(size))
        groups = _Groups(
            told=dist.new_group(members, timeout=patience, backend="gloo"),
            patient=dist.new_group(members, timeout=timedelta(days=7), backend="gloo"),
            summed=dist.new_group(members, timeout=patience, backend="gloo"),
            summed_on_gpus=dist.new_group(members, timeout=patience, backend="nccl") if cuda else None,
        )
    if rank >= size:
        raise TookPart
    return Team(rank, size, Link(rank, size, store, groups), share_memory)


class _Groups(NamedTuple):
    """Of torch.distributed. What different threads send must not meet in one."""

    told: Any
    patient: Any
    summed: Any
    summed_on_gpus: Any


WHY = "why"
SOURCE = r"^\[\S+:\d+\] "
"""Where in gloo an error arose."""


class Link:
    """The process groups, and a store that outlives the processes."""

    def __init__(self, rank: int, size: int, store: Store, groups: _Groups) -> None:
        self._rank, self._size, self._store, self._groups = rank, size, store, groups

    def tell(self, mine: T, patiently: bool) -> list[T]:
        import torch.distributed as dist

        found: list[Any] = [None] * self._size
        with self._contact("the other processes"):
            dist.all_gather_object(found, mine, group=self._groups.patient if patiently else self._groups.told)
        return found

    def hear(self, leaders: T, patiently: bool) -> T:
        import torch.distributed as dist

        box = [leaders]
        with self._contact("the first process"):
            group = self._groups.patient if patiently else self._groups.told
            dist.broadcast_object_list(box, src=0, group=group)
        return box[0]

    def take(self, tensors: Sequence[torch.Tensor]) -> None:
        import torch
        import torch.distributed as dist

        with self._contact("the first process"), torch.no_grad():
            for tensor in tensors:
                here = tensor.detach().cpu().contiguous()
                dist.broadcast(here, src=0, group=self._groups.told)
                tensor.copy_(here)

    def swap(self, peer: int, *pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Sends the first of each pair to a peer and receives the second; dense, and as large as the peer's own."""
        import torch
        import torch.distributed as dist

        with self._contact(f"rank {peer}"):
            requests: list[Any] = []
            for tag, (mine, theirs) in enumerate(pairs):
                sent, received = mine.view(torch.uint8), theirs.view(torch.uint8)
                if mine.is_cuda:
                    group = self._groups.summed_on_gpus
                    both = [dist.P2POp(dist.isend, sent, peer, group), dist.P2POp(dist.irecv, received, peer, group)]
                    requests += dist.batch_isend_irecv(both)
                else:
                    requests.append(dist.irecv(received, peer, self._groups.summed, tag))
                    requests.append(dist.isend(sent, peer, self._groups.summed, tag))
            for request in requests:
                request.wait()

    @contextmanager
    def _contact(self, whom: str) -> Iterator[None]:
        """Raises TeamError where one is gone; with its own words, or those of another that lost one, if it left any."""
        try:
            with _contact(self._rank, whom):
                yield
        except TeamError as error:
            if not (why := self.hear_why()):
                told = error.message.removeprefix(f"rank {self._rank} ")  # which is told with it
                self.say_why({"message": told, "hint": "", "code": 1})
                raise
            message = f"rank {why['rank']} on {why['host']}: {why['message']}"
            raise TeamError(message, why["hint"], why["code"]) from error

    def meet(self, peer: int) -> None:
        """Returns when the peer has come to the same place."""
        import torch

        self.swap(peer, (torch.zeros(1, dtype=torch.uint8), torch.zeros(1, dtype=torch.uint8)))

    def say_why(self, reason: Mapping[str, Any]) -> None:
        """Leaves word, for those who lose contact, of what ended this process. The first word stands."""
        told = json.dumps({"rank": self._rank, "host": socket.gethostname(), **reason})
        _ask(lambda: self._store.compare_set(WHY, "", told))

    def hear_why(self) -> dict[str, Any] | None:
        """What the first that ended has said, if it could."""
        end = time.monotonic() + WAIT_FOR_WHY_SECONDS
        while not (found := _ask(lambda: self._store.check([WHY]) and self._store.get(WHY))):
            if time.monotonic() > end:
                return None
            time.sleep(0.05)
        return dict(json.loads(found))


def _ask(work: Callable[[], T]) -> T | None:
    """What the store answers; None where it does not: it may be beyond a link that is cut, and would be waited for."""
    answers: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(work())
        except RuntimeError:
            answers.put(None)

    threading.Thread(target=ask, name="genmed-why", daemon=True).start()
    try:
        return answers.get(timeout=WAIT_FOR_WHY_SECONDS)
    except queue.Empty:
        return None


def leave() -> None:
    """Closes what the process is connected by."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _contact(rank: int, whom: str) -> Iterator[None]:
    """gloo, NCCL and the store raise RuntimeError, each in words of its own, where one is gone or does not answer."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).strip().partition("\n")[0].partition(". This is typically")[0]
        raise TeamError(f"rank {rank} lost contact with {whom} ({re.sub(SOURCE, '', said)})") from error
