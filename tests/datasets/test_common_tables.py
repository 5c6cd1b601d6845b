"""Tables and folders as other programs write them: read as they are meant, or refused with the way to say it."""

import csv
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.records import Records
from genmed.parts.data.tables import read_table
from genmed.workflows.oddities import find_unlearnable
from tests.datasets.making import load, make_covidx
from tests.harness import TINY_MODEL, Genmed
from tests.make_nih import make_nih


def write(root: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """manifest.csv with a path and these cells in each row; the images are noise."""
    random = np.random.default_rng(0)
    names = [f"im/{number:02}.png" for number in range(len(rows))]
    (root / "im").mkdir(parents=True)
    for name in names:
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(root / name)
    with open(root / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", *header], *([name, *row] for name, row in zip(names, rows, strict=True))])
    return root


def read(root: Path, **choices: Any) -> Records:
    return load("manifest", root, **choices)


def refusal(root: Path, **choices: Any) -> str:
    """What is said of a table that is not read."""
    with pytest.raises(DataError) as caught:
        read(root, **choices)
    told = caught.value.say()
    assert "\n" not in told
    return told


def column(root: Path, cells: Sequence[object], name: str = "kind", **choices: Any) -> Records:
    return read(write(root, [name], [[cell] for cell in cells]), **choices)


# Lists


@pytest.mark.parametrize(
    "cells",
    [
        ("['mass', 'pleural effusion']", "['mass']", "['normal']", "[]"),
        ('["mass", "pleural effusion"]', '["mass"]', '["Normal"]', "[ ]"),
        ("[mass, pleural effusion]", "[mass]", "[normal]", "[]"),
        ("[ 'mass' ,  ' pleural effusion ']", "['mass', '']", "[' normal']", "[]"),
        ("['pleural effusion', nan, 'mass']", "['mass', nan]", "[nan]", "nan"),
        ("['mass' 'pleural effusion']", "['mass']", "['normal']", "[]"),
        ("('mass', 'pleural effusion')", "('mass',)", "['No Finding']", ""),
    ],
)
def test_lists_of_names_are_multi_label(tmp_path: Path, cells: tuple[str, ...]) -> None:
    records = column(tmp_path / "data", cells, "Labels")
    assert (records.task, records.classes) == ("multi-label", ("mass", "pleural effusion"))
    assert records.labels.tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]]
    named = [word for word in ("normal", "Normal", "No Finding") if word in cells[2]]
    assert records.notes == tuple(
        f"Labels holds lists, in which {word} means no finding: the task is multi-label" for word in named
    )


def test_names_in_lists_keep_quotes_and_commas(tmp_path: Path) -> None:
    records = column(tmp_path / "data", ["""["Kerley's lines", 'a, b']""", r"['it\'s']"])
    assert records.classes == ("Kerley's lines", "a, b", "it's")


def test_normal_in_lists_with_multi_class_is_class(tmp_path: Path) -> None:
    records = column(tmp_path / "data", ["['mass']", "['normal']"], labels__task="multi-class")
    assert (records.task, records.classes) == ("multi-class", ("mass", "normal"))


@pytest.mark.parametrize("cell", ["mass", "['mass', ['nodule']]", "['mass"])
def test_other_cell_among_lists_is_refused(tmp_path: Path, cell: str) -> None:
    told = refusal(write(tmp_path / "data", ["kind"], [["['mass']"], [cell]]))
    assert f"manifest.csv, line 3: kind is {cell!r}, which is no list of names" in told


@pytest.mark.parametrize("sign", [", ", ",", ";", "/", " + ", "&"])
def test_combination_of_classes_asks_for_the_delimiter(tmp_path: Path, sign: str) -> None:
    root = write(tmp_path / "data", ["kind"], [["mass"], [f"mass{sign}nodule"], ["nodule"]])
    told = refusal(root)
    assert f"manifest.csv, line 3: kind is {f'mass{sign}nodule'!r}, and mass and nodule are classes, too" in told
    assert f"--set \"manifest.delimiter='{sign.strip()}'\"" in told
    records = read(root, manifest__delimiter=sign.strip())
    assert (records.task, records.labels.tolist()) == ("multi-label", [[1, 0], [1, 1], [0, 1]])
    exclusive = read(root, labels__task="multi-class")
    assert (len(exclusive.classes), exclusive.notes) == (3, ())


def test_names_that_share_a_part_are_noted(tmp_path: Path) -> None:
    records = column(tmp_path / "shared", ["carcinoma, NOS", "lymphoma, NOS", "none"])
    assert records.classes == ("carcinoma, NOS", "lymphoma, NOS", "none")
    assert "kind has names with ',' (carcinoma, NOS, lymphoma, NOS), each a class of its own" in records.notes[0]
    assert column(tmp_path / "apart", ["a/b", "c"]).notes == ()


# Words for 1 and 0


@pytest.mark.parametrize(
    ("there", "absent"), [("True", "False"), ("TRUE", "false"), ("T", "f"), ("Yes ", "No"), ("y", "N"), ("True", "0")]
)
def test_words_for_one_and_zero_are_labels(tmp_path: Path, there: str, absent: str) -> None:
    cells = [there, absent, "", absent, "-1"]
    one = column(tmp_path / "one", cells)
    assert (one.task, one.classes, one.labels[:, 0].tolist()) == ("binary", ("kind",), [1, 0, 0, 0, -1])
    root = write(tmp_path / "two", ["a", "b"], list(zip(cells, "01010", strict=True)))
    two = read(root, labels__blank="ignore")
    assert (two.task, two.labels.tolist()) == ("multi-label", [[1, 0], [0, 1], [-1, 0], [0, 1], [-1, 0]])


@pytest.mark.parametrize("cells", ["TNTN", "NSVFQNNNN", "MFMF", ("yes", "no", "maybe"), ("True", "no"), "NNNN"])
def test_other_words_and_letters_stay_classes(tmp_path: Path, cells: Sequence[str]) -> None:
    assert column(tmp_path / "data", cells).classes == tuple(sorted(set(cells)))


def test_true_and_false_with_multi_class_stay_classes(tmp_path: Path) -> None:
    records = column(tmp_path / "data", ["True", "False"], labels__task="multi-class")
    assert (records.task, records.classes) == ("multi-class", ("False", "True"))


def test_letter_alone_is_no_label_unless_chosen(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["person_sex", "mass"], [["F", "1"], ["F", "0"]])
    assert "person_sex is 'F', which is no label" in refusal(root)
    assert read(root, manifest__labels=("person_sex", "mass")).labels.tolist() == [[0, 1], [0, 0]]


def test_mistake_among_yes_and_no_is_named(tmp_path: Path) -> None:
    rows = [[("Yes", "No")[number % 2], number % 2] for number in range(8)]
    told = refusal(write(tmp_path / "data", ["a", "b"], [*rows, ["Yess", 1]]))
    assert (
        "manifest.csv, line 10: a is 'Yess', which is no label (known, besides 1, 0, -1 and nothing: Yes, No)" in told
    )


# Grades


@pytest.mark.parametrize("cells", [("0.0", "1.0", "2.0", "3.0"), ("0", "1", "2.0", "3"), ("1.0", "2.0", "10.0", "11.")])
def test_grades_written_as_fractions_are_whole(tmp_path: Path, cells: tuple[str, ...]) -> None:
    records = column(tmp_path / "data", cells)
    assert (records.task, records.classes) == ("multi-class", tuple(str(int(float(cell))) for cell in cells))
    assert records.labels.tolist() == np.eye(4).tolist()
    assert records.notes == ()


def test_fractions_and_minus_one_among_grades_are_noted(tmp_path: Path) -> None:
    halves = column(tmp_path / "halves", ["2.0", "3.5", "1.0", "0.0"])
    assert halves.classes == ("0.0", "1.0", "2.0", "3.5")
    assert halves.notes == ("kind holds fractions (3.5): each number is a class",)
    minus = column(tmp_path / "minus", ["0", "1", "2", "-1"])
    assert minus.classes == ("-1", "0", "1", "2")
    assert minus.notes[0].startswith("-1 in kind is a class of its own")
    assert "kind is '2', elsewhere '2.0'" in refusal(
        write(tmp_path / "two", ["kind"], [["2"], ["2.0"], ["2.0"], ["3.5"]])
    )


def test_nan_among_names_is_an_empty_cell(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["kind"], [["mass"], ["nodule"], ["nan"]])
    assert "manifest.csv, line 4: no kind, where each other row names one class" in refusal(root)
    assert read(root, labels__blank="ignore").labels.tolist() == [[1, 0], [0, 1], [-1, -1]]


# What cannot be learned


@pytest.mark.parametrize("cells", [("1", "-1"), ("1.0", "-1.0")])
def test_one_and_minus_one_alone_are_asked_for(tmp_path: Path, cells: tuple[str, str]) -> None:
    root = write(tmp_path / "data", ["Mass"], [[cell] for cell in cells * 2])
    told = refusal(root)
    assert "manifest.csv, line 3: Mass holds only 1 and -1" in told
    assert "--set 'labels.uncertain={Mass: zeros}' if it is negative" in told
    assert read(root, labels__uncertain={"Mass": "zeros"}).labels[:, 0].tolist() == [1, 0, 1, 0]
    assert read(root, labels__uncertain={"Mass": "ignore"}).labels[:, 0].tolist() == [1, -1, 1, -1]
    blank = write(tmp_path / "blank", ["Mass"], [["1"], ["-1"], [""]])
    assert read(blank).labels[:, 0].tolist() == [1, -1, 0]


@pytest.mark.parametrize("cell", ["0", "", "1"])
def test_labels_of_one_value_stop_training(genmed: Genmed, tmp_path: Path, cell: str) -> None:
    root = write(tmp_path / "data", ["patient", "Mass"], [[f"p{number}", cell] for number in range(20)])
    data = ["--dataset", "manifest"]
    checked = genmed("data", "check", root, *data, "--json")
    told = "nothing can be learned: no class is known to be present in some images and absent in others"
    assert (checked.code, checked.json["problems"]) == (1, [told])
    trained = genmed("train", *data, "--data-root", root, "--image-size", "16", "--model", TINY_MODEL)
    assert (trained.code, trained.out, len(trained.err.splitlines())) == (2, "", 1)
    assert told in trained.err
    assert not list((genmed.root / "runs").glob("*"))


def test_train_side_of_one_value_is_unlearnable(tmp_path: Path) -> None:
    records = column(tmp_path / "data", ["0", "0", "1", "0"])
    sides = ("train", "train", "val", "test")
    assert find_unlearnable(records, sides).startswith("nothing can be learned on the train side: no class")
    assert find_unlearnable(records, ("train", "val", "train", "test")) == ""


def test_class_in_every_image_is_a_problem(genmed: Genmed, tmp_path: Path) -> None:
    rows = [[f"p{number}", number % 2, 1] for number in range(20)]
    checked = genmed(
        "data", "check", write(tmp_path / "data", ["patient", "a", "b"], rows), "--dataset", "manifest", "--json"
    )
    assert (checked.code, checked.json["problems"]) == (
        1, ["no image is known to be without b: nothing can be learned of it"],
    )  # fmt: skip


# Patients


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "NA", "N/A", "null", "NULL", "<NA>", "unknown", " ", ""])
def test_missing_patient_is_the_image_by_itself(tmp_path: Path, word: str) -> None:
    rows = [[word if number < 2 else "p1", number % 2] for number in range(4)]
    records = read(write(tmp_path / "data", ["patient", "mass"], rows))
    assert records.patients == ("im/00.png", "im/01.png", "p1", "p1")
    spelt = word.strip() or "nothing"
    assert records.notes == (
        f"Patient missing in 2 images ({spelt}): each image counts as a patient of its own",
    )  # fmt: skip


def test_patients_that_are_all_missing_are_not_known(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["patient", "mass"], [["nan", 0], ["", 1]])
    assert read(root).patients == ()
    assert read(root, data__patient_pattern=r"\d+").patients == ("00", "01")


def test_missing_patient_keeps_studies_together(tmp_path: Path) -> None:
    rows = [["p1", "s1", 0], ["nan", "s2", 1], ["nan", "s2", 0], ["p2", "s3", 1]]
    records = read(write(tmp_path / "named", ["patient", "study", "mass"], rows))
    assert records.patients == ("p1", "s2", "s2", "p2")
    assert "each study counts as a patient" in records.notes[0]
    rows[3][1] = "s1"  # then s1 is two studies, numbered by patient, and s2 may be two as well
    numbered = read(write(tmp_path / "numbered", ["patient", "study", "mass"], rows))
    assert numbered.patients == ("p1", "im/01.png", "im/02.png", "p2")


def test_missing_study_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["patient", "study", "mass"], [["p1", "s1", 0], ["p1", "NaN", 1]])
    assert "manifest.csv, line 3: no study" in refusal(root)


def test_patients_missing_in_paths_and_other_tables(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["mass"], [[0], [1]])
    (root / "im/00.png").rename(root / "im/nan_0.png")
    (root / "manifest.csv").write_text("path,mass\nim/nan_0.png,0\nim/01.png,1\n")
    records = read(root, data__patient_pattern=r"im/(nan|\d+)")
    assert records.patients == ("01", "im/nan_0.png")
    assert "data.patient_pattern" in records.notes[0]
    covidx = make_covidx(tmp_path / "covidx")
    path = next(covidx.glob("train*.txt"))
    _, rest = path.read_text().split(" ", 1)
    path.write_text(f"nan {rest}")
    assert sum(patient.startswith("train/") for patient in load("covidx", covidx).patients) == 1
    nih = make_nih(tmp_path / "nih", 12)
    table = nih / "Data_Entry_2017_v2020.csv"
    lines = table.read_text().splitlines()
    cells = lines[1].split(",")
    table.write_text("\n".join([lines[0], ",".join([*cells[:3], "NaN", *cells[4:]]), *lines[2:]]))
    with pytest.raises(DataError, match="line 2: no patient"):
        load("nih", nih)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("007", "7", "leading zeros"),
        ("p07", "p7", "leading zeros"),
        ("7.0", "7", "a final .0"),
        ("ana", "Ana", "upper and lower case"),
        (unicodedata.normalize("NFC", "José"), unicodedata.normalize("NFD", "José"), "Unicode normalization"),
        ("p1\u200b", "p1", "invisible characters"),
        ("p\u00a01", "p 1", "invisible characters"),
    ],
)
def test_patients_that_look_alike_are_two_and_noted(tmp_path: Path, one: str, other: str, difference: str) -> None:
    records = read(write(tmp_path / "data", ["patient", "mass"], [[one, 0], [other, 1], ["70", 0]]))
    assert records.patients == (one, other, "70")
    first, second = map(ascii, sorted((one, other)))
    assert records.notes == (
        f"Patient ids differ in {difference} alone ({first} and {second}; 2 ids in all):"
        " each counts as a patient of its own",
    )  # fmt: skip


def test_equal_images_without_patients_are_not_across(genmed: Genmed, tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["patient", "mass"], [["nan" if n < 2 else f"p{n}", n % 2] for n in range(20)])
    (root / "im/01.png").write_bytes((root / "im/00.png").read_bytes())
    found = genmed("data", "check", root, "--dataset", "manifest", "--json").json
    assert [group["across_patients"] for group in found["duplicates"]["equal"]] == [None]


def test_missing_view_is_no_view(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["view", "mass"], [["nan", 0], ["pa", 1]])
    assert read(root).traits["view"] == ("", "PA")


# Names of files and columns


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda name: name.replace("png", "PNG"), "they are .png (a difference in upper and lower case alone"),
        (lambda name: name.replace("im/", "IM/"), "it is 'im/00.png' (a difference in upper and lower case"),
        (lambda name: name.replace(".png", ".jpg"), "they are .png (a difference in the suffix alone, in 3 names)"),
        (lambda name: name.replace(".png", ""), "they are .png (a difference in the suffix alone"),
        (lambda name: name.replace("im/", "im/\u200b"), "it is 'im/00.png' (a difference in invisible characters"),
    ],
)  # fmt: skip
def test_names_that_nearly_match_files_are_explained(tmp_path: Path, change: Any, told: str) -> None:
    root = write(tmp_path / "data", ["mass"], [[0], [1], [0]])
    table = root / "manifest.csv"
    table.write_text("\n".join(change(line) for line in table.read_text().splitlines()))
    assert f"3 rows without an image ({change('im/00.png')}" in refusal(root)
    assert f"; on disk {told}" in refusal(root)
    assert told in refusal(root, data__on_mismatch="skip")


def test_names_in_another_normalization_are_explained(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["mass"], [[0], [1]])
    decomposed, composed = (unicodedata.normalize(form, "é.png") for form in ("NFD", "NFC"))
    (root / "im/00.png").rename(root / decomposed)
    (root / "manifest.csv").write_text(f"path,mass\n{composed},0\nim/01.png,1\n")
    assert r"on disk it is 'e\u0301.png' (a difference in Unicode normalization alone, in 1 name)" in refusal(root)


def test_case_of_nihs_names_is_explained(tmp_path: Path) -> None:
    nih = make_nih(tmp_path / "nih", 4)
    table = nih / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace(".png", ".PNG"))
    with pytest.raises(DataError, match=r"on disk they are \.png \(a difference in upper and lower case alone"):
        load("nih", nih)


def test_text_column_is_left_aside(tmp_path: Path) -> None:
    report = "FINDINGS:\nlungs clear."
    root = write(tmp_path / "data", ["Mass", "report"], [[0, report], [1, report]])
    told = refusal(root)
    assert rf"line 3: report is text, {report!r}, and no label" in told
    assert "--set 'manifest.labels=[Mass]' to leave it aside" in told
    assert read(root, manifest__labels=("Mass",)).classes == ("Mass",)
    assert "holds a line break" in refusal(root, manifest__patient="report")
    assert "holds a line break" in refusal(root, manifest__labels=("report",))
    long = write(tmp_path / "long", ["Mass", "report"], [[0, "clear " * 40], [1, "clear " * 40]])
    assert "report is text, 'clear clear" in refusal(long)
    assert len(refusal(long)) < 350


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("patient\u200b", "U+200B zero width space"),
        ("\ufeffpatient", "U+FEFF zero width no-break space"),
        ("pati\u00adent", "U+00AD soft hyphen"),
        ("patient\u00a0id", "U+00A0 no-break space"),
        ("Mass\u200d", "U+200D zero width joiner"),
    ],
)
def test_invisible_character_in_header_is_named(tmp_path: Path, name: str, code: str) -> None:
    root = write(tmp_path / "data", [name, "kind"], [["0", "0"], ["1", "1"]])
    told = refusal(root)
    assert "manifest.csv, line 1: the name of the column" in told
    assert f"has an invisible character, {code} (remove it; the name is stored as {name!a})" in told
    seen = name.encode("ascii", "ignore").decode().replace("patientid", "patient id")
    assert code in refusal(root, manifest__patient=seen)
    assert code in refusal(root, manifest__labels=(seen,))
    with pytest.raises(DataError, match="has an invisible character"):
        read_table(root / "manifest.csv", (seen,))


def test_joiner_within_a_word_is_spelling(tmp_path: Path) -> None:
    name = "می\u200cشود"
    assert column(tmp_path / "data", ["0", "1"], name).classes == (name,)


@pytest.mark.parametrize(
    "words", [("mass\u200b", "mass"), ("e\u0301", "\u00e9"), ("a\u00a0b", "a b"), ("Mass", "mass")]
)
def test_classes_that_look_alike_are_refused(tmp_path: Path, words: tuple[str, str]) -> None:
    told = refusal(write(tmp_path / "data", ["kind"], [[words[0]], [words[1]], [words[1]], ["x"]]))
    assert f"line 2: kind is {words[0]!a}, elsewhere {words[1]!a} (write one class in one way)" in told


# Folders and names of classes


def make_folders(root: Path, names: Sequence[str], images: int) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(images):
            Image.new("L", (8, 8), number).save(root / name / f"{number}.png")
    return root


def test_class_called_macro_is_refused_by_its_place(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "folders", ("macro", "other"), 2)
    with pytest.raises(DataError, match="no class can be called macro") as caught:
        load("folder", root)
    assert caught.value.say().startswith(f"{root / 'macro'}: ")
    assert caught.value.hint == "rename the folder"
    split = make_folders(tmp_path / "split", ("train/macro", "train/other", "test/other"), 2)
    with pytest.raises(DataError, match=r"split/train/macro: no class"):
        load("folder", split)
    for rows, header in (([["macro"], ["other"]], "kind"), ([["0"], ["1"]], "macro")):
        told = refusal(write(tmp_path / header, [header], rows))
        assert "manifest.csv: no class can be called macro" in told
        assert "rename it in the table" in told


@pytest.mark.parametrize(("folders", "images", "noted"), [(24, 1, True), (24, 2, True), (24, 3, False), (4, 1, False)])
def test_folders_that_look_like_patients_are_noted(tmp_path: Path, folders: int, images: int, noted: bool) -> None:
    root = make_folders(tmp_path / "data", [f"pat{number:02}" for number in range(folders)], images)
    notes = load("folder", root).notes
    assert [note.startswith("24 of 24 class folders have one or two images") for note in notes] == [True] * noted


def test_class_folders_that_look_alike_are_noted(tmp_path: Path) -> None:
    records = load("folder", make_folders(tmp_path / "data", ("Normal", "normal", "sick"), 1))
    assert len(records.classes) == 3
    assert records.notes == (
        "Class folders differ in upper and lower case alone ('Normal' and 'normal'): each is a class",
    )  # fmt: skip


def test_role_without_such_a_column_is_still_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "data", ["kind"], [["0"], ["1"]])
    with pytest.raises(ConfigError, match=r"manifest\.patient is 'person', which is no column"):
        read(root, manifest__patient="person")
