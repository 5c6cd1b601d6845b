"""Small datasets in the real layouts: a few images of 32 px, of which the positive ones have a bright corner."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from genmed.parts.data.datasets.chexpert import CLASSES as CHEXPERT
from genmed.parts.data.datasets.medmnist import FLAGS
from genmed.parts.data.datasets.vinbigdata import CLASSES as VINBIGDATA
from genmed.parts.data.records import Records
from genmed.records.config import Config
from genmed.workflows.assemble import read_records
from tests.datasets.making_dicom import make_dicom
from tests.make_nih import make_nih

Pixels = npt.NDArray[np.uint8]
PEOPLE = ("Sex", "Age", "Frontal/Lateral", "AP/PA")


def draw_image(level: int, number: int, size: int = 32, colour: bool = False) -> Pixels:
    """(size, size) or (size, size, 3): noise; one quarter is brighter by the level (0 to 12)."""
    random = np.random.Generator(np.random.Philox(number))
    pixels = random.integers(40, 120, (size, size, 3) if colour else (size, size))
    pixels[: size // 2, : size // 2] += min(60 * level, 10 * level + 50, 130) if level else 0
    return pixels.astype(np.uint8)


def save_image(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_text(text.getvalue())


def make_chexpert(root: Path, patients: int = 40, valid: int = 12, release: str = "CheXpert-v1.0-small") -> Path:
    """train.csv and, of the last `valid` patients, valid.csv; one or two studies a patient, and views a study."""
    cells = ("1.0", "0.0", "", "-1.0")
    tables: dict[str, list[list[object]]] = {"train": [], "valid": []}
    for patient in range(1, patients + 1):
        side = "train" if patient <= patients - valid else "valid"
        for study in range(1, 2 + (patient % 3 == 0)):
            ill = (patient + study) % 3 == 0
            for view in ("1_frontal", "2_lateral")[: 1 + patient % 2]:
                name = f"{side}/patient{patient:05d}/study{study}/view{view}.jpg"
                save_image(root / name, draw_image(ill, 10 * patient + study))
                findings = [cells[(patient * 7 + study * 3 + column * 5) % 4] for column in range(len(CHEXPERT))]
                findings[CHEXPERT.index("Cardiomegaly")] = "1.0" if ill else "-1.0" if patient % 5 == 0 else "0.0"
                tables[side].append([f"{release}/{name}", "Male", 60, view[2:].title(), "AP", *findings])
    for side, rows in tables.items():
        if rows:
            write_rows(root / f"{side}.csv", ["Path", *PEOPLE, *CHEXPERT], rows)
    return root


def make_vinbigdata(root: Path, images: int = 30) -> Path:
    """Three readers an image, some with two boxes of one finding; half of the files have white as 0."""
    rows: list[list[object]] = []
    for number in range(images):
        name, ill = f"{number * 7919:08x}", number % 3 == 0
        (root / "train").mkdir(parents=True, exist_ok=True)
        pixels = draw_image(ill, number).astype(np.uint16) * 16
        inverted = number % 2 == 1
        make_dicom(
            root / "train" / f"{name}.dicom",
            4095 - pixels if inverted else pixels,
            bits_stored=12,
            photometric="MONOCHROME1" if inverted else "MONOCHROME2",
        )
        for reader in range(3):
            seen = {3} if ill and reader < 2 else set()
            seen |= {(number + reader) % 14} if (number + reader) % 4 == 0 else set()
            for finding in sorted(seen):
                rows += [[name, VINBIGDATA[finding], finding, f"R{reader + 8}", 1, 2, 3.5, 4]] * (1 + number % 2)
            if not seen:
                rows.append([name, "No finding", 14, f"R{reader + 8}", "", "", "", ""])
    header = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
    write_rows(root / "train.csv", header, rows)
    return root


def make_rsna(root: Path, images: int = 30) -> Path:
    """One row a box, of which those with opacity have two."""
    rows: list[list[object]] = []
    for number in range(images):
        name, ill = f"{number * 104729:08x}-a", number % 2 == 0
        (root / "stage_2_train_images").mkdir(parents=True, exist_ok=True)
        make_dicom(root / "stage_2_train_images" / f"{name}.dcm", draw_image(ill, number))
        rows += [[name, 1, 2, 3, 4, 1]] * 2 if ill else [[name, "", "", "", "", 0]]
    write_rows(root / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), rows)
    return root


def make_covidx(root: Path, kind: str = "binary", val: bool = True) -> Path:
    """Lists of two or three classes, two images a patient, of two sources; some names hold a space."""
    words = {"binary": ("negative", "positive"), "multi-class": ("normal", "pneumonia", "COVID-19")}[kind]
    for side, images in {"train": 30, **({"val": 12} if val else {}), "test": 12}.items():
        lines = []
        for number in range(images):
            label = number // 2 % len(words)
            name = f"{side} {number}.png" if number % 5 == 0 else f"{side}{number}.jpg"
            save_image(root / side / name, draw_image(label, number + len(side) * 100))
            source = "rsna" if number // 2 % 2 else "bimcv"
            lines.append(f"{side}{number // 2} {name} {words[label]} {source}\n")
        (root / f"{side}_COVIDx9.txt").write_text("".join(lines))
    return root


def make_folder(root: Path, sides: Sequence[str] = ("train", "test"), classes: int = 2) -> Path:
    """<side>/<class>/ of each side, or <class>/ where there are none; three images a person, told by the name."""
    for position, side in enumerate(sides or [""]):
        for number in range(36 if position == 0 else 18):
            label = number // 3 % classes
            name = f"person{position * 100 + number // 3}_{number}.{('jpeg', 'png')[number % 2]}"
            save_image(root / side / f"C{label} of {classes}" / name, draw_image(label, number + 1000 * position))
    return root


def make_manifest(root: Path, form: str = "columns", images: int = 60) -> Path:
    """manifest.csv in one of its forms, two images a patient.

    columns: a column a class; delimited: one column of several classes; classes: one class each, in colour; split: like
    columns, with site, patient, study and split.
    """
    header = {"columns": ["mass", "nodule"], "delimited": ["findings"], "classes": ["label"]}
    known = ["patient", "site", "study", "split"] if form == "split" else ["patient"]
    rows: list[list[object]] = []
    for number in range(images):
        level = number // 2 % 3
        name = f"im/{number % 4}/{number:03d}.png"
        save_image(root / name, draw_image(level, number, colour=form == "classes"))
        labels: list[Any] = {
            "delimited": [["No Finding", "mass", "mass;nodule"][level]],
            "classes": [["healthy", "benign", "malign"][level]],
        }.get(form, [int(level > 0), ("", 1, 0, -1)[(number // 2) % 4]])
        patient, side = number // 2, ("train", "train", "train", "val", "Test")[number // 2 % 5]
        people = [f"p{patient}", f"s{patient % 2}", f"study{number % 2}", side][: len(known)]
        rows.append([name, *people, *labels])
    write_rows(root / "manifest.csv", ["path", *known, *header.get(form, header["columns"])], rows)
    return root


def make_medmnist(root: Path, flag: str, size: int = 28, counts: Sequence[int] = (40, 16, 16)) -> Path:
    """<flag>.npz, or <flag>_<size>.npz, with all classes on all sides."""
    facts = FLAGS[flag]
    width = len(facts.classes)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for position, (side, count) in enumerate(zip(("train", "val", "test"), counts, strict=True)):
        numbers = np.arange(count)
        if facts.task == "multi-label":
            labels = (numbers[:, None] // (1 + np.arange(width)) % 2).astype(np.uint8)
        else:
            labels = (numbers % width)[:, None].astype(np.uint8)
        images = [draw_image(int(labels[n, 0]), n + 500 * position, size, facts.colour == "rgb") for n in numbers]
        arrays |= {f"{side}_images": np.stack(images), f"{side}_labels": labels}
    root.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / f"{flag}{'' if size == 28 else f'_{size}'}.npz", **arrays)
    return root


Maker = Callable[[Path], Path]
PRESETS: dict[str, tuple[Maker, list[str]]] = {
    "nih": (make_nih, ["--dataset", "nih"]),
    "chexpert": (make_chexpert, ["--dataset", "chexpert"]),
    "vinbigdata": (make_vinbigdata, ["--dataset", "vinbigdata"]),
    "rsna": (make_rsna, ["--dataset", "rsna"]),
    "covidx of two classes": (make_covidx, ["--dataset", "covidx"]),
    "covidx of three classes": (lambda root: make_covidx(root, "multi-class", val=False), ["--dataset", "covidx"]),
    "folder with a split": (make_folder, ["--dataset", "folder", "--set", r"data.patient_pattern=person(\d+)"]),
    "folder without a split": (lambda root: make_folder(root, (), 3), ["--dataset", "folder"]),
    "manifest of columns": (make_manifest, ["--dataset", "manifest"]),
    "manifest of lists": (
        lambda root: make_manifest(root, "delimited"),
        ["--dataset", "manifest", "--set", "manifest.delimiter=;"],
    ),
    "manifest of classes": (
        lambda root: make_manifest(root, "classes"),
        ["--dataset", "manifest", "--set", "data.colour=rgb"],
    ),
    "manifest of all": (lambda root: make_manifest(root, "split"), ["--dataset", "manifest"]),
}
for _flag in FLAGS:
    PRESETS[_flag] = (lambda root, flag=_flag: make_medmnist(root, flag), ["--dataset", f"medmnist:{_flag}"])  # type: ignore[misc]
PRESETS["pathmnist at 64 px"] = (
    lambda root: make_medmnist(root, "pathmnist", 64, (24, 9, 9)),
    ["--dataset", "medmnist:pathmnist"],
)
"""How each is made, and the arguments by which it is trained."""


def configure(dataset: str, root: Path, **choices: Any) -> Config:
    """choices: by dotted key, with two underscores for the dot."""
    named = {key.replace("__", "."): value for key, value in choices.items()}
    return Config().replace(**{"data.dataset": dataset, "data.root": str(root), **named})


def load(dataset: str, root: Path, **choices: Any) -> Records:
    """As the dataset's own reader gives them. Raises DataError, ConfigError."""
    return read_records(configure(dataset, root, **choices))
