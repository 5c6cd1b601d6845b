"""CheXpert in its official layouts: full size, small, and full size in batches as its authors hand it out."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genmed.ground.errors import DataError
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.labelling import mark_cells, meaning_of_cells
from genmed.parts.data.layout import find_file, match_files, wrong_layout
from genmed.parts.data.records import DatasetFacts, Labels, Records
from genmed.parts.data.tables import Table, check_path, read_header, read_table, refuse_repeated
from genmed.parts.data.traits import read_traits
from genmed.records.config import Config

CLASSES = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
TITLE = "CheXpert"
TRAITS = {"sex": "Sex", "age": "Age", "view": "AP/PA"}
LATERAL = "Frontal/Lateral"
TABLES = {"train_val": "train.csv", "test": "valid.csv"}
"""The labels of the authors' own test set are not in the release, so papers report on valid.csv; it is our test."""
NEEDS = (
    "train.csv, train/, and if you have them valid.csv and valid/ (or the folder above, with CheXpert-v1.0*/;"
    " or the folder of CheXpert-v1.0 batch 1 .../ to batch 4 .../)"
)
BATCH = re.compile(r"CheXpert-v1\.0 batch \d+\b.*")
PLACE = re.compile(r"(?:.*/)?((?:train|valid)/(patient\d+)/(study\d+)/[^/]+)")


@dataclass(frozen=True)
class Layout:
    """Where tables and images of a release lie."""

    top: Path
    """The folder from which images are named."""
    tables: Path
    patients: Mapping[str, str] = field(default_factory=dict)
    """Patient -> folder of the patient, from `top`, where images lie in batches."""

    def place(self, name: str) -> str:
        """The path from `top` of train/patient00001/study1/view1_frontal.jpg."""
        if not self.patients:
            return name
        side, patient, rest = name.split("/", 2)
        return f"{self.patients.get(patient, f'{side}/{patient}')}/{rest}"


class Places(NamedTuple):
    """Of each image: its path from the side on, train/patient00001/study1/view1_frontal.jpg; the patient; the study."""

    names: list[str]
    patients: list[str]
    studies: list[str]


class Part(NamedTuple):
    """One of the two tables."""

    places: Places
    labels: Labels
    traits: dict[str, tuple[str, ...]]


def load_records(root: Path, config: Config) -> Records:
    """Reads both tables; patient and study are in the path. Raises DataError."""
    layout = _find_layout(root)
    top, tables = layout.top, layout.tables
    sides = [side for side, name in TABLES.items() if (tables / name).is_file()]
    parts = [_read(tables / TABLES[side], config) for side in sides]
    names, patients, studies = (list(chain(*columns)) for columns in zip(*(part.places for part in parts), strict=True))
    if len(parts) > 1 and len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{twice} is in both train.csv and valid.csv of {tables}", "it must be CheXpert's own tables")
    order = sorted(range(len(names)), key=names.__getitem__)
    ordered = [names[row] for row in order]
    table = tables / TABLES["train_val"]
    kept, notes = match_files(top, [layout.place(name) for name in ordered], table, config.data.on_mismatch)
    rows = [order[row] for row in kept]
    ids = tuple([names[row] for row in rows])
    official = [side for side, part in zip(sides, parts, strict=True) for _ in part.places.names]
    if len(parts) == 1:
        notes.append("Without valid.csv: the test is of our own split of train.csv")
    return Records(
        ids=ids,
        classes=CLASSES,
        labels=np.concatenate([part.labels for part in parts])[rows],
        images=ImageFiles(top, tuple(map(layout.place, ids))),
        patients=tuple([patients[row] for row in rows]),
        sites=("Stanford",) * len(rows),
        studies=tuple([studies[row] for row in rows]),
        root=top,
        official=tuple([official[row] for row in rows]) if len(parts) > 1 else (),
        traits={trait: _take([part.traits[trait] for part in parts], rows) for trait in _shared_traits(parts)},
        notes=tuple(notes),
    )


def _shared_traits(parts: Sequence[Part]) -> list[str]:
    return [trait for trait in TRAITS if all(trait in part.traits for part in parts)]


def _take(columns: Sequence[Sequence[str]], rows: Sequence[int]) -> tuple[str, ...]:
    joined = list(chain(*columns))
    return tuple([joined[row] for row in rows])


def check_layout(root: Path, config: Config) -> None:
    """Raises DataError where the table is missing or another's."""
    read_header(_find_layout(root).tables / TABLES["train_val"], ("Path", *CLASSES), TITLE)


def _find_layout(root: Path) -> Layout:
    """One folder of tables and images, the root or the release's own in it; or batches, with the tables in one of them
    or next to them."""
    batches = sorted(
        path for path in root.glob("CheXpert-v1.0 batch *") if BATCH.fullmatch(path.name) and path.is_dir()
    )
    tables = next((path for path in (root, *batches) if (path / TABLES["train_val"]).is_file()), None)
    if batches and tables:
        return Layout(root, tables, _list_patients(root, batches))
    top = _find_top(root)
    return Layout(top, top)


def _list_patients(root: Path, batches: Sequence[Path]) -> dict[str, str]:
    """Folder of each patient, from the root; in a batch itself, or in its train/ or valid/."""
    found: dict[str, str] = {}
    for batch in batches:
        for folder in (batch, batch / "train", batch / "valid"):
            if folder.is_dir():
                place = folder.relative_to(root).as_posix()
                found.update((name, f"{place}/{name}") for name in os.listdir(folder) if name.startswith("patient"))
    return found


def _find_top(root: Path) -> Path:
    """The folder with train.csv: the root, or the release's own folder in it."""
    inner = sorted(filter(Path.is_file, root.glob("CheXpert-v1.0*/train.csv"))) if root.is_dir() else []
    if len(inner) > 1 and not (root / "train.csv").is_file():
        raise DataError(
            f"{root} holds {len(inner)} releases: {', '.join(path.parent.name for path in inner)}",
            "name one of them with --data-root",
        )
    if inner and not (root / "train.csv").is_file():
        return inner[0].parent
    find_file(root, [TABLES["train_val"]], TITLE, NEEDS)
    if not (root / "train").is_dir():
        raise wrong_layout(root, TITLE, NEEDS)
    return root


def _read(path: Path, config: Config) -> Part:
    """Where the images of a table lie, their labels, and whom they show."""
    table = read_table(path, ("Path", *CLASSES), owner=TITLE, keep=(*TRAITS.values(), LATERAL))
    if not len(table):
        raise DataError(f"{table.path} has no rows", "it must be CheXpert's own table")
    places = _find_places(table)
    refuse_repeated(table, places.names)
    marks = {label: table.columns[label] for label in CLASSES}
    labels = mark_cells(table, marks, lambda label: meaning_of_cells(config.labels, label))
    traits = read_traits(table, TRAITS)
    if "view" in traits and LATERAL in table.columns:  # AP/PA is empty where the view is lateral
        views = zip(traits["view"], table.columns[LATERAL], strict=True)
        traits["view"] = tuple([view or side.upper() for view, side in views])
    return Part(places, labels, traits)


def _find_places(table: Table) -> Places:
    names, patients, studies = [], [], []  # and no tuples by row, which would keep the garbage collector busy
    for row, path in enumerate(table.columns["Path"]):
        found = PLACE.fullmatch(path)
        if found is None:
            raise DataError(
                f"{table.at(row)}: no patient and study in the path {path!r}", "it must be CheXpert's own table"
            )
        if ".." in path:
            check_path(found[1], table.at(row))
        name, patient, study = found.groups()
        names.append(name)
        patients.append(patient)
        studies.append(study)
    return Places(names, patients, studies)


FACTS = DatasetFacts(
    name="chexpert",
    title="CheXpert: frontal and lateral radiographs, 14 observations with uncertainty",
    load_records=load_records,
    needs=NEEDS,
    licence="Stanford University Dataset Research Use Agreement; not for commercial use",
    citation="Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels, AAAI 2019",
    classes=CLASSES,
    task="multi-label",
    defaults={"data.image_size": 224, "training.epochs": 3, "training.batch_size": 16},
    check_layout=check_layout,
    counts={"images": 223_648, "patients": 64_740},
)
