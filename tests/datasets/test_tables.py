"""Tables with anything in their cells: refused with the table's name, or read as a second reading reads them."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.datasets.chexpert import CLASSES as CHEXPERT
from genmed.parts.data.datasets.vinbigdata import CLASSES as VINBIGDATA
from genmed.parts.data.records import Records
from genmed.parts.data.tables import CONTROL, read_table
from tests.datasets import reading
from tests.datasets.making import PEOPLE, load

ANY = st.text(st.characters(codec="utf-8"), max_size=6)
"""Any text but lone surrogates, which no file in UTF-8 has."""
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


Rows = list[tuple[str, ...]]


def rows(*columns: tuple[str, ...], unique: bool = True) -> st.SearchStrategy[Rows]:
    """Rows of what belongs into each column; now and then followed by some with anything in them.

    unique: the first cell is another in each row. A column of no words may hold anything.
    """
    usual = [st.sampled_from(words) if words else ANY for words in columns]
    wild = [st.one_of(choice, ANY) for choice in usual]
    key = (lambda row: row[0]) if unique else None
    clean = st.lists(st.tuples(*usual), min_size=1, max_size=8, unique_by=key)
    spoiled = st.tuples(clean, st.lists(st.tuples(*wild), max_size=2)).map(lambda parts: parts[0] + parts[1])
    return st.one_of(clean, spoiled)


def write(path: Path, header: tuple[str, ...], found: Rows, terminator: str) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator=terminator).writerows([header, *found] if header else found)
    path.write_bytes(text.getvalue().encode())


def agree(root: Path, table: str, read: Callable[[], Records], again: Callable[[], reading.Reading]) -> bool:
    """Whether it was read; it is refused with the table's name, or both readings say the same."""
    try:
        records = read()
    except (DataError, ConfigError) as error:
        told = error.message
        assert table in told or "the dataset has no images" in told, told
        return False
    assert reading.find_differences(records, again()) == []
    assert not any(CONTROL.search(text) for text in (*records.ids, *records.patients, *records.classes))
    return True


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


ENDS = st.sampled_from(["\n", "\r\n"])


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def test_chexperts_table(top: Path) -> None:
    names = [f"train/patient{number}/study1/v.jpg" for number in range(9)]
    root = touch(top / "chexpert", *names)
    label = ("1.0", "0.0", "", "-1.0", "1", " 0 ")
    path = [*(f"CheXpert-v1.0/{name}" for name in names), names[0]]
    read = 0

    @QUICK
    @given(rows(tuple(path), ("Male,60", "F"), ("60", ""), ("Frontal", "Lateral"), ("AP", ""), *[label] * 14), ENDS)
    def check(found: Rows, end: str) -> None:
        nonlocal read
        write(root / "train.csv", ("Path", *PEOPLE, *CHEXPERT), found, end)
        read += agree(
            root,
            "train.csv",
            lambda: load("chexpert", root, data__on_mismatch="skip"),
            lambda: reading.read_chexpert(root, exists=True),
        )

    check()
    assert read > 5


def test_vinbigdatas_table(top: Path) -> None:
    root = touch(top / "vin", *(f"train/i{number}.dicom" for number in range(5)))
    named = [*[(name, str(number)) for number, name in enumerate(VINBIGDATA)][:4], ("No finding", "14")]
    pairs = tuple(f"{name}:{number}" for name, number in named)
    found = rows(("i0", "i1", "i2", "zz"), pairs, ("R1", "R2", "R3"), (), unique=False)
    read = 0

    @QUICK
    @given(found, ENDS, st.sampled_from(["majority", "any"]))
    def check(found: Rows, end: str, readers: str) -> None:
        nonlocal read
        header = ("image_id", "class_name", "class_id", "rad_id", "x_min")
        write(
            root / "train.csv", header, [(image, *pair.partition(":")[::2], by, x) for image, pair, by, x in found], end
        )
        read += agree(
            root,
            "train.csv",
            lambda: load("vinbigdata", root, data__on_mismatch="skip", labels__readers=readers),
            lambda: reading.read_vinbigdata(root, readers),
        )

    check()
    assert read > 10


def test_rsnas_table(top: Path) -> None:
    root = touch(top / "rsna", *(f"stage_2_train_images/i{number}.dcm" for number in range(9)))
    read = 0

    @QUICK
    @given(rows(tuple(f"i{number}" for number in range(9)), (), ("0", "1")), ENDS)
    def check(found: Rows, end: str) -> None:
        nonlocal read
        write(root / "stage_2_train_labels.csv", ("patientId", "x", "Target"), found, end)
        read += agree(
            root,
            "stage_2_train_labels.csv",
            lambda: load("rsna", root, data__on_mismatch="skip"),
            lambda: reading.read_rsna(root),
        )

    check()
    assert read > 10


def test_nihs_table(top: Path) -> None:
    root = touch(top / "nih", *(f"images/{number}.png" for number in range(9)))
    read = 0

    @QUICK
    @given(
        rows(
            tuple(f"{number}.png" for number in range(9)),
            ("No Finding", "Mass|Hernia", "Mass", "Hernia | Edema"),
            ("1", "2", "3"),
        ),
        ENDS,
    )
    def check(found: Rows, end: str) -> None:
        nonlocal read
        header = ("Image Index", "Finding Labels", "Patient ID")
        write(root / "Data_Entry_2017_v2020.csv", header, found, end)
        read += agree(
            root,
            "Data_Entry_2017_v2020.csv",
            lambda: load("nih", root, data__on_mismatch="skip"),
            lambda: reading.read_nih(root),
        )

    check()
    assert read > 10


def test_covidxs_lists(top: Path) -> None:
    names = [f"{number}.png" for number in range(5)]
    root = touch(top / "covidx", *(f"{side}/{name}" for side in ("train", "test") for name in names))
    lines = rows(tuple(names), ("p1", "p2"), ("positive", "negative"), ("rsna", "bimcv"))
    read = 0

    @QUICK
    @given(lines, lines, ENDS)
    def check(train: Rows, test: Rows, end: str) -> None:
        nonlocal read
        for side, found in (("train", train), ("test", test)):
            text = "".join(" ".join((person, name, *rest)) + end for name, person, *rest in found)
            (root / f"{side}_C.txt").write_bytes(text.encode())
        read += agree(
            root,
            "_C.txt",
            lambda: load("covidx", root, data__on_mismatch="skip"),
            lambda: reading.read_covidx(root),
        )

    check()
    assert read > 5


@pytest.mark.parametrize("form", ["columns", "delimited", "split"])
def test_manifests_table(top: Path, form: str) -> None:
    names = [f"im/{number}.png" for number in range(9)]
    root = touch(top / f"manifest-{form}", *names)
    label = ("1", "0", "", "-1", "1.0")
    columns = {
        "columns": (("mass", "nodule"), (label, label)),
        "delimited": (("findings",), (("mass", "nodule;mass", "No Finding", "nodule"),)),
        "split": (
            ("site", "study", "split", "mass", "nodule"),
            (("s1", "s2"), ("a", "b"), ("train", "Test", "val"), label, label),
        ),
    }
    header, kinds = columns[form]
    read = 0

    @QUICK
    @given(rows((*names, "im\\1.png"), ("p1", "p2"), *kinds), ENDS)
    def check(found: Rows, end: str) -> None:
        nonlocal read
        write(root / "manifest.csv", ("path", "patient", *header), found, end)

        read += agree(
            root,
            "manifest.csv",
            lambda: load("manifest", root, data__on_mismatch="skip", manifest__delimiter=";"),
            lambda: reading.read_manifest(root, form),
        )

    check()
    assert read > 5


def test_quote_that_is_not_closed_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,x\n2,"y\n3,z\n')
    with pytest.raises(DataError, match=r"t\.csv, line 4: unexpected end of data"):
        read_table(path, ("a",), keep=())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.one_of(st.binary(max_size=80), st.text(st.sampled_from('a,"\n\r b;\t'), max_size=60).map(str.encode)))
def test_any_bytes_are_a_table_as_csv_reads_them_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        table = read_table(path, ("a",))
    except DataError as error:
        told = error.message
    else:
        told = ""
    if told:
        assert str(path) in told
        return
    with open(path, newline="", encoding="utf-8-sig") as file:
        header, *found = [row for row in csv.reader(file) if row] if content.strip() else [[]]
    names = [name.strip() for name in header]
    for name, column in table.columns.items():
        assert column == [row[names.index(name)].strip() for row in found]


def test_cell_with_a_quoted_line_break_is_refused_though_all_else_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('path,patient\na.png,p1\n"b\nc.png",p2\n')
    with pytest.raises(DataError, match=r"table\.csv, line 4: 'b\\nc\.png' holds a line break"):
        read_table(path, ("path", "patient"))
