"""How time and memory grow with the images and with the steps: ten and ten thousand times as many, fresh processes.

    uv run python benchmarks/growth.py [images] [steps] [--images 1000 10000 100000] [--steps 10 1000 100000]
                                       [--drawing benchmarks/growth.svg]

Images: a table in NIH's layout, an empty file and 32 x 32 random bytes for each; a process that only reads them, after
one that made the cache. Steps: `genmed train` with the tests' tiny model at 16 px, 8 images a step, so that almost all
is genmed's own work: trace, validation, metrics and a checkpoint each 168 steps; then a process that reads the finished
run as `resume` (the trace alone) and as `verify` does (all that the run left), `genmed show` and `genmed report`.
`exponent` is the slope of a straight line through the logarithms: 1 is in proportion, at most 1.1 counts as straight.
Imports take seconds and memory that do not grow, so an exponent below 1 tells of them; `each` is what one more image or
step takes, from the two largest sizes. Steps' seconds are the epochs' own, by metrics.csv; peak memory is ru_maxrss.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from fresh import GENMED, run_fresh
from many_runs import TINY_MODEL, train_tiny
from printing import describe_machine, print_table

from genmed.parts.data.images import ImageFiles
from genmed.parts.data.records import RawImage
from genmed.records.run_folder import RunFolder

PARTS = ("images", "steps")
SIDE, BATCH, BATCH_OF_STEPS, STRAIGHT = 32, 32, 8, 1.1
STEPS_AN_EPOCH = 168
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


@dataclass
class Curve:
    """One measured thing over the sizes; None where it was not measured."""

    unit: str
    values: dict[int, float] = field(default_factory=dict)

    @property
    def exponent(self) -> float:
        sizes, values = np.log(list(self.values)), np.log(np.maximum(list(self.values.values()), 1e-6))
        return float(np.polyfit(sizes, values, 1)[0])

    @property
    def each(self) -> float:
        """What one more takes, by the two largest sizes."""
        (few, less), (many, more) = sorted(self.values.items())[-2:]
        return (more - less) / (many - few)


Curves = dict[str, Curve]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all unless named")
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 1000, 100_000])
    parser.add_argument("--drawing", type=Path, default=Path(__file__).with_name("growth.svg"))
    parser.add_argument("--inside", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        what, folder = chosen.inside
        print(json.dumps(INSIDE[what](Path(folder))))
        return
    print(describe_machine("torch"))
    measured: dict[str, Curves] = {}
    for part in chosen.parts or PARTS:
        measure, sizes = (measure_images, chosen.images) if part == "images" else (measure_steps, chosen.steps)
        curves: Curves = {}
        for size in sizes:
            with tempfile.TemporaryDirectory() as name:
                for what, unit, value in measure(Path(name), size):
                    curves.setdefault(what, Curve(unit)).values[size] = value
        show(part, curves, sizes)
        measured[part] = curves
    draw(measured, chosen.drawing)


def measure_images(folder: Path, count: int) -> list[tuple[str, str, float]]:
    make_nih(folder / "nih", count)
    where = {"GENMED_CACHE": str(folder / "cache")}
    call = [sys.executable, __file__, "--inside", "images", str(folder / "nih")]
    run_fresh(call, where)
    done = run_fresh(call, where)
    return [*((what, "s", seconds) for what, seconds in json.loads(done.output).items()), ("peak", "MiB", done.peak)]


def make_nih(root: Path, count: int) -> None:
    """Four images a patient, each third with a finding."""
    (root / "images").mkdir(parents=True)
    lines = [HEADER]
    for row in range(count):
        name = f"{row // 4 + 1:08d}_{row % 4:03d}.png"
        (root / "images" / name).touch()
        finding = "No Finding" if row % 3 else "Effusion|Mass"
        lines.append(f"{name},{finding},{row % 4},{row // 4 + 1},58,M,PA,1024,1024,0.143,0.143")
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines) + "\n")


@dataclass(frozen=True)
class DrawnImages(ImageFiles):
    """Bytes drawn for each row, and a file that is only looked at."""

    def digest(self, row: int) -> str:
        return f"sha256:{row:064x}"

    def read(self, row: int) -> RawImage:
        return RawImage(np.random.default_rng(row).integers(0, 256, (SIDE, SIDE), dtype=np.uint8), self.digest(row))


def read_images(root: Path) -> dict[str, float]:
    """Seconds of all that a training does over every image before and beside its steps."""
    import torch.utils.data  # noqa: F401  the cache's opening imports it, whatever the number of images

    from genmed.ground.fingerprints import digest_names
    from genmed.parts.data.augmentation import draw_epoch
    from genmed.parts.data.cache import open_images
    from genmed.parts.data.datasets import find_dataset
    from genmed.parts.data.images import Preparation
    from genmed.parts.data.loader import plan_epoch
    from genmed.parts.data.split import split_records
    from genmed.records.config import Config
    from genmed.workflows.assemble import LoadedData, fingerprint_data, list_images, read_records

    config = Config().replace(**{"data.dataset": "nih", "data.root": str(root)})
    moments = [time.perf_counter()]
    records = read_records(config)
    split = split_records(records, config.data)
    moments.append(time.perf_counter())
    assert isinstance(records.images, ImageFiles)
    records = replace(records, images=DrawnImages(root, records.images.names))
    entry = open_images(
        records, Preparation(SIDE), trust_stamps=True, processes=2, progress=lambda *_: None, report=print
    )
    moments.append(time.perf_counter())
    fingerprint = fingerprint_data(records, split, entry.images)
    for _ in list_images(LoadedData(find_dataset("nih"), records, split, entry.images, fingerprint)):
        pass
    moments.append(time.perf_counter())
    draws = draw_epoch(0, 1, len(records))
    for rows in plan_epoch(0, 1, np.flatnonzero(np.array(split.sides) == "train"), BATCH, 1):
        digest_names([records.ids[row] for row in rows.tolist()])
        draws[rows]
    moments.append(time.perf_counter())
    names = ("table read, split", "cache opened", "fingerprint, list", "an epoch's plan")
    return dict(zip(names, np.diff(moments).tolist(), strict=True))


def measure_steps(folder: Path, count: int) -> list[tuple[str, str, float]]:
    root = folder / "root"
    where = {"GENMED_ROOT": str(root), "GENMED_CACHE": str(folder / "cache")}
    train_tiny(folder / "drawn", folder / "cache", "--set", "training.max_steps=1")
    epochs, batch = str(-(-count // STEPS_AN_EPOCH)), str(BATCH_OF_STEPS)
    tiny = ["--model", TINY_MODEL, "--image-size", "16", "--threads", "1", "--set", "run.report=false"]
    how = ["--epochs", epochs, "--batch-size", batch, "--set", f"training.max_steps={count}"]
    trained = run_fresh([*GENMED, "train", *tiny, *how], where)
    [path] = (root / "runs").iterdir()
    read = run_fresh([sys.executable, __file__, "--inside", "steps", str(path)], where)
    seconds: dict[str, float] = json.loads(read.output)
    show, report = (run_fresh([*GENMED, command, path.name], where) for command in ("show", "report"))
    seconds |= {"genmed show": show.seconds, "genmed report": report.seconds}
    peaks = {
        "training": trained.peak,
        "verify reads": read.peak,
        "genmed show": show.peak,
        "genmed report": report.peak,
    }
    found = [(what, "s", value) for what, value in seconds.items()]
    return found + [(f"{what}, peak", "MiB", value) for what, value in peaks.items()]


def read_run(path: Path) -> dict[str, float]:
    """Seconds of the epochs' steps, of the whole training, and of reading what it left."""
    from genmed.engine.trace import read_whole_part
    from genmed.workflows.integrity import find_damage

    folder = RunFolder(path)
    document, rows = folder.read(), folder.read_metrics()
    assert document.ended
    ends = [int(row["step"] or 0) for row in rows]
    steps = np.diff([0, *ends]) * BATCH_OF_STEPS / np.array([row["images_per_second"] for row in rows])
    begin = time.perf_counter()
    trace = read_whole_part(folder.trace_path)
    middle = time.perf_counter()
    assert trace
    assert trace.last == document.steps_done
    assert find_damage(folder, document) == []
    reading = {"resume reads the trace": middle - begin, "verify reads": time.perf_counter() - middle}
    whole = (document.ended - document.started).total_seconds()
    return {"steps": float(steps.sum()), "training to its end": whole, **reading}


INSIDE = {"images": read_images, "steps": read_run}


def show(part: str, curves: Curves, sizes: list[int]) -> None:
    rows = []
    for what, curve in curves.items():
        figures = [f"{curve.values[size]:.4f}" if curve.unit == "s" else f"{curve.values[size]:.0f}" for size in sizes]
        each = f"{1e6 * curve.each:.1f} us" if curve.unit == "s" else f"{1024 * curve.each:.2f} KiB"
        verdict = "straight" if curve.exponent <= STRAIGHT else "steeper"
        rows.append([f"{what}, {curve.unit}", *figures, each, f"{curve.exponent:.2f}", verdict])
    print_table([part, *(f"{size:,}" for size in sizes), "each", "exponent", f"at most {STRAIGHT}"], rows)


def draw(measured: dict[str, Curves], path: Path) -> None:
    """Time above, memory below, a column for each part; each line has its name and exponent at its end."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.family": "sans-serif"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2, len(measured), figsize=(5.6 * len(measured), 7.2), squeeze=False, height_ratios=(3, 2), layout="constrained"
    )
    for column, (part, curves) in enumerate(measured.items()):
        for row, (unit, title) in enumerate((("s", "seconds"), ("MiB", "peak memory, MiB"))):
            axis = axes[row][column]
            shown = {what: curve for what, curve in curves.items() if curve.unit == unit}
            draw_panel(axis, shown)
            axis.set_title(f"{title}, by {part}", loc="left", fontsize=11)
            axis.set_xlabel(part if row else "")
            if row:
                axis.set_ylim(10, 2 * max(max(curve.values.values()) for curve in shown.values()))
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def draw_panel(axis: Any, curves: Curves) -> None:
    places = spread([np.log10(curve.values[max(curve.values)]) for curve in curves.values()], curves)
    for (what, curve), height in zip(curves.items(), places, strict=True):
        [line] = axis.plot(list(curve.values), list(curve.values.values()), marker="o", markersize=4)
        text = f"{what.removesuffix(', peak')} ({curve.exponent:.2f})"
        end = max(curve.values)
        axis.annotate(
            text,
            (end, 10**height),
            (10, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )
    axis.set(xscale="log", yscale="log")
    axis.set_xlim(right=max(max(curve.values) for curve in curves.values()) * 1.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="0.92")
    axis.set_axisbelow(True)


def spread(heights: list[float], curves: Curves) -> list[float]:
    """Heights of labels, moved up where two would overlap."""
    values = [value for curve in curves.values() for value in curve.values.values()]
    values += [10] if "MiB" in {curve.unit for curve in curves.values()} else []
    least = 0.08 * (np.log10(max(values)) - np.log10(min(values)) + 0.3)
    placed = list(heights)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + least)
    return placed


if __name__ == "__main__":
    main()
