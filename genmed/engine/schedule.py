"""The learning rate: a function of the step, so it has no state."""

import math

from genmed.records.config.sections import Optimizer, Schedule


def learning_rate(step: int, total: int, optimizer: Optimizer, schedule: Schedule) -> float:
    """The rate for the update of step 1..total.

    Linear warm-up, then cosine to 0 (Loshchilov and Hutter 2017), a factor at milestones, or constant.
    """
    warmup = math.ceil(schedule.warmup * total)
    if step <= warmup:
        return optimizer.lr * step / warmup
    if schedule.name == "constant":
        return optimizer.lr
    if schedule.name == "multistep":
        passed = sum(step > milestone * total for milestone in schedule.milestones)
        return float(optimizer.lr * schedule.gamma**passed)
    progress = (step - warmup) / max(total - warmup, 1)
    return optimizer.lr * (1 + math.cos(math.pi * progress)) / 2
