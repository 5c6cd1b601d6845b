"""The RSNA Pneumonia Detection Challenge of 2018: DICOM of NIH's images, with new labels by radiologists."""

from pathlib import Path

import numpy as np

from genmed.ground.errors import DataError
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.layout import find_file, list_images, list_stems, match
from genmed.parts.data.records import DatasetFacts, Records
from genmed.parts.data.tables import read_table
from genmed.records.config import Config

TABLES = ("stage_2_train_labels.csv", "stage_1_train_labels.csv")
FOLDERS = ("stage_2_train_images", "stage_1_train_images")
TITLE = "the RSNA Pneumonia Detection Challenge"
NEEDS = "stage_2_train_labels.csv and stage_2_train_images/ with one .dcm an image"
IMAGE, TARGET = "patientId", "Target"


def load_records(root: Path, config: Config) -> Records:
    """One row a box becomes one label an image. Raises DataError."""
    path = find_file(root, TABLES, TITLE, NEEDS)
    folder = FOLDERS[TABLES.index(path.name)]
    present = list_stems(root, folder, TITLE, NEEDS)
    table = read_table(path, (IMAGE, TARGET), owner="RSNA", keep=())
    target: dict[str, str] = {}
    for row, (image, value) in enumerate(zip(table.columns[IMAGE], table.columns[TARGET], strict=True)):
        if value not in ("0", "1"):
            raise DataError(f"{table.at(row)}: {TARGET} is {value!r}, which is no label", "known: 0 and 1")
        if target.setdefault(image, value) != value:
            raise DataError(f"{table.at(row)}: {image} has both {TARGET}s, 0 and 1", "it must be RSNA's own table")
    ids, notes = match(list(target), present, path, config.data.on_mismatch)
    return Records(
        ids=tuple(ids),
        classes=("Lung Opacity",),
        labels=np.array([[int(target[image])] for image in ids], dtype=np.int8),
        images=ImageFiles(root, tuple(present[image] for image in ids)),
        task="binary",
        sites=("NIH",) * len(ids),
        root=root,
        notes=(*notes, "RSNA's patientId is one for each image: who has several of NIH's images is not told here"),
    )


def check_layout(root: Path, config: Config) -> None:
    """Raises DataError where the table or the images are missing."""
    path = find_file(root, TABLES, TITLE, NEEDS)
    list_images(root, [FOLDERS[TABLES.index(path.name)]], TITLE, NEEDS)


FACTS = DatasetFacts(
    name="rsna",
    title="RSNA Pneumonia Detection Challenge 2018: lung opacity on radiographs of NIH, DICOM",
    load_records=load_records,
    needs=NEEDS,
    licence="the challenge's rules: research and education, not commercial",
    citation="Shih et al., Augmenting the NIH Chest Radiograph Dataset with Expert Annotations of Possible Pneumonia, "
    "Radiology: AI 2019",
    classes=("Lung Opacity",),
    task="binary",
    defaults={"data.image_size": 224, "training.epochs": 10},
    check_layout=check_layout,
    counts={"images": 26_684},
    sources=("nih",),
    lineage="its images are of NIH ChestX-ray14, so that models trained on NIH have seen them",
)
