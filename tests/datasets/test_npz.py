"""MedMNIST's archives: the right rows in any order and process; whatever is wrong with one is told by its name."""

import functools
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from genmed.ground.errors import DataError
from genmed.parts.data.npz import NpzImages, list_members, read_array
from genmed.parts.data.processes import run_over_rows
from genmed.parts.data.records import Records
from genmed.parts.data.split import split_records
from tests.datasets.making import configure, load, make_medmnist
from tests.datasets.mutating import at_most

Arrays = dict[str, npt.NDArray[Any]]
FLAG = "medmnist:bloodmnist"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_medmnist(tmp_path, "bloodmnist")


def change_arrays(path: Path, change: Callable[[Arrays], object], **options: Any) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez_compressed(path, **arrays, **options)


def read_all(records: Records) -> None:
    for row in range(len(records)):
        records.images.read(row)


def test_every_row_is_the_image_of_its_label_in_any_order(root: Path) -> None:
    records = load(FLAG, root)
    with np.load(root / "bloodmnist.npz") as arrays:
        whole = {f"{side}-{number:06d}": image for side in ("train", "val", "test")
                 for number, image in enumerate(arrays[f"{side}_images"])}  # fmt: skip
    order = np.random.Generator(np.random.Philox(1)).permutation(len(records)).tolist()
    for row in [*range(len(records)), *order]:
        assert np.array_equal(records.images.read(row).pixels, whole[records.ids[row]])


def test_every_process_reads_the_same(tmp_path: Path) -> None:
    root = make_medmnist(tmp_path, "breastmnist", counts=(150, 60, 60))
    records = load("medmnist:breastmnist", root)
    rows = list(range(len(records)))
    alone, many = (
        dict(run_over_rows(records.images.digest, rows, processes, lambda *_: None, "x")) for processes in (0, 2)
    )
    assert alone == many
    assert len(set(alone.values())) == len(rows)


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_may_lie_there_deflated_or_plain(root: Path, compressed: bool) -> None:
    with np.load(root / "bloodmnist.npz") as archive:
        arrays = dict(archive)
    digests = [load(FLAG, root).images.digest(row) for row in range(72)]
    (np.savez_compressed if compressed else np.savez)(root / "bloodmnist.npz", **arrays)
    assert [load(FLAG, root).images.digest(row) for row in range(72)] == digests


def test_file_of_the_wanted_size_is_chosen_else_the_next_larger(tmp_path: Path) -> None:
    for size in (28, 64, 128):
        make_medmnist(tmp_path, "breastmnist", size, (2, 2, 2))
    for wanted, read in ((16, 28), (28, 28), (29, 64), (64, 64), (100, 128), (224, 128)):
        records = load("medmnist:breastmnist", tmp_path, data__image_size=wanted)
        assert records.images.read(0).pixels.shape == (read, read)
        assert bool(records.notes) == (wanted != read)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("key", ["train_images", "test_labels", "other"])
def test_pickled_objects_are_refused_and_do_not_run(root: Path, tmp_path: Path, key: str) -> None:
    marker = tmp_path / "it ran"
    array = np.empty(3, dtype=object)
    array[:] = [Bomb(marker)] * 3
    with np.load(root / "bloodmnist.npz") as archive:
        arrays = {**archive, key: array}
    np.savez(root / "bloodmnist.npz", allow_pickle=True, **arrays)
    with pytest.raises(DataError, match=r"bloodmnist\.npz: .* holds pickled objects, which could run code"):
        load(FLAG, root)
    (root / "bloodmnist.npz").write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(DataError, match=r"bloodmnist\.npz is damaged: File is not a zip file"):
        load(FLAG, root)
    assert not marker.exists()


def in_columns(arrays: Arrays) -> None:
    arrays["train_images"] = np.asfortranarray(arrays["train_images"])


WRONG: dict[str, tuple[Callable[[Arrays], object], str]] = {
    "no test images": (lambda arrays: arrays.pop("test_images"), "has no test_images"),
    "no labels": (lambda arrays: arrays.pop("val_labels"), "val_labels is missing"),
    "images of floats": (
        lambda arrays: arrays.update(train_images=arrays["train_images"] / 255),
        "train_images is float64 (40, 28, 28, 3), not uint8 (N, S, S, 3)",
    ),
    "grey images": (
        lambda arrays: arrays.update(train_images=arrays["train_images"][..., 0]),
        "train_images is uint8 (40, 28, 28), not",
    ),
    "another size": (lambda arrays: arrays.update(val_images=np.zeros((16, 30, 30, 3), np.uint8)), "val_images"),
    "oblong": (lambda arrays: arrays.update(val_images=np.zeros((16, 28, 64, 3), np.uint8)), "val_images"),
    "in columns": (in_columns, "lies in Fortran's order"),
    "a label too few": (
        lambda arrays: arrays.update(train_labels=arrays["train_labels"][1:]),
        "train_labels is uint8 (39, 1), not integers (40, 1)",
    ),
    "flat labels": (
        lambda arrays: arrays.update(train_labels=arrays["train_labels"][:, 0]),
        "train_labels is uint8 (40,), not integers (40, 1)",
    ),
    "labels of floats": (
        lambda arrays: arrays.update(train_labels=arrays["train_labels"] * 1.0),
        "train_labels is float64 (40, 1), not integers",
    ),
    "a class too many": (
        lambda arrays: arrays["test_labels"].__setitem__((3, 0), 8),
        "test_labels[3] is 8, not 0 to 7",
    ),
    "a negative class": (
        lambda arrays: arrays.update(test_labels=arrays["test_labels"].astype(np.int16) - 1),
        "test_labels[0] is -1, not 0 to 7",
    ),
    "a huge class": (
        lambda arrays: arrays.update(test_labels=arrays["test_labels"].astype(np.uint64) + np.uint64(2**63)),
        "test_labels[0] is ",
    ),
    "other keys": (lambda arrays: (arrays.clear(), arrays.update(x=np.zeros(3))), "has no test_images; it holds x"),
    "nothing": (lambda arrays: arrays.clear(), "it holds no arrays"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_archive_of_other_arrays_is_refused_with_what_it_holds(root: Path, wrong: str) -> None:
    change_arrays(root / "bloodmnist.npz", WRONG[wrong][0])
    with pytest.raises(DataError) as caught:
        load(FLAG, root)
    assert str(root / "bloodmnist.npz") in caught.value.message
    assert WRONG[wrong][1] in caught.value.message


def test_side_without_images_is_refused(root: Path) -> None:
    def empty(arrays: Arrays) -> None:
        arrays.update(val_images=arrays["val_images"][:0], val_labels=arrays["val_labels"][:0])

    change_arrays(root / "bloodmnist.npz", empty)
    with pytest.raises(DataError, match="the val side of the split has no images"):
        split_records(load(FLAG, root), configure(FLAG, root).data)


@pytest.mark.parametrize("kind", [np.int8, np.int64, ">i4", np.uint16])
def test_labels_of_any_integers_are_read(root: Path, kind: Any) -> None:
    before = load(FLAG, root).labels
    change_arrays(
        root / "bloodmnist.npz", lambda arrays: arrays.update(train_labels=arrays["train_labels"].astype(kind))
    )
    assert np.array_equal(load(FLAG, root).labels, before)


def write_archive(path: Path, parts: dict[str, bytes], twice: str = "") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    if twice:
        content = path.read_bytes()
        other = "train_imagez"
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{other}.npy", parts[twice])
        content = path.read_bytes()
        path.write_bytes(content.replace(other.encode(), twice.encode()))


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}


def header_of(shape: tuple[int, ...], text: str = "") -> bytes:
    stream = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    if not text:
        np.lib.format.write_array_header_1_0(stream, described)
        return stream.getvalue()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (header_of((10**12, 28, 28, 3)), "more than the file can hold"),
        (header_of((-40, 28, 28, 3)), "claims the shape (-40, 28, 28, 3)"),
        (header_of((41, 28, 28, 3)), "not integers (41, 1)"),
        (header_of((), "__import__('os').mkdir('/tmp/it-ran-here')"), "is damaged"),
        (header_of((), "{" * 9000), "is damaged"),
        (b"\x93NUMPY\x07\x00", "is of version (7, 0)"),
        (b"not numpy at all", "is damaged"),
        (b"", "is damaged"),
    ],
)
def test_header_that_lies_is_refused(root: Path, header: bytes, told: str) -> None:
    path = root / "bloodmnist.npz"
    parts = parts_of(path)
    write_archive(path, {**parts, "train_images": header + parts["train_images"][len(header_of((40, 28, 28, 3))) :]})
    with at_most(60), pytest.raises(DataError) as caught:  # a header that is believed takes for ever
        load(FLAG, root)
    assert told in caught.value.message
    assert str(path) in caught.value.message
    assert not Path("/tmp/it-ran-here").exists()


def test_header_of_python_2_is_read_without_a_warning(root: Path) -> None:
    path = root / "bloodmnist.npz"
    parts = parts_of(path)
    old = header_of((), "{'descr': '|u1', 'fortran_order': False, 'shape': (40L, 28L, 28L, 3L), }\n")
    write_archive(path, {**parts, "train_images": old + parts["train_images"][len(header_of((40, 28, 28, 3))) :]})
    read_all(load(FLAG, root))


@pytest.mark.parametrize("more", [-1, 1])
def test_array_shorter_or_longer_than_it_says_is_refused(root: Path, more: int) -> None:
    path = root / "bloodmnist.npz"
    for key in ("test_images", "test_labels"):
        parts = parts_of(path)
        spoiled = parts[key] + b"x" if more == 1 else parts[key][:-1]
        write_archive(path, {**parts, key: spoiled})
        with pytest.raises(DataError, match=f"{key}.npy {'is longer' if more == 1 else 'ends before'}"):
            read_all(load(FLAG, root))
        write_archive(path, parts)


def test_array_that_is_there_twice_is_refused(root: Path) -> None:
    path = root / "bloodmnist.npz"
    write_archive(path, parts_of(path), twice="train_images")
    with pytest.raises(DataError, match=r"train_images\.npy is there twice"):
        load(FLAG, root)


@pytest.mark.parametrize("policy", ["stop", "skip"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bit_in_the_images_is_found_and_no_other_image_is_kept(
    root: Path, policy: str, save: Callable[..., None]
) -> None:
    """The checksum is that of the whole array, so that all of its images are in doubt."""
    path = root / "bloodmnist.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    save(path, **arrays)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as opened:
        member = opened.getinfo("train_images.npy")
        start = member.header_offset + 300
    for at in range(start, start + member.compress_size - 400, member.compress_size // 12):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        if policy == "stop":  # then the last of the images tells, and nothing is trained
            with pytest.raises(DataError, match="train_images"):
                read_all(load(FLAG, root))
        else:
            with pytest.raises(DataError, match="train_images"):
                load(FLAG, root, data__on_bad_image=policy)


def test_row_that_cannot_be_read_is_told_with_its_number_and_the_rest_at_once(root: Path) -> None:
    path = root / "bloodmnist.npz"
    parts = parts_of(path)
    write_archive(path, {**parts, "val_images": parts["val_images"][: -5 * 28 * 28 * 3]})
    records = load(FLAG, root)
    broken = {}
    for row in range(len(records)):
        try:
            records.images.read(row)
        except DataError as error:
            broken[records.ids[row]] = error.message
    assert list(broken) == [f"val-{number:06d}" for number in range(11, 16)]
    assert set(broken.values()) == {f"{path}, val_images.npy row 11: val_images.npy ends before its last row"}


def test_archive_that_vanishes_is_told(root: Path) -> None:
    records = load(FLAG, root)
    (root / "bloodmnist.npz").unlink()
    with pytest.raises(DataError, match=r"cannot read .*bloodmnist\.npz.*No such file"):
        records.images.read(0)
    assert records.images.stamp(0) is None


def test_labels_are_read_whole_and_images_never(root: Path) -> None:
    members = list_members(root / "bloodmnist.npz")
    assert read_array(root / "bloodmnist.npz", members["val_labels"]).shape == (16, 1)
    images = NpzImages(root / "bloodmnist.npz", [members["val_images"]])
    copy = pickle.loads(pickle.dumps(images))
    assert copy.read(3).digest == images.read(3).digest
    assert functools.reduce(lambda total, member: total + member.row_bytes, members.values(), 0) > 0
