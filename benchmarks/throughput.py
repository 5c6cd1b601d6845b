"""Images a second of whole trainings: genmed's beside bare loops, Lightning's and MONAI's, on the CPU.

    uv run --group bench python benchmarks/throughput.py [--part small] [--part large] [--data ../shared/data]
                                                         [--rounds 12] [--warmup 3] [--steps N] [--passive]
                                                         [--only WORD]

Each contestant trains in processes of its own, by short turns, in random order within a round; while one trains all
others are stopped wholly, with their workers and threads (SIGSTOP). A turn is timed from SIGCONT to its last step's
report. All have the same network, loss, optimizer, training rows, batch size and number of threads, and no
augmentation and no validation. Each turn of each has the same number of images (asserted).

A turn is a whole number of epochs unless --steps says otherwise. So each has its share of what comes once an epoch
(checkpoints, shuffling, new loader workers); and no batch is read ahead from one turn into another by loaders whose
workers end with the epoch, as by default. With --steps, choose more than these read ahead: 2 workers x 2 batches.

small: the 1,000 images of nih1000/, 64 px, in genmed's split; resnet18. An epoch has but 19 steps or so, and genmed
writes a checkpoint of model and optimizer, digested and synced, after each, as by default: the largest share of
checkpoints that there can be.

large: 1024 px PNG files made from nih_512/images/, to 224 px, and a network so small that loading decides. genmed's
cache and MONAI's are filled before the first turn: this is the second epoch and later.

genmed is what `genmed train` does, with run folder, registry, log, checkpoints and trace; the reporter alone differs.
Lightning, tuned: barebones, no logger and no checkpoints; images as float32 tensors in memory, whole batches indexed,
channels-last, fused AdamW, memory not filled; "with its checkpoints": one after each epoch, as by default. Lightning,
usual: PIL and torchvision's transforms for each image, a DataLoader with 2 workers or none, CSVLogger and checkpoints
as by default. bare loop: batches cut before, the same each epoch; "genmed's allocator": and freed memory is kept, as
genmed has the C library do it. genmed's OpenMP threads look out for the next operation for some 80 us and then sleep;
the others' spin, as is their default, unless --passive says that they sleep, too: spinning collapses where the machine
is shared.

Ratios are medians of the rounds', with a 95% bootstrap interval; of those that a target names the fastest counts. The
processor's time is of all threads, and of workers that ended; a mean, which the machine's other work changes little.
"""

import argparse
import csv
import importlib.util
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contestant import BF16, SEEDED, STRICT
from course import Course, make_course
from printing import describe_machine, print_table
from steps import bootstrap_median
from turns import Contestant

from genmed.ground.interpreter import prepare_environment
from genmed.records.environment.processor import describe_processor
from genmed.workflows.configure import configure, interpreter_variables

PACKAGES = ("lightning", "monai")
USUAL = ("Lightning, usual", "Lightning, usual, no workers")
BARE = ("bare loop", "bare loop, genmed's allocator")
TUNED = ("Lightning, tuned", "Lightning, tuned, with its checkpoints")
SMALL = (STRICT, SEEDED, BF16, *BARE, *TUNED, *USUAL, "MONAI, CacheDataset")
PERSISTENT = ("MONAI, PersistentDataset", "MONAI, PersistentDataset, 2 workers")
LARGE = (
    STRICT,
    "bare loop, float32 in memory",
    "bare loop, bytes in memory",
    *USUAL,
    *PERSISTENT,
    "MONAI, CacheDataset",
)


@dataclass(frozen=True)
class Target:
    """`who` is at least, or at most, so many times as fast as the faster of `others`."""

    who: str
    others: Sequence[str]
    bound: float | None
    """None where there is none: the ratio is shown for those who ask."""
    at_most: bool = False


TARGETS = {
    "small": (
        Target(STRICT, TUNED[:1], 1.0),
        Target(STRICT, TUNED[1:], None),
        Target(STRICT, USUAL, 1.25),
        Target(STRICT, BARE[:1], 0.95),
        Target(STRICT, BARE[1:], None),
        Target(BF16, USUAL, 1.6),
        Target(SEEDED, (STRICT,), 1.03, at_most=True),
    ),
    "large": (Target(STRICT, USUAL, 5.0), Target(STRICT, PERSISTENT, 1.0)),
}


@dataclass
class Result:
    """Of one contestant, by round."""

    rates: list[float] = field(default_factory=list)
    """Images a second."""
    costs: list[float] = field(default_factory=list)
    """Milliseconds of the processor's time an image, all threads and processes together."""
    loss: float = float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("small", "large"), action="append")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=3, help="rounds that do not count")
    parser.add_argument("--steps", type=int, default=0, help="of a turn; whole epochs unless given")
    parser.add_argument("--images", type=int, default=256, help="training images of the part large")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="of the first layer, in the part small")
    parser.add_argument("--passive", action="store_true", help="OMP_WAIT_POLICY=PASSIVE in all, as genmed has it")
    parser.add_argument("--only", action="append", help="contestants whose name has this word; genmed's are always in")
    chosen = parser.parse_args()
    here = [package for package in PACKAGES if importlib.util.find_spec(package)]
    print(describe_machine("torch", "torchvision", *here))
    for part in chosen.part or ["small"]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            course = make_small(chosen, folder) if part == "small" else make_large(chosen, folder)
            names = choose_contestants(SMALL if part == "small" else LARGE, chosen.only)
            print(f"{part}: {describe(course)}; {chosen.rounds} rounds after {chosen.warmup} of warm-up\n", flush=True)
            results = race(names, course, chosen, folder)
            print_results(results)
            print_targets(TARGETS[part], results)


COMMON: dict[str, Any] = {
    "augmentation.preset": "none",
    "normalisation.method": "half",
    "schedule.name": "constant",
    "schedule.warmup": 0.0,
    "training.epochs": 1_000_000,
    "training.validate_every": 1_000_000,
    "compute.device": "cpu",
}
"""genmed's flags: as the others train, until the benchmark ends."""


def make_small(chosen: argparse.Namespace, folder: Path) -> Course:
    data = {"data.dataset": "nih", "data.root": str(chosen.data / "nih1000")}
    flags = {**COMMON, **data, "model.name": "resnet18", "model.input_channels": str(chosen.channels)}
    return make_course(flags, 64, chosen.channels, chosen.steps, 1, folder)


def make_large(chosen: argparse.Namespace, folder: Path) -> Course:
    """The files, and a table that has all but a few of them in training."""
    from data_speed import make_radiographs

    few = 4
    records = make_radiographs(chosen.data / "nih_512/images", folder / "png", chosen.images + 2 * few)
    sides = ["val"] * few + ["test"] * few + ["train"] * chosen.images
    with open(folder / "manifest.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "split", "Finding"))
        for row, (name, side) in enumerate(zip(records.ids, sides, strict=True)):
            table.writerow((f"png/{name}", side, row % 2))
    data = {"data.dataset": "manifest", "data.root": str(folder), "manifest.file": "manifest.csv"}
    network = f"{Path(__file__).with_name('small_network.py').resolve()}:build"
    return make_course({**COMMON, **data, "model.name": network}, 224, 1, chosen.steps, 2, folder)


def describe(course: Course) -> str:
    model, threads = Path(course.flags["model.name"]).name, course.flags["compute.threads"]
    shape = f"{course.size} px, {course.channels} channel{'s' if course.channels > 1 else ''}, batch {course.batch}"
    epoch = f"{len(course.files)} training images, {course.steps_an_epoch} steps an epoch, {course.steps} a turn"
    return f"{model}, {shape}, AdamW, fp32, {threads} threads each; {epoch}"


def choose_contestants(names: Sequence[str], only: Sequence[str] | None) -> list[str]:
    """Those that can be here; says which are not, and why."""
    sets = describe_processor(with_torch=False)["instruction_sets"]
    kept = []
    for name in names:
        package = name.split(",")[0].lower()
        if only and name != STRICT and not any(word in name for word in only):
            print(f"left out, not among --only: {name}")
        elif package in PACKAGES and not importlib.util.find_spec(package):
            print(f"left out, {package} is not installed: {name}")
        elif name == BF16 and not {"avx512_bf16", "amx_bf16"} & set(sets):
            print(f"left out, the processor has neither avx512_bf16 nor amx_bf16: {name}")
        else:
            kept.append(name)
    return kept


def race(names: Sequence[str], course: Course, chosen: argparse.Namespace, folder: Path) -> dict[str, Result]:
    """By contestant; the order within a round is drawn."""
    file = course.save(folder / "course.json")
    contestants: list[Contestant] = []
    results = {name: Result() for name in names}
    try:
        for number, name in enumerate(names):
            print(f"starting {name}", file=sys.stderr)
            command = [str(Path(__file__).with_name("contestant.py")), name, str(file)]
            log = folder / f"{number}.log"
            contestants.append(Contestant(name, command, make_environment(name, course, chosen.passive, folder), log))
        for number in range(chosen.warmup + chosen.rounds):
            print(f"round {number + 1} of {chosen.warmup + chosen.rounds}", file=sys.stderr)
            counts = set()
            for contestant in random.sample(contestants, len(contestants)):
                seconds, report = contestant.take_turn()
                counts.add(report["images"])
                results[contestant.name].loss = report["loss"]
                if number >= chosen.warmup:
                    results[contestant.name].rates.append(report["images"] / seconds)
                    results[contestant.name].costs.append(1000 * report["processor"] / report["images"])
            assert len(counts) == 1, f"unequal numbers of images in one round: {counts}"
    finally:
        for contestant in contestants:
            contestant.end()
    return results


def make_environment(name: str, course: Course, passive: bool, folder: Path) -> dict[str, str]:
    """genmed's has the variables that genmed sets at its start; the others', the number of threads."""
    common = {**os.environ, "GENMED_CACHE": str(folder / "cache")}
    if name.startswith("genmed"):
        determinism = "seeded" if name == SEEDED else "strict"
        config = configure({**course.flags, "compute.determinism": determinism}).config
        return prepare_environment(interpreter_variables(config), common)
    threads = str(course.flags["compute.threads"])
    policy = {"OMP_WAIT_POLICY": "PASSIVE"} if passive else {}
    return {**common, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **policy}


def print_results(results: dict[str, Result]) -> None:
    rows = []
    for name, result in results.items():
        ratio = "" if name == STRICT else say_ratio(compare(results, STRICT, name))
        rate, cost = statistics.median(result.rates), statistics.mean(result.costs)
        rows.append([name, f"{rate:.0f}", ratio, f"{cost:.2f}", f"{result.loss:.3f}"])
    print_table(["contestant", "images/s", f"{STRICT} / it (95%)", "processor ms/image", "last loss"], rows)


def print_targets(targets: Sequence[Target], results: dict[str, Result]) -> None:
    rows = []
    for target in targets:
        others = [name for name in target.others if name in results]
        if target.who not in results or not others:
            continue
        other = max(others, key=lambda name: statistics.median(results[name].rates))
        ratio = compare(results, target.who, other)
        bound, verdict = "none", ""
        if target.bound is not None:
            bound = f"{'at most' if target.at_most else 'at least'} {target.bound:.2f}"
            met = ratio[0] <= target.bound if target.at_most else ratio[0] >= target.bound
            verdict = "met" if met else "missed"
        if len(others) < len(target.others):
            verdict += ", but not all that it names ran"
        rows.append([f"{target.who} / {other}", say_ratio(ratio), bound, verdict])
    print_table(["speed of", "ratio (95%)", "target", ""], rows)


def compare(results: dict[str, Result], who: str, other: str) -> tuple[float, float, float]:
    """How many times as fast, the median of the rounds' ratios."""
    pairs = zip(results[who].rates, results[other].rates, strict=True)
    return bootstrap_median([own / beside for own, beside in pairs])


def say_ratio(ratio: tuple[float, float, float]) -> str:
    value, low, high = ratio
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
