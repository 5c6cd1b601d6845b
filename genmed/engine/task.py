"""All that a training is a function of, once the data are at hand."""

from dataclasses import dataclass

import numpy as np

from genmed.engine.normalise import Scaling
from genmed.parts.data.augmentation import Strength
from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.loader import Rows
from genmed.parts.data.records import Labels
from genmed.records.config import Config


@dataclass(frozen=True)
class Task:
    """Config and data in the form that the engine uses."""

    config: Config
    device: str
    """cpu, cuda or mps, as resolved."""
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: Labels
    images: ImageBytes
    rows: dict[str, Rows]
    """Rows of each side of the split, ascending."""
    scaling: Scaling
    strength: Strength
    positive_weights: tuple[float, ...] | None

    @property
    def steps_per_epoch(self) -> int:
        """Full batches, and a short one if each shard gets two images of it; see `plan_epoch`."""
        batch, shards = self.config.training.batch_size, self.config.compute.shards
        full, rest = divmod(len(self.rows["train"]), batch)
        return full + (rest // shards >= 2)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training; early stopping may end it before."""
        steps = self.steps_per_epoch * self.config.training.epochs
        return min(steps, self.config.training.max_steps or steps)

    @property
    def total_epochs(self) -> int:
        """Epochs that are begun."""
        return -(-self.total_steps // self.steps_per_epoch)


def weigh_positives(labels: Labels, choice: str | tuple[float, ...]) -> tuple[float, ...] | None:
    """A weight a class for positive samples: negatives / positives for 'balanced'; None for 'none'."""
    if choice == "none":
        return None
    if isinstance(choice, tuple):
        return choice
    positives = np.maximum(labels.sum(0, dtype=np.int64), 1)
    return tuple(float(value) for value in (len(labels) - positives) / positives)
