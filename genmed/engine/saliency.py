"""Grad-CAM: where in an image the network saw what raised a score. Selvaraju et al. 2017."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genmed.engine.learner import Learner
from genmed.engine.step import compute_logits, to_input
from genmed.engine.task import Task
from genmed.ground.randomness import derive_seed
from genmed.parts.data.records import Pixels
from genmed.seed import seed_generators

if TYPE_CHECKING:
    import torch

Maps = npt.NDArray[np.float32]
LEAST_SIDE = 4
"""Of a feature map: a coarser one tells no place. The last convolution of a small image's network may have 2 x 2."""


def draw_saliency(learner: Learner, task: Task, images: Pixels, columns: list[int]) -> Maps | None:
    """(B, h, w) from 0 to 1 in each image, in the resolution of the last feature map; None where there is none.

    There is none in a network that goes on with tokens, whose places the attention has mixed.

    images: (B, C, S, S); columns: the class of each image whose score is explained. The model's weights, statistics,
    gradients and mode are as before.
    """
    import torch

    model = learner.model
    was_training = {module: module.training for module in model.modules()}
    seed_generators(derive_seed(task.config.seed, "saliency"))  # for models that draw at rest
    model.eval()
    try:
        inputs = to_input(torch.from_numpy(images), learner, task, None)
        found = _compute(learner, task, inputs.requires_grad_(), columns)
    finally:
        for module, training in was_training.items():
            module.training = training
    return None if found is None else _combine(*found)


def _compute(
    learner: Learner, task: Task, inputs: torch.Tensor, columns: list[int]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The last feature map, and the gradient of the scores by it."""
    import torch

    kept: list[torch.Tensor] = []
    handles = [module.register_forward_hook(lambda *seen: _keep(kept, seen[2])) for module in learner.model.modules()]
    try:
        with torch.enable_grad():
            logits = compute_logits(learner, task, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not kept or kept[-1].dim() != 4:
        return None
    [gradient] = torch.autograd.grad(_raise(task, logits, columns), [kept[-1]], allow_unused=True)
    return None if gradient is None else (kept[-1].detach().float(), gradient.float())


def _keep(kept: list[torch.Tensor], value: Any) -> None:
    """Outputs of modules that have places: maps (B, C, h, w) that are not pooled away, tokens (B, T, C)."""
    import torch

    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        return
    if value.dim() == 3 or (value.dim() == 4 and min(value.shape[2:]) >= LEAST_SIDE):
        kept.append(value)


def _raise(task: Task, logits: torch.Tensor, columns: list[int]) -> torch.Tensor:
    """The sum over images of what speaks for their class: its logit.

    On a scale the logit of standing above the step before, less that of standing above the step itself.
    """
    rows = range(len(columns))
    if task.objective != "steps":
        unnamed = logits.shape[1] - len(task.classes)
        return logits[list(rows), [column + unnamed for column in columns]].sum()
    reached = [logits[row, column - 1] for row, column in zip(rows, columns, strict=True) if column > 0]
    passed = [logits[row, column] for row, column in zip(rows, columns, strict=True) if column < logits.shape[1]]
    total = logits.sum() * 0
    for value in reached:
        total = total + value
    for value in passed:
        total = total - value
    return total


def _combine(feature: torch.Tensor, gradient: torch.Tensor) -> Maps:
    """Channels weighed by their mean gradient; what speaks against is cut off, and the rest scaled."""
    weights = gradient.mean((2, 3), keepdim=True)
    maps = (weights * feature).sum(1).clamp(min=0)
    largest = maps.amax((1, 2), keepdim=True)
    scaled = maps / largest.where(largest > 0, largest.new_ones(()))
    return np.ascontiguousarray(scaled.cpu().numpy(), dtype=np.float32)
