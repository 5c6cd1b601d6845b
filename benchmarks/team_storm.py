"""One config on 1, 2 and 4 processes, left alone and with processes killed: whether every bit is the same.

    uv run python benchmarks/team_storm.py [--models resnet18 densenet121 vit_b_16] [--steps 4] [--kills 10] [--seed 0]

1. Each model at 32 px with 4 shards, by torchrun's engine, as `genmed train --processes W` starts it: BatchNorm or
   LayerNorm, dropout, augmentation, SGD with momentum, clipped gradients, bf16 where the processor has it, and an epoch
   whose last batch is short. The traces of W = 1, 2 and 4 are compared, and that of W = 2 whose sums are sent.
2. A run of resnet18 at 32 px on 2 or 4 processes. At a random moment one of them, drawn at random, gets SIGKILL; then
   `genmed resume` with another number, to be killed again, until all kills are spent; then it runs to its end. Its
   trace is compared with that of a run which nobody disturbed.

Prints a line for each, and the time that the others needed to end after a kill. Exit code 1 if any bit differs, or a
process is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from printing import describe_machine, print_table

MODELS = ("resnet18", "densenet121", "vit_b_16")
EVERYTHING = {
    "augmentation.preset": "standard",
    "optimizer.name": "sgd",
    "optimizer.lr": 0.01,
    "optimizer.clip_norm": 1.0,
    "run.report": "false",
    "training.epochs": 1,
}
SIZES = 1, 2, 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    random.seed(chosen.seed)
    print(describe_machine("torch"))
    equal = compare_models(chosen.models, chosen.steps) if chosen.models else True
    survived = kill(chosen.kills) if chosen.kills else True
    return 0 if equal and survived else 1


def begin(root: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "genmed", *map(str, arguments), "--json"]
    return subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GENMED_ROOT": "."},
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return dict(json.loads(out))


def train(root: Path, keys: dict[str, Any], processes: int) -> dict[str, Any]:
    settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    return finish(begin(root, "train", "--shards", 4, "--threads", 1, "--processes", processes, *settings))


def compare_models(models: list[str], steps: int) -> bool:
    """The built-in dataset has 1,344 training images: three batches of 416, and a short one of 96."""
    rows: list[list[str]] = []
    all_equal = True
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            keys = {**EVERYTHING, "model.name": model, "data.image_size": 32, "training.batch_size": 416}
            keys |= {"compute.precision": "bf16" if has_bf16() else "fp32", "training.max_steps": steps}
            found = {f"{size}": train(root, keys, size) for size in SIZES}
            found["2, sent"] = train(root, {**keys, "compute.share_memory": "false"}, 2)
        alone = found["1"]
        for size, run in found.items():
            same = all(run[key] == alone[key] for key in ("trace_digest", "fingerprint", "metrics"))
            all_equal &= same
            verdict = "equal" if same else "DIFFERENT"
            rows.append([model, size, str(run["steps_done"]), run["trace_digest"][7:19], verdict])
    print_table(["model", "processes", "steps", "trace", "with 1 process"], rows)
    return all_equal


def has_bf16() -> bool:
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def kill(kills: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        keys = {"model.name": "resnet18", "data.image_size": 32, "training.epochs": 3, "run.report": "false"}
        keys |= {"checkpoints.every_steps": 5, "augmentation.preset": "light"}
        alone = train(root, keys, 1)
        settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        words: list[object] = ["train", "--shards", 4, "--threads", 1, *settings, "--name", "storm"]
        rows, clean, size = [], True, 2
        for number in range(kills):
            process = begin(root, *words, "--processes", size)
            members = wait_for_members(process, size)
            began = read_step(root)
            while read_step(root) <= began and process.poll() is None:
                time.sleep(0.05)
            time.sleep(random.uniform(0, 2))
            victim = random.randrange(size)
            members[victim].send_signal(signal.SIGKILL)
            at = time.monotonic()
            process.communicate()
            _, left = psutil.wait_procs(members, 30)
            clean &= not left
            rows.append([number + 1, size, victim, read_step(root), f"{time.monotonic() - at:.1f}", len(left)])
            words, size = ["resume", "storm"], random.choice([other for other in (2, 4) if other != size] + [2])
        ended = finish(begin(root, *words, "--processes", 1))
    same = all(ended[key] == alone[key] for key in ("trace_digest", "fingerprint", "metrics"))
    header = ["kill", "processes", "rank", "checkpoint of step", "seconds until all had ended", "left"]
    print_table(header, [[str(cell) for cell in row] for row in rows])
    print(f"trace of {alone['steps_done']} steps, resumed to its end by 1 process: {'equal' if same else 'DIFFERENT'}")
    print(f"median of the seconds: {statistics.median(float(row[4]) for row in rows):.1f}")
    return same and clean


def wait_for_members(process: subprocess.Popen[str], size: int) -> list[psutil.Process]:
    while process.poll() is None:
        found = [child for child in psutil.Process(process.pid).children() if "genmed" in child.cmdline()]
        if len(found) == size:
            return sorted(found, key=lambda child: child.pid)
        time.sleep(0.05)
    raise AssertionError(process.communicate()[1])


def read_step(root: Path) -> int:
    """Of the newest checkpoint of the run under way; 0 before there is one."""
    for path in root.glob("runs/storm-*/run.json"):
        return int(json.loads(path.read_text())["checkpoint_step"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
