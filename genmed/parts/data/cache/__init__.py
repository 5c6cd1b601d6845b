"""Images decoded once into a file of bytes at training size, found by content, and read from there in batches.

An entry's key is made of the files' digests, of how they are prepared and of what decodes them; where the files lie
does not matter. `entry` is one such file, `place` where they lie and how much they may take, `stamps` what is known of
the files of a folder.
"""

import errno
import inspect
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genmed.ground.errors import DataError
from genmed.ground.files import allocate, remove_folder, storage_errors, sync_folder, temporary_beside
from genmed.ground.fingerprints import digest_file, digest_json, digest_pixels
from genmed.ground.wording import say_count
from genmed.parts.data.cache.entry import FORMAT, PIXELS, Entry, ImageBytes, ImageDigests, open_entry, write_digests
from genmed.parts.data.cache.place import (
    IN_USE,
    alone,
    cache_folder,
    hold,
    keep_within,
    make_folders,
    read_limit,
    release,
)
from genmed.parts.data.cache.stamps import Stamps, take_stamps, write_stamps
from genmed.parts.data.images import Preparation
from genmed.parts.data.processes import Progress, run_over_rows
from genmed.parts.data.records import ChosenImages, ImageSource, Records

__all__ = ["Entry", "ImageBytes", "ImageDigests", "cache_folder", "open_images"]

Report = Callable[[str], None]
DECODING = Path(__file__).parents[1]
"""The folder of what decodes."""


def open_images(
    records: Records,
    preparation: Preparation,
    *,
    trust_stamps: bool,
    processes: int,
    progress: Progress,
    report: Report,
) -> Entry:
    """The images as they are prepared, from the cache or decoded into it; those that cannot be read are told.

    trust_stamps: whether a file of unchanged size, time and inode counts as unchanged; else all files are read again.
    """
    folder = make_folders()
    workshop = _Workshop(folder, records, preparation, processes, progress, report)
    found, stamps = workshop.find(trust_stamps)
    if found is not None:
        write_stamps(folder, records, stamps, found.images.digests.file)
        return found
    with alone(folder, workshop.name, report) as waited:
        if waited:  # then they may be there by now
            found, stamps = workshop.find(trust_stamps)
        if found is None:
            found = workshop.decode()
        write_stamps(folder, records, stamps, found.images.digests.file)  # before the next one looks
    for removed in keep_within(folder, read_limit(folder)):
        report(f"The image cache was full: removed {removed.what}: {removed.size / 2**20:.0f} MiB")
    return found


@dataclass(frozen=True)
class _Workshop:
    """One set of images on its way into the cache."""

    folder: Path
    records: Records
    preparation: Preparation
    processes: int
    progress: Progress
    report: Report

    @property
    def name(self) -> str:
        """Of the set before a file is read: its root, its images, how they are prepared."""
        root = str(self.records.root.resolve()) if self.records.root else ""
        return digest_json([root, list(self.records.ids), self.preparation.describe()]).removeprefix("sha256:")[:32]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.records), *self.preparation.shape

    def describe(self) -> str:
        """For people who look into the cache."""
        colour = "RGB" if self.preparation.channels == 3 else "grey"
        where = f" of {self.records.root}" if self.records.root else ""
        return f"{say_count(len(self.records), 'image')}, {self.preparation.size} px, {colour}{where}"

    def place(self, files: Sequence[str]) -> Path:
        code = digest_decoding_code(self.records.images)
        described = [FORMAT, self.preparation.describe(), list(self.records.images.decoders()), code, list(files)]
        return self.folder / "images" / digest_json(described).removeprefix("sha256:")[:32]

    def find(self, trust_stamps: bool) -> tuple[Entry | None, Stamps]:
        """The entry of the images as they are now, if there is one; and the stamps of their files, with what was known
        of the folder before."""
        stamps = take_stamps(self.folder, self.records, self.report)
        if not stamps.before and self.records.root is not None:
            return None, stamps  # this folder was never seen: digesting is part of decoding
        return self.open(self.digest_files(stamps.find_unchanged() if trust_stamps else {})), stamps

    def digest_files(self, known: dict[int, str]) -> list[str]:
        """By row; '' for a file that cannot be read."""
        unknown = [row for row in range(len(self.records)) if row not in known]
        digest = _Digester(self.records.images)
        known.update(run_over_rows(digest, unknown, self.processes, self.progress, "checking files"))
        return [known[row] for row in range(len(self.records))]

    def open(self, files: Sequence[str]) -> Entry | None:
        """The entry of these files, if it is there and good; one that is not is named and removed."""
        place = self.place(files)
        if not hold(place):
            return None
        found, problem = open_entry(place, self.shape)
        if found and any(_can_be_read(self.records.images, row) for row in found.broken):
            found, problem = None, f"it calls an image of {place} broken that can be read"  # it was the disk's fault
        if problem:
            self.report(f"The image cache is damaged: {problem}; decoding again")
        if found is None:
            release(place)
            remove_folder(place)
        return found

    def decode(self) -> Entry:
        """Decodes all images into a folder of its own, which gets its final name when it is whole."""
        building = temporary_beside(self.folder / "images" / f"{self.preparation.size}")
        with storage_errors(self.folder):
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
        try:
            allocate(building / PIXELS, int(np.prod(self.shape)))
            found = self._fill(building)
            with open(building / PIXELS, "rb") as file:
                os.fsync(file.fileno())
            (building / IN_USE).write_text(f"{self.describe()}\n", encoding="utf-8", errors="replace")
            place = self.place(found.images.digests.file)
            there = self.open(found.images.digests.file)
            if there is None:
                self._move(building, place)
            hold(place)
            return there or Entry(replace(found.images, path=place / PIXELS), found.broken)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _fill(self, building: Path) -> Entry:
        decoder = _Decoder(self.records.images, self.preparation, building / PIXELS, self.shape)
        every = range(len(self.records))
        done = dict(run_over_rows(decoder, list(every), self.processes, self.progress, "decoding images"))
        broken = {row: done[row].reason for row in every if done[row].reason}
        digests = ImageDigests(
            tuple(done[row].file for row in every),
            tuple(done[row].decoded for row in every),
            tuple(done[row].prepared for row in every),
        )
        in_colour = sum(done[row].in_colour for row in every)
        sizes = tuple(done[row].size for row in every)
        images = ImageBytes(building / PIXELS, self.shape, digests, in_colour=in_colour, sizes=sizes)
        write_digests(building, images, broken)
        return Entry(images, broken)

    def _move(self, building: Path, place: Path) -> None:
        try:
            building.rename(place)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # then another process was faster
                raise
        sync_folder(place.parent)


def digest_decoding_code(images: ImageSource) -> str:
    """Of the sources that make pixels of a file's bytes: ours, and the one in which the images' class stands.

    Else bytes that were decoded before a change of the code would pass for what the code gives now.
    """
    while isinstance(images, ChosenImages):
        images = images.source
    ours = [DECODING / name for name in ("images.py", "npz.py")] + sorted((DECODING / "dicom").glob("*.py"))
    return digest_json([digest_file(path) for path in (*ours, Path(inspect.getfile(type(images))))])


@dataclass(frozen=True)
class _Done:
    """What came of one image: its three digests and its kind, or the reason why there is none."""

    file: str = ""
    decoded: str = ""
    prepared: str = ""
    in_colour: bool = False
    size: tuple[int, int] = (0, 0)
    """(height, width), in pixels."""
    reason: str = ""


@dataclass(frozen=True)
class _Decoder:
    """Writes one prepared image to its place."""

    images: ImageSource
    preparation: Preparation
    path: Path
    shape: tuple[int, ...]

    def __call__(self, row: int) -> _Done:
        try:
            image = self.images.read(row)
        except DataError as error:
            return _Done(_Digester(self.images)(row), reason=error.say())
        prepared = self.preparation.apply(image)
        np.memmap(self.path, dtype=np.uint8, mode="r+", shape=self.shape)[row] = prepared
        decoded = image.decoded
        size = image.pixels.shape[0], image.pixels.shape[1]
        return _Done(image.digest, decoded, digest_pixels(prepared), image.pixels.ndim == 3, size)


@dataclass(frozen=True)
class _Digester:
    images: ImageSource

    def __call__(self, row: int) -> str:
        """'' where the file cannot be read."""
        try:
            return self.images.digest(row)
        except DataError:
            return ""


def _can_be_read(images: ImageSource, row: int) -> bool:
    try:
        images.read(row)
    except DataError:
        return False
    return True
