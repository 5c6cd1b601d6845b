"""Scores of images by a model at rest: running statistics frozen, dropout off, no augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genmed.engine.learner import Learner
from genmed.engine.objective import count_terms, score, sum_loss
from genmed.engine.step import compute_logits, to_input
from genmed.engine.task import Task
from genmed.ground.randomness import derive_seed
from genmed.ground.tensor_fingerprints import Transfer
from genmed.parts.data.device import Loader
from genmed.parts.data.loader import plan_evaluation
from genmed.parts.metrics import Scores, measure, pool_studies
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
    loader: Loader,
    split: str,
    stop_asked: Callable[[], str | None] = lambda: None,
) -> Evaluation:
    """Scores all images of a side and measures them; leaves the model in eval mode.

    Raises StoppedError within a batch of `stop_asked` giving the name of a signal.
    """
    import torch

    seed_generators(derive_seed(task.config.seed, "evaluate", split))  # for models that draw at rest
    rows = task.rows[split]
    scores: list[Transfer] = []
    losses: list[Transfer] = []
    learner.model.eval()
    with torch.no_grad():  # not inference_mode, whose tensors a model cannot keep for its next training step
        for batch in loader.read(plan_evaluation(rows, task.config.training.batch_size)):
            if stop_asked():
                raise StoppedError
            images = to_input(batch.images, learner, task, None)
            logits = compute_logits(learner, task, images)
            scores.append(Transfer(score(task.objective, logits, len(task.classes))))
            losses.append(Transfer(sum_loss(task.objective, logits, batch.targets, task.config.loss, task.weights)))
    found = torch.cat([part.wait() for part in scores]).numpy()
    loss = 0.0
    for part in losses:  # one after the other: `sum` compensates from Python 3.12 on
        loss += float(part.wait())
    terms = count_terms(task.objective, task.targets[rows])
    metrics: dict[str, float | None] = {f"{split}_loss": _finite(loss / terms)}
    studies = [task.studies[row] for row in rows] if task.studies else ()
    judged, truth = pool_studies(found, task.labels[rows], studies)
    finite = bool(np.isfinite(found).all())
    measured = measure(split, judged if finite else np.zeros_like(judged), truth, task.classes, task.kind)
    return Evaluation(found, metrics | (measured if finite else dict.fromkeys(measured)))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
