"""A table of one's own that is not quite what its writer means: told with the line and the way out."""

import signal
from pathlib import Path

import pytest

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data import patients
from genmed.parts.data.split import split_records
from tests.datasets.test_choices import config_of, read, write_table

KINDS = ("Effusion", "Mass", "Normal")


def rows_of(*last: str, count: int = 30) -> list[str]:
    """A row an image, of two images a patient and three kinds by turns; the last rows have other kinds."""
    kinds = [KINDS[number % 3] for number in range(count - len(last))] + list(last)
    return [f"{number:02}.png,p{number // 2},{kind}" for number, kind in enumerate(kinds)]


def table_of(root: Path, *last: str, columns: str = "path,patient,kind") -> Path:
    return write_table(root, [columns, *rows_of(*last)])


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("effusion ", "line 31: kind is 'effusion', elsewhere 'Effusion'"),
        ("", "line 31: no kind, where each other row names one class"),
    ],
)
def test_slip_in_a_column_of_classes_is_told_with_its_line(tmp_path: Path, word: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(table_of(tmp_path / "data", word))


def test_class_of_one_row_is_told_of_where_there_are_many(tmp_path: Path) -> None:
    assert read(table_of(tmp_path / "many", "Efusion")).notes == ("Named in one row alone, perhaps a slip: Efusion",)
    assert read(table_of(tmp_path / "twice", "Efusion", "Efusion")).notes == ()
    assert read(write_table(tmp_path / "few", ["path,kind", "a.png,x", "b.png,y"])).notes == ()


def test_letter_among_labels_is_told_and_a_number_is_a_grade(tmp_path: Path) -> None:
    labels = [f"{number}.png,{number % 2}" for number in range(8)]
    with pytest.raises(DataError, match=r"line 10: kind is 'l', which is no label") as caught:
        read(write_table(tmp_path / "letter", ["path,kind", *labels, "x.png,l"]))
    assert caught.value.hint == "known: 1, 0, -1 or nothing"
    grades = read(write_table(tmp_path / "grade", ["path,kind", *labels, "x.png,2"]))
    assert (grades.classes, grades.task) == (("0", "1", "2"), "multi-class")


def test_no_finding_among_single_classes_makes_them_labels_and_is_told(tmp_path: Path) -> None:
    root = table_of(tmp_path / "data", "No Finding", "No Finding")
    records = read(root)
    assert (records.task, records.classes, records.labels[-1].tolist()) == ("multi-label", KINDS, [0, 0, 0])
    assert records.notes == ("No Finding in kind is none of the classes: the task is multi-label",)
    exclusive = read(root, labels__task="multi-class")
    assert exclusive.classes == ("Effusion", "Mass", "No Finding", "Normal")
    assert exclusive.labels.sum(1).tolist() == [1] * 30


@pytest.mark.parametrize("label", ["kind", "mass,nodule"])
def test_column_of_patients_under_another_name_is_asked_for_and_not_taken_for_labels(
    tmp_path: Path, label: str
) -> None:
    rows = [row if label == "kind" else f"{row.rpartition(',')[0]},1,0" for row in rows_of()]
    root = write_table(tmp_path / "data", [f"path,mrn,{label}", *rows])
    with pytest.raises(DataError, match=r"line 2: mrn is 'p0', which is no label") as caught:
        read(root)
    assert "say what it is: --set manifest.patient=mrn," in caught.value.hint
    assert f"'manifest.labels=[{label.replace(',', ', ')}]'" in caught.value.hint
    assert read(root, manifest__patient="mrn").patients[:3] == ("p0", "p0", "p1")


def test_classes_that_exclude_each_other_can_be_trained_each_by_itself(tmp_path: Path) -> None:
    root = table_of(tmp_path / "data")
    exclusive, each = read(root), read(root, labels__task="multi-label")
    assert (exclusive.task, each.task) == ("multi-class", "multi-label")
    assert each.labels.tolist() == exclusive.labels.tolist()


def test_semicolons_are_named(tmp_path: Path) -> None:
    root = table_of(tmp_path / "data")
    table = root / "manifest.csv"
    table.write_text(table.read_text().replace(",", ";"))
    with pytest.raises(DataError, match=r"manifest.csv seems to be separated by semicolons"):
        read(root)


def test_split_of_ones_own_is_called_by_its_column_and_by_many_names(tmp_path: Path) -> None:
    sides = ["Training", "Tuning", "Testing"]
    rows = [f"{row},{sides[int(row[:2]) // 2 % 3]}" for row in rows_of()]
    root = write_table(tmp_path / "data", ["path,patient,kind,cohort", *rows])
    config = config_of(root, manifest__split="cohort")
    split = split_records(read(root, manifest__split="cohort"), config.data)
    assert split.sides[:6] == ("train", "train", "val", "val", "test", "test")
    assert split.source == "the column cohort: train, val and test"


def test_people_and_views_are_no_labels(tmp_path: Path) -> None:
    rows = [f"{row},F,{40 + number},ap" for number, row in enumerate(rows_of())]
    root = write_table(tmp_path / "data", ["path,patient,kind,Gender,years,View_Position", *rows])
    with pytest.raises(DataError, match="years is '40', which is no label"):
        read(root)
    records = read(root, manifest__age="years")
    assert {trait: set(values) for trait, values in records.traits.items()} == {
        "sex": {"F"}, "age": set(map(str, range(40, 70))), "view": {"AP"},
    }  # fmt: skip
    assert records.classes == KINDS


def test_one_column_needs_no_brackets(tmp_path: Path) -> None:
    assert config_of(tmp_path, manifest__labels="kind").manifest.labels == ("kind",)
    assert config_of(tmp_path, manifest__labels="kind").fingerprint == (
        config_of(tmp_path, manifest__labels=["kind"]).fingerprint
    )
    with pytest.raises(ConfigError, match="names 'knd', which is no column"):
        read(table_of(tmp_path / "data"), manifest__labels="knd")


def test_pattern_that_takes_for_ever_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patients, "SECONDS", 0.2)
    name = f"{'a' * 40}.png"
    root = write_table(tmp_path / "data", ["path,finding", f"{name},1"])
    with pytest.raises(DataError, match=r"takes more than 0.2 s"):
        read(root, data__patient_pattern="(a+)+b")
    assert read(root, data__patient_pattern="(a+)").patients == ("a" * 40,)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
