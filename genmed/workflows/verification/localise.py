"""Where in a step a difference arises: it is computed twice more from the state before it, each operation noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from genmed.engine.checkpoint import (
    Checkpoint,
    Memory,
    check_checkpoint,
    describe_whole,
    list_checkpoints,
    write_checkpoint,
)
from genmed.engine.learner import fingerprint_learner
from genmed.engine.module_trace import read_modules
from genmed.engine.operations import OUTSIDE, ModuleRecord, Operation, OperationLog, group_by_module
from genmed.engine.progress import Progress
from genmed.engine.replay import replay_steps
from genmed.engine.step import StepRecord
from genmed.engine.trace import Divergence, find_divergence, make_line
from genmed.ground.errors import Interrupted
from genmed.ground.team import ALONE
from genmed.workflows.execute import make_loader
from genmed.workflows.verification.report import Localisation
from genmed.workflows.verification.rerun import Rerun

WITHOUT_ARITHMETIC = {"samples", "lr", "state", "metrics", "initial"}
"""Fields of a divergence that no operation of the step makes."""

T = TypeVar("T", Operation, ModuleRecord)


@dataclass(frozen=True)
class _Repetition:
    """A step computed once more."""

    record: StepRecord
    operations: Sequence[Operation]
    kinds: dict[str, str]
    """Class of each module."""


def localise(rerun: Rerun, divergence: Divergence, modules: Path) -> Localisation | None:
    """What the first differing step tells when it is computed again; None where it has no arithmetic to look at.

    modules: the recorded digests of modules, if there are any. Raises Interrupted.
    """
    if divergence.field in WITHOUT_ARITHMETIC:
        return None
    before, step = _rebuild(rerun, divergence.step)
    first, second = (_compute(rerun, before, step) for _ in range(2))
    agrees = _agrees(rerun, first.record)
    parted = _find_first(first.operations, second.operations)
    if parted or make_line(first.record, None, "") != make_line(second.record, None, ""):
        return _name_unrepeatable(step, agrees, first.kinds, parted)
    if agrees:
        return Localisation(
            step,
            repeats=True,
            agrees_with_record=True,
            says=f"step {step}, computed twice more from the state before it, is as recorded: the first time it was"
            " disturbed by a fault of memory or processor, or by a state that the model keeps outside of its"
            " parameters and buffers",
        )
    return _compare_with_record(step, first, read_modules(modules, step))


def _rebuild(rerun: Rerun, step: int) -> tuple[Checkpoint | None, int]:
    """The state before the step as a checkpoint, None for the initial one, from the nearest that was kept.

    If a step on the way, which agreed before, differs this time, it takes the place of the step.
    """
    folders = [path for place in sorted(rerun.scratch.iterdir()) for path in list_checkpoints(place)]
    kept = [*rerun.kept, *(describe_whole(path) for path in folders if not check_checkpoint(path))]
    begin = max((entry for entry in kept if entry.step < step), key=lambda entry: entry.step, default=None)
    at = begin.step if begin else rerun.recorded.start
    if at == step - 1:
        return begin, step
    learner, _ = rerun.begin_at(begin)
    task = replace(rerun.session.task, team=ALONE)  # operations are noted in one process
    for record in replay_steps(learner, task, make_loader(task), at + 1, step - 1):
        if rerun.stop.name:
            raise Interrupted(str(rerun.stop.name))
        if not _agrees(rerun, record):
            return _rebuild(rerun, record.step)
    progress = Progress(step=record.step, epoch=record.epoch, lr=record.lr)
    snapshot = Memory().take(learner, progress, fingerprint_learner(learner, progress), None)
    place = rerun.scratch / "before-difference"
    place.mkdir(exist_ok=True)
    return write_checkpoint(place, snapshot, rerun.session.identity), step


def _compute(rerun: Rerun, before: Checkpoint | None, step: int) -> _Repetition:
    learner, _ = rerun.begin_at(before)
    task = replace(rerun.session.task, team=ALONE)  # operations are noted in one process
    log = OperationLog(learner.model, learner.optimizer)
    with log.watching():
        [record] = replay_steps(learner, task, make_loader(task), step, step)
    return _Repetition(record, log.operations, log.frames.kinds)


def _agrees(rerun: Rerun, record: StepRecord) -> bool:
    """With the recorded line, but for the epoch's state, of which a single step has no part."""
    recorded = {field: value for field, value in rerun.recorded.line(record.step).items() if field != "state"}
    return find_divergence(recorded, make_line(record, None, "")) is None


def _find_first(ones: Sequence[T], others: Sequence[T]) -> tuple[T, T | None] | None:
    """The first entry that differs, and what stands in its place."""
    for one, other in zip_longest(ones, others):
        if one != other:
            return (one, other) if one is not None else (other, None)
    return None


def _name_unrepeatable(
    step: int, agrees: bool, kinds: dict[str, str], parted: tuple[Operation, Operation | None] | None
) -> Localisation:
    says = f"step {step}, computed twice from one state, gave two results"
    if parted is None:
        return Localisation(step, False, agrees, f"{says}, though all operations on numbers gave the same")
    one, other = parted
    where = _describe(one.module, kinds)
    return Localisation(
        step,
        repeats=False,
        agrees_with_record=agrees,
        says=f"{says}: {one.name} in {where}, {one.phase}, is the first that is not deterministic",
        module=one.module,
        kind=kinds.get(one.module),
        phase=one.phase,
        operation=one.name,
        digests=(one.digest, other.digest) if other else None,
    )


def _compare_with_record(step: int, found: _Repetition, recorded: Sequence[ModuleRecord] | None) -> Localisation:
    says = f"step {step} gives the same bits each time here, but others than recorded"
    if recorded is None:
        return Localisation(
            step, True, False, f"{says} (had the run been trained with --trace-modules, the module would be named)"
        )
    parted = _find_first(recorded, group_by_module(found.operations))
    if parted is None:
        return Localisation(step, True, False, f"{says}, though each module computed what was recorded of it")
    one, other = parted
    return Localisation(
        step,
        repeats=True,
        agrees_with_record=False,
        says=f"{says}: {_describe(one.module, found.kinds)}, {one.phase}, is the first that differs",
        module=one.module,
        kind=found.kinds.get(one.module),
        phase=one.phase,
        digests=(one.digest, other.digest) if other else None,
    )


def _describe(module: str, kinds: dict[str, str]) -> str:
    if module == OUTSIDE:
        return "the step outside of the network"
    return f"module {module} ({kinds.get(module, 'unknown')})" if module else f"the model itself ({kinds['']})"
