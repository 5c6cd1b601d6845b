"""Data that are wrong: another dataset's folder, tables and files that are spoiled. Each is told by name.

What a reader says is shown on the readers themselves, and by real processes for each preset once: one line, exit 2.
"""

import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.datasets import DATASETS
from genmed.parts.data.images import Preparation, read_image
from genmed.parts.data.tables import check_path
from tests.datasets.making import (
    PRESETS,
    configure,
    draw_image,
    load,
    make_chexpert,
    make_folder,
    make_manifest,
    make_rsna,
)
from tests.datasets.making_dicom import make_dicom
from tests.datasets.mutating import at_most
from tests.harness import TINY_MODEL, Genmed

LAYOUTS = {
    "nih": "nih",
    "chexpert": "chexpert",
    "vinbigdata": "vinbigdata",
    "rsna": "rsna",
    "covidx": "covidx of two classes",
    "folder": "folder with a split",
    "manifest": "manifest of all",
    "medmnist:chestmnist": "chestmnist",
    "medmnist:bloodmnist": "bloodmnist",
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder in the layout of each; read only."""
    top = tmp_path_factory.mktemp("layouts")
    return {name: PRESETS[preset][0](top / name.replace(":", "-")) for name, preset in LAYOUTS.items()}


@pytest.fixture(autouse=True)
def no_hanging() -> Iterator[None]:
    """A test that reads what never ends is broken off."""
    with at_most(60):
        yield


def check(dataset: str, root: Path, **choices: Any) -> None:
    """What a training does before it opens an image. Raises DataError, ConfigError."""
    facts, config = DATASETS[dataset], configure(dataset, root, **choices)
    assert facts.check_layout is not None
    facts.check_layout(root, config)
    facts.load_records(root, config)


# Another dataset's folder


@pytest.mark.parametrize("dataset", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_of_another_layout_is_refused_with_what_was_looked_for(
    roots: dict[str, Path], dataset: str, layout: str
) -> None:
    if dataset == layout:
        check(dataset, roots[layout])
        return
    with pytest.raises(DataError) as caught:
        check(dataset, roots[layout])
    told = caught.value.say()
    assert "\n" not in told
    assert str(roots[layout]) in told
    if dataset == "folder" and layout != "manifest":
        assert f"is in the layout of {layout}" in told
        assert f"use --dataset {layout}" in told
    elif dataset == "manifest":
        assert "name it with --set manifest.file=TABLE.csv" in told
    elif dataset == "chexpert" and layout == "vinbigdata":  # both have train.csv and train/
        assert "train.csv lacks the column 'Path'" in told
        assert "CheXpert's own table" in told
    elif dataset == "vinbigdata" and layout == "chexpert":
        assert "train.csv lacks the column 'image_id'" in told
        assert "VinBigData's own table" in told
    elif dataset != "folder":
        assert "looked for" in told
        assert DATASETS[dataset].needs in told


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_folder_that_is_empty_or_missing_is_refused(tmp_path: Path, dataset: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("empty", "missing", "file"):
        with pytest.raises(DataError) as caught:
            check(dataset, tmp_path / name)
        assert str(tmp_path / name) in caught.value.message
        assert caught.value.hint


def test_real_commands_refuse_the_next_layout_in_one_line(genmed: Genmed, roots: dict[str, Path]) -> None:
    names = list(LAYOUTS)
    model = ["--model", TINY_MODEL]
    started = [
        genmed.start("train", "--dataset", name, "--data-root", roots[names[position - 1]], *model)
        for position, name in enumerate(names)
    ]
    for name, command in zip(names, started, strict=True):
        result = command.wait()
        assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1), (name, result.err)
        assert str(roots[names[names.index(name) - 1]]) in result.err
    assert not (genmed.root / "runs").exists()


# Tables

TABLES = {
    "nih": "Data_Entry_2017_v2020.csv",
    "chexpert": "train.csv",
    "vinbigdata": "train.csv",
    "rsna": "stage_2_train_labels.csv",
    "manifest": "manifest.csv",
}


@pytest.fixture
def copy(roots: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a layout that a test may change; its files are links."""

    def make(name: str) -> Path:
        place = tmp_path / name.replace(":", "-")
        shutil.copytree(roots[name], place, copy_function=os.link)
        return place

    return make


def rewrite(path: Path, change: Callable[[str], str | bytes]) -> None:
    content = change(path.read_text())
    path.unlink()  # the others have links to it
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


SPOILED: dict[str, Callable[[str], str | bytes]] = {
    "semicolons": lambda text: text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "Latin-1": lambda text: text.encode() + b"caf\xe9",
    "NUL": lambda text: text[:300] + "\0" + text[300:],
    "empty": lambda text: "",
    "nothing but a mark": lambda text: b"\xef\xbb\xbf",
    "cut in a row": lambda text: text[: len(text) // 2].rpartition(",")[0],
    "HTML": lambda text: "<!DOCTYPE html>\n<html><body>404, not found</body></html>\n",
    "a zip": lambda text: b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(range(256)),
    "open quote": lambda text: text.replace("\n", '\n"', 1),
    "long cell": lambda text: text + "x" * 200_000 + "\n",
    "first column gone": lambda text: "\n".join(line.partition(",")[2] for line in text.splitlines()),
    "first column twice": lambda text: "\n".join(f"{line.partition(',')[0]},{line}" for line in text.splitlines()),
    "a line break in a name": lambda text: text.replace("\n", '\n"a\nb"', 1),
}


@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize("dataset", TABLES)
def test_spoiled_table_is_told_by_its_name(copy: Callable[[str], Path], dataset: str, spoiled: str) -> None:
    root = copy(dataset)
    rewrite(root / TABLES[dataset], SPOILED[spoiled])
    with pytest.raises((DataError, ConfigError)) as caught:
        check(dataset, root)
    told = caught.value.say()
    assert TABLES[dataset] in told
    assert "\n" not in told
    assert len(told) < 1200
    if spoiled == "UTF-16":
        assert "it is UTF-16" in told


@pytest.mark.parametrize("dataset", TABLES)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text.replace("\n", "\r"),
        lambda text: text.replace(",", " , "),
        lambda text: text + "\n\n",
        lambda text: text.rstrip(),
    ],
    ids=["mark", "CR LF", "mark and CR", "spaces", "blank lines", "no end"],
)
def test_table_is_read_alike_in_its_harmless_forms(
    copy: Callable[[str], Path], roots: dict[str, Path], dataset: str, change: Callable[[str], str]
) -> None:
    root = copy(dataset)
    if dataset == "nih" and change("a,b") == "a , b":
        pytest.skip("the header's own commas")
    rewrite(root / TABLES[dataset], change)
    one, other = load(dataset, root), load(dataset, roots[dataset])
    assert (one.ids, one.patients, one.sites, one.studies, one.official) == (
        (other.ids, other.patients, other.sites, other.studies, other.official)
    )
    assert np.array_equal(one.labels, other.labels)


WRONG_ROWS = [
    ("nih", lambda rows: [*rows, rows[1]], "is listed a second time, after line 2"),
    ("nih", lambda rows: [row.replace("Effusion", "Efusion") for row in rows], "unknown class 'Efusion'"),
    ("chexpert", lambda rows: [*rows, rows[1]], "is listed a second time, after line 2"),
    ("chexpert", lambda rows: [rows[0], rows[1].replace("1.0", "2.0"), *rows[2:]], "2.0', which is no label"),
    ("chexpert", lambda rows: [row.replace("study1", "visit1") for row in rows], "no patient and study in the path"),
    ("chexpert", lambda rows: [row.replace("view1", "../view1") for row in rows], "no patient and study in the path"),
    ("chexpert", lambda rows: [row.replace("view1", r"..\view1") for row in rows], "leads out of the data folder"),
    ("chexpert", lambda rows: rows[:1], "has no rows"),
    ("vinbigdata", lambda rows: [row.replace(",3,", ",4,") for row in rows], "unknown class 'Cardiomegaly'"),
    ("vinbigdata", lambda rows: [row.replace("Aortic", "aortic") for row in rows], "unknown class 'aortic enl"),
    ("vinbigdata", lambda rows: [row.replace(",R9,", ",,") for row in rows], "no reader"),
    ("vinbigdata", lambda rows: rows[:1], "30 images without a row"),
    ("rsna", lambda rows: [row[:-1] + "2" if row[-1] == "1" else row for row in rows], "Target is '2'"),
    ("rsna", lambda rows: [*rows, rows[1][:-1] + "0"], "has both Targets"),
    ("rsna", lambda rows: [*rows, "absent,,,,,0"], "1 row without an image (absent)"),
    ("manifest", lambda rows: [*rows, rows[1]], "is listed a second time, after line 2"),
    ("manifest", lambda rows: [*rows, rows[1].replace("im/", "im/./")], "is listed a second time, after line 2"),
    ("manifest", lambda rows: [*rows, rows[1].replace("im/", r"im\\".strip("\\") + "\\")], "is listed a second time"),
    ("manifest", lambda rows: [*rows[:5], rows[5][:-1] + "7", *rows[6:]], "line 6: nodule is"),
    ("manifest", lambda rows: [row.replace("Test", "exam") for row in rows], "it must be train, val or test"),
    ("manifest", lambda rows: [row.replace("Test", "val") for row in rows], "has no image with split test"),
    ("manifest", lambda rows: [row.replace(",s1,", ",,") for row in rows], "no site"),
    ("manifest", lambda rows: [row.replace(",study1,", ",NaN,") for row in rows], "no study"),
    ("manifest", lambda rows: [rows[0].replace("path", "where"), *rows[1:]], "has no column of paths"),
    ("manifest", lambda rows: rows[:1], "has no rows"),
]


@pytest.mark.parametrize(("dataset", "change", "told"), WRONG_ROWS)
def test_wrong_rows_are_told_by_table_and_line(
    copy: Callable[[str], Path], dataset: str, change: Callable[[list[str]], list[str]], told: str
) -> None:
    root = copy(dataset)
    rewrite(root / TABLES[dataset], lambda text: "\n".join(change(text.splitlines())))
    with pytest.raises(DataError) as caught:
        check(dataset, root)
    assert told in caught.value.say()
    assert TABLES[dataset] in caught.value.message


def test_image_in_both_of_chexperts_tables_is_refused(copy: Callable[[str], Path]) -> None:
    root = copy("chexpert")
    row = (root / "train.csv").read_text().splitlines()[1]
    rewrite(root / "valid.csv", lambda text: f"{text}{row}\n")
    with pytest.raises(DataError, match=r"view1_frontal\.jpg is in both train\.csv and valid\.csv"):
        check("chexpert", root)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("p1 a.png sick rsna", "unknown label 'sick'"),
        ("p1 a.png positive", "3 words"),
        ("p1 ../../a.png positive rsna", "leads out of the data folder"),
        ("p1 /etc/passwd positive rsna", "is not below the data folder"),
        ("p1 C:\\a.png positive rsna", "is not below the data folder"),
        ("train1 train1.jpg positive rsna", "is listed a second time"),
        ("p1 a.png normal rsna", "mix the labels of two releases"),
        ("p1 a.png positive rs\x1bna", "not printed"),
        ("p1 absent.png positive rsna", "1 row without an image (train/absent.png)"),
        ("p1 a.png positive rs\0na", "holds a NUL"),
    ],
)
def test_wrong_line_of_a_covidx_list_is_told(copy: Callable[[str], Path], line: str, told: str) -> None:
    root = copy("covidx")
    if "normal" in line:
        Image.new("L", (4, 4)).save(root / "train" / "a.png")
    rewrite(root / "train_COVIDx9.txt", lambda text: f"{text}{line}\n")
    with pytest.raises(DataError) as caught:
        check("covidx", root)
    assert told in caught.value.message
    assert "train_COVIDx9.txt" in caught.value.say()


@pytest.mark.parametrize(
    "path",
    ["../x.png", "a/../../x.png", "/etc/passwd", "C:\\x.png", "c:x.png", "..\\x.png", "\\\\host\\x.png", "", "a\nb.png",
     "a\tb.png", "a\x1b[31m.png", "a\x00.png", "a\u2028b.png"],
)  # fmt: skip
def test_path_out_of_the_data_folder_is_refused(path: str) -> None:
    with pytest.raises(DataError) as caught:
        check_path(path, "t.csv, line 3")
    assert caught.value.message.startswith("t.csv, line 3: ")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("path", "read"),
    [("a/b.png", "a/b.png"), ("./a/b.png", "a/b.png"), ("a//b.png", "a/b.png"), ("a\\b.png", "a/b.png"),
     ("a..b/..c.png", "a..b/..c.png"), ("ä/é 1.png", "ä/é 1.png"), ("a/./b.png", "a/b.png")],
)  # fmt: skip
def test_path_below_the_data_folder_is_read(path: str, read: str) -> None:
    assert check_path(path, "t.csv") == read


# Names


@pytest.mark.parametrize("dataset", ["nih", "rsna", "folder"])
@pytest.mark.parametrize("name", [b"a\nb", b"a\x1b[31mb", b"caf\xe9", b"a\tb"])
def test_file_whose_name_no_table_can_hold_is_refused(copy: Callable[[str], Path], dataset: str, name: bytes) -> None:
    root = copy(dataset)
    folder = {"nih": "images", "rsna": "stage_2_train_images", "folder": "train/C0 of 2"}[dataset]
    suffix = b".dcm" if dataset == "rsna" else b".png"
    Path(os.fsdecode(os.path.join(os.fsencode(root), folder.encode(), name + suffix))).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        check(dataset, root)
    assert caught.value.message.isprintable()
    assert str(root) in caught.value.message


def test_names_in_any_script_and_of_any_length_are_read(tmp_path: Path) -> None:
    root = make_folder(tmp_path, (), 2)
    for name in ("图像 é ß", "n" * 250, "a'b\"c,d;e|f", "🩻"):
        Image.new("L", (8, 8)).save(root / "C1 of 2" / f"{name}.png")
    records = load("folder", root)
    assert len(records) == 40
    for row in range(len(records)):
        records.images.read(row)


def test_two_files_of_one_image_are_refused(copy: Callable[[str], Path]) -> None:
    for dataset, folder in (("rsna", "stage_2_train_images"), ("vinbigdata", "train")):
        root = copy(dataset)
        first = min((root / folder).iterdir())
        Image.new("L", (4, 4)).save(first.with_suffix(".png"))
        with pytest.raises(DataError, match="are of one name"):
            check(dataset, root)


# Image files


def png_of(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that says any size, of 8 bits grey."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def encoded(kind: str, **options: Any) -> bytes:
    import io

    stream = io.BytesIO()
    Image.fromarray(draw_image(1, 1, 24)).save(stream, kind, **options)
    return stream.getvalue()


def frames(kind: str) -> bytes:
    return encoded(kind, save_all=True, append_images=[Image.fromarray(draw_image(0, 2, 24))])


def flipped_pixels() -> bytes:
    content = bytearray(encoded("PNG"))
    content[content.index(b"IDAT") + 8] ^= 16
    return bytes(content)


NO_IMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty (0 bytes)"),
    "text": (b"hello", "is not an image"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\n1 0 obj", "is not an image"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
    "HTML": (b"<!DOCTYPE html><html>403 Forbidden</html>", "is not an image"),
    "a zip": (b"PK\x03\x04" + bytes(60), "is not an image"),
    "a PNG cut in its head": (encoded("PNG")[:20], ""),
    "a PNG cut in its pixels": (encoded("PNG")[:200], "is damaged"),
    "a PNG cut at its end": (encoded("PNG")[:-9], "is damaged: it is cut short"),
    "a PNG with other pixels": (flipped_pixels(), "is damaged"),
    "a JPEG cut": (encoded("JPEG")[:300], "is damaged"),
    "30,000 px a side": (png_of(30_000, 30_000), "has more than 178,956,970 px"),
    "25,000 px wide": (png_of(25_000, 2, bytes(50_002)), "25000 x 2 px; the most is 20000 a side"),
    "no pixels": (png_of(0, 5), "is not an image"),
    "animated GIF": (frames("GIF"), "holds 2 images"),
    "animated PNG": (frames("PNG"), "holds 2 images"),
    "TIFF of two pages": (frames("TIFF"), "holds 2 images"),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_file_that_is_no_image_is_told_by_name_and_reason(tmp_path: Path, kind: str) -> None:
    content, told = NO_IMAGES[kind]
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(path) in caught.value.message
    assert told in caught.value.message


def special(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "link to nowhere":
        path.symlink_to("/absent")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/null")  # not zero, which would take all memory
    elif kind == "sparse":
        with open(path, "wb") as file:
            file.truncate(2**31 + 1)
    else:
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("kind", "told"),
    [("folder", "Is a directory"), ("link to nowhere", "No such file"), ("link to itself", "Too many levels"),
     ("link to a device", "a pipe or a device"), ("pipe", "a pipe or a device"), ("sparse", "2 GiB is the largest")],
)  # fmt: skip
def test_what_is_no_file_is_told_and_does_not_hang(
    roots: dict[str, Path], tmp_path: Path, kind: str, told: str
) -> None:
    root = make_folder(tmp_path / "f", (), 2)
    special(root / "C0 of 2" / "aaa.png", kind)
    records = load("folder", root)
    row = records.ids.index("C0 of 2/aaa.png") if kind != "folder" else None
    if row is None:  # a folder in a folder of a class is looked into, not read
        return
    for read in (records.images.read, records.images.digest):
        with pytest.raises(DataError) as caught:
            read(row)
        assert told in caught.value.message
        assert "aaa.png" in caught.value.message


def test_image_that_one_may_not_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded("PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match="Permission denied"):
        read_image(path)


@pytest.mark.parametrize("table", ["manifest.csv", "train_COVIDx9.txt", "train.csv"])
def test_pipe_in_the_place_of_a_table_does_not_hang(copy: Callable[[str], Path], table: str) -> None:
    dataset = {"manifest.csv": "manifest", "train.csv": "chexpert"}.get(table, "covidx")
    root = copy(dataset)
    (root / table).unlink()
    os.mkfifo(root / table)
    with pytest.raises(DataError):
        check(dataset, root)


def test_image_of_one_pixel_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png_of(1, 1, b"\0\x4d"))
    image = read_image(path)
    assert image.pixels.tolist() == [[77]]
    assert Preparation(16).apply(image).tolist() == [[[77] * 16] * 16]


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_whose_nought_is_white_is_inverted(tmp_path: Path, bits: int) -> None:
    kind = np.uint8 if bits == 8 else np.uint16
    values = np.arange(64, dtype=kind).reshape(8, 8) * (1 if bits == 8 else 1000)
    header = struct.pack("<2sHI", b"II", 42, 8)
    tags = [(256, 8), (257, 8), (258, bits), (259, 1), (262, 0), (273, 8 + 2 + 8 * 12 + 4), (277, 1), (279, 8 * bits)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path = tmp_path / "x.tif"
    path.write_bytes(header + struct.pack("<H", len(tags)) + entries + bytes(4) + values.tobytes())
    assert np.array_equal(read_image(path).pixels, (2**bits - 1) - values)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_odd_files_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str], options: dict[str, str]) -> None:
    """libtiff writes to the process's own stderr, and Pillow to its log."""
    content, path, refused = encoded("TIFF", **options), tmp_path / "x.tif", []
    for at in range(8, len(content), 5):
        path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        try:
            read_image(path)
        except DataError as error:
            refused.append(error.message)
    assert len(refused) > 5
    assert all(str(path) in told for told in refused)
    assert capfd.readouterr() == ("", "")


# DICOM


def spoil_dicom(kind: str, path: Path) -> str:
    """Makes the file, and returns what has to be told of it."""
    from pydicom import dcmread

    pixels = draw_image(1, 1)
    if kind == "frames":
        make_dicom(path, pixels, frames=3)
        return "has 3 frames"
    make_dicom(path, pixels, syntax=JPEG2000Lossless if kind == "other syntax" else "1.2.840.10008.1.2.1")  # type: ignore[arg-type]
    dataset = dcmread(path)
    if kind == "no pixels":
        del dataset.PixelData
        dataset.save_as(path)
        return "has no Pixel Data"
    if kind == "other syntax":
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.70"))
        return "is damaged"
    if kind == "unknown syntax":
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0"))
        return "which is not read"
    path.write_bytes(path.read_bytes()[:-100])
    return ""


@pytest.mark.parametrize("kind", ["no pixels", "frames", "other syntax", "unknown syntax", "cut"])
def test_dicom_that_cannot_be_read_is_told_by_name(tmp_path: Path, kind: str) -> None:
    root = make_rsna(tmp_path, 6)
    records = load("rsna", root)
    path = root / "stage_2_train_images" / f"{records.ids[2]}.dcm"
    told = spoil_dicom(kind, path)
    with pytest.raises(DataError) as caught:
        records.images.read(2)
    assert str(path) in caught.value.message
    assert told in caught.value.message


def test_pipe_and_bomb_stop_a_real_training_and_can_be_left_out(genmed: Genmed, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "f", (), 2)
    special(root / "C0 of 2" / "pipe.png", "pipe")
    (root / "C1 of 2" / "bomb.png").write_bytes(png_of(30_000, 30_000))
    command = ["train", "--dataset", "folder", "--data-root", root, "--model", TINY_MODEL, "--image-size", 16]
    stopped = genmed(*command, "--epochs", 1)
    assert (stopped.code, stopped.out, len(stopped.err.splitlines())) == (2, "", 1), stopped.err
    assert "pipe.png" in stopped.err
    assert "bomb.png" in stopped.err
    assert not list((genmed.root / "runs").glob("*"))
    skipped = genmed(*command, "--epochs", 1, "--batch-size", 8, "--set", "data.on_bad_image=skip", "--json")
    assert skipped.code == 0, skipped.err
    assert "C0 of 2/pipe.png: it is a pipe" in skipped.err


def test_manifest_of_paths_that_lead_out_is_refused_by_a_real_command(genmed: Genmed, tmp_path: Path) -> None:
    root = make_manifest(tmp_path / "m")
    rewrite(root / "manifest.csv", lambda text: text.replace("im/0/000.png", "../m/im/0/000.png"))
    result = genmed("train", "--dataset", "manifest", "--data-root", root, "--model", TINY_MODEL)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1), result.err
    assert "manifest.csv, line 2: '../m/im/0/000.png' leads out of the data folder" in result.err


def test_folder_or_pipe_in_an_images_place_is_no_image(tmp_path: Path) -> None:
    root = make_chexpert(tmp_path / "CheXpert-v1.0-small")
    first, second, *others = load("chexpert", root).ids
    (root / first).unlink()
    (root / first).mkdir()
    (root / second).unlink()
    os.mkfifo(root / second)
    with pytest.raises(DataError, match=f"2 rows without an image .{first}, {second}"):
        load("chexpert", root)
    assert load("chexpert", root, data__on_mismatch="skip").ids == tuple(others)
