"""Pictures of chosen images with what moved their scores, from a training that is at hand or one that is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from genmed.engine.checkpoint import (
    Checkpoint,
    check_checkpoint,
    describe_checkpoint,
    list_checkpoints,
    restore_weights,
)
from genmed.engine.saliency import draw_saliency
from genmed.ground.errors import GenmedError, RecordError
from genmed.parts.report.pictures import Picture
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.assemble import Session, assemble
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
            why = f"{task.config.model.name} has no map of convolutional features, so there is no saliency."
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


def find_selected(folder: RunFolder, document: RunDocument) -> Checkpoint:
    """The checkpoint whose weights were tested. Raises RecordError where it is missing or damaged."""
    found = [describe_checkpoint(path) for path in list_checkpoints(folder.checkpoints_path)]
    if document.config.get("training.select") == "best":
        fitting = [entry for entry in found if entry.is_end_of(document.best_epoch)]
        what = f"of epoch {document.best_epoch}, the best"
    else:
        fitting = [entry for entry in found if entry.step == document.steps_done]
        what = f"of step {document.steps_done}, the last"
    if not fitting:
        raise RecordError(f"the checkpoint {what}, is gone")
    if problems := check_checkpoint(fitting[-1].folder):
        raise RecordError(f"the checkpoint {what}, is damaged: {problems[0]}")
    return fitting[-1]
