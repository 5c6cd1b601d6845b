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
from genmed.parts.metrics import Scores
from genmed.parts.metrics.measuring import measure, pool_studies
from genmed.seed import seed_generators


@dataclass(frozen=True)
class Evaluation:
    """Of one side of the split."""

    scores: Scores
    """(N, L) probabilities, in the order of `task.rows[split]`."""
    metrics: dict[str, float | None]


class StoppedError(Exception):
    """An evaluation that was asked to stop, by the signal of that name; nothing has changed."""


def evaluate(
    learner: Learner,
    task: Task,
    loader: Loader,
    split: str,
    stop_asked: Callable[[], str | None] = lambda: None,
) -> Evaluation:
    """Scores all images of a side and measures them; leaves the model in eval mode.

    Each process of a team computes whole batches. Raises StoppedError within a batch of `stop_asked` giving the name of
    a signal to one of them.
    """
    import torch

    team, rows = task.team, task.rows[split]
    plan = plan_evaluation(rows, task.config.training.batch_size)
    batches = loader.read(plan[team.rank :: team.size])
    scores: list[Transfer] = []
    losses: list[Transfer] = []
    learner.model.eval()
    with torch.no_grad():  # not inference_mode, whose tensors a model cannot keep for its next training step
        for number in range(team.rank, -(-len(plan) // team.size) * team.size, team.size):
            if signal := team.first(stop_asked()):
                raise StoppedError(signal)
            if number >= len(plan):
                continue
            seed_generators(derive_seed(task.config.seed, "evaluate", split, number))  # for models that draw at rest
            batch = next(batches)
            images = to_input(batch.images, learner, task, None)
            logits = compute_logits(learner, task, images)
            scores.append(Transfer(score(task.objective, logits, len(task.classes))))
            losses.append(Transfer(sum_loss(task.objective, logits, batch.targets, task.config.loss, task.weights)))
    told = team.tell(([part.wait().numpy() for part in scores], [float(part.wait()) for part in losses]))
    in_order = [divmod(number, team.size) for number in range(len(plan))]
    found = np.concatenate([told[rank][0][place] for place, rank in in_order])
    loss = 0.0
    for place, rank in in_order:  # one after the other: `sum` compensates from Python 3.12 on
        loss += told[rank][1][place]
    terms = count_terms(task.objective, task.targets[rows])
    measured = _measure(task, split, found) if team.leads else {}
    return Evaluation(found, {f"{split}_loss": _finite(loss / terms), **team.hear(measured)})


def _measure(task: Task, split: str, found: Scores) -> dict[str, float | None]:
    rows = task.rows[split]
    studies = [task.studies[row] for row in rows] if task.studies else ()
    judged, truth = pool_studies(found, task.labels[rows], studies)
    finite = bool(np.isfinite(found).all())
    measured = measure(split, judged if finite else np.zeros_like(judged), truth, task.classes, task.kind)
    return measured if finite else dict.fromkeys(measured)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
