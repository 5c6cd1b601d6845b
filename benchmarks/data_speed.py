"""How fast data come: tables read and split, images decoded into the cache, batches out of it; each beside others.

    uv run [--with monai] python benchmarks/data_speed.py [tables] [cold] [warm] [--data ../shared/data]

`--data` holds metadata/ with the official tables of NIH ChestX-ray14 and CheXpert, and nih_512/images/ with
radiographs. MONAI is no dependency of genmed: without it its rows are skipped by name. What is measured, and under
which conditions, is printed above each table; what is compared in one table ran by turns in one process.
"""

import argparse
import gzip
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from data_loaders import BATCH, SIZE, Loader, make_loaders
from PIL import Image
from printing import print_table

from genmed.ground.allocator import keep_freed_memory
from genmed.parts.data.cache import open_images
from genmed.parts.data.images import ImageFiles, Preparation
from genmed.parts.data.records import Pixels, Records
from genmed.parts.data.split import split_records
from genmed.records.config import Config
from genmed.workflows.assemble import read_records

FILE_SIZE = 1024
TABLES = {
    "nih": ("Data_Entry_2017_v2020.csv", "images/{name}"),
    "chexpert": ("chexpert_train.csv", "{name}"),
}
PARTS = ("tables", "cold", "warm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all unless named")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--images", type=int, default=256, help="files to make for cold and warm")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    processor = f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, 1 thread of torch's a process"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GENMED_CACHE"] = str(folder / "cache")
        if "tables" in (chosen.parts or PARTS):
            measure_tables(chosen.data / "metadata", folder, chosen.repeats)
        if {"cold", "warm"} & set(chosen.parts or PARTS):
            records = make_radiographs(chosen.data / "nih_512/images", folder / "png", chosen.images)
            size = statistics.mean(os.stat(folder / "png" / image).st_size for image in records.ids)
            print(f"{chosen.images} grey PNG files, {FILE_SIZE} px, {size / 1000:.0f} kB each; {processor}\n")
            if "cold" in (chosen.parts or PARTS):
                measure_cold(records, chosen.repeats)
            if "warm" in (chosen.parts or PARTS):
                measure_warm(records, folder, chosen.repeats)


def measure_tables(metadata: Path, folder: Path, repeats: int) -> None:
    """Seconds from the official table to the labels and the sides of every image, each file looked for."""
    print("Tables: the official table, and an empty file for each row, in the official folders (made before).")
    print(
        "read: parsed, labelled, each file looked for (inodes in memory), sorted; split: by patient. Imports excluded."
    )
    rows = []
    for name, (table, place) in TABLES.items():
        root = folder / name
        lay_out(metadata / f"{table}.gz", root, "train.csv" if name == "chexpert" else table, place)
        config = Config().replace(**{"data.dataset": name, "data.root": str(root)})
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            records = read_records(config)
            read = time.perf_counter()
            split_records(records, config.data)
            seconds.append((read - start, time.perf_counter() - read, time.perf_counter() - start))
        parse, split, whole = (statistics.median(column) for column in zip(*seconds, strict=True))
        best = min(total for *_, total in seconds)
        row = [f"{name}, {len(records):,} rows", *(f"{value:.2f}" for value in (parse, split, whole, best))]
        rows.append([*row, f"{whole / 2:.2f}"])
    print_table(["dataset", "read s", "split s", "both s", "best s", "of the target's 2 s"], rows)


def lay_out(source: Path, root: Path, table: str, place: str) -> None:
    """The table, and an empty file where it says that each image is."""
    content = gzip.decompress(source.read_bytes())
    root.mkdir()
    (root / table).write_bytes(content)
    made = set()
    for line in content.decode().splitlines()[1:]:
        path = root / place.format(name=line.split(",")[0].removeprefix("CheXpert-v1.0-small/"))
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.touch()


def make_radiographs(source: Path, folder: Path, count: int) -> Records:
    """PNG files of 1024 px: parts of real radiographs, enlarged, with noise, so that they compress as NIH's do."""
    folder.mkdir()
    originals = [np.asarray(Image.open(path).convert("L")) for path in sorted(source.glob("*.png"))]
    draw = np.random.default_rng(0)
    names = tuple(f"{row:05d}.png" for row in range(count))
    for row, name in enumerate(names):
        original = originals[row % len(originals)]
        side = int(draw.integers(400, 513))
        top, left = draw.integers(0, 513 - side, 2)
        part = Image.fromarray(np.ascontiguousarray(original[top : top + side, left : left + side]))
        large = np.asarray(part.resize((FILE_SIZE, FILE_SIZE), Image.Resampling.BICUBIC))
        noisy = np.clip(np.rint(large + draw.standard_normal(large.shape, dtype=np.float32)), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(folder / name)
    labels = np.ones((count, 1), dtype=np.int8)
    return Records(names, ("any",), labels, ImageFiles(folder, names), root=folder)


def measure_cold(records: Records, repeats: int) -> None:
    """Images a second, decoded and cached; and decoded by Pillow alone."""
    print("Cold: files to bytes of 224 px, grey. Files in the page cache, genmed's cache empty; starting processes and")
    print("genmed's digests of file and pixels, its writing and syncing are included; equal bytes were asserted.")
    ways: dict[str, Callable[[], Pixels]] = {}
    for processes in (1, 2):
        ways[f"Pillow alone, {processes}"] = partial(decode_by_pillow, records, processes)
        ways[f"genmed, {processes}"] = partial(decode_into_cache, records, processes)
    expected = ways["Pillow alone, 1"]()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            pixels = way()
            seconds[name].append(time.perf_counter() - start)
            assert np.array_equal(pixels, expected), name
    rows = []
    for name, measured in seconds.items():
        processes = int(name.rpartition(" ")[2])
        rate = len(records) / statistics.median(measured)
        alone = seconds[f"Pillow alone, {processes}"]
        ratio = statistics.median(other / own for other, own in zip(alone, measured, strict=True))
        rows.append([name, f"{rate:.0f}", f"{rate / processes:.0f}", f"{ratio:.2f}"])
    print_table(["way, processes", "images/s", "a process", "of Pillow's"], rows)


def decode_by_pillow(records: Records, processes: int) -> Pixels:
    assert records.root
    paths = [records.root / name for name in records.ids]
    if processes == 1:
        return np.stack([shrink(path) for path in paths])[:, None]
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        return np.stack(list(pool.map(shrink, paths, chunksize=16)))[:, None]


def shrink(path: Path) -> Pixels:
    """Bilinear, as genmed resizes: Pillow's default, bicubic, takes longer."""
    return np.asarray(Image.open(path).convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def decode_into_cache(records: Records, processes: int) -> Pixels:
    cache = Path(os.environ["GENMED_CACHE"])
    os.environ["GENMED_CACHE"] = str(cache.with_name(f"{cache.name}+"))  # each time another: never found
    entry = open_images(
        records, Preparation(SIZE), trust_stamps=True, processes=processes, progress=lambda *_: None, report=print
    )
    return entry.images.read(slice(0, len(records)))


def measure_warm(records: Records, folder: Path, repeats: int) -> None:
    """Images a second as float32 batches, of loaders whose caches are full, and of one that decodes each time."""
    print(
        f"Warm: float32 batches of {BATCH} x 1 x {SIZE} x {SIZE} between 0 and 1, in random order, in the main process."
    )
    print(
        "All caches full and in the page cache; workers persistent and started before; collating, conversion to float32"
    )
    print(
        "and mean and std as the training step does it are included. The allocator keeps freed memory, as in training;"
    )
    print("each batch is dropped before the next is asked for, as by a step.")
    print("CacheDataset holds all images as float32 in memory, images=resident as bytes, a quarter of that; the others")
    print("read them from a file in the page cache.")
    print("Equal pixels were asserted (MONAI's Resize, another filter: within 3% on average).")
    loaders = make_loaders(records, folder, augmented=False)
    reference = torch.stack([torch.from_numpy(shrink(records.root / name).copy()) for name in records.ids])[:, None]
    for name, make in loaders.items():
        close = 0.03 if "MONAI" in name else 1e-6
        for batch in make(np.arange(len(records))):
            first = reference[: len(batch)] / 255
            assert batch.dtype == torch.float32, (name, batch.dtype)
            assert batch.shape == first.shape, (name, batch.shape)
            assert (batch - first).abs().mean() < close, (name, (batch - first).abs().mean())
            break
    contest(loaders, len(records), repeats, batches=256)
    print("\nThe same, each image turned by up to 5 degrees and shifted by up to 4%, as the preset `light` has it:")
    print("genmed changes whole batches, MONAI (RandAffined after its caches) and torchvision one image at a time.")
    contest(make_loaders(records, folder, augmented=True), len(records), repeats, batches=16)


def contest(loaders: dict[str, Loader], images: int, repeats: int, batches: int) -> None:
    """By turns; prints images a second, and the medians of the ratios of one turn."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    draw = np.random.default_rng(0)
    for _ in range(repeats):
        for name, make in loaders.items():
            rows = draw.integers(0, images, BATCH * (8 if "each time" in name else batches))
            start = time.perf_counter()
            count = 0
            for batch in make(rows):
                count += len(batch)
                del batch
            rates[name].append(count / (time.perf_counter() - start))
    own = "MONAI CacheDataset, 0" if "MONAI CacheDataset, 0" in rates else "genmed, 0"
    decoding = "torchvision, decodes each time, 2"
    rows = []
    for name, measured in rates.items():
        ratios = [
            statistics.median(rate / other for rate, other in zip(measured, rates[beside], strict=True))
            for beside in (own, decoding)
        ]
        rows.append([name, f"{statistics.median(measured):.0f}", *(f"{ratio:.2f}" for ratio in ratios)])
    print_table(["loader, workers", "images/s", f"of {own}", f"of {decoding}"], rows)


if __name__ == "__main__":
    main()
