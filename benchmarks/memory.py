"""The most memory that fresh processes hold: trainings beside a bare loop, what imports alone take, a list, an index.

    uv run python benchmarks/memory.py [training] [list] [index] [--models resnet18] [--image-size 64]
        [--batch-size 32] [--epochs 2] [--rounds 3] [--runs 10000] [--data ../shared/data]

Peak is ru_maxrss in MiB: all pages that were ever in memory at once, the libraries' files among them, so it is what a
machine must have; `python -c "import torch, torchvision"` says how much of it is there before anything is done. Of
trainings: `genmed train` on the built-in dataset, drawn before, with trace, checkpoints and evaluation, without a
report; the bare loop, which has the same model, batch size and number of steps, the same optimizer and normalised
random images, threads and imports (torch, torchvision) and keeps nothing; both with the allocator told to keep freed
memory, as genmed does, and with glibc's own ways (genmed's switched off in a process that is else the same). By turns,
`--rounds` times; the ratio is that to the bare loop in the same round with the same allocator. `index`: the official
table of NIH ChestX-ray14, an empty file for each row, read and split.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

from fresh import GENMED, run_fresh
from many_runs import multiply, train_tiny
from printing import describe_machine, print_table
from steps import bootstrap_median

from genmed.ground.sealed import read_sealed
from genmed.records.environment import count_default_threads
from genmed.records.run_folder import RunFolder

PARTS = ("training", "list", "index")
IMPORTS = "import torch, torchvision"
GIVEN_BACK = """
import sys
from genmed.cli import main
from genmed.workflows import assemble
assemble.keep_freed_memory = bool
sys.argv[0] = "genmed"
main()
"""
BARE = """
import sys, torch, torchvision
from torch import nn
name = sys.argv[1]
size, batch, steps, classes, threads, kept = map(int, sys.argv[2:])
if kept:
    from genmed.ground.allocator import keep_freed_memory
    keep_freed_memory()
torch.set_num_threads(threads)
from genmed.parts.models.build import build_model, count_input_channels
from genmed.records.config.sections import Model
model = build_model(Model(name=name), classes, size, 1).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, foreach=False)
channels = count_input_channels(model)
images, targets = torch.rand(4, batch, channels, size, size), torch.rand(4, batch, classes).round()
for step in range(steps):
    loss = nn.functional.binary_cross_entropy_with_logits(model(images[step % 4]), targets[step % 4])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
"""
INDEX = """
import sys
from genmed.parts.data.split import split_records
from genmed.records.config import Config
from genmed.workflows.assemble import read_records
config = Config().replace(**{"data.dataset": "nih", "data.root": sys.argv[1]})
records = read_records(config)
split_records(records, config.data)
print(len(records))
"""
HEADER = ["process", "peak MiB", "least", "most", "beyond imports", "of the bare loop's", "95% interval"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all unless named")
    parser.add_argument("--models", nargs="+", default=["resnet18"])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    chosen = parser.parse_args()
    parts = chosen.parts or PARTS
    print(describe_machine("torch", "torchvision"))
    imports = run_fresh([sys.executable, "-c", IMPORTS]).peak
    print(f'python -c "{IMPORTS}": {imports:.0f} MiB\n')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "training" in parts:
            measure_trainings(chosen, folder, imports)
        if "list" in parts:
            multiply(train_tiny(folder / "many", folder / "cache"), chosen.runs)
            where = {"GENMED_ROOT": str(folder / "many")}
            commands = {"genmed list": ["list"], "genmed list --all --json": ["list", "--all", "--json"]}
            rows = []
            for label, words in commands.items():
                peaks = [run_fresh([*GENMED, *words], where).peak for _ in range(chosen.rounds)]
                rows.append([f"{label}, {chosen.runs:,} runs", *summarise(peaks)])
            print_table(HEADER[:4], rows)
        if "index" in parts:
            measure_index(chosen, folder)


def measure_trainings(chosen: argparse.Namespace, folder: Path, imports: float) -> None:
    size, batch, epochs = (str(number) for number in (chosen.image_size, chosen.batch_size, chosen.epochs))
    first = train_tiny(folder / "drawn", folder / "cache", "--image-size", size)
    classes, images = count_classes(first), len((first.images_path).read_text().splitlines())
    steps = sum(",train," in line for line in first.images_path.read_text().splitlines()) // chosen.batch_size
    threads = count_default_threads()
    print(f"{images - 1:,} images of {size} px, batch {batch}, {epochs} epochs of {steps} steps, {threads} threads")
    where = {"GENMED_ROOT": str(folder / "root"), "GENMED_CACHE": str(folder / "cache"), "GENMED_RUN__REPORT": "false"}
    for model in chosen.models:
        train = ["train", "--model", model, "--image-size", size, "--batch-size", batch, "--epochs", epochs]
        train += ["--threads", str(threads), "--device", "cpu"]
        bare = [model, size, batch, str(steps * chosen.epochs), str(classes), str(threads)]
        ways = {
            "genmed train": [*GENMED, *train],
            "genmed train, memory given back": [sys.executable, "-c", GIVEN_BACK, *train],
            "bare loop": [sys.executable, "-c", BARE, *bare, "1"],
            "bare loop, memory given back": [sys.executable, "-c", BARE, *bare, "0"],
        }
        peaks: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(chosen.rounds):
            for way in random.sample(list(ways), len(ways)):
                peaks[way].append(run_fresh(ways[way], where).peak)
        rows = []
        for way, measured in peaks.items():
            beyond = f"{statistics.median(measured) - imports:.0f}"
            beside = peaks[way.replace("genmed train", "bare loop")] if "genmed" in way else None
            rows.append([f"{model}: {way}", *summarise(measured), beyond, *show_ratio(measured, beside)])
        print_table(HEADER, rows)


def count_classes(run: RunFolder) -> int:
    return len(read_sealed(run.data_path)["classes"])


def measure_index(chosen: argparse.Namespace, folder: Path) -> None:
    from data_speed import TABLES, lay_out

    table, place = TABLES["nih"]
    source = chosen.data / "metadata" / f"{table}.gz"
    if not source.is_file():
        print(f"index: skipped, there is no {table}.gz in --data")
        return
    lay_out(source, folder / "nih", table, place)
    runs = [run_fresh([sys.executable, "-c", INDEX, str(folder / "nih")]) for _ in range(chosen.rounds)]
    alone = run_fresh([sys.executable, "-c", INDEX.partition("config =")[0]]).peak
    label = f"index of {int(runs[0].output):,} images, read and split"
    print_table(
        HEADER[:4], [[label, *summarise([run.peak for run in runs])], ["its imports alone", *summarise([alone])]]
    )


def summarise(peaks: list[float]) -> list[str]:
    return [f"{figure:.0f}" for figure in (statistics.median(peaks), min(peaks), max(peaks))]


def show_ratio(measured: list[float], beside: list[float] | None) -> list[str]:
    if beside is None:
        return ["", ""]
    ratio, low, high = bootstrap_median([own / other for own, other in zip(measured, beside, strict=True)])
    return [f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"]


if __name__ == "__main__":
    main()
