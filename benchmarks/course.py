"""What all contestants train: the same network on the same rows of the same files; and how each reads the pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

MEAN = STD = 0.5
"""Of all contestants: genmed's `normalisation.method=half`."""
LR = 1e-3


@dataclass(frozen=True)
class Course:
    """Handed to each contestant's process as a file."""

    flags: dict[str, Any]
    """Of genmed, by dotted key; the other fields say the same to the others."""
    files: list[str]
    """Of the training images."""
    targets: list[list[int]]
    """One row an image, one column a class."""
    size: int
    channels: int
    batch: int
    steps: int
    """A turn."""
    folder: str
    """For what contestants write."""

    def save(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @staticmethod
    def load(path: Path) -> Course:
        return Course(**json.loads(path.read_text()))

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.files) / self.batch)


def make_course(flags: dict[str, Any], size: int, channels: int, turn: int, epochs: int, folder: Path) -> Course:
    """The training rows of genmed's config. turn: steps of one; 0: so many as so many epochs have."""
    from genmed.parts.data.split import split_records
    from genmed.workflows.assemble import read_records
    from genmed.workflows.configure import configure

    config = configure({**flags, "data.image_size": size}).config
    records = read_records(config)
    rows = np.flatnonzero(np.array(split_records(records, config.data).sides) == "train")
    batch = config.training.batch_size
    assert (records.labels[rows] >= 0).all(), "a label is unknown: the losses would differ"
    return Course(
        flags={**flags, "data.image_size": size, "compute.threads": config.compute.threads},
        files=[str(records.images.path(row)) for row in rows],  # type: ignore[attr-defined]
        targets=records.labels[rows].tolist(),
        size=size,
        channels=channels,
        batch=batch,
        steps=turn or epochs * math.ceil(len(rows) / batch),
        folder=str(folder),
    )


def build_network(course: Course, *, channels_last: bool) -> nn.Module:
    """As torchvision has it, or the user's file; the same module that genmed builds."""
    import torch

    from genmed.parts.models.build import build_model
    from genmed.workflows.configure import configure

    torch.manual_seed(0)
    network = build_model(configure(course.flags).config.model, len(course.targets[0]), course.size)
    return network.to(memory_format=torch.channels_last) if channels_last else network  # type: ignore[call-overload]


def find_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """genmed's of a multi-label or binary task, without masks and weights."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(logits, targets)


def decode(course: Course) -> torch.Tensor:
    """(N, C, S, S) uint8, in memory."""
    import torch
    from PIL import Image

    def shrink(path: str) -> np.ndarray:
        image = Image.open(path).convert("L").resize((course.size, course.size), Image.Resampling.BILINEAR)
        return np.asarray(image)

    pixels = torch.from_numpy(np.stack([shrink(path) for path in course.files]))[:, None]
    return pixels.expand(-1, course.channels, -1, -1).contiguous(memory_format=torch.channels_last)


def scale(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float().div_(255 * STD).sub_(MEAN / STD)


class Batches:
    """All images as one tensor, in another order each epoch: the fastest loader that there is."""

    def __init__(self, course: Course, *, as_bytes: bool = False) -> None:
        import torch

        pixels = decode(course)
        self._images = pixels if as_bytes else scale(pixels)
        self._targets = torch.tensor(course.targets, dtype=torch.float32)
        self._batch, self._as_bytes = course.batch, as_bytes

    def __len__(self) -> int:
        return math.ceil(len(self._images) / self._batch)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        import torch

        for rows in torch.randperm(len(self._images)).split(self._batch):
            images = self._images[rows]
            yield scale(images) if self._as_bytes else images, self._targets[rows]
