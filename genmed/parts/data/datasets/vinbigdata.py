"""VinBigData (VinDr-CXR) as its Kaggle challenge laid it out: boxes by three readers, joined to one label an image."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from genmed.ground.errors import DataError
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.layout import find_file, list_images, list_stems, match
from genmed.parts.data.records import DatasetFacts, Labels, Records
from genmed.parts.data.tables import Table, read_header, read_table
from genmed.records.config import Config

CLASSES = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
)
"""At the positions of their numbers in the table; 14 is `No finding`."""
NO_FINDING = ("No finding", "14")
TITLE = "VinBigData"
NEEDS = "train.csv and train/ with one .dicom an image"
IMAGE, NAME, NUMBER, READER = "image_id", "class_name", "class_id", "rad_id"


def load_records(root: Path, config: Config) -> Records:
    """Joins the readers' rows as `labels.readers` says. Raises DataError."""
    path = find_file(root, ["train.csv"], TITLE, NEEDS)
    present = list_stems(root, "train", TITLE, NEEDS)
    table = read_table(path, (IMAGE, NAME, NUMBER, READER), owner=TITLE, keep=())
    ids, notes = match(table.columns[IMAGE], present, path, config.data.on_mismatch)
    return Records(
        ids=tuple(ids),
        classes=CLASSES,
        labels=_join_readers(table, ids, config.labels.readers),
        images=ImageFiles(root, tuple(present[image] for image in ids)),
        sites=("VinBigData",) * len(ids),
        root=root,
        notes=(*notes, f"Labels: where {MEANING[config.labels.readers]} saw the finding (labels.readers)"),
    )


MEANING = {"majority": "more than half of an image's readers", "any": "any of an image's readers"}


def check_layout(root: Path, config: Config) -> None:
    """Raises DataError where the table or the images are missing."""
    path = find_file(root, ["train.csv"], TITLE, NEEDS)
    read_header(path, (IMAGE, NAME, NUMBER, READER), TITLE)
    list_images(root, ["train"], TITLE, NEEDS)


def _join_readers(table: Table, ids: list[str], rule: str) -> Labels:
    """(N, 14): each reader counts once for a finding, however many boxes were drawn."""
    known = {(name, str(number)): number for number, name in enumerate(CLASSES)}
    readers: dict[str, set[str]] = defaultdict(set)
    seen: dict[str, set[tuple[int, str]]] = defaultdict(set)
    columns = (table.columns[name] for name in (IMAGE, NAME, NUMBER, READER))
    for row, (image, name, number, reader) in enumerate(zip(*columns, strict=True)):
        if not reader:
            raise DataError(f"{table.at(row)}: no reader", f"it must be {TITLE}'s own table")
        readers[image].add(reader)
        if (finding := known.get((name, number))) is not None:
            seen[image].add((finding, reader))
        elif (name, number) != NO_FINDING:
            raise DataError(f"{table.at(row)}: unknown class {name!r} with number {number}", "see the dataset's page")
    votes = np.zeros((len(ids), len(CLASSES)), dtype=np.int64)
    for row, image in enumerate(ids):
        for finding, _ in seen[image]:
            votes[row, finding] += 1
    voters = np.array([len(readers[image]) for image in ids])[:, None]
    present = votes > 0 if rule == "any" else 2 * votes > voters
    return present.astype(np.int8)


FACTS = DatasetFacts(
    name="vinbigdata",
    title="VinBigData (VinDr-CXR): radiographs of two hospitals in Hanoi, 14 findings by three readers each",
    load_records=load_records,
    needs=NEEDS,
    licence="PhysioNet Credentialed Health Data License; of the challenge, its own rules",
    citation="Nguyen et al., VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations, Sci Data 2022",
    classes=CLASSES,
    task="multi-label",
    defaults={"data.image_size": 224, "training.epochs": 10},
    check_layout=check_layout,
    counts={"images": 15_000},
)
