"""What a dataset says of its images before any pixel is read: one row an image, columns as arrays."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from genmed.ground.errors import ConfigError, DataError
from genmed.ground.fingerprints import digest_pixels
from genmed.parts.data.traits import TRAITS

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int8]
TaskKind = Literal["multi-label", "binary", "multi-class", "ordinal"]
EXCLUSIVE: tuple[TaskKind, ...] = ("multi-class", "ordinal")
"""Of whose classes each image has one."""
Colour = Literal["grey", "rgb"]

SPLITS = ("train", "val", "test")
MACRO = "macro"
UNKNOWN = -1
"""Label of which the dataset does not say whether it is there; it takes no part in the loss nor in a metric."""


@dataclass(frozen=True)
class RawImage:
    """An image as its file holds it."""

    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    """(H, W), or (H, W, 3) where it is in colour: equal channels are one. Black is 0."""
    digest: str
    """`sha256:` of what the image was read from: the file's bytes."""
    bits: int | None = None
    """How many of 16 bits a value has, where the file's header says that they are fewer; 16 where it said so and the
    values were scaled to 16. `data.bits` does not apply then."""
    greatest: int = 0
    """The greatest stored value of a grey DICOM image, whose pixels are 8 bits already; else 0."""

    @property
    def decoded(self) -> str:
        """Digest of the pixels, and of their depth where that is not the usual one."""
        return digest_pixels(np.ascontiguousarray(self.pixels), None if self.bits == 16 else self.bits)


class ImageSource(Protocol):
    """Gives the images of a dataset by row. It travels to worker processes, so it is picklable."""

    def stamp(self, row: int) -> tuple[int, ...] | None:
        """What tells cheaply that a file is unchanged: (size, mtime in ns, inode); None where there is no file."""

    def digest(self, row: int) -> str:
        """`sha256:` of what the image is made from. Raises DataError naming the file and the reason."""

    def read(self, row: int) -> RawImage:
        """Raises DataError naming the file and the reason."""

    def decoders(self) -> Sequence[str]:
        """The libraries on which the pixels depend, with their versions."""


@dataclass(frozen=True)
class ChosenImages:
    """Some rows of another source."""

    source: ImageSource
    rows: tuple[int, ...]

    def stamp(self, row: int) -> tuple[int, ...] | None:
        return self.source.stamp(self.rows[row])

    def digest(self, row: int) -> str:
        return self.source.digest(self.rows[row])

    def read(self, row: int) -> RawImage:
        return self.source.read(self.rows[row])

    def decoders(self) -> Sequence[str]:
        return self.source.decoders()


@dataclass(frozen=True)
class Records:
    """All rows of a dataset, sorted by id."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Labels
    """(N, L): 1 there, 0 not there, -1 unknown. One class has the 1 where classes exclude each other."""
    images: ImageSource
    task: TaskKind = "multi-label"
    colour: Colour = "grey"
    """What the network sees."""
    patients: tuple[str, ...] = ()
    """Empty where nobody knows them: then each image counts by itself."""
    sites: tuple[str, ...] = ()
    """Where each image comes from; empty: nobody knows."""
    studies: tuple[str, ...] = ()
    """Images of one study are scored together, by the highest of their scores; empty: each by itself. A study is one
    patient's, whatever its name."""
    root: Path | None = None
    """Folder that the images lie in; None where they are made."""
    official: tuple[str, ...] = ()
    """For each image train, val, test, or train_val, which is still to be divided, by the split that comes with the
    data; empty where there is none."""
    split_origin: str = "official lists"
    """What that split is, for people."""
    traits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Sex, age and view of each image, '' where nobody knows (`parts.data.traits`), in this order, whatever the order
    they are given in; nothing is trained on them."""
    notes: tuple[str, ...] = ()
    """What the reader of the log should know, e.g. how many rows were left out."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Images that cannot be read and that the config leaves out, with the reasons."""

    def __post_init__(self) -> None:
        """Raises DataError where there are no images; ConfigError where the code that made the records is wrong."""
        if not self.ids:
            raise DataError("the dataset has no images")
        columns = {name: getattr(self, name) for name in ("patients", "sites", "studies", "official")} | {**self.traits}
        wrong = [f"{name}: {len(column)}" for name, column in columns.items() if len(column) not in (0, len(self))]
        if self.labels.shape != (len(self), len(self.classes)) or self.labels.dtype != np.int8:
            wrong.append(f"labels are {self.labels.dtype} {self.labels.shape}, not int8 {len(self), len(self.classes)}")
        if self.labels.size and not UNKNOWN <= self.labels.min() <= self.labels.max() <= 1:
            wrong.append("labels are not 1, 0 and -1")
        if not all(map(operator.lt, self.ids, self.ids[1:])):
            wrong.append("ids are not unique and sorted")
        wrong += ["no class can be called macro, which is what means are called"] if MACRO in self.classes else []
        wrong += [f"traits are {', '.join(TRAITS)}, not {name!r}" for name in self.traits if name not in TRAITS]
        if wrong:
            raise ConfigError(
                f"the records of {len(self)} images are wrong: {'; '.join(wrong)}", "mend the dataset's code"
            )
        known = {name: self.traits[name] for name in TRAITS if self.traits.get(name)}
        object.__setattr__(self, "traits", known)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def groups(self) -> tuple[str, ...]:
        """What stays together in a split: the patient, else the study, else the image."""
        return self.patients or self.studies or self.ids

    @property
    def channels(self) -> int:
        return 3 if self.colour == "rgb" else 1

    def describe(self, row: int) -> tuple[str, str, str]:
        """Id, patient and site, '' where nobody knows."""
        return self.ids[row], self.patients[row] if self.patients else "", self.sites[row] if self.sites else ""

    def leave_out(self, reasons: Mapping[int, str]) -> "Records":
        """Without the rows that `reasons` names."""
        kept = [row for row in range(len(self)) if row not in reasons]
        columns: dict[str, Any] = {
            name: tuple(values[row] for row in kept)
            for name in ("ids", "patients", "sites", "studies", "official")
            if (values := getattr(self, name))
        }
        named = {self.ids[row]: reason for row, reason in sorted(reasons.items())}
        return replace(
            self,
            **columns,
            traits={trait: tuple(values[row] for row in kept) for trait, values in self.traits.items()},
            labels=self.labels[kept],
            images=ChosenImages(self.images, tuple(kept)),
            left_out={**self.left_out, **named},
        )


def refuse_macro(classes: Sequence[str], where: str, hint: str) -> None:
    """Raise DataError if a class has the name that the results of a run give to the mean of the classes."""
    if MACRO in classes:
        raise DataError(f"{where}: no class can be called {MACRO}, which is the name of means over classes", hint)


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset without having it."""

    name: str
    title: str
    load_records: Callable[[Path, Any], Records]
    """(root, config) -> Records; raises DataError."""
    needs: str
    """What must lie under the data root, in one line; empty where nothing is needed."""
    licence: str
    citation: str
    classes: tuple[str, ...] = ()
    """Empty where the data say them."""
    task: TaskKind | None = None
    """None where the data say it."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Config values by dotted key that suit the dataset, e.g. its image size."""
    check_layout: Callable[[Path, Any], object] | None = None
    """(root, config): raises DataError where the root cannot be this dataset; cheap, and before torch is imported."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Official counts: of images, of patients, and of images on train, val and test where the split is official."""
    sources: tuple[str, ...] = ()
    """Datasets whose images are in this one, by name: results on related ones are not independent."""
    lineage: str = ""
    """The same in a sentence."""
    folder: str = ""
    """Default data root below data/; the name unless given."""
    built_in: bool = False

    @property
    def default_root(self) -> str:
        return "" if self.built_in else f"data/{self.folder or self.name}"
