"""From `exec` to the first step done: `genmed train` in a fresh process, beside a bare script; and where it goes.

    uv run python benchmarks/start.py [--model resnet18] [--image-size 64] [--batch-size 32] [--rounds 5]

genmed is as it is: a finder of imports notes when the named modules are executed and when the named functions begin
and end; the process is left when the first step is done. A row of the table is what was spent in it and in no other
row. The bare script imports torch and torchvision, builds the same model and an AdamW, and does one step on random
numbers. Files are in the page cache; the image cache is full, or empty, so that the built-in dataset is drawn first
(from other data: so that files are decoded). By turns; medians, and the ratio to the bare script's in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from fresh import make_environment
from printing import describe_machine, print_table
from steps import bootstrap_median

MARKED = {
    "torch": {},
    "torchvision": {},
    "genmed.cli.app": {},
    "genmed.workflows.train": {"open_registry": "registry opened", "write_record": "record written"},
    "genmed.workflows.assemble": {
        "load_data": "data: table, split, digests",
        "open_images": "image cache",
        "_try_learner": "model, and a step tried on CUDA",
        "fingerprint_learner": "initial fingerprint",
        "capture_environment": "environment captured",
        "capture_code": "code found and digested",
    },
    "genmed.engine.loop": {"launch_step": "first step"},
}
"""Modules whose execution is noted, and functions of theirs with what they do."""
LAST = "first step"
MARKER = f"""
import sys, time
begun = time.monotonic()
import importlib.util, json, os
marked, marks = {MARKED!r}, [["interpreter", begun, time.monotonic()]]
def tell():
    with open(os.environ["MARKS"], "a") as file:
        file.write(json.dumps(marks) + "\\n")
def watch(function, what):
    def watched(*given, **named):
        start = time.monotonic()
        try:
            return function(*given, **named)
        finally:
            marks.append([what, start, time.monotonic()])
            if what == {LAST!r}:
                tell()
                os._exit(0)
    return watched
class Marker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in marked:
            return None
        functions = marked.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            start = time.monotonic()
            execute(module)
            marks.append(["import " + name, start, time.monotonic()])
            for function, what in functions.items():
                setattr(module, function, watch(getattr(module, function), what))
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Marker)
restart = os.execve
def execve(*given):
    tell()
    restart(*given)
os.execve = execve
from genmed.cli import main
main()
"""
BARE = """
import sys, torch, torchvision
from torch import nn
size, batch, threads = map(int, sys.argv[2:])
torch.set_num_threads(threads)
model = torchvision.models.get_model(sys.argv[1], num_classes=5).train()
optimizer = torch.optim.AdamW(model.parameters(), fused=True, foreach=False)
loss = nn.functional.binary_cross_entropy_with_logits(model(torch.rand(batch, 3, size, size)), torch.ones(batch, 5))
loss.backward()
optimizer.step()
"""
BEFORE, REST = "before the restart: interpreter, config", "all else: other imports, run folder, normalisation"
Mark = tuple[str, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    print(describe_machine("torch", "torchvision"))
    size, batch, threads = (str(number) for number in (chosen.image_size, chosen.batch_size, chosen.threads))
    print(f"{chosen.model}, {size} px, batch {batch}, {threads} threads, {chosen.rounds} rounds\n")
    train = ["train", "--model", chosen.model, "--image-size", size, "--batch-size", batch, "--threads", threads]
    ways = {
        "image cache full": [sys.executable, "-c", MARKER, *train],
        "image cache empty": [sys.executable, "-c", MARKER, *train],
        "bare script": [sys.executable, "-c", BARE, chosen.model, size, batch, threads],
    }
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        run_once(ways["image cache full"], Path(name), Path(name) / "cache")
        for number in range(chosen.rounds):
            for way in random.sample(list(ways), len(ways)):
                cache = Path(name) / (f"cache-{number}" if "empty" in way else "cache")
                found[way].append(run_once(ways[way], Path(name), cache))
    show(found)


def run_once(command: list[str], folder: Path, cache: Path) -> dict[str, float]:
    """Seconds by row, and those of the whole under ''."""
    marks = folder / "marks.jsonl"
    marks.unlink(missing_ok=True)
    environ = make_environment({"GENMED_ROOT": str(folder), "GENMED_CACHE": str(cache), "MARKS": str(marks)})
    start = time.monotonic()
    subprocess.run(command, env=environ, check=True, capture_output=True)
    end = time.monotonic()
    if not marks.exists():
        return {"": end - start}
    _, found = (json.loads(line) for line in marks.read_text().splitlines())  # of the interpreter after the restart
    begun, done = found[0][1], found[-1][2]
    seconds = {BEFORE: begun - start, **split_nested([(what, a, b) for what, a, b in found])}
    return {**seconds, REST: done - start - sum(seconds.values()), "": done - start}


def split_nested(marks: list[Mark]) -> dict[str, float]:
    """Seconds spent in each and in none that lies within it."""
    own: dict[str, float] = defaultdict(float)
    for what, begin, end in marks:
        within = [(a, b) for _, a, b in marks if begin <= a and b <= end and (a, b) != (begin, end)]
        direct = [(a, b) for a, b in within if not any(c <= a and b <= d and (a, b) != (c, d) for c, d in within)]
        own[what] += end - begin - sum(b - a for a, b in direct)
    return own


def show(found: dict[str, list[dict[str, float]]]) -> None:
    """The whole beside the bare script's, then each row's median."""
    bare = [one[""] for one in found["bare script"]]
    rows = []
    for way, measured in found.items():
        seconds = [one[""] for one in measured]
        ratio, low, high = bootstrap_median([own / other for own, other in zip(seconds, bare, strict=True)])
        whole = [f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f}"]
        rows.append([way, *whole, f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"])
    print_table(["exec to the first step done", "median s", "least s", "of the bare script's", "95% interval"], rows)
    ways = [way for way in found if way != "bare script"]
    parts = sorted({what for way in ways for what in found[way][0] if what}, key=list(found[ways[0]][0]).index)
    table = [
        [what, *(f"{statistics.median(one.get(what, 0.0) for one in found[way]):.3f}" for way in ways)]
        for what in parts
    ]
    print_table(["where it goes, in seconds", *ways], table)


if __name__ == "__main__":
    main()
