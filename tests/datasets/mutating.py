"""Files of every kind that readers meet, spoiled at random places by a seed, and what the readers make of them."""

import io
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.images import Preparation, read_image
from genmed.parts.data.records import Records
from tests.datasets import reading
from tests.datasets.making import (
    draw_image,
    load,
    make_chexpert,
    make_covidx,
    make_manifest,
    make_medmnist,
    make_rsna,
    make_vinbigdata,
)
from tests.datasets.making_dicom import make_dicom
from tests.make_nih import make_nih

REFUSED, READ = "refused with its name", "read"
MOST_SECONDS = 10
Case = Callable[[Callable[[bytes], bytes]], str]
"""Spoils its file by a function of the bytes, reads it, and returns REFUSED, READ or what is wrong."""


class HangError(BaseException):
    """No TimeoutError, which is an OSError: a reader would take it for the disk's."""


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Flipped bits, a cut, inserted or repeated bytes, two blocks in each other's place."""
    spoiled = bytearray(content)
    kind = draw.choice(["flip", "flip", "flips", "cut", "insert", "swap", "repeat", "zero"])
    at = draw.randrange(len(content))
    length = min(draw.choice([1, 2, 4, 16, 64]), len(content) - at)
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else draw.randint(2, 8)):
            spoiled[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del spoiled[at : at + (len(content) if draw.random() < 0.5 else length)]
    elif kind == "insert":
        spoiled[at:at] = draw.randbytes(length)
    elif kind == "swap":
        other = draw.randrange(len(content) - length + 1)
        spoiled[at : at + length], spoiled[other : other + length] = (
            content[other : other + length],
            content[at : at + length],
        )
    elif kind == "repeat":
        spoiled[at:at] = content[at : at + length]
    else:
        spoiled[at : at + length] = bytes(length)
    return bytes(spoiled)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raises HangError in what takes longer."""

    def stop(number: int, frame: object) -> None:
        raise HangError(f"takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make_cases(top: Path) -> dict[str, Case]:
    """By kind of file."""
    cases: dict[str, Case] = {}
    for kind, suffix, content, exact in _draw_images(top):
        cases[kind] = _case_of_image(top / f"spoiled.{suffix}", content, exact)
    cases["npz"] = _case_of_archive(make_medmnist(top / "medmnist", "bloodmnist", counts=(9, 8, 8)))
    for kind, path, read, again in _list_tables(top):
        cases[kind] = _case_of_table(path, read, again)
    return cases


def _draw_images(top: Path) -> Iterator[tuple[str, str, bytes, bool]]:
    """Kind, suffix, bytes, and whether its checksums hold the pixels."""
    grey = draw_image(1, 1, 24)
    wide = grey.astype(np.uint16) * 250
    colour = draw_image(1, 2, 24, colour=True)

    def pack(pixels: npt.NDArray[Any], kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind, **options)
        return stream.getvalue()

    yield "PNG", "png", pack(grey, "PNG"), True
    yield "PNG, 16 bits", "png", pack(wide, "PNG"), True
    yield "PNG, colour", "png", pack(colour, "PNG"), True
    yield "JPEG", "jpg", pack(grey, "JPEG"), False
    yield "JPEG, progressive", "jpg", pack(colour, "JPEG", progressive=True), False
    yield "TIFF", "tif", pack(wide, "TIFF"), False
    yield "TIFF, LZW", "tif", pack(colour, "TIFF", compression="tiff_lzw"), False
    yield "BMP", "bmp", pack(grey, "BMP"), False
    yield "GIF", "gif", pack(grey, "GIF"), False
    yield "WebP", "webp", pack(colour, "WEBP"), False
    syntaxes = {
        "DICOM": None,
        "DICOM, implicit": ImplicitVRLittleEndian,
        "DICOM, RLE": RLELossless,
        "DICOM, JPEG": JPEGBaseline8Bit,
        "DICOM, JPEG 2000": JPEG2000Lossless,
        "DICOM, JPEG-LS": JPEGLSLossless,
    }
    for kind, syntax in syntaxes.items():
        path = make_dicom(top / "whole.dcm", grey, window=(80, 120), **({"syntax": syntax} if syntax else {}))
        yield kind, "dcm", path.read_bytes(), False


def _case_of_image(path: Path, content: bytes, exact: bool) -> Case:
    path.write_bytes(content)
    whole = read_image(path).pixels

    def case(spoil: Callable[[bytes], bytes]) -> str:
        path.write_bytes(spoil(content))
        try:
            with at_most(MOST_SECONDS):
                pixels = read_image(path).pixels
                prepared = Preparation(16).apply(read_image(path))
        except DataError as error:
            return REFUSED if str(path) in error.message else f"without the name: {error.message}"
        except (Exception, HangError) as error:
            return f"{type(error).__name__}: {error}"
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
            return f"{pixels.dtype} {pixels.shape}"
        if prepared.shape != (1, 16, 16) or prepared.dtype != np.uint8:
            return f"prepared as {prepared.dtype} {prepared.shape}"
        if exact and not np.array_equal(pixels, whole):
            return "other pixels"
        return READ

    return case


def _case_of_archive(root: Path) -> Case:
    path = root / "bloodmnist.npz"
    content = path.read_bytes()

    def look() -> tuple[list[str], bytes, list[str]]:
        records = load("medmnist:bloodmnist", root)
        return list(records.ids), records.labels.tobytes(), [records.images.digest(row) for row in range(len(records))]

    whole = look()

    def case(spoil: Callable[[bytes], bytes]) -> str:
        path.write_bytes(spoil(content))
        try:
            with at_most(MOST_SECONDS):
                found = look()
        except DataError as error:
            return REFUSED if str(path) in error.message else f"without the name: {error.message}"
        except (Exception, HangError) as error:
            return f"{type(error).__name__}: {error}"
        return READ if found == whole else "other images or labels"

    return case


def _list_tables(
    top: Path,
) -> Iterator[tuple[str, Path, Callable[[], Records], Callable[[], reading.Reading]]]:
    """Kind, the file that is spoiled, its reader and the second reading."""
    skip = {"data__on_mismatch": "skip"}
    nih = make_nih(top / "nih", 12)
    names = sorted(path.name for path in (nih / "images").iterdir())
    (nih / "test_list.txt").write_text("\n".join(names[20:]))
    (nih / "train_val_list.txt").write_text("\n".join(names[:20]))
    chexpert, vinbigdata = make_chexpert(top / "chexpert", 14, 4), make_vinbigdata(top / "vinbigdata", 10)
    rsna, covidx = make_rsna(top / "rsna", 12), make_covidx(top / "covidx")
    three = make_covidx(top / "three", "multi-class", val=False)

    def read_nih() -> Records:
        return load("nih", nih, **skip)

    def read_chexpert() -> Records:
        return load("chexpert", chexpert, **skip)

    def again_chexpert() -> reading.Reading:
        return reading.read_chexpert(chexpert, exists=True)

    yield "CSV of nih", nih / "Data_Entry_2017_v2020.csv", read_nih, lambda: reading.read_nih(nih)
    yield "TXT of nih", nih / "test_list.txt", read_nih, lambda: reading.read_nih(nih)
    yield "CSV of chexpert", chexpert / "train.csv", read_chexpert, again_chexpert
    yield "valid.csv of chexpert", chexpert / "valid.csv", read_chexpert, again_chexpert
    yield (
        "CSV of vinbigdata",
        vinbigdata / "train.csv",
        lambda: load("vinbigdata", vinbigdata, **skip),
        lambda: reading.read_vinbigdata(vinbigdata),
    )
    yield (
        "CSV of rsna",
        rsna / "stage_2_train_labels.csv",
        lambda: load("rsna", rsna, **skip),
        lambda: reading.read_rsna(rsna),
    )
    for kind, root in (("TXT of covidx", covidx), ("TXT of covidx, three", three)):
        yield (
            kind,
            root / "train_COVIDx9.txt",
            lambda root=root: load("covidx", root, **skip),  # type: ignore[misc]
            lambda root=root: reading.read_covidx(root),  # type: ignore[misc]
        )
    for form in ("columns", "delimited", "split"):
        manifest = make_manifest(top / form, form, 24)
        yield (
            f"CSV of manifest, {form}",
            manifest / "manifest.csv",
            lambda root=manifest: load("manifest", root, manifest__delimiter=";", **skip),  # type: ignore[misc]
            lambda root=manifest, form=form: reading.read_manifest(root, form),  # type: ignore[misc]
        )


def _case_of_table(path: Path, read: Callable[[], Records], again: Callable[[], reading.Reading]) -> Case:
    content = path.read_bytes()

    def case(spoil: Callable[[bytes], bytes]) -> str:
        path.write_bytes(spoil(content))
        try:
            with at_most(MOST_SECONDS):
                records = read()
        except (DataError, ConfigError) as error:
            named = any(name in error.say() for name in (path.name, str(path.parent)))
            return REFUSED if named else f"without the name: {error.say()}"
        except (Exception, HangError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            spoiled = path.read_bytes()
            path.write_bytes(content)
        path.write_bytes(spoiled)
        try:
            differences = reading.find_differences(records, again())
        except Exception as error:
            return f"read what a second reading cannot: {type(error).__name__}: {error}"
        finally:
            path.write_bytes(content)
        return f"read otherwise: {differences[0]}" if differences else READ

    return case
