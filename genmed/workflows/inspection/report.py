"""What `genmed data check` found: figures, and which of them are problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from genmed.parts.data.counts import OfficialCount
from genmed.parts.data.records import SPLITS, UNKNOWN, DatasetFacts, Records
from genmed.workflows.inspection.groups import Group
from genmed.workflows.inspection.looking import Look
from genmed.workflows.inspection.sides import Sides


@dataclass(frozen=True)
class LabelCount:
    """Of a class, how many images have it, have it not, or nobody knows."""

    positives: int
    negatives: int
    unknown: int

    @property
    def prevalence(self) -> float | None:
        """Of the images that have a label; None where none has."""
        known = self.positives + self.negatives
        return self.positives / known if known else None


@dataclass(frozen=True)
class ClassCount:
    """A class over all images, and by side."""

    name: str
    total: LabelCount
    by_side: dict[str, LabelCount]

    def to_json(self) -> dict[str, Any]:
        sides = {side: asdict(count) for side, count in self.by_side.items()}
        return {"name": self.name, **asdict(self.total), "by_side": sides}


@dataclass(frozen=True)
class Size:
    """Pixels of an image, and how many images have them."""

    width: int
    height: int
    images: int


@dataclass(frozen=True)
class Depth:
    """Bits a value, and how many images have them."""

    bits: int
    """8 or 16; of DICOM, as stored."""
    dicom: bool
    images: int
    greatest: int | None
    """The greatest value in all of these, for more than 8 bits; of DICOM, the greatest stored one."""


@dataclass(frozen=True)
class Check:
    """All that was found."""

    facts: DatasetFacts
    root: str
    table: Records
    """All rows, also of images that are left out."""
    records: Records
    sides: Sides
    classes: list[ClassCount]
    sizes: list[Size]
    """The most frequent first."""
    depths: list[Depth]
    colour: int
    """How many images are in colour."""
    monochrome1: int
    """How many DICOM files have white as 0."""
    formats: dict[str, int]
    """By suffix; empty where the images are made."""
    equal: list[Group]
    near: list[Group]
    broken: dict[str, str]
    """The reason by image."""
    counts: list[OfficialCount]
    problems: list[str]
    notes: list[str]

    @property
    def exit_code(self) -> int:
        return 1 if self.problems else 0

    @property
    def patients(self) -> int | None:
        """None where nobody knows them."""
        return len(set(self.records.patients)) if self.records.patients else None

    @property
    def studies(self) -> int | None:
        return len(set(self.records.studies)) if self.records.studies else None

    @property
    def sites(self) -> dict[str, int]:
        return dict(sorted(Counter(self.records.sites).items()))

    def describe_side(self, side: str) -> tuple[int, int | None]:
        """How many images and patients are on it."""
        rows = [row for row, there in enumerate(self.sides.sides) if there == side]
        patients = self.records.patients
        return len(rows), len({patients[row] for row in rows}) if patients else None

    def to_json(self) -> dict[str, Any]:
        sides = {side: dict(zip(("images", "patients"), self.describe_side(side), strict=True)) for side in SPLITS}
        return {
            "schema": 1,
            "dataset": self.facts.name,
            "root": self.root,
            "task": self.records.task,
            "images": len(self.records),
            "patients": self.patients,
            "studies": self.studies,
            "sites": self.sites,
            "classes": [entry.to_json() for entry in self.classes],
            "split": {
                "source": self.sides.source,
                "official": self.sides.official,
                "sides": sides,
                "patients_on_several": list(self.sides.patients_apart),
                "studies_on_several": list(self.sides.studies_apart),
            },
            "sizes": [asdict(size) for size in self.sizes],
            "depths": [asdict(depth) for depth in self.depths],
            "colour": self.colour,
            "monochrome1": self.monochrome1,
            "formats": self.formats,
            "duplicates": {
                "equal": [group.to_json() for group in self.equal],
                "near": [group.to_json() for group in self.near],
            },
            "broken": [{"image": name, "reason": reason} for name, reason in self.broken.items()],
            "left_out": dict(self.records.left_out),
            "counts": [asdict(count) for count in self.counts],
            "problems": self.problems,
            "notes": self.notes,
            "licence": self.facts.licence,
            "citation": self.facts.citation,
            "lineage": self.facts.lineage,
        }


def count_labels(records: Records, sides: Sequence[str]) -> list[ClassCount]:
    """Of each class, overall and by side."""
    there = np.array(sides)

    def count(column: int, rows: Any) -> LabelCount:
        labels = records.labels[rows, column]
        return LabelCount(*(int((labels == value).sum()) for value in (1, 0, UNKNOWN)))

    return [
        ClassCount(name, count(column, slice(None)), {side: count(column, there == side) for side in SPLITS})
        for column, name in enumerate(records.classes)
    ]


def count_sizes(looks: Sequence[Look]) -> list[Size]:
    """The most frequent first."""
    counted = Counter((look.width, look.height) for look in looks if not look.reason)
    return [Size(*size, images) for size, images in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]


def count_depths(looks: Sequence[Look]) -> list[Depth]:
    """DICOM apart from the rest, for there the file says how many bits it uses."""
    found = []
    whole = [look for look in looks if not look.reason]
    for dicom, bits in sorted({(bool(look.photometric), look.bits) for look in whole}):
        these = [look for look in whole if (bool(look.photometric), look.bits) == (dicom, bits)]
        greatest = max(look.greatest for look in these) if bits > 8 else None
        found.append(Depth(bits, dicom, len(these), greatest))
    return found
