"""CheXpert in its official layout, of any of its three releases: full size, small, batches."""

import re
from pathlib import Path

import numpy as np

from genmed.ground.errors import DataError
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.labelling import mark_cells, meaning_of_cells
from genmed.parts.data.layout import find_file, match_files, wrong_layout
from genmed.parts.data.records import DatasetFacts, Records
from genmed.parts.data.tables import Table, check_path, read_header, read_table, refuse_repeated
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
TABLES = {"train_val": "train.csv", "test": "valid.csv"}
"""The labels of the authors' own test set are not in the release, so papers report on valid.csv; it is our test."""
NEEDS = "train.csv, train/, and if you have them valid.csv and valid/ (or the folder above, with CheXpert-v1.0*/)"
PLACE = re.compile(r"(?:.*/)?((?:train|valid)/(patient\d+)/(study\d+)/[^/]+)")


def load_records(root: Path, config: Config) -> Records:
    """Reads both tables; patient and study are in the path. Raises DataError."""
    top = _find_top(root)
    parts = [_read(top, side, name, config) for side, name in TABLES.items() if (top / name).is_file()]
    names = [name for part in parts for name in part[0]]
    if len(parts) > 1 and (twice := sorted(set(parts[0][0]) & set(parts[1][0]))):
        raise DataError(f"{twice[0]} is in both train.csv and valid.csv of {top}", "it must be CheXpert's own tables")
    order = sorted(range(len(names)), key=names.__getitem__)
    kept, notes = match_files(top, [names[row] for row in order], top / TABLES["train_val"], config.data.on_mismatch)
    rows = [order[row] for row in kept]
    labels = np.concatenate([part[1] for part in parts])
    sides = [side for part, side in zip(parts, TABLES, strict=False) for _ in part[0]]
    places = [names[row].split("/") for row in rows]
    return Records(
        ids=tuple(names[row] for row in rows),
        classes=CLASSES,
        labels=labels[rows],
        images=ImageFiles(top, tuple(names[row] for row in rows)),
        patients=tuple(place[1] for place in places),
        sites=("Stanford",) * len(rows),
        studies=tuple(f"{place[1]}/{place[2]}" for place in places),
        root=top,
        official=tuple(sides[row] for row in rows) if len(parts) > 1 else (),
        notes=(*notes, *(() if len(parts) > 1 else ("Without valid.csv: the test is of our own split of train.csv",))),
    )


def check_layout(root: Path, config: Config) -> None:
    """Raises DataError where the table is missing or another's."""
    read_header(_find_top(root) / TABLES["train_val"], ("Path", *CLASSES), TITLE)


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


def _read(top: Path, side: str, name: str, config: Config) -> tuple[list[str], np.ndarray]:
    """The images of a table, by their path from `top`, and their labels."""
    table = read_table(top / name, ("Path", *CLASSES), owner=TITLE, keep=())
    if not len(table):
        raise DataError(f"{table.path} has no rows", "it must be CheXpert's own table")
    names = [_find_place(table, row, path) for row, path in enumerate(table.columns["Path"])]
    refuse_repeated(table, names)
    marks = {label: table.columns[label] for label in CLASSES}
    return names, mark_cells(table, marks, lambda label: meaning_of_cells(config.labels, label))


def _find_place(table: Table, row: int, path: str) -> str:
    """`train/patient00001/study1/view1_frontal.jpg` of a path that begins with the release's name."""
    found = PLACE.fullmatch(path)
    if found is None:
        raise DataError(
            f"{table.at(row)}: no patient and study in the path {path!r}", "it must be CheXpert's own table"
        )
    return check_path(found[1], table.at(row)) if ".." in path else found[1]


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
