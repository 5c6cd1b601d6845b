"""Single steps of a real training, to be timed."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext

from genmed.engine.module_trace import ModuleTrace
from genmed.engine.task import Task
from genmed.ground.team import ALONE, Team
from genmed.records.config import Config


class Stepper:
    """The learner of a config, and its training batches over and over."""

    def __init__(self, config: Config, team: Team = ALONE) -> None:
        """In a process that was started with the config's variables."""
        from genmed.parts.data.augmentation import draw_epoch
        from genmed.parts.data.loader import plan_epoch
        from genmed.parts.models.build import set_training_mode
        from genmed.workflows.assemble import assemble
        from genmed.workflows.execute import make_loader
        from genmed.workflows.reporting import Silent

        self.session = assemble(config, Silent(), team=team)
        task = self.task = self.session.task
        plan = plan_epoch(config.seed, 1, task.rows["train"], config.training.batch_size, config.compute.shards)[:-1]
        self._batches = list(make_loader(task).read(plan, [team.part(rows) for rows in plan]))
        self._draws = draw_epoch(config.seed, 1, len(task.ids))
        self.count = 0
        set_training_mode(self.session.learner.model, config.model, len(task.classes))

    def step(self, task: Task | None = None, modules: ModuleTrace | None = None) -> float:
        """Seconds of one step, as `task` says or as the config; with digests of modules if they have a place to go."""
        from genmed.engine.step import run_step

        self.count += 1
        batch = self._batches[self.count % len(self._batches)]
        number = self.count % self.task.total_steps + 1
        start = time.perf_counter()
        with modules.watch(self.session.learner, number) if modules else nullcontext():
            run_step(self.session.learner, task or self.task, batch, self._draws, number, 1)
        return time.perf_counter() - start


def bootstrap_median(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and its 95% interval by 2,000 resamples."""
    medians = sorted(statistics.median(random.choices(values, k=len(values))) for _ in range(2000))
    return statistics.median(values), medians[50], medians[1949]
