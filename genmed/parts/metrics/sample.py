"""Scored images with their truth, and what of it can be measured: the part that all resamples share."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genmed.parts.data.records import TaskKind
from genmed.parts.metrics import Scores, Truth
from genmed.parts.metrics.of_all import OfAll, find_of_all
from genmed.parts.metrics.of_class import OF_SUMS, Judged
from genmed.parts.metrics.statistics import Floats, Sums, Units


@dataclass(frozen=True)
class Sample:
    """Images with scores and truth, and who they are of."""

    scores: Scores
    """(N, L) probabilities."""
    truth: Truth
    """(N, L): 1, 0, or -1 for unknown."""
    units: Units
    """(N,): the patient of each image, 0..U-1; each image its own where nobody knows the patients."""
    classes: tuple[str, ...]
    kind: TaskKind
    thresholds: Mapping[str, float | None]
    """Class -> the score from which on it is said to be there."""
    dataset: str = ""
    """Of which the images are: some come with metrics of their own."""

    @cached_property
    def of_all(self) -> OfAll:
        """Metrics of all classes together."""
        return find_of_all(self.kind, self.dataset)

    @property
    def unit_count(self) -> int:
        return int(self.units.max()) + 1

    @cached_property
    def judged(self) -> list[tuple[Judged | None, Units]]:
        """Of each class the images of which it is known, and their units; None where they are all of one kind."""
        return [self._judge(column) for column in range(len(self.classes))]

    @cached_property
    def sums(self) -> dict[str, tuple[Sums, Units]]:
        """What is a function of sums: by name, each class's metrics, then those of all classes."""
        found: dict[str, tuple[Sums, Units]] = {}
        for name, (judged, units) in zip(self.classes, self.judged, strict=True):
            if judged is not None:
                made = {f"{metric}_{name}": make(judged) for metric, make in OF_SUMS.items()}
                found |= {metric: (sums, units) for metric, sums in made.items() if sums is not None}
        known = (self.truth >= 0).all(1)
        if known.any():
            for metric, make_whole in self.of_all.items():
                found[metric] = make_whole(self.scores[known], self.truth[known]), self.units[known]
        return found

    @cached_property
    def by_unit(self) -> Floats:
        """(U, K): the terms of all of these, added up for each unit."""
        added = [sums.by_unit(units, self.unit_count) for sums, units in self.sums.values()]
        return np.concatenate([np.zeros((self.unit_count, 0)), *added], axis=1)

    def _judge(self, column: int) -> tuple[Judged | None, Units]:
        known = self.truth[:, column] >= 0
        there, units = self.truth[known, column] == 1, self.units[known]
        if there.all() or not there.any():
            return None, units
        threshold = self.thresholds.get(self.classes[column])
        return Judged(self.scores[known, column].astype(np.float64), there, threshold), units
