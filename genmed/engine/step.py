"""One step, defined on the shards of its batch: slices computed alone, combined as a tree, one update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genmed.engine.learner import Learner, fingerprint_optimizer
from genmed.engine.objective import count_terms, sum_loss
from genmed.engine.schedule import learning_rate
from genmed.engine.shards import Gradients, GrowingTree, RunningStatistics, add_all, combine_as_tree
from genmed.engine.task import Task
from genmed.ground.fingerprints import digest_names
from genmed.ground.randomness import step_seed
from genmed.ground.team import Team
from genmed.ground.tensor_fingerprints import Snapshot, Transfer
from genmed.ground.tensor_reading import read_tensors
from genmed.parts.data.augmentation import augment
from genmed.parts.data.loader import Batch
from genmed.seed import seed_generators

if TYPE_CHECKING:
    import torch

Draws = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StepRecord:
    """What a step did: the fields of its trace line, in their order. Fingerprints are '' where no trace is kept."""

    step: int
    epoch: int
    samples: str
    input: tuple[str, ...]
    loss: tuple[float, ...]
    """Each shard's part of the batch's mean loss."""
    grad: str
    param: str
    buffer: str
    optim: str
    lr: float

    @property
    def mean_loss(self) -> float:
        """Of the batch: the parts' sum, as a tree."""
        return combine_as_tree(self.loss, lambda a, b: a + b)


@dataclass(frozen=True)
class LaunchedStep:
    """A step that an accelerator may still be at; the next one can be launched before it is waited for."""

    step: int
    epoch: int
    samples: str
    inputs: Sequence[Snapshot]
    """One a shard of this process; none where no trace is kept, as of the state."""
    losses: Transfer
    """Of these shards. What is sent last."""
    state: Snapshot | None
    """Of gradients, parameters, buffers and the optimizer's tensors."""
    scaler: dict[str, Any]
    lr: float
    team: Team

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.losses.has_arrived

    def wait(self) -> StepRecord:
        """What it did. All processes wait for the same steps."""
        grad, param, buffer, tensors = self.state.wait() if self.state else [""] * 4
        own = [fingerprint for snapshot in self.inputs for fingerprint in snapshot.wait()], self.losses.wait().tolist()
        inputs, losses = (list(chain(*parts)) for parts in zip(*self.team.tell(own), strict=True))
        return StepRecord(
            step=self.step,
            epoch=self.epoch,
            samples=self.samples,
            input=tuple(inputs),
            loss=tuple(losses),
            grad=grad,
            param=param,
            buffer=buffer,
            optim=fingerprint_optimizer(tensors, self.scaler),
            lr=self.lr,
        )


def run_step(learner: Learner, task: Task, batch: Batch, draws: Draws, step: int, epoch: int) -> StepRecord:
    """Changes the learner by one step and says what happened; see `launch_step`."""
    return launch_step(learner, task, batch, draws, step, epoch).wait()


def launch_step(learner: Learner, task: Task, batch: Batch, draws: Draws, step: int, epoch: int) -> LaunchedStep:
    """Changes the learner by one step. An accelerator is given all that it has to do, and not waited for.

    batch: with the images of this process's shards. draws: (N, DRAWS) the epoch's augmentation, by row. `step` counts
    from 1 over the whole training.
    """
    traced = task.config.run.trace
    lr = learning_rate(step, task.total_steps, task.config.optimizer, task.config.schedule)
    inputs, losses = compute_gradients(learner, task, batch, draws, step)
    snapshot = _update(learner, task, lr)
    return LaunchedStep(
        step=step,
        epoch=epoch,
        samples=digest_names([task.ids[row] for row in batch.rows.tolist()]) if traced else "",
        inputs=inputs,
        losses=Transfer(losses),
        state=snapshot,
        scaler=learner.scaler_state() if traced else {},
        lr=lr,
        team=task.team,
    )


def compute_gradients(
    learner: Learner, task: Task, batch: Batch, draws: Draws, step: int
) -> tuple[list[Snapshot], torch.Tensor]:
    """Leaves the gradient of the whole batch's mean loss in the parameters, and its statistics in BatchNorm's figures.

    Each shard's loss is divided by the whole batch's count of terms beforehand: the same number for all, so that the
    sums need no pass of their own and fp16 does not overflow. Returns the input fingerprints and parts of the loss of
    this process's shards.
    """
    import torch

    shards, team = task.config.compute.shards, task.team
    own = team.own(shards)
    size = len(batch.rows) // shards
    terms = count_terms(task.objective, task.targets[batch.rows.numpy()])
    statistics = RunningStatistics(learner.model, shards)
    trained = list(learner.trained.values())
    tree: GrowingTree[Gradients] = GrowingTree(add_all)
    inputs: list[Snapshot] = []
    losses: list[torch.Tensor] = []
    for place, shard in enumerate(own):
        seed_generators(step_seed(task.config.seed, step * shards + shard))
        part = slice(place * size, (place + 1) * size)
        with torch.no_grad():
            rows = batch.rows[shard * size : (shard + 1) * size].numpy()
            images = to_input(batch.images[part], learner, task, draws[rows])
        if task.config.run.trace:
            inputs.append(Snapshot([read_tensors([("input", images)])]))
        with statistics.watch_shard():
            logits = compute_logits(learner, task, images)
        targets = batch.targets[part]
        loss = sum_loss(task.objective, logits, targets, task.config.loss, task.weights) / terms
        losses.append(loss.detach())
        if team.size > 1 and shard == own[-1]:
            with learner.sums_over(team).taken(tree.subtrees):
                _go_back(learner, loss)
        else:
            _go_back(learner, loss)
            if shards > 1:
                tree.add([parameter.grad for parameter in trained])
                learner.optimizer.zero_grad(set_to_none=True)
    if shards > 1 and team.size == 1:
        for parameter, gradient in zip(trained, tree.subtrees[0], strict=True):
            parameter.grad = gradient
    statistics.combine(team)
    return inputs, torch.stack(losses)


def _go_back(learner: Learner, loss: torch.Tensor) -> None:
    (learner.scaler.scale(loss) if learner.scaler else loss).backward()  # type: ignore[no-untyped-call]


def _update(learner: Learner, task: Task, lr: float) -> Snapshot | None:
    """Clips and applies the gradients. Where a trace is kept, returns them with the state that they led to.

    They are digested last, with all else: the optimizer leaves them as it saw them.
    """
    from torch.nn.utils import clip_grad_norm_

    for group in learner.optimizer.param_groups:
        group["lr"] = lr
    if learner.scaler:
        learner.scaler.unscale_(learner.optimizer)
    if task.config.optimizer.clip_norm:
        clip_grad_norm_(learner.trained.values(), task.config.optimizer.clip_norm, foreach=False)
    if learner.scaler:
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
    else:
        learner.optimizer.step()
    is_traced = task.config.run.trace and task.team.leads
    readings = [learner.read_gradients(), *learner.read_state()] if is_traced else None
    learner.optimizer.zero_grad(set_to_none=True)
    return Snapshot(readings, task.config.compute.threads) if readings else None


def to_input(images: torch.Tensor, learner: Learner, task: Task, draws: Draws | None) -> torch.Tensor:
    """(B, 1 or 3, S, S) uint8 to (B, C, S, S) float32 on the device as the network takes it; augmented by `draws`."""
    import torch

    values = images.to(task.device, non_blocking=True).float()
    if draws is not None:
        values = augment(values, draws, task.strength)
    values = task.scaling.apply_(values)
    values = values.expand(-1, learner.channels, -1, -1)
    channels_last = task.config.compute.memory_format == "channels_last"
    return values.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def compute_logits(learner: Learner, task: Task, images: torch.Tensor) -> torch.Tensor:
    """(B, outputs) float32, whatever precision the network computes in."""
    import torch

    precision = task.config.compute.precision
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with torch.autocast(task.device, dtype=kind or torch.bfloat16, enabled=kind is not None):
        logits: Any = learner.model(images)
    return logits.float()  # type: ignore[no-any-return]
