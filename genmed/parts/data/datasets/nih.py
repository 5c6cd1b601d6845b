"""NIH ChestX-ray14 in its official layout."""

from pathlib import Path

from genmed.ground.errors import DataError
from genmed.ground.wording import say_count
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.labelling import mark_named
from genmed.parts.data.layout import find_file, list_images, match
from genmed.parts.data.records import DatasetFacts, Records
from genmed.parts.data.tables import is_missing, read_table, read_text, refuse_repeated
from genmed.parts.data.traits import read_traits
from genmed.records.config import Config

CLASSES = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
NO_FINDING = "No Finding"
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
FOLDERS = ("images", *(f"images_{number:03d}/images" for number in range(1, 13)))
NEEDS = "images/ or images_001/images/ to images_012/images/, and Data_Entry_2017_v2020.csv or Data_Entry_2017.csv"
TITLE = "NIH ChestX-ray14"
IMAGE, FINDINGS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
SEX = ("Patient Gender", "Patient Sex")
"""As copies of the table call it."""
TRAITS = {"age": "Patient Age", "view": "View Position"}


def load_records(root: Path, config: Config) -> Records:
    """Reads the table, finds the images, joins the two.

    Raises DataError where the folder is missing or of another layout, the table is not NIH's, or (unless
    `data.on_mismatch` is skip) table and images do not name the same files.
    """
    path = find_file(root, TABLES, TITLE, NEEDS)
    paths = list_images(root, FOLDERS, TITLE, NEEDS)
    # The columns used come before the header's unquoted commas, which some copies have quoted.
    table = read_table(path, (IMAGE, FINDINGS, PATIENT), owner="NIH", keep=[*SEX, *TRAITS.values()], loose_end=True)
    names, patients = table.columns[IMAGE], table.columns[PATIENT]
    refuse_repeated(table, names)
    if unnamed := list(filter(is_missing, set(patients))):
        raise DataError(f"{table.at(patients.index(unnamed[0]))}: no patient", "it must be NIH's own table")
    labels = mark_named(table, table.columns[FINDINGS], CLASSES, nothing=(NO_FINDING,))
    ids, notes = match(names, paths, path, config.data.on_mismatch)
    row_of = {name: row for row, name in enumerate(names)}
    rows = [row_of[image] for image in ids]
    return Records(
        ids=tuple(ids),
        classes=CLASSES,
        labels=labels[rows],
        images=ImageFiles(root, tuple(paths[image] for image in ids)),
        patients=tuple(patients[row] for row in rows),
        sites=("NIH",) * len(ids),
        root=root,
        official=_read_lists(root, ids),
        traits=read_traits(table, {**TRAITS, "sex": next((name for name in SEX if name in table.columns), "")}, rows),
        notes=tuple(notes),
    )


def check_layout(root: Path, config: Config) -> None:
    """Raises DataError where the table or the images are missing."""
    find_file(root, TABLES, TITLE, NEEDS)
    list_images(root, FOLDERS, TITLE, NEEDS)


def _read_lists(root: Path, ids: list[str]) -> tuple[str, ...]:
    """'train_val' or 'test' for each image by the official lists; empty where neither list is there."""
    present = {side: root / name for side, name in LISTS.items() if (root / name).is_file()}
    if not present:
        return ()
    if len(present) == 1:
        missing = next(name for side, name in LISTS.items() if side not in present)
        raise DataError(f"{root} has one official list but not {missing}", "bring both lists or neither")
    listed: dict[str, str] = {}
    for side, path in present.items():
        for line in read_text(path).split():
            if listed.setdefault(line, side) != side:
                raise DataError(f"{line} is in both {LISTS['train_val']} and {LISTS['test']} of {root}")
    unlisted = [image for image in ids if image not in listed]
    if unlisted:
        lists = f"{root / LISTS['train_val']} and {LISTS['test']}"
        many = say_count(len(unlisted), "image")
        raise DataError(
            f"{many} in neither official list, the first is {unlisted[0]}; the lists are {lists}",
            "complete the lists, or remove both to use a split of our own",
        )
    return tuple(listed[image] for image in ids)


FACTS = DatasetFacts(
    name="nih",
    title="NIH ChestX-ray14: frontal radiographs, 14 findings mined from reports",
    load_records=load_records,
    needs=NEEDS,
    licence="free to use with attribution to the NIH Clinical Center",
    citation="Wang et al., ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks, CVPR 2017",
    classes=CLASSES,
    task="multi-label",
    defaults={"data.image_size": 224, "training.epochs": 10},
    check_layout=check_layout,
    counts={"images": 112_120, "patients": 30_805},
)
