"""Pictures of chosen images with what moved their scores, from a training that is at hand or one that is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from genmed.engine.checkpoint import restore_weights
from genmed.engine.saliency import draw_saliency
from genmed.ground.errors import GenmedError, RecordError
from genmed.ground.wording import name_file
from genmed.parts.report.pictures import Picture
from genmed.records.run_folder import RunFolder
from genmed.workflows.assemble import Session, assemble
from genmed.workflows.finished import find_selected
from genmed.workflows.identity import read_config
from genmed.workflows.reporting import Reporter, Silent


@dataclass(frozen=True)
class NoPictures:
    """There are none."""

    why: str


@dataclass(frozen=True)
class Taken:
    """A picture of each image that was asked for."""

    pictures: list[Picture]
    why: str = ""
    """Why they have no saliency; '' where they have."""


class Pictures(Protocol):
    """Gives pictures of images by their ids."""

    def take(self, ids: Sequence[str], columns: Sequence[int]) -> Taken | NoPictures:
        """columns: the class of each image whose score is explained."""


@dataclass(frozen=True)
class PicturesAtHand:
    """Of a training in this process, whose learner has the weights that were tested."""

    session: Session

    def take(self, ids: Sequence[str], columns: Sequence[int]) -> Taken:
        """At once: as many as a page shows are a small batch."""
        task = self.session.task
        place = {name: row for row, name in enumerate(task.ids)}
        pixels = task.images.read(np.array([place[name] for name in ids], dtype=np.int64))
        maps = draw_saliency(self.session.learner, task, pixels, list(columns))
        if maps is None:
            why = f"{name_file(task.config.model.name)} has no map of convolutional features, so there is no saliency."
            return Taken([Picture(image, None) for image in pixels], why)
        return Taken([Picture(image, found) for image, found in zip(pixels, maps, strict=True)])


@dataclass(frozen=True)
class LoadedPictures:
    """Of a finished run: its data and its checkpoint are read when pictures are asked for, if they are still there."""

    folder: RunFolder
    reporter: Reporter = field(default_factory=Silent)
    data_root: Path | None = None

    def take(self, ids: Sequence[str], columns: Sequence[int]) -> Taken | NoPictures:
        try:
            return PicturesAtHand(self._load()).take(ids, columns)
        except GenmedError as error:
            return NoPictures(f"Without pictures: {error.message}.")

    def _load(self) -> Session:
        """Raises GenmedError's children where the run's state cannot be had again."""
        document = self.folder.read()
        checkpoint = find_selected(self.folder, document)
        session = assemble(read_config(self.folder, document, self.data_root), self.reporter)
        if session.data.fingerprint != document.data_fingerprint:
            raise RecordError("the data are not those that the run was trained on")
        restore_weights(checkpoint, session.learner)
        return session
