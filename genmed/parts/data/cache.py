"""Images decoded once into a file of bytes at training size, found by content and mapped into memory.

    <cache>/stamps/<root>.json        digests of files by (size, mtime, inode), so that an unchanged file is not read
    <cache>/images/<key>/pixels.u8    (N, 1, S, S) bytes
    <cache>/images/<key>/digests.json digests of each image's file, decoded pixels and prepared bytes

The key is made of the files' digests and of how they are prepared; where the files lie does not matter.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genmed.ground.errors import DataError, RecordError
from genmed.ground.files import (
    allocate,
    remove_folder,
    storage_errors,
    sweep_temporaries,
    sync_folder,
    temporary_beside,
)
from genmed.ground.fingerprints import digest_json, digest_pixels
from genmed.ground.sealed import read_sealed, write_sealed
from genmed.parts.data.images import PREPARATION, prepare
from genmed.parts.data.processes import Progress, run_over_rows
from genmed.parts.data.records import ImageSource, Pixels, Records

Stamps = dict[str, list[Any]]
"""By image: what tells that its file is unchanged, and the file's digest."""


@dataclass(frozen=True)
class ImageDigests:
    """For each row of its file (sha256), its pixels as decoded, and its bytes as prepared for the network."""

    file: tuple[str, ...]
    decoded: tuple[str, ...]
    prepared: tuple[str, ...]


@dataclass(frozen=True)
class ImageBytes:
    """All images of a dataset at training size: a file that any process maps when it first reads."""

    path: Path
    shape: tuple[int, int, int, int]
    digests: ImageDigests

    def map(self) -> Pixels:
        """(N, 1, S, S) uint8, read only; memory is taken by the pages in use."""
        return np.memmap(self.path, dtype=np.uint8, mode="r", shape=self.shape)

    def find_rotten(self) -> list[int]:
        """Rows whose bytes are not those that were digested when they were written; empty means good."""
        pixels = self.map()
        return [row for row, digest in enumerate(self.digests.prepared) if digest_pixels(pixels[row]) != digest]


def cache_folder() -> Path:
    """GENMED_CACHE, else genmed/ in the user's cache folder."""
    if chosen := os.environ.get("GENMED_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genmed"


def open_images(
    records: Records,
    size: int,
    *,
    trust_stamps: bool,
    processes: int,
    progress: Progress,
    report: Callable[[str], None],
) -> ImageBytes:
    """The images at `size` px, from the cache or decoded into it.

    trust_stamps: whether a file of unchanged size, time and inode counts as unchanged; else all files are read again.
    Raises DataError that names every image that cannot be read (the first few, and the count).
    """
    folder = cache_folder()
    with storage_errors(folder):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "stamps").mkdir(exist_ok=True)
    sweep_temporaries(folder / "images")
    stamps = _read_stamps(folder, records.root, report)
    known = _digest_known(records, stamps) if trust_stamps or records.root is None else {}
    files: tuple[str, ...] | None = None
    if stamps or records.root is None:  # else this folder was never seen: digesting is part of decoding
        unknown = [row for row in range(len(records)) if row not in known]
        digests = dict(run_over_rows(_Digester(records.images), unknown, processes, progress, "checking files"))
        _refuse_broken([digest for digest in digests.values() if not digest.startswith("sha256:")])
        known.update(digests)
        files = tuple(known[row] for row in range(len(records)))
        entry = folder / "images" / _key(files, size)
        found, problem = _open_entry(entry, records, size)
        if found:
            _write_stamps(folder, records, files, stamps)
            return found
        if problem:
            report(f"The image cache is damaged: {problem}; decoding again")
            remove_folder(entry)
    return _build(folder, records, size, processes, progress, stamps)


def _build(folder: Path, records: Records, size: int, processes: int, progress: Progress, stamps: Stamps) -> ImageBytes:
    """Decodes all images into a folder of its own, which gets its final name when it is whole."""
    shape = (len(records), 1, size, size)
    building = temporary_beside(folder / "images" / f"{size}")
    with storage_errors(folder):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
    try:
        allocate(building / "pixels.u8", int(np.prod(shape)))
        decoder = _Decoder(records.images, building / "pixels.u8", shape)
        results = dict(run_over_rows(decoder, list(range(len(records))), processes, progress, "decoding images"))
        _refuse_broken([result for result in results.values() if isinstance(result, str)])
        digests = ImageDigests(*(tuple(results[row][part] for row in range(len(records))) for part in range(3)))
        write_sealed(building / "digests.json", {"schema": 1, **digests.__dict__})
        with open(building / "pixels.u8", "rb") as file:
            os.fsync(file.fileno())
        final = folder / "images" / _key(digests.file, size)
        entry, problem = _open_entry(final, records, size)
        if entry is None:
            if problem:
                remove_folder(final)
            try:
                building.rename(final)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # then another run was faster
                    raise
            sync_folder(final.parent)
        _write_stamps(folder, records, digests.file, stamps)
        return ImageBytes(final / "pixels.u8", shape, digests)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _key(files: Sequence[str], size: int) -> str:
    """Content and preparation, with the versions of the libraries that decode."""
    import PIL
    from PIL import features

    decoder = [PIL.__version__, features.version("jpg"), features.version("zlib")]
    return digest_json([PREPARATION, size, decoder, list(files)]).removeprefix("sha256:")[:32]


def _open_entry(entry: Path, records: Records, size: int) -> tuple[ImageBytes | None, str]:
    """The cached images; or None and what is damaged, if anything is there."""
    shape = (len(records), 1, size, size)
    if not entry.exists():
        return None, ""
    try:
        digests = read_sealed(entry / "digests.json")
    except RecordError as error:
        return None, error.message
    found = ImageBytes(
        entry / "pixels.u8", shape, ImageDigests(*(tuple(digests[part]) for part in ("file", "decoded", "prepared")))
    )
    length = found.path.stat().st_size if found.path.is_file() else None
    if length != int(np.prod(shape)):
        return None, f"{found.path} is {'missing' if length is None else f'{length} bytes long'}"
    if rotten := found.find_rotten():
        return None, f"{found.path} fails its digests at {len(rotten)} images ({records.ids[rotten[0]]})"
    return found, ""


def _refuse_broken(reasons: list[str]) -> None:
    if reasons:
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise DataError(
            f"{len(reasons)} images cannot be read: {'; '.join(reasons[:3])}{more}",
            "restore these files, or remove them and their rows",
        )


class _Digester:
    def __init__(self, images: ImageSource) -> None:
        self.images = images

    def __call__(self, row: int) -> str:
        """The digest, or the reason why the file cannot be read."""
        try:
            return self.images.digest(row)
        except DataError as error:
            return error.message


class _Decoder:
    """Writes one prepared image to its place; gives the three digests, or the reason why it cannot be read."""

    def __init__(self, images: ImageSource, path: Path, shape: tuple[int, ...]) -> None:
        self.images, self.path, self.shape = images, path, shape

    def __call__(self, row: int) -> tuple[str, str, str] | str:
        try:
            pixels = self.images.load(row)
            digest = self.images.digest(row)
        except DataError as error:
            return error.message
        prepared = prepare(pixels, self.shape[-1])
        np.memmap(self.path, dtype=np.uint8, mode="r+", shape=self.shape)[row] = prepared
        return digest, digest_pixels(np.ascontiguousarray(pixels)), digest_pixels(prepared)


def _stamps_path(folder: Path, root: Path) -> Path:
    return folder / "stamps" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.json"


def _read_stamps(folder: Path, root: Path | None, report: Callable[[str], None]) -> Stamps:
    """None where this folder was not seen before; damaged ones are named and left: the files are read again."""
    if root is None or not (path := _stamps_path(folder, root)).exists():
        return {}
    try:
        return dict(read_sealed(path)["files"])
    except RecordError as error:
        report(f"{error.message}; all files are read again")
        return {}


def _digest_known(records: Records, stamps: Stamps) -> dict[int, str]:
    known = {}
    for row, name in enumerate(records.ids):
        stamp = records.images.stamp(row)
        entry = stamps.get(name)
        if stamp and isinstance(entry, list) and entry[:-1] == list(stamp):
            known[row] = str(entry[-1])
    return known


def _write_stamps(folder: Path, records: Records, files: Sequence[str], before: Stamps) -> None:
    if records.root is None:
        return
    stamps = {
        name: [*(records.images.stamp(row) or ()), digest]
        for row, (name, digest) in enumerate(zip(records.ids, files, strict=True))
    }
    if before != stamps:
        write_sealed(_stamps_path(folder, records.root), {"schema": 1, "files": stamps})
