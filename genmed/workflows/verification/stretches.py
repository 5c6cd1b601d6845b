"""The stretches of a run: between two states that it kept, each can be computed again without the others."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from genmed.engine.checkpoint import Checkpoint, describe_whole, list_checkpoints, read_progress
from genmed.engine.trace import RecordedTrace
from genmed.ground.errors import RecordError, RequestError
from genmed.records.run_folder import RunFolder


@dataclass(frozen=True)
class Stretch:
    """The steps after one kept state up to and with the next."""

    number: int
    """From 1."""
    begin: Checkpoint | None
    """None: the initial weights."""
    after: int
    """The step of that state."""
    last: int
    end: Checkpoint | None
    """None: the trace ends where no state was kept."""
    is_last: bool

    @property
    def steps(self) -> int:
        return self.last - self.after


def list_stretches(trace: RecordedTrace, kept: Sequence[Checkpoint], need_best: bool = False) -> list[Stretch]:
    """All, in order; together they are the whole trace. kept: oldest first, found to be whole and of this trace.

    need_best: whether the last stretch has to know the best state before it, of which the final metrics may be. Raises
    RecordError where a run that continues another has not kept the state from which it began.
    """
    by_step = {checkpoint.step: checkpoint for checkpoint in kept}  # of two of one step, the epoch's end
    if trace.start and trace.start not in by_step:
        raise RecordError(f"there is no checkpoint of step {trace.start}, where the run began")
    steps = sorted(step for step in by_step if trace.start < step < trace.last)
    while need_best and steps and not _knows_best(by_step[steps[-1]], kept):
        steps.pop()
    points = [trace.start, *steps, trace.last]
    return [
        Stretch(number, by_step.get(after), after, last, by_step.get(last), last == trace.last)
        for number, (after, last) in enumerate(pairwise(points), start=1)
    ]


def _knows_best(checkpoint: Checkpoint, kept: Sequence[Checkpoint]) -> bool:
    epoch = read_progress(checkpoint.folder).best_epoch
    return epoch == 0 or find_end_of_epoch(kept, epoch) is not None


def join(stretches: Sequence[Stretch]) -> Stretch:
    """The whole run as one stretch."""
    first, last = stretches[0], stretches[-1]
    return Stretch(1, first.begin, first.after, last.last, last.end, True)


def list_kept(folder: RunFolder) -> list[Checkpoint]:
    """Oldest first, of a run that was found to be whole."""
    return [describe_whole(path) for path in list_checkpoints(folder.checkpoints_path)]


def find_end_of_epoch(kept: Sequence[Checkpoint], epoch: int) -> Checkpoint | None:
    return next((checkpoint for checkpoint in kept if checkpoint.is_end_of(epoch)), None)


def choose(stretches: Sequence[Stretch], number: int | None = None, wanted: Sequence[int] = ()) -> Sequence[Stretch]:
    """`wanted` by their numbers, or `number` of them at random, drawn from the system: a forger cannot foresee which.

    All where neither is given. Raises RequestError.
    """
    total = len(stretches)
    for segment in wanted:
        if not 1 <= segment <= total:
            raise RequestError(f"--segment must be from 1 to {total}, got {segment}", f"the run has {total} segments")
    if number is not None and not 1 <= number <= total:
        raise RequestError(
            f"--segments must be from 1 to {total}, got {number}",
            f"the run has {total} segments, one between two checkpoints that it kept; see checkpoints.keep_every_steps",
        )
    if wanted:
        return [stretches[segment - 1] for segment in sorted(set(wanted))]
    if number is not None:
        return sorted(secrets.SystemRandom().sample(list(stretches), number), key=lambda stretch: stretch.number)
    return stretches


def read_expected(kept: Sequence[Checkpoint], stretch: Stretch) -> dict[tuple[int, bool], dict[str, object]]:
    """What each state kept on the way says of the training's position, by step and whether its epoch was over."""
    found = {}
    for checkpoint in kept:
        if stretch.after < checkpoint.step <= stretch.last:
            progress = read_progress(checkpoint.folder)
            found[progress.step, progress.epoch_over] = progress.to_json()
    return found
