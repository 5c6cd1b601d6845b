"""predict: scores of images that no dataset lists, by a finished run's network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genmed.engine.evaluation import evaluate
from genmed.ground.errors import RequestError
from genmed.ground.sealed import read_sealed
from genmed.ground.wording import name_some, say_count
from genmed.parts.data.cache import ImageBytes, ImageDigests
from genmed.parts.data.images import Preparation, is_image_file, read_image
from genmed.parts.data.layout import IMAGES, walk
from genmed.parts.data.loader import Batch, Rows
from genmed.parts.data.records import Labels, Pixels
from genmed.parts.metrics import Scores
from genmed.records.run_folder import RunFolder
from genmed.workflows.evaluation.trained import load_trained, report_packages, restore_learner
from genmed.workflows.reporting import Reporter

SIDE = "predict"


@dataclass(frozen=True)
class Predictions:
    """Scores, one row an image, in the order in which they were named."""

    run: str
    classes: tuple[str, ...]
    images: tuple[Path, ...]
    scores: Scores
    """(N, L) probabilities."""

    def to_json(self) -> dict[str, Any]:
        rows = zip(self.images, self.scores.tolist(), strict=True)
        scored = [{"image": str(path), "scores": dict(zip(self.classes, row, strict=True))} for path, row in rows]
        return {"schema": 1, "run": self.run, "classes": list(self.classes), "images": scored}


def predict(
    folder: RunFolder, paths: Sequence[Path], reporter: Reporter, *, device: str = "auto", any_kind: bool = False
) -> Predictions:
    """paths: images, and folders whose images are taken with those below. any_kind: score what the run has not seen.

    Raises RequestError for an image whose size or colour the run has seen none of, and where the run is not
    complete; DataError for an image that cannot be read, RecordError where the run's state is gone.
    """
    images = list_named(paths)
    trained = load_trained(folder, reporter, device)
    preparation = Preparation(trained.config.data.image_size, trained.channels, trained.config.data.bits)
    prepared = _prepare(images, preparation, None if any_kind else _Kind.of(folder), reporter)
    shape = ImageBytes(Path(), prepared.shape, ImageDigests((), (), ()))
    learner, task = restore_learner(trained, shape, SIDE)
    report_packages(trained, folder, reporter)
    scores = evaluate(learner, task, _InMemory(prepared, task.targets), SIDE).scores
    return Predictions(folder.name, trained.classes, tuple(images), scores)


def list_named(paths: Sequence[Path]) -> list[Path]:
    """Each image once. Raises RequestError for a path where nothing is, and for a folder without images."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise RequestError(f"no image {path}", "name files, or folders with images in them")
        inside = sorted(_walk(path)) if path.is_dir() else [path]
        if not inside:
            raise RequestError(f"no images in {path}", f"known by their names ({', '.join(IMAGES)}), or as DICOM")
        found.update(dict.fromkeys(inside))
    return list(found)


def _walk(folder: Path) -> Iterator[Path]:
    for inner, files in walk(folder):
        yield from (inner / file for file in files if is_image_file(inner / file))


@dataclass(frozen=True)
class _Kind:
    """What the run was trained on, as data.json says it."""

    shorter: tuple[int, int]
    longer: tuple[int, int]
    in_colour: int

    @staticmethod
    def of(folder: RunFolder) -> _Kind | None:
        """None for a run that was made before this was recorded."""
        seen = read_sealed(folder.data_path).get("seen")
        return _Kind(tuple(seen["shorter_side"]), tuple(seen["longer_side"]), seen["in_colour"]) if seen else None

    def find_strange(self, pixels: Any) -> str:
        """In what an image is of no kind that the run has seen; '' where it is."""
        height, width = pixels.shape[:2]
        shorter, longer = min(height, width), max(height, width)
        if shorter < self.shorter[0] or longer > self.longer[1]:
            seen = " to ".join(map(str, sorted({self.shorter[0], self.longer[1]})))
            return f"{width} x {height} px, and the run has seen {seen} px"
        if pixels.ndim == 3 and not self.in_colour:
            return "in colour, and the run has seen grey images alone"
        return ""


def _prepare(images: Sequence[Path], preparation: Preparation, kind: _Kind | None, reporter: Reporter) -> Pixels:
    """(N, C, S, S) uint8."""
    prepared = np.empty((len(images), *preparation.shape), dtype=np.uint8)
    strange = []
    for row, path in enumerate(images):
        image = read_image(path, preparation.bits)
        if kind and (why := kind.find_strange(image.pixels)):
            strange.append(f"{path} is {why}")
        prepared[row] = preparation.apply(image)
        reporter.progress("decoding images", row + 1, len(images))
    if strange:
        raise RequestError(
            f"{say_count(len(strange), 'image')} of a kind that the run has not seen: {name_some(strange, 2)}",
            "its scores would mean nothing; --any-kind gives them all the same",
        )
    return prepared


@dataclass(frozen=True)
class _InMemory:
    """A loader of arrays."""

    pixels: Pixels
    targets: Labels

    def read(self, batches: Sequence[Rows], own: Sequence[Rows] | None = None) -> Iterator[Batch]:
        import torch

        for rows in batches:
            parts = (rows, self.pixels[rows], self.targets[rows])
            yield Batch(*map(torch.from_numpy, parts))
