"""Memory and time of a dataset as large as NIH ChestX-ray14 with a full cache: opening it, and an epoch of batches.

    uv run python benchmarks/data_memory.py [--images 112120] [--limit-mib 1024] [--keep FOLDER]

An empty file and 224 x 224 random bytes stand for each image: all that is opened, looked at and digested is real but
the decoding. Each block of the table is a fresh process; in the last, Linux lets it and its workers have `--limit-mib`
MiB in all, page cache included, in a control group below its own, which takes the right to make one. `anonymous` is
what cannot be taken back: private and shared memory (Pss_Anon and Pss_Shmem) of the process and its workers, the most
seen at any 100th batch; the cache's pages in memory are no part of it. `file`: pages of files that are mapped.
Takes 50 kB of disk an image, in the folder for temporary files unless `--keep` names one, which a later call uses.
"""

import argparse
import cProfile
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import psutil
import torch
from printing import print_table

from genmed.parts.data.cache import Entry, open_images
from genmed.parts.data.images import ImageFiles, Preparation
from genmed.parts.data.loader import BatchLoader, plan_epoch
from genmed.parts.data.records import Pixels, RawImage, Records

SIZE, BATCH, CLASSES = 224, 32, 14
ENOUGH = 30
"""Seconds after which an epoch is cut short."""
PARTS = {
    "read_stamps": "stamps read",
    "take_stamps": "files looked at",
    "find_unchanged": "files held against stamps",
    "write_stamps": "stamps written, if they changed",
    "read_sealed": "seals and JSON (also in stamps)",
    "find_rotten": "bytes held against digests",
    "digest_json": "names and keys",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=112_120)
    parser.add_argument("--limit-mib", type=int, default=1024)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        measure(chosen.inside, chosen.images)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.keep or Path(name)
        needed, free = chosen.images * SIZE**2, shutil.disk_usage(folder.parent if chosen.keep else folder).free
        if needed > 0.8 * free:
            chosen.images = int(0.8 * free / SIZE**2)
            print(f"scaled down to {chosen.images:,} images, for the disk has only {free / 1e9:.1f} GB")
        call = [sys.executable, __file__, "--images", str(chosen.images), "--inside", str(folder)]
        subprocess.run(call, check=True, env=os.environ | {"MAKE_ONLY": "1"})
        print(f"{chosen.images:,} images of {SIZE} px: a cache of {needed / 1e9:.2f} GB; batches of {BATCH} in random")
        print(f"order, converted to float32; {os.cpu_count()} cores, 1 thread; MB are 10^6 bytes\n")
        rows = []
        for where in ("no limit, files in memory", "no limit, files evicted", f"{chosen.limit_mib} MiB, files evicted"):
            limit = chosen.limit_mib * 2**20 if where[0] != "n" else None
            if "evicted" in where:
                evict(folder)
            try:
                with control_group(limit) as group:
                    done = subprocess.run(
                        call, check=False, stdout=subprocess.PIPE, preexec_fn=group and partial(join, group)
                    )
                    for line in done.stdout.splitlines():
                        rows.append([where, *json.loads(line)])
                    if done.returncode:
                        rows.append([where, f"ended by {done.returncode}", *[""] * 5])
                    if group:
                        used = int((group / "memory.max_usage_in_bytes").read_text())
                        rows.append([where, "most that the group had", "", "", "", f"{used / 1e6:.0f}", ""])
            except OSError as error:
                rows.append([where, f"skipped: {error.strerror}: {error.filename}", *[""] * 5])
        print_table(["process", "what", "s", "images/s", "anonymous MB", "most MB", "file MB"], rows)


def measure(folder: Path, count: int) -> None:
    """One JSON line a row of the table; on standard error, where opening takes its time."""
    torch.set_num_threads(1)
    os.environ["GENMED_CACHE"] = str(folder / "cache")
    records = make_records(folder / "images", count)
    if os.environ.get("MAKE_ONLY"):
        open_cache(records)
        return
    start, before = time.perf_counter(), anonymous()
    profile = cProfile.Profile()
    entry = profile.runcall(open_cache, records)
    seconds = time.perf_counter() - start
    print_row("open the cache", seconds, count / seconds, before, anonymous())
    for (_, _, function), (*_, cumulative, _) in sorted(pstats.Stats(profile).stats.items()):  # type: ignore[attr-defined]
        if function in PARTS:
            print_row(f"  {PARTS[function]}", cumulative)
    for workers in (0, 2):
        loader = BatchLoader(entry.images, records.labels, workers=workers, prefetch=2, persistent=True, pin=False)
        start, before, most, done = time.perf_counter(), anonymous(), 0.0, 0
        for step, batch in enumerate(loader.read(plan_epoch(0, 1, np.arange(count), BATCH, 1))):
            batch.images.float()
            done += len(batch.images)
            if step % 100 == 0:
                most = max(most, anonymous())
            if time.perf_counter() - start > ENOUGH:
                break
        seconds = time.perf_counter() - start
        print_row(f"{done / count:.0%} of an epoch, {workers} workers", seconds, done / seconds, before, most)


def print_row(what: str, seconds: float, rate: float | None = None, before: float = 0, most: float = 0) -> None:
    mapped = f"{psutil.Process().memory_info().shared / 1e6:.0f}" if rate else ""
    memory = [f"{before:.0f}" if rate else "", f"{most:.0f}" if rate else "", mapped]
    print(json.dumps([what, f"{seconds:.2f}", f"{rate:.0f}" if rate else "", *memory]), flush=True)


def anonymous() -> float:
    """MB of this process and its children that the system cannot take back."""
    total = 0
    for process in (psutil.Process(), *psutil.Process().children()):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))
    return total * 1024 / 1e6


@dataclass(frozen=True)
class DrawnImages(ImageFiles):
    """Bytes drawn for each row, and a file that is only looked at."""

    def digest(self, row: int) -> str:
        return f"sha256:{row:064x}"

    def read(self, row: int) -> RawImage:
        start = row * 7919 % SIZE**2
        return RawImage(draw_block()[start : start + SIZE**2].reshape(SIZE, SIZE), self.digest(row))


@lru_cache
def draw_block() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, 2 * SIZE**2, dtype=np.uint8)


def make_records(folder: Path, count: int) -> Records:
    names = tuple(f"{row // 4:08d}_{row % 4:03d}.png" for row in range(count))
    if not folder.exists():
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
    labels = np.zeros((count, CLASSES), dtype=np.int8)
    patients = tuple(name[:8] for name in names)
    return Records(names, tuple("abcdefghijklmn"), labels, DrawnImages(folder, names), patients=patients, root=folder)


def open_cache(records: Records) -> Entry:
    return open_images(
        records, Preparation(SIZE), trust_stamps=True, processes=2, progress=lambda *_: None, report=print
    )


def evict(folder: Path) -> None:
    """Out of the page cache, as after a night of other work."""
    os.sync()
    for path in (folder / "cache").rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def control_group(limit: int | None) -> Iterator[Path | None]:
    """A group below this process's own that may have `limit` bytes; OSError where that is not allowed."""
    if limit is None:
        yield None
        return
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = {kind: place for _, kind, place in (line.split(":", 2) for line in lines)}
    if "memory" not in own:
        raise OSError(0, "no memory controller of version 1 (try systemd-run --scope -p MemoryMax=1G)", "cgroup")
    group = Path(f"/sys/fs/cgroup/memory{own['memory']}/genmed-{os.getpid()}")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield group
    finally:
        group.rmdir()


def join(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


if __name__ == "__main__":
    main()
