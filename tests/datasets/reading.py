"""A second reading of every preset's files, row by row, that shares no code with the first: what the tests compare."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from genmed.parts.data.records import Records


@dataclass(frozen=True)
class Facts:
    """What is said of one image: its labels by class, and where it belongs; '' where nobody says."""

    labels: Mapping[str, int]
    patient: str = ""
    site: str = ""
    study: str = ""
    side: str = ""


Reading = dict[str, Facts]
MANIFEST = ("path", "patient", "site", "study", "split", "")


class Contradiction(Exception):
    """The files say two things of one image, or something that means nothing."""


def find_differences(records: Records, reading: Reading) -> list[str]:
    """Where the two readings differ; empty means nowhere."""
    if list(records.ids) != sorted(reading):
        return [f"images: {sorted(set(records.ids) ^ set(reading))[:5]}"]
    found = []
    for row, name in enumerate(records.ids):
        labels = dict(zip(records.classes, records.labels[row].tolist(), strict=True))
        columns = (records.patients, records.sites, records.studies, records.official)
        one = Facts(labels, *(column[row] if column else "" for column in columns))
        if one != reading[name]:
            found.append(f"{name}: {one} and not {reading[name]}")
    return found


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            yield {(name or "").strip(): (cell or "").strip() for name, cell in row.items() if isinstance(cell, str)}


def meaning(cell: str, uncertain: str = "ignore", blank: str = "negative") -> int:
    if cell in ("", "nan", "NaN"):
        return {"negative": 0, "ignore": -1}[blank]
    value = float(cell)
    if value == -1:
        return {"ones": 1, "zeros": 0, "ignore": -1}[uncertain]
    if value not in (0, 1):
        raise Contradiction(cell)
    return int(value)


def put(reading: Reading, name: str, facts: Facts) -> None:
    if name in reading:
        raise Contradiction(name)
    reading[name] = facts


def read_chexpert(root: Path, uncertain: Any = "ignore", blank: str = "negative", exists: bool = False) -> Reading:
    """exists: images that are not there are left out."""
    found: Reading = {}
    official = (root / "valid.csv").is_file()
    for table, side in (("train.csv", "train_val"), ("valid.csv", "test")):
        if not (root / table).is_file():
            continue
        for row in rows_of(root / table):
            *_, top, patient, study, view = row["Path"].split("/")
            labels = {}
            for label in list(row)[5:19]:
                rule = uncertain if isinstance(uncertain, str) else uncertain.get(label, uncertain.get("default"))
                labels[label] = meaning(row[label], rule or "ignore", blank)
            facts = Facts(labels, patient, "Stanford", f"{patient}/{study}", side if official else "")
            put(found, f"{top}/{patient}/{study}/{view}", facts)
    return {name: facts for name, facts in found.items() if not exists or (root / name).is_file()}


def read_vinbigdata(root: Path, readers: str = "majority") -> Reading:
    from genmed.parts.data.datasets.vinbigdata import CLASSES

    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows_of(root / "train.csv"):
        number = int(row["class_id"])
        if (row["class_name"], number) not in [*zip(CLASSES, range(14), strict=True), ("No finding", 14)]:
            raise Contradiction(str(row))
        seen[row["image_id"]][row["rad_id"]].add(row["class_name"])
    found: Reading = {}
    for image, by_reader in seen.items():
        counted = {label: sum(label in named for named in by_reader.values()) for label in CLASSES}
        least = 1 if readers == "any" else len(by_reader) // 2 + 1
        labels = {label: int(count >= least) for label, count in counted.items()}
        put(found, image, Facts(labels, site="VinBigData"))
    return {name: facts for name, facts in found.items() if (root / "train" / f"{name}.dicom").exists()}


def read_rsna(root: Path) -> Reading:
    found: Reading = {}
    for row in rows_of(root / "stage_2_train_labels.csv"):
        facts = Facts({"Lung Opacity": {"0": 0, "1": 1}[row["Target"]]}, site="NIH")
        if found.setdefault(row["patientId"], facts) != facts:
            raise Contradiction(row["patientId"])
    return {name: facts for name, facts in found.items() if (root / "stage_2_train_images" / f"{name}.dcm").is_file()}


def read_covidx(root: Path) -> Reading:
    found: list[tuple[str, str, str, str, str]] = []
    lists = {side: sorted(root.glob(f"{side}_*.txt")) for side in ("train", "val", "test")}
    for side, paths in lists.items():
        for path in paths:
            for line in path.read_text(encoding="utf-8-sig").split("\n"):
                if words := line.split():
                    name = side + "/" + " ".join(words[1:-2])
                    told = "train_val" if side == "train" and not lists["val"] else side
                    found.append((name, f"{words[-1]}/{words[0]}", words[-2], words[-1], told))
    two = {label for _, _, label, _, _ in found} <= {"negative", "positive"}
    reading: Reading = {}
    for name, patient, label, source, told in found:
        if two:
            labels = {"COVID-19": int(label == "positive")}
        else:
            labels = {known: int(known == label) for known in ("normal", "pneumonia", "COVID-19")}
            if sum(labels.values()) != 1:
                raise Contradiction(label)
        put(reading, name, Facts(labels, patient, source, side=told))
    return {name: facts for name, facts in reading.items() if (root / name).is_file()}


def read_folder(root: Path) -> Reading:
    paths = [path.relative_to(root).parts for path in root.rglob("*") if path.suffix in (".png", ".jpeg")]
    split = all(parts[0] in ("train", "val", "test") for parts in paths)
    classes = sorted({parts[1] if split else parts[0] for parts in paths})
    sides = {"train": "train" if any(parts[0] == "val" for parts in paths) else "train_val"}
    return {
        "/".join(parts): Facts(
            {label: int(label == parts[int(split)]) for label in classes},
            side=sides.get(parts[0], parts[0]) if split else "",
        )
        for parts in paths
    }


def read_manifest(root: Path, form: str = "columns") -> Reading:
    """The forms of `make_manifest`."""
    found: Reading = {}
    rows = list(rows_of(root / "manifest.csv"))
    present = [row for row in rows if (root / name_of(row)).is_file()]
    people = {id(row): patient for row, patient in zip(present, name_people(present), strict=True)}
    others = [name for name in (rows[0] if rows else ()) if name not in MANIFEST]
    words = sorted({part.strip() for row in rows for part in row[others[0]].split(";")})
    words = [word for word in words if word not in ("", "No Finding", "none")]
    validated = any(row.get("split", "").lower() in ("val", "valid", "validation", "dev") for row in rows)
    for row in rows:
        if form == "delimited":
            named = {part.strip() for part in row[others[0]].split(";")}
            labels = {word: int(word in named) for word in words}
            if set(words) <= {"1", "1.0", "0", "0.0", "-1", "-1.0", "nan", "NaN"}:  # then it is a column of one class
                labels = {others[0]: meaning(row[others[0]])}
        elif form == "classes":
            labels = {word: int(word == row[others[0]]) for word in words}
            if sum(labels.values()) != 1:
                raise Contradiction(row[others[0]])
        else:
            labels = {label: meaning(row[label]) for label in others}
        patient = people.get(id(row), "")
        study = (f"{patient}/{row['study']}" if patient else row["study"]) if "study" in row else ""
        side = row.get("split", "").lower()
        side = {"valid": "val", "validation": "val", "dev": "val"}.get(side, side)
        side = "train_val" if side == "train" and not validated else side
        put(found, name_of(row), Facts(labels, patient, row.get("site", ""), study, side))
    return {name: facts for name, facts in found.items() if (root / name).is_file()}


def name_of(row: Mapping[str, str]) -> str:
    return str(PurePosixPath(row["path"].replace("\\", "/")))


def name_people(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The patient of each row of a manifest; the study or the image where the patient is missing; '' if all are."""
    missing = [row["patient"].lower() in ("", "nan", "none", "na", "n/a", "null", "unknown") for row in rows]
    if all(missing):
        return [""] * len(rows)
    known: dict[str, set[str]] = defaultdict(set)
    for row, absent in zip(rows, missing, strict=True):
        if not absent and "study" in row:
            known[row["study"]].add(row["patient"])
    numbered = any(len(patients) > 1 for patients in known.values())
    units = [row["study"] if "study" in row and not numbered else name_of(row) for row in rows]
    return [unit if absent else row["patient"] for row, unit, absent in zip(rows, units, missing, strict=True)]


def read_nih(root: Path) -> Reading:
    from genmed.parts.data.datasets.nih import CLASSES

    sides = {}
    for side, name in (("train_val", "train_val_list.txt"), ("test", "test_list.txt")):
        if (root / name).is_file():
            sides |= dict.fromkeys((root / name).read_text(encoding="utf-8-sig").split(), side)
    found: Reading = {}
    for row in rows_of(root / "Data_Entry_2017_v2020.csv"):
        named = {part.strip() for part in row["Finding Labels"].split("|")}
        if not named <= {*CLASSES, "No Finding"}:
            raise Contradiction(row["Finding Labels"])
        labels = {label: int(label in named) for label in CLASSES}
        put(found, row["Image Index"], Facts(labels, row["Patient ID"], "NIH", side=sides.get(row["Image Index"], "")))
    return {name: facts for name, facts in found.items() if (root / "images" / name).is_file()}


def read_medmnist(root: Path, flag: str, size: int = 28) -> Reading:
    from genmed.parts.data.datasets.medmnist import FLAGS

    classes = FLAGS[flag].classes
    found: Reading = {}
    with np.load(root / f"{flag}{'' if size == 28 else f'_{size}'}.npz") as arrays:
        for side in ("train", "val", "test"):
            for number, label in enumerate(arrays[f"{side}_labels"].tolist()):
                if FLAGS[flag].task == "multi-label":
                    labels = dict(zip(classes, label, strict=True))
                elif len(classes) == 2:
                    labels = {classes[1]: label[0]}
                else:
                    labels = {name: int(code == label[0]) for code, name in enumerate(classes)}
                found[f"{side}-{number:06d}"] = Facts(labels, side=side)
    return found
