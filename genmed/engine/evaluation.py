"""Scores of images by a model at rest: running statistics frozen, dropout off, no augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genmed.engine.learner import Learner
from genmed.engine.step import compute_logits, sum_loss, to_input
from genmed.engine.task import Task
from genmed.ground.randomness import derive_seed
from genmed.parts.data.loader import BatchLoader, plan_evaluation
from genmed.parts.metrics import Scores, measure
from genmed.seed import seed_generators


@dataclass(frozen=True)
class Evaluation:
    """Of one side of the split."""

    scores: Scores
    """(N, L) probabilities, in the order of `task.rows[split]`."""
    metrics: dict[str, float | None]


class StoppedError(Exception):
    """An evaluation that was asked to stop; nothing has changed."""


def evaluate(
    learner: Learner,
    task: Task,
    loader: BatchLoader,
    split: str,
    stop_asked: Callable[[], str | None] = lambda: None,
) -> Evaluation:
    """Scores all images of a side and measures them; leaves the model in eval mode.

    Raises StoppedError within a batch of `stop_asked` giving the name of a signal.
    """
    import torch

    seed_generators(derive_seed(task.config.seed, "evaluate", split))  # for models that draw at rest
    rows = task.rows[split]
    scores: list[torch.Tensor] = []
    loss = 0.0
    learner.model.eval()
    with torch.no_grad():  # not inference_mode, whose tensors a model cannot keep for its next training step
        for batch in loader.read(plan_evaluation(rows, task.config.training.batch_size)):
            if stop_asked():
                raise StoppedError
            images = to_input(batch.images, learner, task, None)
            logits = compute_logits(learner, task, images)
            scores.append(torch.sigmoid(logits).cpu())
            loss += float(sum_loss(logits, task, batch.labels))
    found = torch.cat(scores).numpy()
    metrics: dict[str, float | None] = {f"{split}_loss": _finite(loss / (len(rows) * len(task.classes)))}
    finite = bool(np.isfinite(found).all())
    if finite:
        metrics |= measure(split, found, task.labels[rows], task.classes)
    else:
        metrics |= dict.fromkeys(measure(split, np.zeros_like(found), task.labels[rows], task.classes))
    return Evaluation(found, metrics)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
