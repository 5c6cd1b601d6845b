"""genmed data: the datasets by name, a check of all images, the contact sheet, the image cache."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from genmed.cli.data.check import _print_sides_and_classes
from genmed.cli.results import print_pairs
from genmed.ground.errors import DataError, RequestError
from genmed.parts.data.augmentation import PRESETS, augment, draw_epoch
from genmed.parts.data.datasets import DATASETS
from genmed.parts.data.datasets.chexpert import CLASSES as CHEXPERT
from genmed.parts.data.datasets.phantom import draw_image
from genmed.parts.data.images import Preparation, read_image
from genmed.parts.data.records import SPLITS
from genmed.workflows.inspection.choosing import own_words
from genmed.workflows.inspection.image_cache import parse_size
from genmed.workflows.inspection.page import Panel, draw_page
from genmed.workflows.inspection.report import ClassCount, LabelCount
from tests.datasets.making import make_folder
from tests.datasets.making_dicom import make_dicom
from tests.harness import TINY_MODEL, Command, Genmed, own_environment

Pixels = npt.NDArray[np.uint8]
COLUMNS = "path,patient,study,split,Mass"


def write_manifest(root: Path, rows: list[str], columns: str = COLUMNS) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.csv").write_text("\n".join([columns, *rows]) + "\n")
    return root


def save(path: Path, pixels: npt.NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def radiograph(number: int) -> Pixels:
    """Of a patient of its own: the phantom's rows from 0 on are of few patients."""
    return draw_image(40 * number)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images, in which all is wrong that can be found."""
    root = tmp_path_factory.mktemp("planted")
    rows = []

    def add(name: str, pixels: npt.NDArray[Any], patient: str, split: str, label: int, **options: Any) -> None:
        save(root / name, pixels, **options)
        rows.append(f"{name},{patient},s-{patient},{split},{label}")

    add("a.png", radiograph(1), "p1", "train", 1)
    add("b.png", radiograph(1), "p1", "train", 1)
    add("c.png", radiograph(2), "p2", "train", 1)
    add("d.png", radiograph(2), "p3", "test", 0)
    add("e.png", radiograph(3), "p4", "val", 0)
    add("f.jpg", radiograph(3), "p5", "test", 0, quality=90)
    add("g.png", radiograph(4), "p6", "train", 0)
    add("h.png", 255 - radiograph(4), "p6", "train", 1)
    add("i.png", radiograph(5), "p7", "train", 0)
    add("j.png", radiograph(6), "p7", "test", 0)
    for number in range(8):
        add(f"k{number}.png", radiograph(10 + number), f"q{number}", ("train", "val", "test")[number % 3], 0)
    whole = (root / "k0.png").read_bytes()
    for name, content in (("x.png", whole[: len(whole) // 2]), ("y.png", b"")):
        (root / name).write_bytes(content)
        rows.append(f"{name},r,s-r,train,0")
    return write_manifest(root, rows)


@pytest.fixture
def own_cache(genmed: Genmed, tmp_path: Path) -> Genmed:
    """genmed with an image cache of its own."""
    genmed.environ["GENMED_CACHE"] = str(tmp_path / "own-cache")
    return genmed


# list


def test_list_names_every_dataset_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom genmed.cli.app import run\n"
        "for line in ['data --help', 'data list --help', 'data check --help', 'data show -h', 'data cache -h',"
        " 'data cache', 'data list', 'data list --json']: assert run(line.split()) == 0, line\n"
        "assert 'torch' not in sys.modules"
    )
    environ = {**own_environment(), "GENMED_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout[done.stdout.index("\n[\n") :])
    assert [entry["name"] for entry in listed] == list(DATASETS)
    assert set(listed[0]) == {
        "schema", "name", "title", "task", "needs", "licence", "citation", "classes", "counts", "lineage", "sources",
        "defaults", "default_root",
    }  # fmt: skip
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["medmnist:chestmnist"]["sources"] == ["nih"]
    assert by_name["nih"]["counts"] == {"images": 112_120, "patients": 30_805}
    assert by_name["nih"]["default_root"] == "data/nih"
    lines = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line and line.count("\t") == 4]
    assert lines[0] == ["name", "title", "task", "needs", "licence"]
    assert [line[0] for line in lines[1:]] == list(DATASETS)
    assert list(tmp_path.iterdir()) == []


# check


def test_planted_duplicates_are_found_and_classified(genmed: Genmed, planted: Path) -> None:
    result = genmed("data", "check", planted, "--dataset", "manifest", "--json")
    assert result.code == 1, result.err
    equal, near = result.json["duplicates"]["equal"], result.json["duplicates"]["near"]
    assert [group["images"] for group in equal] == [["a.png", "b.png"], ["c.png", "d.png"]]
    assert [group["images"] for group in near] == [["e.png", "f.jpg"], ["g.png", "h.png"]]

    def judge(group: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(group[key] for key in ("sides", "across_patients", "across_sides", "labels_differ", "negative"))

    assert judge(equal[0]) == (["train"], False, False, False, False)
    assert judge(equal[1]) == (["train", "test"], True, True, True, False)
    assert judge(near[0]) == (["val", "test"], True, True, False, False)
    assert judge(near[1]) == (["train"], False, False, True, True)
    assert near[0]["furthest"] > 0
    assert result.json["problems"] == [
        "2 images cannot be read",
        "1 patient on several sides of the split (a leak): p7",
        "1 study on several sides of the split (a leak): p7/s-p7",
        "1 group of equal images across sides of the split (a leak): c.png and d.png",
        "1 group of nearly equal images across sides of the split (a leak): e.png and f.jpg",
        "1 group of equal images with labels that contradict each other: c.png, d.png",
    ]
    assert result.json["split"]["patients_on_several"] == ["p7"]


@pytest.mark.parametrize(
    ("second", "patients", "labels", "told"),
    [
        ("b.png", ("p1", "p2"), "10", "1 group of equal images with labels that contradict each other: a.png, b.png"),
        ("b.png", ("p1", "p1"), "10", "1 group of equal images with labels that contradict each other: a.png, b.png"),
        ("b.png", ("p1", "p2"), ("1", "-1"), None),
        ("b.png", ("p1", "p2"), "11", None),
        ("b.jpg", ("p1", "p2"), "10", "1 group of nearly equal images with labels that contradict each other: a.png"),
        ("b.jpg", ("p1", "p1"), "10", None),
    ],
    ids=["equal", "equal of one patient", "equal, one unknown", "equal, one label", "near", "near of one patient"],
)
def test_equal_images_with_contradicting_labels_on_one_side_are_a_problem(
    genmed: Genmed, tmp_path: Path, second: str, patients: tuple[str, str], labels: str, told: str | None
) -> None:
    root, rows = tmp_path / "data", []
    for name, patient, label in zip(("a.png", second), patients, labels, strict=True):
        save(root / name, radiograph(1), **({"quality": 90} if name == "b.jpg" else {}))
        rows.append(f"{name},{patient},s-{name},train,{label}")
    for number, side in enumerate(("train", "val", "test")):
        save(root / f"{side}.png", radiograph(2 + number))
        rows.append(f"{side}.png,q{number},t{number},{side},{number % 2}")
    result = genmed("data", "check", write_manifest(root, rows), "--dataset", "manifest", "--json")
    assert result.code == (1 if told else 0)
    assert [problem[: len(told or "")] for problem in result.json["problems"]] == ([told] if told else [])
    contradict = [note for note in result.json["notes"] if "contradict" in note]
    assert bool(contradict) == (second == "b.jpg" and told is None)


def test_near_images_bring_those_that_are_equal_to_them(genmed: Genmed, tmp_path: Path) -> None:
    """b is equal to a in training, and c is nearly equal to a: then b leaks as well."""
    rows = []
    for number, (name, split) in enumerate([("a.png", "train"), ("b.png", "train"), ("c.jpg", "test")]):
        save(tmp_path / "data" / name, radiograph(1), **({"quality": 90} if name == "c.jpg" else {}))
        rows.append(f"{name},p{number},s{number},{split},{number % 2}")
    rows.append("d.png,p9,s9,val,1")
    save(tmp_path / "data" / "d.png", radiograph(2))
    result = genmed("data", "check", write_manifest(tmp_path / "data", rows), "--dataset", "manifest", "--json")
    assert [group["images"] for group in result.json["duplicates"]["near"]] == [["a.png", "b.png", "c.jpg"]]


def test_broken_files_are_named_with_reasons(genmed: Genmed, planted: Path) -> None:
    result = genmed("data", "check", planted, "--dataset", "manifest", "--json")
    broken = {entry["image"]: entry["reason"] for entry in result.json["broken"]}
    assert set(broken) == {"x.png", "y.png"}
    assert f"{planted / 'x.png'} is damaged" in broken["x.png"]
    assert f"{planted / 'y.png'} is empty" in broken["y.png"]


def test_check_for_people_ends_with_the_number_of_problems(genmed: Genmed, planted: Path) -> None:
    result = genmed("data", "check", planted, "--dataset", "manifest", "--limit", "1")
    assert result.code == 1
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert all(len(line) > 1 for line in lines)
    assert lines[-1] == ["problems", "6"]
    assert ["c.png, d.png", "several", "train test", "contradict"] in lines  # the leak before the other
    assert ["a.png, b.png", "one", "train", "agree"] not in lines
    assert ["and 1 more", "", "", ""] in lines
    assert ["equal images", "2 groups, 4 images: 1 within one patient, 1 across patients, 1 across sides, 1 with other "
            "labels"] in lines  # fmt: skip
    assert ["Mass", "20.0%", "4/20", "0", "4", "0", "0"] in lines


def test_check_for_people_says_first_what_it_is_and_last_what_is_wrong(genmed: Genmed, planted: Path) -> None:
    names = [line.split("\t")[0] for line in genmed("data", "check", planted, "--dataset", "manifest").out.splitlines()]
    assert names[:6] == ["dataset", "folder", "task", "images", "patients", "studies"]
    order = ["split", "sizes", "licence", "side", "class", "broken image", "broken images", "note", "problem"]
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order)
    assert "citation" not in names  # nobody knows one
    assert "lineage" not in names


def test_broken_image_is_named_once_with_its_reason(genmed: Genmed, planted: Path) -> None:
    lines = genmed("data", "check", planted, "--dataset", "manifest").out.splitlines()
    assert "y.png\tis empty (0 bytes)" in lines


def test_tables_of_the_largest_dataset_fit_100_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CheXpert's: long names of classes, many images, many unknown."""
    count = LabelCount(105_581, 117_833, 112_123)
    found: Any = SimpleNamespace(
        classes=[ClassCount(name, count, dict.fromkeys(SPLITS, count)) for name in CHEXPERT],
        sites={},
        describe_side=lambda side: (178_731, 51_632),
    )
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _print_sides_and_classes(found)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 100
    for name in CHEXPERT:
        (line,) = [line for line in lines if f" {name} " in line]
        assert "105,581/223,414" in line
        assert line.split().count("105,581") == 3


def test_long_values_are_broken_between_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("note", "word " * 30 + "a-word-of-" + "many-letters" * 9), ("problems", "0")]
    print_pairs(pairs)
    assert capsys.readouterr().out == f"note\t{pairs[0][1]}\nproblems\t0\n"
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_pairs(pairs)
    first, second, long, last = capsys.readouterr().out.splitlines()
    assert (first[:10], second[:10], long[:10], last) == ("note      ", " " * 10, " " * 10, "problems  0")
    assert max(len(first), len(second)) <= 100
    assert long.strip() == pairs[0][1].split()[-1]


def test_a_sound_dataset_has_no_problems_and_leaves_no_trace(own_cache: Genmed, nih: Path, tmp_path: Path) -> None:
    result = own_cache("data", "check", nih, "--dataset", "nih", "--json")
    assert result.code == 0, result.err
    found = result.json
    assert set(found) == {
        "schema", "dataset", "root", "task", "images", "patients", "studies", "sites", "classes", "split", "sizes",
        "depths", "colour", "monochrome1", "formats", "duplicates", "broken", "left_out", "counts", "problems", "notes",
        "licence", "citation", "lineage",
    }  # fmt: skip
    assert (found["schema"], found["dataset"], found["root"]) == (1, "nih", str(nih))
    assert (found["images"], found["patients"], found["studies"]) == (100, 40, None)
    assert found["sites"] == {"NIH": 100}
    assert found["sizes"] == [{"width": 24, "height": 24, "images": 100}]
    assert found["depths"] == [{"bits": 8, "dicom": False, "images": 100, "greatest": None}]
    assert found["formats"] == {".png": 100}
    assert found["problems"] == []
    assert found["duplicates"] == {"equal": [], "near": []}
    assert found["counts"] == [
        {"what": "images", "found": 100, "official": 112_120},
        {"what": "patients", "found": 40, "official": 30_805},
    ]
    assert (
        "not the whole nih: 100 images, 40 patients, where its authors count 112,120 images, 30,805 patients"
        in found["notes"]
    )
    effusion = next(entry for entry in found["classes"] if entry["name"] == "Effusion")
    sides = found["split"]["sides"]
    assert sum(side["images"] for side in sides.values()) == 100
    assert sum(side["patients"] for side in sides.values()) == 40
    for what in ("positives", "negatives", "unknown"):
        assert sum(effusion["by_side"][side][what] for side in sides) == effusion[what]
    table = (nih / "Data_Entry_2017_v2020.csv").read_text()
    assert effusion["positives"] == table.count("Effusion")
    assert not (tmp_path / "own-cache").exists()
    assert list(own_cache.root.iterdir()) == []


def test_the_split_of_a_check_is_that_of_a_training(
    genmed: Genmed, nih: Path, tiny: Callable[..., list[object]]
) -> None:
    checked = genmed("data", "check", nih, "--dataset", "nih", "--set", "data.split_seed=3", "--json").json["split"]
    assert genmed(*tiny("--split-seed", "3", "--epochs", "1")).code == 0
    trained = json.loads((genmed.run_folder() / "data.json").read_text())["split"]
    for side, counted in checked["sides"].items():
        assert counted == {key: trained["sides"][side][key] for key in counted}
    assert checked["source"] == trained["source"]


def test_an_empty_side_and_unknown_labels_are_findings(genmed: Genmed, tmp_path: Path) -> None:
    rows = []
    for number in range(12):
        save(tmp_path / "data" / f"{number}.png", radiograph(number))
        rows.append(f"{number}.png,p{number},{(1, 0, -1, 0)[number % 4]}")
    root = write_manifest(tmp_path / "data", rows, "path,patient,Mass")
    result = genmed("data", "check", root, "--dataset", "manifest", "--set", "data.val_ratio=0", "--json")
    assert result.code == 1
    assert result.json["problems"] == ["the val side of the split has no images"]
    counted = result.json["classes"][0]
    assert (counted["positives"], counted["negatives"], counted["unknown"]) == (3, 6, 3)


@pytest.mark.parametrize(
    ("greatest", "settings", "told"),
    [
        (3990, [], "no 16-bit image exceeds 4095"),
        (4095, [], "--set data.bits=12"),
        (4096, [], "--set data.bits=13"),
        (40_000, [], None),
        (4096, ["--set", "data.bits=12"], "there are values up to 4096"),
        (4095, ["--set", "data.bits=12"], None),
    ],
)
def test_the_bits_that_16_bit_files_use_are_told(
    genmed: Genmed, tmp_path: Path, greatest: int, settings: list[str], told: str | None
) -> None:
    rows = []
    for number in range(6):
        pixels = radiograph(number).astype(np.uint16) * 8
        pixels[0, 0] = greatest if number == 3 else 0
        save(tmp_path / "data" / f"{number}.png", pixels)
        rows.append(f"{number}.png,p{number},s{number},{('train', 'val', 'test')[number % 3]},{number % 2}")
    root = write_manifest(tmp_path / "data", rows)
    result = genmed("data", "check", root, "--dataset", "manifest", *settings, "--json")
    assert result.code == 0, result.out
    assert result.json["depths"] == [{"bits": 16, "dicom": False, "images": 6, "greatest": greatest}]
    about = [note for note in result.json["notes"] if "bit" in note]
    assert [told in note for note in about] == [True] if told else about == []


def test_dicom_bits_and_inverted_files_are_counted_and_colour_is_told(genmed: Genmed, tmp_path: Path) -> None:
    root, rows = tmp_path / "data", []
    root.mkdir()
    for number in range(6):
        name = f"{number}.dcm" if number < 4 else f"{number}.png"
        if number < 4:
            stored = radiograph(number).astype(np.uint16) * 4
            photometric = "MONOCHROME1" if number < 3 else "MONOCHROME2"
            make_dicom(root / name, stored, bits_stored=10 + 2 * (number % 2), photometric=photometric)
        else:
            save(
                root / name,
                np.stack([radiograph(number), radiograph(9), radiograph(8)], axis=-1)[: 60 if number == 4 else 64],
            )
        rows.append(f"{name},p{number},s{number},{('train', 'val', 'test')[number % 3]},{number % 2}")
    result = genmed("data", "check", write_manifest(root, rows), "--dataset", "manifest", "--json")
    assert result.code == 0, result.out
    found = result.json
    assert found["depths"] == [
        {"bits": 8, "dicom": False, "images": 2, "greatest": None},
        {"bits": 10, "dicom": True, "images": 2, "greatest": 980},
        {"bits": 12, "dicom": True, "images": 2, "greatest": 988},
    ]
    assert (found["monochrome1"], found["colour"]) == (3, 2)
    assert found["formats"] == {".dcm": 4, ".png": 2}
    assert found["sizes"] == [{"width": 64, "height": 64, "images": 5}, {"width": 64, "height": 60, "images": 1}]
    assert any("2 images in colour" in note for note in found["notes"])


def test_broken_images_that_are_skipped_are_a_note_and_no_problem(genmed: Genmed, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", (), 2)
    (root / "C0 of 2" / "broken.png").write_bytes(b"")
    check = ["data", "check", root, "--dataset", "folder", "--json"]
    stopped = genmed(*check)
    assert (stopped.code, stopped.json["problems"]) == (1, ["1 image cannot be read"])
    assert (stopped.json["images"], stopped.json["left_out"]) == (37, {})
    skipped = genmed(*check, "--on-bad-image", "skip")
    assert (skipped.code, skipped.json["problems"]) == (0, [])
    assert "Left out: 1 image that cannot be read (C0 of 2/broken.png)" in skipped.json["notes"]
    assert skipped.json["broken"] == stopped.json["broken"]
    assert list(skipped.json["left_out"]) == ["C0 of 2/broken.png"]
    assert (skipped.json["images"], skipped.json["formats"]) == (36, {".jpeg": 18, ".png": 18})
    assert sum(side["images"] for side in skipped.json["split"]["sides"].values()) == 36


def test_csv_lists_what_is_to_be_mended(genmed: Genmed, planted: Path, tmp_path: Path) -> None:
    out = tmp_path / "findings.csv"
    check = ["data", "check", planted, "--dataset", "manifest", "--csv", out]
    result = genmed(*check, "--limit", "0")
    assert f"all of them\t{out}" in result.out.splitlines()
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["kind", "group", "image", "patient", "side", "labels", "reason"]
    assert [tuple(row.values())[:6] for row in rows] == [
        ("broken", "", "x.png", "r", "train", ""),
        ("broken", "", "y.png", "r", "train", ""),
        ("equal", "1", "a.png", "p1", "train", "Mass"),
        ("equal", "1", "b.png", "p1", "train", "Mass"),
        ("equal", "2", "c.png", "p2", "train", "Mass"),
        ("equal", "2", "d.png", "p3", "test", ""),
        ("near", "3", "e.png", "p4", "val", ""),
        ("near", "3", "f.jpg", "p5", "test", ""),
        ("near", "4", "g.png", "p6", "train", ""),
        ("near", "4", "h.png", "p6", "train", "Mass"),
    ]
    assert rows[1]["reason"] == f"{planted / 'y.png'} is empty (0 bytes)"
    content = out.read_bytes()
    again = genmed(*check, "--json")
    assert (again.code, out.read_bytes()) == (2, content)
    assert again.json["error"]["message"] == f"{out} exists, and nothing is overwritten"
    out.unlink()
    assert genmed(*check, "--on-bad-image", "skip").code == 1
    assert out.read_text().splitlines()[2].startswith("broken,,y.png,r,,,")  # on no side
    assert [path.name for path in out.parent.glob("*findings*")] == ["findings.csv"]


def test_files_and_folders_that_are_passed_over_are_noted(genmed: Genmed, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data")
    for name in ("train/C0 of 2/notes.txt", "test/C1 of 2/a/b.csv", "train/C0 of 2/.hidden", "train/README.md"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "test" / "loose.png").write_bytes((root / "train" / "C0 of 2" / "person0_1.png").read_bytes())
    (root / "train" / "Empty").mkdir()
    checked = genmed("data", "check", root, "--dataset", "folder", "--json")
    assert checked.json["notes"][:3] == [
        "No image in class folder train/Empty",
        "Left out: 2 files without the suffix of an image (test/C1 of 2/a/b.csv, train/C0 of 2/notes.txt)",
        "Left out: 1 image in no class folder (test/loose.png)",
    ]
    small = ["--model", TINY_MODEL, "--image-size", "16", "--epochs", "1", "--batch-size", "8"]
    trained = genmed("train", "--dataset", "folder", "--data-root", root, *small)
    assert checked.json["notes"][0] in trained.err.splitlines()
    assert json.loads((genmed.run_folder() / "data.json").read_text())["notes"] == checked.json["notes"][:3]


@pytest.mark.parametrize(
    ("flag", "in_its_place"),
    [
        ("--data-root", "PATH"),
        ("--val-ratio", "--set data.val_ratio"),
        ("--test-ratio", "--set data.test_ratio"),
        ("--split-seed", "--set data.split_seed"),
        ("--weights", "model.weights"),
    ],
)
def test_hints_name_no_flag_that_the_data_commands_lack(flag: str, in_its_place: str) -> None:
    with pytest.raises(DataError) as caught, own_words():
        raise DataError("wrong", f"change {flag} or --on-bad-image")
    assert caught.value.hint == f"change {in_its_place} or --on-bad-image"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("check {nih} --dataset nih --on-bad-image leave", "set by --on-bad-image"),
        (
            "check {nih} --dataset nih --set data.val_ratio=0.6 --set data.test_ratio=0.5",
            "got 0.6 + 0.5 (set by --set data.test_ratio, --set data.val_ratio)",
        ),
        ("check {nih}", "phantom is made by genmed and reads no folder"),
        ("check {nih}/nowhere --dataset nih", "no data folder"),
        ("check {nih} --dataset rsna", "is not in the layout of"),
        ("check {nih} --dataset nihh", "did you mean nih?"),
        ("check {nih} --dataset NIH", "unknown dataset 'NIH' (did you mean nih?)"),
        ("check {nih} --dataset chexprt", "(did you mean chexpert?)"),
        ("check {nih} {nih}/images --dataset nih", "one folder at a time, got {nih} and {nih}/images"),
        ("show {nih} {nih}/images --dataset nih --out a.png", "one folder at a time, got {nih} and {nih}/images"),
        (
            "check {nih} --dataset nih --set data.val_ratio=0.1 data.test_ratio=0.1",
            "data.test_ratio=0.1 stands alone (each KEY=VALUE has a --set of its own: --set data.test_ratio=0.1)",
        ),
        ("check --dataset nih --set data.val_ratio=0.1 data.test_ratio=0.1", "has a --set of its own"),
        (
            "check {nih}/Data_Entry_2017_v2020.csv",
            "(give its folder, {nih}, as PATH, with --dataset manifest --set manifest.file=Data_Entry_2017_v2020.csv)",
        ),
        ("check {nih}/images/00000001_000.png", "is a file, and PATH is the folder of a dataset"),
        ("check {nih} --nowhere", "No such option: --nowhere"),
        ("check {nih} --dataset nih --set data.split=official", "no official split lists"),
        ("check --dataset nih", "name their folder with PATH"),
        ("check --csv findings.txt", "--csv must end in .csv, got findings.txt"),
        ("check {nih}/images --dataset nih --csv nowhere/findings.csv", "there is no folder"),  # before all is read
        ("show --out sheet.jpg", "must end in .png"),
        ("show --out nowhere/sheet.png", "there is no folder"),
        ("show {nih} --dataset nih --out a.png --classes --count 3", "--classes needs --count 15"),
        ("show --out a.png --augmentation wild", "set by --augmentation"),
        ("cache --limit 5potatoes", "takes a size"),
        ("cache --limit 5GB --clear", "exclude each other"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_2(genmed: Genmed, nih: Path, arguments: str, told: str) -> None:
    result = genmed("data", *arguments.format(nih=nih).split())
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert told.format(nih=nih) in result.err


# show


def find_block(page: Pixels, block: Pixels) -> tuple[int, int]:
    """(y, x) of the only place on the page where the block stands."""
    height, width = block.shape[:2]
    middle = page[height // 2 :, width // 2 :] == block[height // 2, width // 2]
    places = [
        (int(y), int(x))
        for y, x in np.argwhere(middle.all(-1))
        if np.array_equal(page[y : y + height, x : x + width], block)
    ]
    assert len(places) == 1, places
    return places[0]


def enlarge(picture: Pixels, times: int) -> Pixels:
    """(C, S, S) to (times * S, times * S, 3)."""
    large = picture.repeat(times, 1).repeat(times, 2).transpose(1, 2, 0)
    return large if large.shape[2] == 3 else np.repeat(large, 3, axis=2)


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_sheet_shows_the_prepared_bytes_and_what_augmentation_makes_of_them(
    genmed: Genmed, tmp_path: Path, colour: str
) -> None:
    import torch

    root, rows = tmp_path / "data", []
    random = np.random.Generator(np.random.Philox(3))
    for number in range(20):
        save(root / f"{number:02d}.png", random.integers(0, 256, (40, 30, 3), dtype=np.uint8))
        split = ("train", "val", "test")[number % 3]
        rows.append(f"{number:02d}.png,p{number},{split},{int(number == 7)},{(0, 1, -1)[number % 3]},0")
    write_manifest(root, rows, "path,patient,split,Rare,Doubtful,Absent")
    out = tmp_path / "sheet.png"
    result = genmed(
        "data", "show", root, "--dataset", "manifest", "--out", out, "--count", "5", "--seed", "9", "--image-size",
        "24", "--augmentation", "standard", "--set", f"data.colour={colour}", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    shown, page = result.json["shown"], np.asarray(Image.open(out))
    assert [page.shape[1], page.shape[0]] == [result.json["width"], result.json["height"]]
    assert len(shown) == 5
    assert "07.png" in {entry["id"] for entry in shown}  # the only one of its class
    times = int(result.json["drawn_at"])
    assert times > 1
    draws = {epoch: draw_epoch(9, epoch, 20) for epoch in (1, 2)}
    for entry in shown:
        row = int(entry["id"][:2])
        prepared = Preparation(24, 3 if colour == "rgb" else 1).apply(read_image(root / entry["id"]))
        places = [find_block(page, enlarge(prepared, times))]
        for epoch in (1, 2):
            made = augment(torch.from_numpy(prepared[None]).float(), draws[epoch][row : row + 1], PRESETS["standard"])
            picture = made[0].round().clamp(0, 255).to(torch.uint8).numpy()
            places.append(find_block(page, enlarge(picture, times)))
        (top, left), *others = places
        assert others == [(top, left + 24 * times + 4), (top, left + 2 * (24 * times + 4))]
        assert entry["side"] == ("train", "val", "test")[row % 3]
        assert entry["labels"] == [
            *["Rare"] * (row == 7),
            *["Doubtful"] * (row % 3 == 1),
            *["Doubtful?"] * (row % 3 == 2),
        ]


def test_sheet_without_augmentation_shows_each_image_once(genmed: Genmed, tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "data" / f"class {number % 2}" / f"{number}.png", radiograph(number))
    show = ["data", "show", tmp_path / "data", "--dataset", "folder", "--image-size", "64", "--json"]
    once = genmed(*show, "--out", tmp_path / "once.png", "--augmentation", "none").json
    thrice = genmed(*show, "--out", tmp_path / "thrice.png").json
    assert once["drawn_at"] == 4
    page = np.asarray(Image.open(tmp_path / "once.png"))
    for number in range(4):
        top, left = find_block(page, enlarge(radiograph(number)[None], 4))
        assert (page[top : top + 256, left + 256 : left + 256 + 28] == 255).all()  # and nothing beside it
    assert once["width"] < thrice["width"]


def panels(count: int, size: int, versions: int = 3) -> list[Panel]:
    random = np.random.Generator(np.random.Philox(5))
    pictures = random.integers(0, 256, (count, versions, 1, size, size), dtype=np.uint8)
    return [Panel(picture, f"{number}.png", "train · Mass, Effusion") for number, picture in enumerate(pictures)]


@pytest.mark.parametrize("size", [16, 28, 64, 224, 299, 512])
def test_page_of_24_images_fits_a_screen(size: int) -> None:
    page = draw_page("title", "The network sees them.", ("as prepared", "epoch 1", "epoch 2"), [("", panels(24, size))])
    assert 1200 <= page.image.width <= 1720
    assert page.image.height <= 1350
    assert size * page.scale >= 96


@pytest.mark.parametrize(("count", "size", "told"), [(24, 64, "2x"), (24, 224, "0.5x"), (2, 224, None)])
def test_page_says_at_which_scale_it_shows_images(
    monkeypatch: pytest.MonkeyPatch, count: int, size: int, told: str | None
) -> None:
    words: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda draw, place, text, *more: words.append(text))
    draw_page("title", "The network sees them.", ("", "", ""), [("", panels(count, size))])
    assert words[1] == f"The network sees them.{f' Drawn at {told}.' if told else ''}"


def test_names_below_small_images_are_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda draw, place, text, *more: words.append(text))
    small = [Panel(panel.pictures, f"{number:08d}_000.png", "") for number, panel in enumerate(panels(200, 96, 1))]
    draw_page("title", "subtitle", ("",), [("", small)])
    assert all(panel.name in words for panel in small)


def test_sections_stand_side_by_side_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    places: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda draw, place, text, *more: places.update({text: place}))
    sections = [("one", panels(1, 224)), ("none there", []), ("three", panels(3, 224)), ("six", panels(6, 224))]
    draw_page("title", "subtitle", ("a", "b", "c"), [*sections, *((f"s{n}", panels(2, 224)) for n in range(9))])
    (left, top), (beside, same), (next_left, below), (six_left, further) = (places[name] for name, _ in sections)
    assert same == top
    assert beside > left
    assert below > top  # of four columns one and the empty one have two
    assert further > below
    assert next_left == six_left == left


def test_equal_commands_make_equal_pixels_and_nothing_is_overwritten(genmed: Genmed, nih: Path, tmp_path: Path) -> None:
    def show(name: str, *more: str) -> Any:
        size = ["--image-size", "24", "--count", "6"]
        return genmed("data", "show", nih, "--dataset", "nih", "--out", tmp_path / name, *size, "--json", *more)

    first, second, other = show("a.png"), show("b.png"), show("c.png", "--seed", "7")
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    assert first.json["shown"] == second.json["shown"] != other.json["shown"]
    assert {name for entry in first.json["shown"] for name in entry["labels"]} == {"Effusion", "Mass", "Hernia"}
    again = show("a.png", "--seed", "7")
    assert again.code == 2
    assert "exists, and nothing is overwritten" in again.json["error"]["message"]
    assert (tmp_path / "a.png").read_bytes() == content


def test_sheet_by_class_shows_as_many_of_each(genmed: Genmed, nih: Path, tmp_path: Path) -> None:
    classes = ["--set", "labels.classes=[Effusion,Mass,Hernia]"]
    result = genmed(
        "data", "show", nih, "--dataset", "nih", "--out", tmp_path / "a.png", "--image-size", "24", "--classes",
        "--count", "12", "--json", *classes,
    )  # fmt: skip
    assert result.code == 0, result.err
    labels = [entry["labels"] for entry in result.json["shown"]]
    assert len(labels) == 12
    for number, name in enumerate(["Effusion", "Mass", "Hernia"]):
        assert all(name in entry for entry in labels[3 * number : 3 * number + 3])
    assert labels[9:] == [[], [], []]
    assert len({entry["id"] for entry in result.json["shown"]}) == 12


def test_sheet_treats_broken_images_as_the_config_says(genmed: Genmed, planted: Path, tmp_path: Path) -> None:
    show = ["data", "show", planted, "--dataset", "manifest", "--image-size", "24", "--set", "data.split=patient"]
    stopped = genmed(*show, "--out", tmp_path / "a.png")
    assert "--on-bad-image skip" in stopped.err
    assert (stopped.code, (tmp_path / "a.png").exists()) == (2, False)
    assert "2 images cannot be read" in stopped.err
    skipped = genmed(*show, "--out", tmp_path / "a.png", "--on-bad-image", "skip", "--count", "99", "--json")
    assert skipped.code == 0, skipped.err
    assert len(skipped.json["shown"]) == 18


def test_sheet_of_so_few_images_that_no_split_is_possible_shows_them_without_a_side(
    genmed: Genmed, tmp_path: Path
) -> None:
    for number in range(2):
        save(tmp_path / "data" / f"class {number}" / "a.png", radiograph(number))
    out = tmp_path / "a.png"
    result = genmed("data", "show", tmp_path / "data", "--dataset", "folder", "--out", out, "--json")
    assert result.code == 0, result.err
    assert [(entry["side"], entry["labels"]) for entry in result.json["shown"]] == [
        (None, ["class 0"]),
        (None, ["class 1"]),
    ]
    (line,) = result.err.splitlines()
    assert line.startswith("Note: the images are shown without their sides: the ")


# cache


def fill(genmed: Genmed, nih: Path, folder: Path, *sizes: int) -> dict[int, str]:
    """An entry for each size, the first used longest ago; by size its key."""
    keys: dict[int, str] = {}
    for age, size in enumerate(sizes):
        out = folder / f"sheet-{size}.png"
        shown = genmed("data", "show", nih, "--dataset", "nih", "--image-size", size, "--count", "1", "--out", out)
        assert shown.code == 0, shown.err
        entries = genmed("data", "cache", "--json").json["entries"]
        keys[size] = next(entry["key"] for entry in entries if entry["key"] not in keys.values())
        used = time.time() - 3600 * (len(sizes) - age)
        os.utime(folder / "own-cache" / "images" / keys[size] / "in-use", (used, used))
    return keys


@pytest.fixture
def training(own_cache: Genmed, tiny: Callable[..., list[object]]) -> Iterator[Command]:
    """One that goes on for longer than any test, and reads images of 16 px."""
    command = own_cache.start(*tiny("--epochs", "5000"))
    yield command
    if command.running:
        command.send(signal.SIGTERM)
        command.wait()


def test_limit_removes_what_was_used_longest_ago_and_stays(own_cache: Genmed, nih: Path, tmp_path: Path) -> None:
    keys = fill(own_cache, nih, tmp_path, 20, 24, 28)
    before = own_cache("data", "cache", "--json").json
    assert set(before) == {"schema", "folder", "limit", "bytes", "entries", "removed"}
    assert [entry["key"] for entry in before["entries"]] == list(keys.values())
    assert before["bytes"] == sum(entry["bytes"] for entry in before["entries"])
    assert (before["limit"], before["removed"]) == (64 * 2**30, [])
    most = before["bytes"] - 1
    after = own_cache("data", "cache", "--limit", most, "--json").json
    assert [entry["key"] for entry in after["removed"]] == [keys[20]]
    assert [entry["key"] for entry in after["entries"]] == [keys[24], keys[28]]
    assert own_cache("data", "cache", "--json").json["limit"] == most
    unlimited = own_cache("data", "cache", "--limit", "none", "--json").json
    assert (unlimited["limit"], len(unlimited["entries"])) == (None, 2)
    assert "limit\tnone" in own_cache("data", "cache").out.splitlines()
    told = [line for line in own_cache("data", "cache", "--limit", "1").out.splitlines() if line.startswith("removed")]
    assert [line.rpartition(":")[0] for line in told] == [
        f"removed\t100 images, {size} px, grey of {nih}" for size in (24, 28)
    ]
    assert own_cache("data", "cache", "--limit", "none").code == 0
    fill(own_cache, nih, tmp_path, 32)  # decoding keeps within no limit, too


def test_what_a_training_reads_outlives_limit_and_clear(
    own_cache: Genmed, nih: Path, tmp_path: Path, training: Command
) -> None:
    deadline = time.monotonic() + 60
    while not (held := [e["key"] for e in own_cache("data", "cache", "--json").json["entries"] if e["in_use"]]):
        assert training.running
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shown = own_cache("data", "show", nih, "--dataset", "nih", "--image-size", "20", "--out", tmp_path / "a.png")
    assert shown.code == 0, shown.err
    limited = own_cache("data", "cache", "--limit", "1", "--json").json
    assert [entry["key"] for entry in limited["entries"]] == held
    assert len(limited["removed"]) == 1
    cleared = own_cache("data", "cache", "--clear", "--json").json
    assert ([entry["key"] for entry in cleared["entries"]], cleared["removed"]) == (held, [])
    assert training.running
    training.send(signal.SIGTERM)
    assert training.wait().code == 130
    cleared = own_cache("data", "cache", "--clear", "--json").json
    assert cleared["entries"] == []
    assert [entry["key"] for entry in cleared["removed"]] == held
    assert list((tmp_path / "own-cache" / "stamps").iterdir()) == []


def test_an_empty_cache_is_shown_and_not_made(own_cache: Genmed, tmp_path: Path) -> None:
    for more in ([], ["--clear"]):
        result = own_cache("data", "cache", *more)
        assert result.code == 0, result.err
        assert result.out.splitlines() == [
            f"folder\t{tmp_path / 'own-cache'}", "entries\t0", "total\t0 bytes", "limit\t64.0 GiB",
        ]  # fmt: skip
    assert not (tmp_path / "own-cache").exists()


def test_a_spoiled_limit_is_told_and_mended(own_cache: Genmed, tmp_path: Path) -> None:
    assert own_cache("data", "cache", "--limit", "2GB").code == 0
    (tmp_path / "own-cache" / "limit").write_text("much\n")
    spoiled = own_cache("data", "cache")
    assert (spoiled.code, len(spoiled.err.splitlines())) == (2, 1)
    assert "genmed data cache --limit" in spoiled.err
    assert own_cache("data", "cache", "--limit", "3GiB", "--json").json["limit"] == 3 * 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("20GB", 20 * 10**9),
        ("20 gb", 20 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("512MiB", 2**29),
        ("7KB", 7000),
        ("none", None),
    ],
)
def test_sizes_are_read(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "5 apples", "nan", "1_000", "٣GB", "1.GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="takes a size"):
        parse_size(text)
