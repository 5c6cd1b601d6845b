"""The cache of bytes, stamps of files, and the data fingerprint."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmed.ground.errors import DataError, StorageError
from genmed.ground.files import allocate
from genmed.parts.data.cache import ImageBytes, open_images
from genmed.parts.data.cache.place import release, write_limit
from genmed.parts.data.images import ImageFiles, Preparation
from genmed.parts.data.split import assign_patient
from genmed.records.config.sections import Data
from genmed.workflows.assemble import fingerprint_data, load_data
from genmed.workflows.reporting import Silent
from tests.datasets.reading_nih import TABLE, config_of, read, write_lists
from tests.harness import Command, Genmed, own_environment
from tests.resuming.runs import wait_for

Arguments = Callable[..., list[object]]


def open_at(root: Path, messages: list[str] | None = None, *, trust_stamps: bool = True, size: int = 16) -> ImageBytes:
    entry = open_images(
        read(root),
        Preparation(size),
        trust_stamps=trust_stamps,
        processes=4,
        progress=lambda what, done, total: None,
        report=(messages if messages is not None else []).append,
    )
    assert not entry.broken
    return entry.images


def fingerprint(root: Path, **more: Any) -> str:
    return load_data(config_of(root), Silent(), **{"trust_stamps": True, **more}).fingerprint


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
    pixels = images.read(slice(None))
    assert pixels.shape == images.shape == (len(records), 1, 16, 16)
    for row in range(len(records)):
        assert np.array_equal(pixels[row], Preparation(16).apply(records.images.read(row)))
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
    monkeypatch.setattr(ImageFiles, "read", lambda *_: pytest.fail("decoded again"))
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
        assert messages == [f"The image cache is damaged: {where}, the first in row 5; decoding again"]
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


def wait_for_decoding(command: Command, cache: Path) -> Path:
    """The folder in which a cache is being built."""
    end = time.monotonic() + 60
    while time.monotonic() < end and command.running:
        for path in (cache / "images").glob(".tmp-*/pixels.u8"):
            return path.parent
        time.sleep(0.002)
    raise AssertionError(command.wait().err)


def test_killed_builder_leaves_nothing_that_is_used(
    genmed: Genmed, tiny: Arguments, heavy: Path, tmp_path: Path
) -> None:
    own = {"GENMED_CACHE": str(tmp_path / "own")}
    command = genmed.start(*tiny("--data-root", heavy), **own)
    left = wait_for_decoding(command, tmp_path / "own")
    command.send(signal.SIGKILL)
    command.wait()
    assert entries(tmp_path / "own") == [left]
    result = genmed(*tiny("--data-root", heavy), **own)
    assert result.code == 0, result.err
    (entry,) = entries(tmp_path / "own")
    assert not entry.name.startswith(".tmp-")
    elsewhere = genmed(*tiny("--data-root", heavy), GENMED_CACHE=str(tmp_path / "other"))
    assert result.json["trace_digest"] == elsewhere.json["trace_digest"]


def test_second_of_two_processes_waits_for_the_first_and_decodes_nothing(
    genmed: Genmed, tiny: Arguments, heavy: Path, tmp_path: Path
) -> None:
    own = {"GENMED_CACHE": str(tmp_path / "own")}
    slow = genmed.start(*tiny("--data-root", heavy, "--name", "slow"), **own)
    building = wait_for_decoding(slow, tmp_path / "own")
    slow.send(signal.SIGSTOP)
    fast = genmed.start(*tiny("--data-root", heavy, "--name", "fast"), **own)
    wait_for(lambda: "waiting for it" in fast.err)
    assert fast.running
    assert len(entries(tmp_path / "own")) == 1
    slow.send(signal.SIGCONT)
    begun: set[Path] = set()
    while fast.running:
        begun.update((tmp_path / "own" / "images").glob(".tmp-*"))
        time.sleep(0.002)
    first, second = slow.wait(), fast.wait()
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "Another process is decoding these images; waiting for it" in second.err
    assert begun <= {building}
    assert first.json["trace_digest"] == second.json["trace_digest"]
    assert len(entries(tmp_path / "own")) == 1


def test_broken_images_stop_by_name_or_are_left_out_and_change_the_data(copy: Path, cache: Path) -> None:
    whole, names = fingerprint(copy), read(copy).ids[3:5]
    for name in names:
        (copy / "images" / name).write_bytes(b"no image")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError, match="2 images cannot be read") as caught:
            fingerprint(copy)
        assert all(name in caught.value.message for name in names)
    data = load_data(config_of(copy, on_bad_image="skip"), Silent(), trust_stamps=True)
    assert len(data.records) == len(data.images) == len(read(copy)) - 2
    assert set(data.records.left_out) == set(names)
    assert data.fingerprint != whole
    never_there = replace(data.records, left_out={})
    assert fingerprint_data(never_there, data.split, data.images) != data.fingerprint
    records = read(copy)
    for row, name in enumerate(data.records.ids):
        expected = Preparation(16).apply(records.images.read(records.ids.index(name)))
        assert np.array_equal(data.images.read(np.array([row]))[0], expected)
    for name in names:
        shutil.copy(copy / "images" / records.ids[0], copy / "images" / name)
    assert fingerprint(copy) != whole


def test_entry_used_longest_ago_gives_way_when_the_cache_is_full(copy: Path, cache: Path) -> None:
    first, second = (open_at(copy, size=size).path.parent for size in (16, 20))
    for entry, moment in ((first, 2_000), (second, 1_000)):
        release(entry)
        os.utime(entry / "in-use", (moment, moment))
    size = sum(path.stat().st_size for path in first.iterdir())
    write_limit(cache, 3 * size)
    messages: list[str] = []
    third = open_at(copy, messages, size=18).path.parent
    assert messages == [f"The image cache was full: removed 100 images, 20 px, grey of {copy}: 0 MiB"]
    assert set(entries(cache)) == {first, third}


def test_tests_have_an_image_cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    for place in (os.environ["GENMED_CACHE"], own_environment()["GENMED_CACHE"]):
        assert Path(place).is_relative_to(tmp_path_factory.getbasetemp())
