"""Data: NIH's layout and table, decoding, the split, the cache of bytes, normalisation."""

import csv
import gzip
import json
import os
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genmed.engine.normalise import Scaling, choose_scaling
from genmed.ground.errors import DataError, StorageError
from genmed.ground.files import allocate
from genmed.parts.data.cache import ImageBytes, open_images
from genmed.parts.data.datasets import nih as reader
from genmed.parts.data.images import ImageFiles, decode_file, prepare
from genmed.parts.data.loader import plan_epoch
from genmed.parts.data.records import SPLITS, Records
from genmed.parts.data.split import assign_patient, check_split, split_records
from genmed.records.config import Config
from genmed.records.config.sections import Data, Normalisation
from genmed.workflows.assemble import load_data
from genmed.workflows.reporting import Silent
from tests.harness import Command, Genmed

Arguments = Callable[..., list[object]]
TABLE = "Data_Entry_2017_v2020.csv"


@pytest.fixture
def copy(nih: Path, tmp_path: Path) -> Path:
    """A copy of the small dataset that a test may change."""
    return Path(shutil.copytree(nih, tmp_path / "copy"))


def read(root: Path, **data: Any) -> Records:
    return reader.load_records(root, Data(dataset="nih", root=str(root), **data))


def same(one: Records, other: Records) -> bool:
    return (one.ids, one.patients, one.sites) == (other.ids, other.patients, other.sites) and np.array_equal(
        one.labels, other.labels
    )


# NIH's layout and table


def test_table_gives_patient_and_findings_of_each_image_sorted_by_name(nih: Path) -> None:
    records = read(nih)
    lines = {line.split(",")[0]: line.split(",") for line in (nih / TABLE).read_text().splitlines()[1:]}
    assert list(records.ids) == sorted(lines)
    for row, name in enumerate(records.ids):
        findings = {label for label, value in zip(reader.CLASSES, records.labels[row], strict=True) if value}
        assert findings == set(lines[name][1].split("|")) - {"No Finding"}
        assert records.patients[row] == lines[name][3]
        assert isinstance(records.images, ImageFiles)
        assert records.images.paths[row] == nih / "images" / name
    assert set(records.sites) == {"NIH"}
    assert records.official == records.notes == ()


def test_images_may_lie_in_twelve_folders(nih: Path, copy: Path) -> None:
    for number, path in enumerate(sorted((copy / "images").iterdir())):
        folder = copy / f"images_{number % 12 + 1:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    (copy / "images").rmdir()
    assert same(read(copy), read(nih))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Data_Entry_2017.csv", lambda text: "".join(f"{line},\n" for line in text.splitlines())),  # an empty column
        (TABLE, lambda text: text.replace("Patient Gender", "Patient Sex")),
        (TABLE, lambda text: "\ufeff" + text.replace("\n", "\r\n") + "\r\n"),
        (TABLE, lambda text: text.replace("OriginalImage[Width,Height]", '"OriginalImage[Width,Height]"')),
        (TABLE, lambda text: text.splitlines()[0] + "\n" + "\n".join(text.splitlines()[:0:-1])),
    ],
    ids=["2017 with an empty twelfth column", "Patient Sex", "BOM and CRLF", "quoted header", "other order, no end"],
)
def test_table_is_read_alike_in_all_its_forms(nih: Path, copy: Path, name: str, change: Callable[[str], str]) -> None:
    text = change((copy / TABLE).read_text())
    (copy / TABLE).unlink()
    (copy / name).write_bytes(text.encode())
    assert same(read(copy), read(nih))


def test_newer_table_wins_where_both_are_there(nih: Path, copy: Path) -> None:
    (copy / "Data_Entry_2017.csv").write_text("not read\n")
    assert same(read(copy), read(nih))


def test_image_in_two_folders_is_refused(copy: Path) -> None:
    name = read(copy).ids[0]
    (copy / "images_001" / "images").mkdir(parents=True)
    shutil.copy(copy / "images" / name, copy / "images_001" / "images" / name)
    with pytest.raises(DataError, match=f"{name} lies in .*/images and in .*/images_001/images"):
        read(copy)


def test_images_and_rows_without_the_other_are_left_out_if_one_says_so(copy: Path) -> None:
    ids = read(copy).ids
    (copy / "images" / ids[0]).unlink()
    (copy / "images" / "zzz.png").write_bytes(b"")
    with pytest.raises(DataError, match="do not match: 1 rows without an image"):
        read(copy)
    records = read(copy, on_mismatch="skip")
    assert records.ids == ids[1:]
    assert records.notes == (
        f"Left out: 1 rows without an image ({ids[0]})",
        "Left out: 1 images without a row (zzz.png)",
    )


def write_lists(root: Path, in_test: Callable[[str], bool]) -> None:
    """Official lists; in_test: whether an image is in the test list."""
    names = read(root).ids
    (root / "test_list.txt").write_text("".join(f"{name}\r\n" for name in names if in_test(name)))
    (root / "train_val_list.txt").write_text("\n".join(name for name in names if not in_test(name)))


def test_official_lists_decide_who_is_tested_and_the_rest_is_split_by_patient(copy: Path) -> None:
    write_lists(copy, lambda name: int(name[:8]) % 3 == 0)
    split = split_records(read(copy), Data())
    assert split.official
    assert split.source.startswith("official test list; validation: 0.2 of the other patients, seed 0")
    for patient, side in zip(read(copy).patients, split.sides, strict=True):
        assert (side == "test") == (int(patient) % 3 == 0)
    assert 0.1 < split.sides.count("val") / (len(split.sides) - split.sides.count("test")) < 0.35
    own = split_records(read(copy), Data(split="patient"))
    assert not own.official
    assert "not an official split" in own.source


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: write_lists(root, lambda name: name.endswith("_001.png")), "is on two sides of the split"),
        (lambda root: (root / "test_list.txt").unlink(), "has one official list but not test_list.txt"),
        (lambda root: (root / "test_list.txt").write_text("x\n"), "images are in neither official list, the first is"),
        (
            lambda root: (root / "test_list.txt").write_text((root / "train_val_list.txt").read_text()),
            "is in both train_val_list.txt and test_list.txt",
        ),
    ],
    ids=["a patient on both sides", "one list alone", "images in neither", "an image in both"],
)
def test_official_lists_that_cannot_be_right_are_refused(copy: Path, spoil: Callable[[Path], Any], told: str) -> None:
    write_lists(copy, lambda name: int(name[:8]) % 3 == 0)
    spoil(copy)
    with pytest.raises(DataError) as caught:
        split_records(read(copy), Data())
    assert told in caught.value.message


def test_official_split_without_lists_is_refused(nih: Path) -> None:
    with pytest.raises(DataError, match="no official split lists"):
        split_records(read(nih), Data(split="official"))


# Decoding


def pattern(high: int) -> npt.NDArray[Any]:
    """(16, 17) values that run over 0..high."""
    return (np.arange(16 * 17).reshape(16, 17) * high // (16 * 17 - 1)).astype(np.uint16 if high > 255 else np.uint8)


GREY = pattern(255)
WIDE = pattern(65535)
EXACT = np.array([[int(Fraction(int(v) * 255, 65535) + Fraction(1, 2)) for v in row] for row in WIDE])


@pytest.mark.parametrize(
    ("suffix", "image", "expected"),
    [
        ("png", Image.fromarray(GREY), GREY),
        ("png", Image.fromarray(GREY).convert("RGB"), GREY),
        ("png", Image.merge("RGBA", [Image.fromarray(GREY)] * 3 + [Image.fromarray(255 - GREY)]), GREY),
        ("png", Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(255 - GREY)]), GREY),
        ("png", Image.fromarray(GREY).convert("P"), GREY),
        ("png", Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)),
        ("png", Image.fromarray(WIDE), EXACT),
        ("tiff", Image.fromarray(WIDE.astype(">u2")), EXACT),
        ("jpeg", Image.new("L", (17, 16), 77), np.full((16, 17), 77)),
    ],
    ids=["grey", "RGB", "RGBA", "grey with alpha", "palette", "1 bit", "16 bit", "16 bit big-endian", "JPEG"],
)
def test_image_is_decoded_to_its_grey_values(
    tmp_path: Path, suffix: str, image: Image.Image, expected: npt.NDArray[Any]
) -> None:
    file = tmp_path / f"image.{suffix}"
    image.save(file)
    decoded = decode_file(file)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, expected)


def test_palette_with_transparency_is_decoded_without_a_warning(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("P").save(tmp_path / "image.png", transparency=bytes(range(255, -1, -1)))
    assert np.array_equal(decode_file(tmp_path / "image.png"), GREY)


def test_colours_weigh_as_in_television(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (200, 100, 50)).save(tmp_path / "c.png")
    assert decode_file(tmp_path / "c.png") == [[round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]]


def test_image_is_cropped_to_its_middle_square_and_resized() -> None:
    wide = np.zeros((4, 8), dtype=np.uint8)
    wide[:, 2:6] = [10, 20, 30, 40]
    assert prepare(wide, 4).tolist() == [[[10, 20, 30, 40]] * 4]
    assert prepare(wide.T, 4).tolist() == [[[value] * 4 for value in (10, 20, 30, 40)]]
    assert prepare(wide, 2).shape == (1, 2, 2)
    assert prepare(np.full((9, 5), 7, dtype=np.uint8), 3).tolist() == [[[7] * 3] * 3]


# Real data


def test_thousand_real_radiographs_are_read_split_and_decoded(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "nih1000"
    records = read(root)
    with open(root / TABLE, newline="") as file:
        rows = {row[0]: row for row in list(csv.reader(file))[1:]}
    assert list(records.ids) == sorted(rows)
    assert len(records) == 1000
    assert records.patients == tuple(rows[name][3] for name in records.ids)
    counted = Counter(label for row in rows.values() for label in row[1].split("|"))
    assert counted.pop("No Finding") == int((records.labels.sum(1) == 0).sum()) == 499
    assert dict(zip(reader.CLASSES, records.labels.sum(0, dtype=int).tolist(), strict=True)) == dict(counted)
    assert isinstance(records.images, ImageFiles)
    modes = set()
    for path in records.images.paths:
        with Image.open(path) as image:
            modes.add(image.mode)
            assert decode_file(path).shape == image.size[::-1] == (64, 64)
    assert modes == {"RGB", "RGBA"}
    split = split_records(records, Data())
    # Pinned: a version that splits otherwise makes numbers that do not stand beside older ones.
    assert {side: split.sides.count(side) for side in SPLITS} == {"train": 611, "val": 164, "test": 225}


@pytest.fixture(scope="module")
def full_table(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The official table of all 112,120 images."""
    table = tmp_path_factory.mktemp("full") / TABLE
    table.write_bytes(gzip.decompress((shared_data / "metadata" / f"{TABLE}.gz").read_bytes()))
    return reader._read_table(table)


def test_full_official_table_is_parsed(full_table: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    images = Counter(patient for patient, _ in full_table.values())
    findings = Counter(label for _, labels in full_table.values() for label in labels)
    assert (len(full_table), len(images), max(images.values())) == (112_120, 30_805, 184)
    assert sum(not labels for _, labels in full_table.values()) == 60_361
    assert set(findings) == set(reader.CLASSES)
    assert (findings["Infiltration"], findings["Effusion"], findings["Hernia"]) == (19_894, 13_317, 227)
    assert findings["Pleural_Thickening"] == 3_385


def test_full_official_table_is_split_by_patient_at_the_asked_ratios(
    full_table: dict[str, tuple[str, tuple[str, ...]]],
) -> None:
    ids = tuple(sorted(full_table))
    patients = tuple(full_table[name][0] for name in ids)
    records = Records(ids, patients, ("NIH",) * len(ids), np.zeros((len(ids), 14), np.uint8), ImageFiles(()))
    split = split_records(records, Data(val_ratio=0.1, test_ratio=0.2))
    sides = defaultdict(set)
    for patient, side in zip(patients, split.sides, strict=True):
        sides[side].add(patient)
    assert sum(map(len, sides.values())) == 30_805
    assert {side: len(members) / 30_805 for side, members in sides.items()} == {
        side: pytest.approx(share, abs=0.01) for side, share in (("train", 0.7), ("val", 0.1), ("test", 0.2))
    }
    assert {side: split.sides.count(side) for side in SPLITS} == {"train": 78_357, "val": 11_403, "test": 22_360}


# The split


def records_of(patients: list[str]) -> Records:
    ids = tuple(f"{number:05d}" for number in range(len(patients)))
    return Records(ids, tuple(patients), ("x",) * len(ids), np.zeros((len(ids), 1), np.uint8), ImageFiles(()))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    order=st.permutations(range(90)),
    twice=st.sets(st.integers(0, 89)),
    val=st.floats(0.15, 0.4),
    test=st.floats(0.15, 0.4),
    seed=st.integers(0, 2**32 - 1),
)
def test_side_of_a_patient_depends_on_nobody_else(
    order: list[int], twice: set[int], val: float, test: float, seed: int
) -> None:
    data = Data(val_ratio=val, test_ratio=test, split_seed=seed)

    def split(patients: list[str]) -> dict[str, str]:
        side_of: dict[str, str] = {}
        for patient, side in zip(patients, split_records(records_of(patients), data).sides, strict=True):
            assert side_of.setdefault(patient, side) == side
        return side_of

    everyone = split([str(number) for number in range(90)])
    some = split([str(number) for number in (*order[:75], *sorted(twice & set(order[:75])))])
    assert some.items() <= everyone.items()


def test_split_seed_deals_anew_and_validation_ratio_moves_nobody_in_or_out_of_the_test() -> None:
    records = records_of([str(number) for number in range(500)])

    def side(name: str, **data: Any) -> set[int]:
        return {row for row, on in enumerate(split_records(records, Data(**data)).sides) if on == name}

    assert side("test") != side("test", split_seed=1)
    assert side("test") == side("test", val_ratio=0.4)
    assert side("val", val_ratio=0.1) < side("val", val_ratio=0.3)
    assert side("test", test_ratio=0.1) < side("test", test_ratio=0.3)
    assert "validation 0.2, test 0.2, seed 0 (not an official split" in split_records(records, Data()).source


def test_patient_on_two_sides_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="patient b is on two sides of the split: train and test"):
        check_split(["a", "b", "b"], ["val", "train", "test"])


@pytest.mark.parametrize(("ratios", "side"), [((0.0, 0.2), "val"), ((0.2, 0.0), "test"), ((0.98, 0.019), "train")])
def test_empty_side_is_refused(nih: Path, ratios: tuple[float, float], side: str) -> None:
    with pytest.raises(DataError, match=f"the {side} side of the split has no images"):
        split_records(read(nih), Data(val_ratio=ratios[0], test_ratio=ratios[1]))


# The cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty image cache for this process."""
    monkeypatch.setenv("GENMED_CACHE", str(tmp_path / "images-cache"))
    return tmp_path / "images-cache"


def open_at(root: Path, messages: list[str] | None = None, *, trust_stamps: bool = True, size: int = 16) -> ImageBytes:
    return open_images(
        read(root),
        size,
        trust_stamps=trust_stamps,
        processes=4,
        progress=lambda what, done, total: None,
        report=(messages if messages is not None else []).append,
    )


def fingerprint(root: Path, **more: Any) -> str:
    config = Config().replace(**{"data.dataset": "nih", "data.root": str(root), "data.image_size": 16})
    return load_data(config, Silent(), **{"trust_stamps": True, **more}).fingerprint


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "images").iterdir())


def snapshot(cache: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for entry in entries(cache) for path in entry.iterdir()}


def change_pixel(path: Path) -> None:
    """One grey value, in place, so that the file keeps its length and inode."""
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 1
    length = path.stat().st_size
    Image.fromarray(pixels).save(path, compress_level=0)
    assert path.stat().st_size == length


def test_bytes_in_the_cache_are_the_prepared_images(copy: Path, cache: Path) -> None:
    images = open_at(copy)
    records = read(copy)
    pixels = images.map()
    assert pixels.shape == images.shape == (len(records), 1, 16, 16)
    for row in range(len(records)):
        assert np.array_equal(pixels[row], prepare(records.images.load(row), 16))
    assert not pixels.flags.writeable
    assert not images.find_rotten()


def test_training_with_a_cold_and_a_warm_cache_gives_equal_bits(
    genmed: Genmed, trained: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    cold, warm = (genmed(*tiny(), GENMED_CACHE=str(tmp_path / "own")) for _ in range(2))
    expected = trained("show", "latest", "--json").json["trace_digest"]
    assert cold.json["trace_digest"] == warm.json["trace_digest"] == expected
    assert len(entries(tmp_path / "own")) == 1


def test_second_opening_decodes_nothing(copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_at(copy)
    before = snapshot(cache)
    monkeypatch.setattr(ImageFiles, "load", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(ImageFiles, "digest", lambda *_: pytest.fail("read again"))
    assert open_at(copy) == first
    assert snapshot(cache) == before


def test_folder_moved_elsewhere_is_the_same_data_and_the_same_cache(copy: Path, cache: Path, tmp_path: Path) -> None:
    before = fingerprint(copy)
    kept = entries(cache)
    copy.rename(tmp_path / "moved")
    assert fingerprint(tmp_path / "moved") == before
    assert entries(cache) == kept


def test_space_in_the_cache_is_taken_before_it_is_written(tmp_path: Path) -> None:
    allocate(tmp_path / "pixels.u8", 1_000_000)  # a map of a file with holes dies on a full disk
    status = (tmp_path / "pixels.u8").stat()
    assert status.st_size == 1_000_000
    assert status.st_blocks * 512 >= 1_000_000


def test_space_that_is_not_there_is_refused_before_any_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=999_999))
    with pytest.raises(StorageError, match=r"no disk space to write .*pixels\.u8"):
        allocate(tmp_path / "pixels.u8", 1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_touched_file_is_unchanged_data(copy: Path, cache: Path) -> None:
    before, kept = fingerprint(copy), snapshot(cache)
    os.utime(copy / "images" / read(copy).ids[3], (1, 1))
    assert fingerprint(copy) == before
    assert snapshot(cache) == kept


def test_file_packed_anew_with_equal_pixels_is_the_same_data(copy: Path, cache: Path) -> None:
    before = fingerprint(copy)
    path = copy / "images" / read(copy).ids[3]
    content = path.read_bytes()
    Image.open(path).save(path, compress_level=0)
    assert path.read_bytes() != content
    assert fingerprint(copy) == before


def rename_patient(root: Path) -> None:
    """Gives one patient another number, with which he stays on his side of the split."""
    data = Data()
    number = next(n for n in range(100, 200) if assign_patient(str(n), data) == assign_patient("2", data))
    (root / TABLE).write_text((root / TABLE).read_text().replace(",2,58", f",{number},58"))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: change_pixel(root / "images" / read(root).ids[3]),
        lambda root: (root / TABLE).write_text((root / TABLE).read_text().replace("Hernia", "Mass", 1)),
        rename_patient,
        lambda root: write_lists(root, lambda name: int(name[:8]) % 5 == 0),
    ],
    ids=["a pixel", "a label", "a patient", "the split"],
)
def test_data_fingerprint_changes_with(copy: Path, cache: Path, change: Callable[[Path], Any]) -> None:
    for name in read(copy).ids[:4]:
        Image.open(copy / "images" / name).save(copy / "images" / name, compress_level=0)
    before = fingerprint(copy)
    change(copy)
    assert fingerprint(copy) != before


def test_changed_file_with_size_and_time_put_back_is_found_where_stamps_are_not_trusted(
    copy: Path, cache: Path
) -> None:
    path = copy / "images" / read(copy).ids[3]
    Image.open(path).save(path, compress_level=0)
    before = fingerprint(copy)
    status = path.stat()
    change_pixel(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(copy) == before  # what a stamp cannot tell; `train` records what it trained on
    changed = fingerprint(copy, trust_stamps=False)
    assert changed != before
    assert fingerprint(copy) == changed


def test_rotten_page_is_found_and_mended_with_a_message(copy: Path, cache: Path) -> None:
    images = open_at(copy)
    good = images.path.read_bytes()
    rotten = bytearray(good)
    where = f"{images.path} fails its digests at 1 images"
    rotten[5 * 256 + 7] ^= 1
    for trust_stamps in (True, False):
        images.path.write_bytes(rotten)
        assert images.find_rotten() == [5]
        messages: list[str] = []
        mended = open_at(copy, messages, trust_stamps=trust_stamps)
        name = read(copy).ids[5]
        assert messages == [f"The image cache is damaged: {where} ({name}); decoding again"]
        assert mended.path.read_bytes() == good
        assert not mended.find_rotten()


def test_rotten_page_is_found_too_where_the_folder_was_never_seen(copy: Path, cache: Path, tmp_path: Path) -> None:
    images = open_at(copy)
    good = images.path.read_bytes()
    images.path.write_bytes(bytes(256) + good[256:])
    copy.rename(tmp_path / "moved")
    mended = open_at(tmp_path / "moved", trust_stamps=False)
    assert mended.path.read_bytes() == good


@pytest.mark.parametrize(
    ("name", "content"),
    [("pixels.u8", b"short"), ("digests.json", b""), ("digests.json", b"[]"), ("digests.json", b'{"file": [1]}')],
)
def test_broken_entry_of_the_cache_is_made_again(copy: Path, cache: Path, name: str, content: bytes) -> None:
    images = open_at(copy)
    good = images.path.read_bytes()
    (images.path.parent / name).write_bytes(content)
    assert open_at(copy) == images
    assert images.path.read_bytes() == good
    assert json.loads((images.path.parent / "digests.json").read_text())["schema"] == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"x": 1}', b'{"00000001_000.png": 3}'])
def test_broken_stamps_are_made_again(copy: Path, cache: Path, content: bytes) -> None:
    images = open_at(copy)
    (stamps,) = (cache / "stamps").iterdir()
    good = stamps.read_bytes()
    stamps.write_bytes(content)
    assert open_at(copy) == images
    assert stamps.read_bytes() == good


def block_on(path: Path) -> bytes:
    """Makes an image a pipe, on which a decoder waits until somebody writes; returns the image's content."""
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    return content


def wait_for_decoder(command: Command, pipe: Path) -> int:
    """Until the command reads the pipe; returns the pipe's other end, at whose closing the decoder goes on."""
    end = time.monotonic() + 60
    while True:
        with suppress(OSError):  # no reader yet
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        assert time.monotonic() < end
        assert command.running
        time.sleep(0.005)


def test_killed_builder_leaves_nothing_that_is_used(
    genmed: Genmed, trained: Genmed, tiny: Arguments, copy: Path, tmp_path: Path
) -> None:
    own = {"GENMED_CACHE": str(tmp_path / "own")}
    path = copy / "images" / read(copy).ids[40]
    content = block_on(path)
    command = genmed.start(*tiny("--data-root", copy), **own)
    pipe = wait_for_decoder(command, path)
    command.send(signal.SIGKILL)
    command.wait()
    os.close(pipe)
    (left,) = entries(tmp_path / "own")
    assert left.name.startswith(".tmp-")
    path.unlink()
    path.write_bytes(content)
    result = genmed(*tiny("--data-root", copy), **own)
    assert result.code == 0, result.err
    assert result.json["trace_digest"] == trained("show", "latest", "--json").json["trace_digest"]
    (entry,) = entries(tmp_path / "own")
    assert not entry.name.startswith(".tmp-")


def test_two_processes_that_build_at_once_both_succeed(
    genmed: Genmed, trained: Genmed, tiny: Arguments, copy: Path, tmp_path: Path
) -> None:
    own = {"GENMED_CACHE": str(tmp_path / "own")}
    path = copy / "images" / read(copy).ids[40]
    content = block_on(path)
    slow = genmed.start(*tiny("--data-root", copy, "--name", "slow"), **own)
    pipe = wait_for_decoder(slow, path)
    path.unlink()
    path.write_bytes(content)
    fast = genmed(*tiny("--data-root", copy, "--name", "fast"), **own)
    (entry,) = [entry for entry in entries(tmp_path / "own") if not entry.name.startswith(".tmp-")]
    made = (entry / "pixels.u8").stat().st_mtime_ns
    os.write(pipe, content)
    os.close(pipe)  # now the slow one ends, and finds that it was not the first
    finished = slow.wait()
    assert (fast.code, finished.code) == (0, 0), fast.err + finished.err
    expected = trained("show", "latest", "--json").json["trace_digest"]
    assert fast.json["trace_digest"] == finished.json["trace_digest"] == expected
    assert entries(tmp_path / "own") == [entry]
    assert (entry / "pixels.u8").stat().st_mtime_ns == made


# Normalisation and order


def test_mean_and_std_are_those_of_the_training_bytes() -> None:
    random = np.random.Generator(np.random.Philox(11))
    pixels = random.integers(0, 256, (2600, 1, 3, 3), dtype=np.uint8)
    train = np.flatnonzero(np.arange(2600) % 13 != 0)
    pixels[::13] = 255
    values = [int(value) for value in pixels[train].reshape(-1)]
    mean = Fraction(sum(values), len(values))
    variance = Fraction(sum(value * value for value in values), len(values)) - mean * mean
    scaling = choose_scaling(Normalisation(), pixels, train)
    assert scaling.mean == pytest.approx(float(mean / 255), rel=4e-16)
    assert Fraction(scaling.std) ** 2 == pytest.approx(variance / 255**2, rel=1e-15)
    assert choose_scaling(Normalisation(), pixels, train[::-1].copy()) == scaling


def test_chosen_scaling_needs_no_image_and_black_images_are_not_divided_by_zero() -> None:
    black = np.zeros((2, 1, 4, 4), dtype=np.uint8)
    rows = np.arange(2)
    fixed = Normalisation(method="fixed", mean=0.4, std=0.3)
    assert choose_scaling(fixed, black, rows) == Scaling(0.4, 0.3)
    assert choose_scaling(Normalisation(method="half"), black, rows) == Scaling(0.5, 0.5)
    assert choose_scaling(Normalisation(method="imagenet"), black, rows) == Scaling(0.449, 0.226)
    assert choose_scaling(Normalisation(), black, rows) == Scaling(0.0, 1e-3)


@pytest.mark.parametrize(
    ("images", "batch_size", "shards", "sizes"),
    [
        (24, 8, 1, [8, 8, 8]),
        (26, 8, 1, [8, 8, 8, 2]),
        (25, 8, 1, [8, 8, 8]),  # never a batch of one
        (29, 8, 2, [8, 8, 8, 4]),  # each shard as many
        (27, 8, 2, [8, 8, 8]),
        (3, 8, 1, [3]),
        (3, 8, 2, []),
    ],
)
def test_epoch_takes_each_image_once_and_leaves_no_shard_alone(
    images: int, batch_size: int, shards: int, sizes: list[int]
) -> None:
    train = np.arange(100, 100 + images)
    plan = plan_epoch(42, 1, train, batch_size, shards)
    assert [len(batch) for batch in plan] == sizes
    rows = [int(row) for batch in plan for row in batch]
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(train.tolist())
    assert rows == [] or rows != sorted(rows)
    other = [int(row) for batch in plan_epoch(42, 2, train, batch_size, shards) for row in batch]
    assert other != rows or not rows


def test_split_document_counts_add_up(trained: Genmed) -> None:
    described = json.loads((trained.run_folder() / "data.json").read_text())
    with open(trained.run_folder() / "data-images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for side, counted in described["split"]["sides"].items():
        mine = [row for row in rows if row["split"] == side]
        assert counted["images"] == len(mine)
        assert counted["patients"] == len({row["patient"] for row in mine})
        for label, count in counted["positives"].items():
            assert count == sum(label in row["labels"].split("|") for row in mine)
