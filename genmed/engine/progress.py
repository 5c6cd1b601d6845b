"""Where a training stands: all that the next step depends on beside the learner's tensors."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Progress:
    """Counts from 0 done; saved whole in each checkpoint."""

    step: int = 0
    """Steps done in the whole training."""
    epoch: int = 1
    """The epoch that is under way, from 1."""
    step_in_epoch: int = 0
    """Steps done in it."""
    loss_sum: float = 0.0
    """Of the batch losses of these."""
    lr: float = 0.0
    """Learning rate of the last step."""
    best_value: float | None = None
    """Of the monitored figure."""
    best_epoch: int = 0
    """0: none validated yet."""
    epochs_without_better: int = 0
    """Validated epochs since the best."""
    epoch_over: bool = False
    """Whether the epoch was validated, so that the next step begins another."""
    finished: bool = False
    """Whether training is over; evaluation may be due."""

    def begin_next_epoch(self) -> None:
        self.epoch += 1
        self.step_in_epoch, self.loss_sum, self.epoch_over = 0, 0.0, False

    def to_json(self) -> dict[str, Any]:
        """Floats as exact hex."""
        best = None if self.best_value is None else self.best_value.hex()
        return {**self.__dict__, "loss_sum": self.loss_sum.hex(), "lr": self.lr.hex(), "best_value": best}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Progress":
        """Raises TypeError or ValueError where a key is missing, unknown or of another type."""
        if document.keys() != cls.__dataclass_fields__.keys():
            wrong = sorted(document.keys() ^ cls.__dataclass_fields__.keys())
            raise ValueError(f"unknown or missing: {', '.join(wrong)}")
        best = document["best_value"]
        numbers = {name: float.fromhex(document[name]) for name in ("loss_sum", "lr")}
        return cls(**{**document, **numbers, "best_value": best and float.fromhex(best)})
