"""Single steps of a training, each known by its number alone: nothing that came between has a part in them."""

from __future__ import annotations

from collections.abc import Iterator

from genmed.engine.learner import Learner
from genmed.engine.step import StepRecord, run_step
from genmed.engine.task import Task
from genmed.parts.data.augmentation import draw_epoch
from genmed.parts.data.device import Loader
from genmed.parts.data.loader import plan_epoch
from genmed.parts.models.build import set_training_mode


def replay_steps(learner: Learner, task: Task, loader: Loader, first: int, last: int) -> Iterator[StepRecord]:
    """Computes the steps `first` to `last`, counted from 1; the learner is in the state before the first.

    No validation comes between, for it leaves no trace in the steps.
    """
    config = task.config
    set_training_mode(learner.model, config.model, task.outputs)
    step = first
    while step <= last:
        epoch, position = divmod(step - 1, task.steps_per_epoch)
        epoch += 1
        plan = plan_epoch(config.seed, epoch, task.rows["train"], config.training.batch_size, config.compute.shards)
        draws = draw_epoch(config.seed, epoch, len(task.ids))
        left = plan[position : position + last - step + 1]
        for batch in loader.read(left, [task.team.part(rows) for rows in left]):
            yield run_step(learner, task, batch, draws, step, epoch)
            step += 1
