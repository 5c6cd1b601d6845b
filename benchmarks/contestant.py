"""One contestant of throughput.py, in a process of its own: `contestant.py NAME COURSE TOKEN REPORT`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course import LR, Batches, Course, build_network, find_loss
from turns import Turns

if TYPE_CHECKING:
    from genmed.engine.loop import EpochReport

STRICT = "genmed, strict, trace"
SEEDED = "genmed, seeded, no trace"
BF16 = "genmed, strict, trace, bf16"
GENMED: dict[str, dict[str, Any]] = {
    STRICT: {},
    SEEDED: {"compute.determinism": "seeded", "run.trace": False},
    BF16: {"compute.precision": "bf16"},
}
"""What each has beside the course's flags."""


def train_by_genmed(more: dict[str, Any], course: Course, turns: Turns) -> None:
    """As `genmed train` does, with checkpoints, trace, log, metrics and registry; the reporter alone is another."""
    from genmed.workflows.configure import configure
    from genmed.workflows.train import train

    root = Path(course.folder) / "-".join(["genmed", *map(str, more.values())])
    train(configure({**course.flags, **more}), root, ReporterInTurns(course, turns))


class ReporterInTurns:
    """Counts images as an epoch's plan has them, and holds the sum against the epoch's report."""

    def __init__(self, course: Course, turns: Turns) -> None:
        self._turns, self._total = turns, len(course.files)
        self._sizes = [course.batch] * (self._total // course.batch)
        self._sizes += [self._total % course.batch] if self._total % course.batch else []
        self._step = 0

    def message(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...

    def begin_steps(self, done: int, total: int, images_a_step: int, what: str = "training") -> None:
        self._turns.begin()

    def step(self, step: int, epoch: int, loss: float) -> None:
        images = self._sizes[self._step % len(self._sizes)]
        self._step += 1
        self._turns.step(images, loss)

    def epoch(self, report: EpochReport, epochs: int) -> None:
        assert round(report.images_per_second * report.seconds) == self._total, report

    def end_steps(self) -> None: ...


@dataclass(frozen=True)
class Bare:
    """A loop of five lines: what there is to compute, and no more."""

    own_batches: bool = True
    """Cut before the first step and never shuffled: not even a copy."""
    as_bytes: bool = False
    keep_memory: bool = False

    def __call__(self, course: Course, turns: Turns) -> None:
        import torch

        from genmed.ground.allocator import keep_freed_memory

        if self.keep_memory:
            keep_freed_memory()
        network = build_network(course, channels_last=True).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=LR, fused=True)
        batches: Any = Batches(course, as_bytes=self.as_bytes)
        if self.own_batches:
            batches = list(batches)
        turns.begin()
        for images, targets in itertools.chain.from_iterable(itertools.repeat(batches)):
            loss = find_loss(network(images), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            turns.step(len(images), loss.detach())


def list_contestants() -> dict[str, Callable[[Course, Turns], None]]:
    """By name: trains until it is killed."""
    import peers

    return {
        **{name: partial(train_by_genmed, more) for name, more in GENMED.items()},
        "bare loop": Bare(),
        "bare loop, genmed's allocator": Bare(keep_memory=True),
        "bare loop, float32 in memory": Bare(own_batches=False),
        "bare loop, bytes in memory": Bare(own_batches=False, as_bytes=True),
        **peers.PEERS,
    }


def main() -> None:
    name, path, token, report = sys.argv[1:]
    course = Course.load(Path(path))
    if name not in GENMED:
        import torch

        torch.set_num_threads(course.flags["compute.threads"])
    list_contestants()[name](course, Turns(int(token), int(report), course.steps))


if __name__ == "__main__":
    main()
