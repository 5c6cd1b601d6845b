"""What a dataset says of its images before any pixel is read: one row an image, columns as arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from genmed.ground.errors import DataError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]

SPLITS = ("train", "val", "test")


class ImageSource(Protocol):
    """Gives the images of a dataset by row. It travels to worker processes, so it is picklable."""

    def stamp(self, row: int) -> tuple[int, ...] | None:
        """What tells cheaply that a file is unchanged: (size, mtime in ns, inode); None where there is no file."""

    def digest(self, row: int) -> str:
        """`sha256:` of what the image is made from: the file's bytes."""

    def load(self, row: int) -> Pixels:
        """(H, W) grey or (H, W, 3) RGB uint8. Raises DataError naming the file and the reason."""


@dataclass(frozen=True)
class Records:
    """All rows of a dataset, sorted by id."""

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    sites: tuple[str, ...]
    labels: Labels
    """(N, L) 0 or 1."""
    images: ImageSource
    root: Path | None = None
    """Folder that the images lie in; None where they are made."""
    official: tuple[str, ...] = ()
    """For each image 'train_val' or 'test' by the lists that come with the data; empty where there are none."""
    notes: tuple[str, ...] = ()
    """What the reader of the log should know, e.g. how many rows were left out."""

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.patients), len(self.sites), len(self.labels), len(self.official or self.ids)}
        assert lengths == {len(self.ids)}, f"columns of unequal length: {lengths}"
        assert list(self.ids) == sorted(set(self.ids)), "ids must be unique and sorted"
        if not self.ids:
            raise DataError("the dataset has no images")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset without having it."""

    name: str
    title: str
    classes: tuple[str, ...]
    load_records: Callable[[Path, Any], Records]
    """(root, config.data) -> Records; raises DataError."""
    defaults: dict[str, Any]
    """Config values by dotted key that suit the dataset, e.g. its image size."""
    needs: str
    """What must lie under the data root, in one line; empty where nothing is needed."""
    licence: str
    citation: str
    check_layout: Callable[[Path], object] | None = None
    """Raises DataError where the root cannot be this dataset; cheap, and before torch is imported."""
    built_in: bool = False
