"""All that a training is a function of, once the data are at hand."""

from dataclasses import dataclass

from genmed.engine.normalise import Scaling
from genmed.engine.objective import Objective, choose_objective
from genmed.ground.team import ALONE, Team
from genmed.parts.data.augmentation import Strength
from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.loader import Rows
from genmed.parts.data.records import Labels, TaskKind
from genmed.records.config import Config


@dataclass(frozen=True)
class Task:
    """Config and data in the form that the engine uses."""

    config: Config
    device: str
    """cpu, cuda or mps, as resolved."""
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    kind: TaskKind
    labels: Labels
    """(N, L), for the metrics."""
    targets: Labels
    """(N, outputs), for the loss; see `make_targets`."""
    studies: tuple[str, ...]
    """Of each image, where images of one study are scored together; else empty, as where classes exclude each other."""
    images: ImageBytes
    rows: dict[str, Rows]
    """Rows of each side of the split, ascending."""
    scaling: Scaling
    strength: Strength
    weights: tuple[float, ...] | None
    """Of the loss; see `weigh_targets`."""
    team: Team = ALONE
    """The processes that compute it together."""

    @property
    def objective(self) -> Objective:
        """What is trained towards."""
        return choose_objective(self.kind, self.config.loss)

    @property
    def outputs(self) -> int:
        """Of the network."""
        return int(self.targets.shape[1])

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
