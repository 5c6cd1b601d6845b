"""What a step sees: the order of an epoch, the scaling of bytes, the loaders that bring them."""

import csv
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from genmed.engine.normalise import Scaling, choose_scaling
from genmed.ground.errors import RecordError
from genmed.parts.data import device
from genmed.parts.data.cache import ImageBytes, ImageDigests, entry
from genmed.parts.data.device import Loader, ReadAhead, ResidentLoader
from genmed.parts.data.loader import Batch, BatchLoader, Rows, plan_epoch
from genmed.records.config.sections import Normalisation
from tests.harness import Genmed

Arguments = Callable[..., list[object]]


def write_images(folder: Path, pixels: npt.NDArray[np.uint8]) -> ImageBytes:
    (folder / "pixels.u8").write_bytes(pixels.tobytes())
    return ImageBytes(folder / "pixels.u8", pixels.shape, ImageDigests((), (), ()))


def test_mean_and_std_are_those_of_the_training_bytes(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.Philox(11))
    pixels = random.integers(0, 256, (2600, 1, 3, 3), dtype=np.uint8)
    train = np.flatnonzero(np.arange(2600) % 13 != 0)
    pixels[::13] = 255
    values = [int(value) for value in pixels[train].reshape(-1)]
    mean = Fraction(sum(values), len(values))
    variance = Fraction(sum(value * value for value in values), len(values)) - mean * mean
    images = write_images(tmp_path, pixels)
    scaling = choose_scaling(Normalisation(), images, train)
    assert isinstance(scaling.std, float)
    assert scaling.mean == pytest.approx(float(mean / 255), rel=4e-16)
    assert Fraction(scaling.std) ** 2 == pytest.approx(variance / 255**2, rel=1e-15)
    assert choose_scaling(Normalisation(), images, train[::-1].copy()) == scaling


def test_chosen_scaling_needs_no_image_and_black_images_are_not_divided_by_zero(tmp_path: Path) -> None:
    black = write_images(tmp_path, np.zeros((2, 1, 4, 4), dtype=np.uint8))
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


COLOURS = np.random.Generator(np.random.Philox(12)).integers(0, 256, (30, 3, 4, 4), dtype=np.uint8)
TARGETS = np.random.Generator(np.random.Philox(13)).integers(-1, 2, (30, 5)).astype(np.int8)


def open_loader(kind: str, images: ImageBytes) -> Loader:
    streamed = BatchLoader(images, TARGETS, workers=0, prefetch=2, persistent=False, pin=False)
    return {
        "resident": lambda: ResidentLoader(images, TARGETS, "cpu"),
        "ahead": lambda: ReadAhead(streamed, 2),
        "streamed": lambda: streamed,
    }[kind]()


@pytest.mark.parametrize("kind", ["resident", "ahead", "streamed"])
def test_loader_brings_the_bytes_of_the_planned_rows(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "ROWS_AT_ONCE", 7)
    loader = open_loader(kind, write_images(tmp_path, COLOURS))
    plan = [np.array([29, 0, 7]), np.array([7, 7]), np.arange(30)]
    for _ in range(2):
        found = list(loader.read(plan))
        assert len(found) == len(plan)
        for rows, batch in zip(plan, found, strict=True):
            assert batch.rows.tolist() == rows.tolist()
            assert np.array_equal(batch.images.numpy(), COLOURS[rows])
            assert np.array_equal(batch.targets.numpy(), TARGETS[rows])


def test_rows_that_are_left_out_are_passed_over(tmp_path: Path) -> None:
    images = write_images(tmp_path, COLOURS)
    digests = ImageDigests(*(tuple(map(str, range(30))) for _ in range(3)))
    some = ImageBytes(images.path, images.shape, digests).choose([2, 5, 29])
    assert len(some) == 3
    assert np.array_equal(some.read(np.array([2, 0])), COLOURS[[29, 2]])
    assert np.array_equal(some.read(slice(1, 3)), COLOURS[[5, 29]])
    assert some.digests.file == ("2", "5", "29")
    fewer = some.choose([0, 2])
    assert np.array_equal(fewer.read(slice(None)), COLOURS[[2, 29]])
    assert fewer.digests.file == ("2", "29")


class Endless:
    """A loader that counts what is asked of it, and fails at the tenth batch."""

    def __init__(self) -> None:
        self.read_so_far = 0

    def read(self, batches: Sequence[Rows], own: Sequence[Rows] | None = None) -> Iterator[Batch]:
        while True:
            self.read_so_far += 1
            if self.read_so_far == 10:
                raise OSError("the disk is gone")
            number = torch.tensor([self.read_so_far])
            yield Batch(number, number, number)


def test_batches_are_read_ahead_as_far_as_asked_and_a_failure_is_told_in_its_place() -> None:
    source = Endless()
    batches = ReadAhead(source, 2).read([])
    for number in range(1, 10):
        assert int(next(batches).rows) == number
        time.sleep(0.05)
        assert source.read_so_far <= number + 3
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_reader_ends_when_nobody_wants_its_batches_any_more() -> None:
    batches = ReadAhead(Endless(), 2).read([])
    next(batches)
    assert any(thread.name == "genmed-read-ahead" for thread in threading.enumerate())
    batches.close()  # type: ignore[attr-defined]
    assert not any(thread.name == "genmed-read-ahead" for thread in threading.enumerate())


def test_images_in_the_device_s_memory_change_no_bit(genmed: Genmed, trained: Genmed, tiny: Arguments) -> None:
    result = genmed(*tiny("--set", "compute.images=resident"))
    assert result.json["trace_digest"] == trained("show", "latest", "--json").json["trace_digest"]


@pytest.mark.parametrize("waits", ["in memory", "not in memory", "nobody can tell"])
def test_bytes_are_the_same_whether_their_pages_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    pixels = np.random.Generator(np.random.Philox(7)).integers(0, 256, (9, 3, 40, 40), dtype=np.uint8)
    images = write_images(tmp_path, pixels)
    answer = os.preadv

    def refuse_some(number: int, buffers: list[Any], start: int, flags: int = 0) -> int:
        row = start // pixels[0].nbytes
        if flags and row % 3 == 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        half = [buffers[0][:1]] if flags and row % 3 == 1 else buffers
        return answer(number, half, start)

    if waits == "not in memory":
        monkeypatch.setattr(os, "preadv", refuse_some)
    if waits == "nobody can tell":
        monkeypatch.setattr(entry, "NOT_WAITING", 0)
    rows = np.array([8, 0, 3, 3, 7, 1, 2])
    assert np.array_equal(images.read(rows), pixels[rows])
    assert np.array_equal(images.read(slice(2, 6)), pixels[2:6])


def test_cache_file_that_is_cut_short_in_use_is_told(tmp_path: Path) -> None:
    images = write_images(tmp_path, np.zeros((4, 1, 8, 8), dtype=np.uint8))
    images.read(np.arange(4))
    os.truncate(images.path, 3 * 64 + 1)
    assert images.read(np.arange(3)).shape == (3, 1, 8, 8)
    with pytest.raises(RecordError, match=r"pixels\.u8 was cut short while it was in use"):
        images.read(np.arange(4))


def test_freed_memory_is_kept_for_the_next_step_where_the_library_can_be_told() -> None:
    script = """
import resource
import torch
from genmed.ground.allocator import keep_freed_memory
def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
count_faults()
print(keep_freed_memory(), count_faults() and count_faults())
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert found[0] == "False" or int(found[1]) < 1000, found  # 16,384 pages a tensor else
