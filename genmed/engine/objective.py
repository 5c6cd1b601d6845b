"""What is trained towards: the loss, its targets, and the scores that outputs stand for.

sigmoid: one logit a class, each finding judged by itself (binary cross-entropy).
softmax: one logit a class, of which one is true (softmax cross-entropy); two where the other class has no name.
steps: one logit a step of the scale, the chance to stand above it if one stands on it or above (conditional ordinal
regression, Shi, Cao and Raschka 2023); so that the chances to stand above a step fall from step to step.

An unknown label is no target: it adds nothing to the loss, and is not counted in its mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from genmed.parts.data.records import UNKNOWN, Labels, TaskKind
from genmed.records.config.sections import Loss

if TYPE_CHECKING:
    import torch


Objective = Literal["sigmoid", "softmax", "steps"]
OBJECTIVES: dict[TaskKind, Objective] = {
    "multi-label": "sigmoid",
    "binary": "sigmoid",
    "multi-class": "softmax",
    "ordinal": "steps",
}


def choose_objective(kind: TaskKind, config: Loss) -> Objective:
    """softmax, too, where the config asks for it and one class excludes the others."""
    return "softmax" if config.name == "softmax" and kind != "multi-label" else OBJECTIVES[kind]


def count_outputs(objective: Objective, classes: int) -> int:
    """Of the network."""
    if objective == "softmax":
        return max(classes, 2)
    return classes - 1 if objective == "steps" else classes


def make_targets(objective: Objective, labels: Labels) -> Labels:
    """(N, outputs): 1, 0, or -1 where there is nothing to learn, of labels (N, L)."""
    if objective == "softmax" and labels.shape[1] == 1:
        return np.concatenate([np.where(labels == UNKNOWN, UNKNOWN, 1 - labels), labels], axis=1).astype(np.int8)
    if objective != "steps":
        return labels
    known = (labels != UNKNOWN).all(1)
    level = labels.argmax(1)
    step = np.arange(labels.shape[1] - 1)
    above = np.where(level[:, None] > step, 1, 0)
    asked = known[:, None] & (level[:, None] >= step)
    return np.where(asked, above, UNKNOWN).astype(np.int8)


def count_terms(objective: Objective, targets: Labels) -> int:
    """Over how many numbers the mean of the loss is taken; at least 1."""
    known = targets != UNKNOWN
    return max(int(known.any(1).sum() if objective == "softmax" else known.sum()), 1)


def weigh_targets(objective: Objective, targets: Labels, choice: str | tuple[float, ...]) -> tuple[float, ...] | None:
    """A weight an output, of positive targets, or of all of a class where one excludes the others; None for 'none'.

    'balanced' is negatives / positives; of classes that exclude each other, images / (classes * images of the class).
    """
    if choice == "none":
        return None
    if isinstance(choice, tuple):
        return choice
    positives = np.maximum((targets == 1).sum(0, dtype=np.int64), 1)
    known = (targets != UNKNOWN).sum(0, dtype=np.int64)
    if objective == "softmax":
        return tuple(float(value) for value in known / (len(positives) * positives))
    return tuple(float(value) for value in np.maximum(known - positives, 0) / positives)


def sum_loss(
    objective: Objective, logits: torch.Tensor, targets: torch.Tensor, config: Loss, weights: tuple[float, ...] | None
) -> torch.Tensor:
    """The loss, weighted and smoothed as the config says, summed over what `count_terms` counts.

    logits: (B, outputs) float32; targets: (B, outputs) int8, on any device.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

    targets = targets.to(logits.device, non_blocking=True)
    known = targets != UNKNOWN
    wanted = targets.clamp(min=0).float()
    smoothing = config.label_smoothing
    weight = None
    if weights is not None:
        weight = torch.tensor(weights, dtype=torch.float32).to(logits.device, non_blocking=True)
    if objective == "softmax":
        if smoothing:
            wanted = wanted * (1 - smoothing) + smoothing / wanted.shape[1]
        wanted = wanted * known
        return -((wanted if weight is None else wanted * weight) * log_softmax(logits, dim=1)).sum()
    if smoothing:
        wanted = wanted * (1 - smoothing) + smoothing / 2
    return binary_cross_entropy_with_logits(logits, wanted, weight=known.float(), pos_weight=weight, reduction="sum")


def score(objective: Objective, logits: torch.Tensor, classes: int) -> torch.Tensor:
    """(B, classes) probabilities of the classes, of logits (B, outputs) float32."""
    import torch

    if objective == "softmax":
        return logits.softmax(1)[:, -classes:]
    chances = torch.sigmoid(logits)
    if objective != "steps":
        return chances
    above = chances.cumprod(1)
    edge = torch.ones_like(above[:, :1])
    return torch.cat((edge, above), 1) - torch.cat((above, torch.zeros_like(edge)), 1)
