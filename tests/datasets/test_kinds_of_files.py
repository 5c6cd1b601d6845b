"""Files as scanners, archives and phones write them: depth, orientation, and what they are whatever their name."""

import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ImplicitVRLittleEndian

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.datasets import find_dataset
from genmed.parts.data.dicom import read_facts
from genmed.parts.data.images import ORIENTATION, PRECISION, Preparation, is_image_file, read_image
from genmed.workflows.assemble import fingerprint_data, load_data, read_records
from genmed.workflows.configure import configure
from genmed.workflows.predict import list_named
from genmed.workflows.reporting import Silent
from tests.datasets import making
from tests.datasets.making_dicom import make_dicom
from tests.harness import Genmed

SIDE = 16
RAMP = np.linspace(0, 4095, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
EXPECTED = RAMP.astype(np.float64) / 4095 * 255


def prepare(path: Path, bits: int | None = None) -> npt.NDArray[np.uint8]:
    """(S, S), grey."""
    return Preparation(SIDE, 1, bits).apply(read_image(path, bits))[0]


def write_deep_png(path: Path, pixels: npt.NDArray[np.uint16]) -> Path:
    """(H, W, C) of 16 bits a value; C = 2: grey and alpha, 3: RGB, 4: RGB and alpha."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_deep_colour_png_uses_its_bits(tmp_path: Path, channels: int) -> None:
    planes = [RAMP] * (1 if channels == 2 else 3) + [np.full_like(RAMP, 65535)] * (channels in (2, 4))
    path = write_deep_png(tmp_path / "a.png", np.stack(planes, axis=-1))
    assert np.abs(prepare(path, 12) - EXPECTED).max() <= 1
    assert prepare(path, 12).max() == 255
    assert prepare(path).max() == 16


def test_deep_colour_png_keeps_its_colours(tmp_path: Path) -> None:
    colours = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)
    image = read_image(write_deep_png(tmp_path / "a.png", colours))
    assert np.array_equal(image.pixels, colours)


def test_tiff_of_12_bits_has_that_depth(tmp_path: Path) -> None:
    packed = np.empty((SIDE, SIDE * 3 // 2), dtype=np.uint8)
    first, second = RAMP[:, 0::2].astype(int), RAMP[:, 1::2].astype(int)
    packed[:, 0::3], packed[:, 1::3], packed[:, 2::3] = first >> 4, (first & 15) << 4 | second >> 8, second & 255
    entries = {
        256: SIDE,
        257: SIDE,
        258: 12,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: SIDE,
        279: packed.size,
    }
    body = b"II*\0" + struct.pack("<I", 8 + packed.size) + packed.tobytes() + struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items()) + b"\0\0\0\0"
    (tmp_path / "a.tiff").write_bytes(body)
    for bits in (None, 12):
        assert np.abs(prepare(tmp_path / "a.tiff", bits) - EXPECTED).max() <= 1
    wide = read_image(write_grey(tmp_path / "wide.png", RAMP))
    read = read_image(tmp_path / "a.tiff")
    assert (read.bits, wide.bits) == (12, None)
    assert np.array_equal(read.pixels, wide.pixels)
    assert read.decoded != wide.decoded  # the same values, and another depth: other data


def write_grey(path: Path, pixels: npt.NDArray[np.uint16]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_is_turned_as_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    shown = np.zeros((16, 24), dtype=np.uint8)
    shown[:8, :8], shown[:8, 16:] = 200, 100
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turn = Image.Transpose
    inverse = (turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM, turn.TRANSPOSE)
    back = dict(enumerate((*inverse, turn.ROTATE_90, turn.TRANSVERSE, turn.ROTATE_270), start=2))
    image = Image.fromarray(shown)
    stored = image.transpose(back[orientation]) if orientation in back else image
    more: dict[str, Any] = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(suffix, {})
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **more)
    assert np.abs(read_image(tmp_path / f"a.{suffix}").pixels.astype(int) - shown).max() <= (
        4 if suffix == "jpg" else 0
    )


def test_deep_grey_png_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, np.rot90(RAMP, -1))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage!", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\xff"])
def test_damaged_exif_turns_nothing(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, RAMP.astype(np.uint8))


# DICOM


@pytest.mark.parametrize("name", ["IM000001", "x.IMA", "called.png", "1.2.840.113619.2.1", "scan.bin"])
def test_dicom_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = make_dicom(tmp_path / name, RAMP, bits_stored=12)
    assert np.abs(prepare(path) - EXPECTED).max() <= 1
    assert is_image_file(path)
    assert list_named([tmp_path]) == [path]


@pytest.mark.parametrize("name", ["IM000002", "1.2.3.4"])
def test_dicom_without_a_preamble_is_known_without_a_suffix(tmp_path: Path, name: str) -> None:
    make_dicom(tmp_path / "whole.dcm", RAMP, bits_stored=12, syntax=ImplicitVRLittleEndian)
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, True
    write_dataset(stream, dcmread(tmp_path / "whole.dcm"))
    (tmp_path / name).write_bytes(stream.getvalue())
    assert stream.getvalue()[128:132] != b"DICM"
    assert np.abs(prepare(tmp_path / name) - EXPECTED).max() <= 1
    assert is_image_file(tmp_path / name)


def test_dicomdir_and_other_files_are_no_images(tmp_path: Path) -> None:
    make_dicom(tmp_path / "DICOMDIR", RAMP, bits_stored=12)
    (tmp_path / "notes.txt").write_text("seen\n")
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.txt")
    assert [path.name for path in sorted(tmp_path.iterdir()) if path.name != "pipe.txt" and is_image_file(path)] == []
    assert not is_image_file(tmp_path / "pipe.txt")


def test_bits_of_dicom_without_a_window_are_used(tmp_path: Path) -> None:
    dark = make_dicom(tmp_path / "dark.dcm", RAMP, bits_stored=16)
    assert prepare(dark).max() == 16
    assert np.abs(prepare(dark, 12) - EXPECTED).max() <= 1
    signed = make_dicom(tmp_path / "signed.dcm", (RAMP.astype(np.int16) - 2048), bits_stored=16, signed=True)
    assert np.abs(prepare(signed, 12) - EXPECTED).max() <= 1
    windowed = make_dicom(tmp_path / "window.dcm", RAMP, bits_stored=16, window=(2048, 4096))
    assert np.array_equal(prepare(windowed), prepare(windowed, 12))


def test_fractions_as_pixels_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "float.dcm", RAMP, bits_stored=12)
    dataset = dcmread(path)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated, dataset.FloatPixelData = 32, RAMP.astype(np.float32).tobytes()
    dataset.save_as(path)
    with pytest.raises(DataError, match="has fractions as pixels, whose black and white are unknown"):
        read_image(path)
    with pytest.raises(DataError, match="has fractions as pixels"):
        read_facts(path.read_bytes(), "float.dcm")


def write_dicom_set(root: Path, **how: Any) -> Path:
    random = np.random.default_rng(0)
    for number in range(12):
        folder = root / ("train", "test")[number % 2] / ("one", "two")[number // 2 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)
        noise[0, 0] = 4095
        if how.get("signed"):
            noise = noise.astype(np.int16) - 2048
        make_dicom(folder / f"{number}.dcm", noise, bits_stored=16, **how)
    return root


def test_check_notes_dark_dicom_with_the_remedy(genmed: Genmed, tmp_path: Path) -> None:
    root = write_dicom_set(tmp_path / "data")
    found = genmed("data", "check", root, "--dataset", "folder", "--json").json
    assert found["depths"] == [{"bits": 16, "dicom": True, "images": 12, "greatest": 4095}]
    note = "12 images of DICOM without a window use a small part of their range (up to 4095 of 65535) and are dark:"
    assert [entry for entry in found["notes"] if "DICOM" in entry] == [f"{note} --set data.bits=12 if white is 4095"]
    settled = genmed("data", "check", root, "--dataset", "folder", "--json", "--set", "data.bits=12").json
    assert [entry for entry in settled["notes"] if "DICOM" in entry] == []


def test_check_notes_images_that_are_mostly_white(genmed: Genmed, tmp_path: Path) -> None:
    root = write_dicom_set(tmp_path / "data", window=(128, 256))
    found = genmed("data", "check", root, "--dataset", "folder", "--json").json
    assert [entry.partition(":")[0] for entry in found["notes"] if "DICOM" in entry] == [
        "12 images of DICOM mostly white"
    ]


def test_data_fingerprint_knows_the_bits_of_dicom(tmp_path: Path, cache: Path) -> None:
    root = write_dicom_set(tmp_path / "data")
    found = []
    for bits in (None, 12):
        config = making.configure("folder", root, **{"data.bits": bits, "data.image_size": SIDE})
        data = load_data(config, Silent(), trust_stamps=True)
        found.append(fingerprint_data(data.records, data.split, data.images))
    assert found[0] != found[1]


# Folders


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    for number in range(6):
        making.save_image(tmp_path / "pool" / f"pat{number}" / "a.png", making.draw_image(number, number))
    for name in ("normal", "sick"):
        making.save_image(tmp_path / "data" / name / "own.png", making.draw_image(1, len(name)))
    for number in range(6):
        link = tmp_path / "data" / ("normal", "sick")[number % 2] / f"pat{number}"
        link.symlink_to(tmp_path / "pool" / f"pat{number}")
    (tmp_path / "data" / "normal" / "again").symlink_to(tmp_path / "pool" / "pat0")
    (tmp_path / "pool" / "pat0" / "circle").symlink_to(tmp_path / "data" / "normal")
    records = read_records(making.configure("folder", tmp_path / "data"))
    assert [name for name in records.ids if name.startswith("normal")] == [
        "normal/again/a.png", "normal/own.png", "normal/pat2/a.png", "normal/pat4/a.png"
    ]  # fmt: skip
    assert len(records) == 8
    assert len(list_named([tmp_path / "data"])) == 8


def test_link_upwards_brings_in_no_other_class(tmp_path: Path) -> None:
    for name in ("normal", "sick"):
        making.save_image(tmp_path / name / "own.png", making.draw_image(1, len(name)))
        (tmp_path / name / "up").symlink_to("..")
    records = read_records(making.configure("folder", tmp_path))
    assert records.ids == ("normal/own.png", "sick/own.png")


def test_folder_dataset_finds_dicom_without_a_suffix(tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / ("one", "two")[number % 2]
        folder.mkdir(exist_ok=True)
        make_dicom(folder / f"IM{number:06}", RAMP, bits_stored=12)
    (tmp_path / "one" / "notes.txt").write_text("seen\n")
    records = read_records(making.configure("folder", tmp_path))
    assert len(records) == 8
    assert any("notes.txt" in note for note in records.notes)


# Layouts and paths


@pytest.mark.parametrize("tables", ["batch", "above"])
def test_chexpert_in_batches_is_the_same_data(tmp_path: Path, cache: Path, tables: str) -> None:
    whole = tmp_path / "whole"
    making.make_chexpert(whole, release="CheXpert-v1.0")
    top = next(path.parent for path in whole.rglob("train.csv"))
    root = tmp_path / "batches"
    first = root / "CheXpert-v1.0 batch 1 (validate & csv)"
    first.mkdir(parents=True)
    for name in ("train.csv", "valid.csv"):
        shutil.copy(top / name, first if tables == "batch" else root)
    shutil.copytree(top / "valid", first / "valid")
    for number, patient in enumerate(sorted((top / "train").iterdir())):
        batch = root / f"CheXpert-v1.0 batch {2 + number % 3} (train {1 + number % 3})"
        shutil.copytree(patient, batch / patient.name)
    found = []
    for place in (whole, root):
        data = load_data(making.configure("chexpert", place, **{"data.image_size": SIDE}), Silent(), trust_stamps=True)
        found.append(fingerprint_data(data.records, data.split, data.images))
    assert found[0] == found[1]
    gone = next(root.glob("*batch 3*/patient*"))
    shutil.rmtree(gone)
    with pytest.raises(DataError, match=f"without an image .*{gone.name}"):
        read_records(making.configure("chexpert", root))


@pytest.mark.parametrize("written", ["~/mine/$WHICH", "$HOME/mine/${WHICH}"])
@pytest.mark.parametrize("by", ["file", "variable", "flag"])
def test_home_and_variables_in_paths_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, by: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHICH", "set")
    making.make_folder(tmp_path / "mine" / "set")
    file = tmp_path / "config.yaml"
    file.write_text(f"data:\n  dataset: folder\n  root: {written}\n" if by == "file" else "data:\n  dataset: folder\n")
    environ = {"GENMED_DATA__ROOT": written} if by == "variable" else {}
    flags = {"data.root": written} if by == "flag" else {}
    resolved = configure(flags, file=file, environ=environ)
    assert resolved.config.data.root == str(tmp_path / "mine" / "set")


def test_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.root is \$NOWHERE/data, and the variable NOWHERE is not set"):
        configure({"data.dataset": "folder", "data.root": "$NOWHERE/data"}, environ={})


def test_folder_whose_name_has_a_dollar_is_taken_as_it_is(tmp_path: Path) -> None:
    making.make_folder(tmp_path / "a$HOME")
    found = configure({"data.dataset": "folder", "data.root": str(tmp_path / "a$HOME")}, environ={})
    assert found.config.data.root == str(tmp_path / "a$HOME")


def test_3d_set_of_medmnist_is_called_so() -> None:
    with pytest.raises(ConfigError, match="medmnist:organmnist3d is a 3D set of MedMNIST, whose volumes are not read"):
        find_dataset("medmnist:organmnist3d")


# Siblings of the above


@pytest.mark.parametrize("bits", [None, 12])
def test_pgm_that_says_its_depth_ignores_bits(tmp_path: Path, bits: int | None) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 16 16 4095\n" + RAMP.astype(">u2").tobytes())
    assert np.abs(prepare(tmp_path / "a.pgm", bits) - EXPECTED).max() <= 1


@pytest.mark.parametrize("bits", [None, 12])
def test_jpeg_2000_of_12_bits_ignores_bits(tmp_path: Path, bits: int | None) -> None:
    middle = 2**15 - 2**11  # what the file holds is the distance from the middle of the range
    Image.fromarray(RAMP + np.uint16(middle)).save(tmp_path / "a.j2k", irreversible=False, no_jp2=True)
    packed = bytearray((tmp_path / "a.j2k").read_bytes())
    packed[PRECISION] = 12 - 1
    (tmp_path / "a.jp2").write_bytes(packed)
    assert np.abs(prepare(tmp_path / "a.jp2", bits) - EXPECTED).max() <= 1


def test_deep_colour_ppm_uses_its_bits(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 16 16 65535\n" + np.stack([RAMP] * 3, axis=-1).astype(">u2").tobytes())
    assert np.abs(prepare(tmp_path / "a.ppm", 12) - EXPECTED).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colour_tiff_keeps_its_bits(tmp_path: Path, order: str, compression: str, channels: int) -> None:
    colours = np.stack([RAMP, RAMP[::-1], RAMP.T, np.full_like(RAMP, 65535)][:channels], axis=-1)
    packed = colours.astype(f"{order}u2").tobytes()
    packed, number = (zlib.compress(packed), 8) if compression == "deflate" else (packed, 1)
    entries: dict[int, list[int]] = {
        256: [SIDE], 257: [SIDE], 258: [16] * channels, 259: [number], 262: [2], 273: [8], 274: [3], 277: [channels],
        278: [SIDE], 279: [len(packed)],
    }  # fmt: skip
    if channels == 4:
        entries[338] = [2]
    packed += b"\0" * (len(packed) % 2)
    start = 8 + len(packed)
    table, rest = struct.pack(f"{order}H", len(entries)), b""
    for tag, values in entries.items():
        kind, code = (3, "H") if tag not in (273, 279) else (4, "I")
        field = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(field) > 4:
            place = start + 2 + 12 * len(entries) + 4 + len(rest)
            rest, field = rest + field, struct.pack(f"{order}I", place)
        table += struct.pack(f"{order}HHI", tag, kind, len(values)) + field.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    (tmp_path / "a.tiff").write_bytes(head + packed + table + b"\0\0\0\0" + rest)
    assert np.array_equal(read_image(tmp_path / "a.tiff").pixels, colours[::-1, ::-1, :3])


def test_tiff_of_14_bits_is_refused_by_its_depth(tmp_path: Path) -> None:
    entries = {256: 8, 257: 8, 258: 14, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 112}
    body = b"II*\0" + struct.pack("<I", 120) + bytes(112) + struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items()) + b"\0\0\0\0"
    (tmp_path / "a.tiff").write_bytes(body)
    with pytest.raises(DataError, match=r"a\.tiff is a TIFF of 14 bits a value .* save it with 8 or 16 bits"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("name", ["a.dcm", "a.IMA"])
def test_png_called_dicom_is_read(tmp_path: Path, name: str) -> None:
    shutil.copy(write_grey(tmp_path / "a.png", RAMP), tmp_path / name)
    assert np.array_equal(read_image(tmp_path / name).pixels, RAMP)


def test_bare_dicom_called_png_is_read(tmp_path: Path) -> None:
    make_dicom(tmp_path / "whole.dcm", RAMP, bits_stored=12, syntax=ImplicitVRLittleEndian)
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, True
    write_dataset(stream, dcmread(tmp_path / "whole.dcm"))
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    assert np.abs(prepare(tmp_path / "a.png") - EXPECTED).max() <= 1


def test_link_beside_its_folder_renames_no_image(tmp_path: Path) -> None:
    making.save_image(tmp_path / "one" / "zz" / "a.png", making.draw_image(1, 1))
    making.save_image(tmp_path / "one" / ".kept" / "b.png", making.draw_image(2, 1))
    making.save_image(tmp_path / "two" / "a.png", making.draw_image(3, 1))
    (tmp_path / "one" / "aa").symlink_to("zz")
    (tmp_path / "one" / "shown").symlink_to(".kept")
    records = read_records(making.configure("folder", tmp_path))
    assert records.ids == ("one/shown/b.png", "one/zz/a.png", "two/a.png")


def test_check_leaves_out_depths_that_files_say(genmed: Genmed, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "data" / ("train", "test")[number % 2] / ("one", "two")[number // 2 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 4096, (SIDE, SIDE)).astype(">u2")
        (folder / f"{number}.pgm").write_bytes(b"P5 16 16 4095\n" + noise.tobytes())
    found = genmed("data", "check", tmp_path / "data", "--dataset", "folder", "--json", "--set", "data.bits=12").json
    assert [note for note in found["notes"] if "bits" in note] == []


def test_check_notes_signed_dicom_of_little_contrast(genmed: Genmed, tmp_path: Path) -> None:
    root = write_dicom_set(tmp_path / "data", signed=True)
    found = genmed("data", "check", root, "--dataset", "folder", "--json").json
    assert found["depths"] == [{"bits": 16, "dicom": True, "images": 12, "greatest": 2047}]
    note = "(up to 2047 of 32767) and have little contrast: --set data.bits=12 if white is 2047"
    assert [entry.endswith(note) for entry in found["notes"] if "DICOM" in entry] == [True]


@pytest.mark.parametrize(("signed", "greatest", "white"), [(False, 4095, 1023), (True, 2047, 511)])
def test_check_notes_dicom_above_its_bits(
    genmed: Genmed, tmp_path: Path, signed: bool, greatest: int, white: int
) -> None:
    root = write_dicom_set(tmp_path / "data", signed=signed)
    found = genmed("data", "check", root, "--dataset", "folder", "--json", "--set", "data.bits=10").json
    note = f"data.bits is 10, but DICOM without a window has values up to {greatest}: all above {white} is white"
    assert [entry for entry in found["notes"] if "DICOM" in entry] == [note]
