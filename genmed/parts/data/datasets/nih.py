"""NIH ChestX-ray14 in its official layout."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from genmed.ground.errors import DataError
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.records import DatasetFacts, Records
from genmed.records.config.sections import Data

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
NEEDS = "images/ or images_001/images/ to images_012/images/, and Data_Entry_2017_v2020.csv or Data_Entry_2017.csv"
COLUMNS = ("Image Index", "Finding Labels", "Patient ID")


def load_records(root: Path, config: Data) -> Records:
    """Reads the table, finds the images, joins the two.

    Raises DataError where the folder is missing or of another layout, the table is not NIH's, or (unless
    `on_mismatch` is skip) table and images do not name the same files.
    """
    table = _find_table(root)
    paths = _find_images(root)
    rows = _read_table(table)
    notes = _check_match(rows, paths, table, config.on_mismatch)
    ids = sorted(rows.keys() & paths.keys())
    if not ids:
        raise DataError(f"no image under {root} is named in {table.name}", f"looked for {NEEDS}")
    labels = np.zeros((len(ids), len(CLASSES)), dtype=np.uint8)
    column = {name: position for position, name in enumerate(CLASSES)}
    for row, image in enumerate(ids):
        for finding in rows[image][1]:
            labels[row, column[finding]] = 1
    return Records(
        ids=tuple(ids),
        patients=tuple(rows[image][0] for image in ids),
        sites=("NIH",) * len(ids),
        labels=labels,
        images=ImageFiles(tuple(paths[image] for image in ids)),
        root=root,
        official=_read_lists(root, ids),
        notes=tuple(notes),
    )


def check_layout(root: Path) -> None:
    """Raises DataError where the table or the images are missing."""
    _find_table(root)
    _find_images(root)


def _find_table(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(
            f"no data folder {root}", f"put the data there or name their folder with --data-root; needed: {NEEDS}"
        )
    for name in TABLES:
        if (root / name).is_file():
            return root / name
    found = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in root.iterdir())
    what = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "") if found else "nothing"
    raise DataError(f"{root} is not in the layout of NIH ChestX-ray14: found {what}", f"looked for {NEEDS}")


def _find_images(root: Path) -> dict[str, Path]:
    folders = [root / "images"] + [root / f"images_{number:03d}" / "images" for number in range(1, 13)]
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        raise DataError(f"{root} has no folder images/ nor images_001/images/", f"looked for {NEEDS}")
    paths: dict[str, Path] = {}
    for folder in present:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.lower().endswith((".png", ".jpg", ".jpeg"))]
        for name in names:
            if name in paths:
                raise DataError(f"{name} lies in {paths[name].parent} and in {folder}", "remove one of the two")
            paths[name] = folder / name
    if not paths:
        raise DataError(f"{present[0]} holds no images", f"looked for {NEEDS}")
    return paths


def _read_table(table: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Image -> (patient, findings). The columns used come before the header's unquoted commas."""
    rows: dict[str, tuple[str, tuple[str, ...]]] = {}
    known = set(CLASSES)
    reader = csv.reader(io.StringIO(_read_text(table, "table"), newline=""))
    header = [name.strip() for name in next(reader, [])]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{table} lacks the column {' and '.join(map(repr, missing))}; it begins {','.join(header)[:80]!r}",
            "it must be NIH's own table, separated by commas",
        )
    image_at, findings_at, patient_at = (header.index(name) for name in COLUMNS)
    for number, row in enumerate(reader, start=2):
        if not row:
            continue
        if len(row) <= max(image_at, findings_at, patient_at):
            raise DataError(f"{table}, line {number}: {len(row)} columns, expected {len(header)}")
        image, patient = row[image_at], row[patient_at].strip()
        findings = tuple(name for name in row[findings_at].split("|") if name != NO_FINDING)
        wrong = [name for name in findings if name not in known]
        if wrong or not patient:
            reason = f"unknown finding {wrong[0]!r}" if wrong else "no patient"
            raise DataError(f"{table}, line {number}: {reason}", "it must be NIH's own table")
        if image in rows:
            raise DataError(f"{table}, line {number}: {image} is listed a second time")
        rows[image] = (patient, findings)
    return rows


def _read_text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8: {error.reason} at byte {error.start}",
            f"it must be NIH's own {what}, in UTF-8",
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def _check_match(rows: Iterable[str], paths: Iterable[str], table: Path, on_mismatch: str) -> list[str]:
    without_image, without_row = sorted(set(rows) - set(paths)), sorted(set(paths) - set(rows))
    parts = []
    for names, what in ((without_image, "rows without an image"), (without_row, "images without a row")):
        if names:
            more = ", ..." if len(names) > 3 else ""
            parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{more})")
    if parts and on_mismatch == "stop":
        raise DataError(
            f"{table.name} and the images do not match: {'; '.join(parts)}",
            "complete the data, or leave these out with --set data.on_mismatch=skip",
        )
    return [f"Left out: {part}" for part in parts]


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
        for line in _read_text(path, "list").split():
            if listed.setdefault(line, side) != side:
                raise DataError(f"{line} is in both {LISTS['train_val']} and {LISTS['test']}")
    unlisted = [image for image in ids if image not in listed]
    if unlisted:
        raise DataError(
            f"{len(unlisted)} images are in neither official list, the first is {unlisted[0]}",
            "complete the lists, or remove both to use a split of our own",
        )
    return tuple(listed[image] for image in ids)


FACTS = DatasetFacts(
    name="nih",
    title="NIH ChestX-ray14: 112,120 frontal radiographs of 30,805 patients, 14 findings",
    classes=CLASSES,
    load_records=load_records,
    check_layout=check_layout,
    defaults={"data.image_size": 224, "training.epochs": 10},
    needs=NEEDS,
    licence="free to use with attribution to the NIH Clinical Center",
    citation="Wang et al., ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks, CVPR 2017",
)
