"""Shards and processes: how fast a step is, what it sends, and what of it is spent on sums over the processes.

    uv run python benchmarks/teams.py [--model resnet18] [--image-size 64] [--batch-size 32] [--steps 12] [--rounds 3]

Each row is a team of W processes with so many threads each, started by torchrun's engine as `genmed train --processes`
does; rounds go through all rows in random order. A step is the training's own, strict, with its trace, without
checkpoints. Images/s are the median over the rounds of the median step after three of warm-up; the ratio is to the
first row of the same round (one shard, all cores in one process), with a 95% bootstrap interval.

Sums are read where they lie, as between the processes of one machine, or sent, as between machines (here over the
loopback, whose work the same cores have to do). Sent: bytes that a process sends for them in a step, and by what a ring
all-reduce sends (2 (W - 1) / W of the gradients' size). In sums: what a step spends after its backward in waiting for
sums that are under way, and in the other messages of a step; the rest passes beside the backward.
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
from pathlib import Path
from typing import Any

from printing import describe_machine, print_table

from genmed.ground.interpreter import restart
from genmed.workflows.configure import configure, interpreter_variables

WARM_UP = 3
CORES = 2
Row = tuple[int, int, int, str]
"""Shards, processes, threads, and how sums come from one to the other."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--report", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.row:
        return measure(chosen)

    from steps import bootstrap_median

    print(describe_machine("torch"))
    size = f"{chosen.image_size} px, batch {chosen.batch_size}"
    print(f"{chosen.model}, {size}, {chosen.steps} steps, {chosen.rounds} rounds\n")
    rows: list[Row] = [(shards, 1, threads, "") for threads in (CORES, 1) for shards in (1, 2, 4)]
    rows += [(shards, processes, 1, way) for shards, processes in ((2, 2), (4, 2), (4, 4)) for way in ("read", "sent")]
    found: dict[Row, list[dict[str, float]]] = {row: [] for row in rows}
    for _ in range(chosen.rounds):
        for row in random.sample(rows, len(rows)):
            found[row].append(start(*row))
    table = []
    for (shards, processes, threads, way), measured in found.items():
        speed = statistics.median(chosen.batch_size / entry["step"] for entry in measured)
        ratios = [base["step"] / entry["step"] for base, entry in zip(found[rows[0]], measured, strict=True)]
        ratio, low, high = bootstrap_median(ratios)
        ring = 2 * (processes - 1) / processes * measured[0]["gradients"]
        sent = f"{measured[0]['sent'] / 1e6:.1f}" if way == "sent" else ""
        of_ring = f"{measured[0]['sent'] / ring:.3f}" if way == "sent" else ""
        share = f"{statistics.median(entry['sums'] / entry['step'] for entry in measured):.1%}" if ring else ""
        row = [shards, processes, threads, way, f"{speed:.0f}", f"{ratio:.2f}", f"{low:.2f} to {high:.2f}"]
        table.append([str(cell) for cell in [*row, sent, of_ring, share]])
    header = ["shards", "processes", "threads each", "sums", "images/s", "of the first row", "95% interval"]
    print_table([*header, "sent MB", "of a ring's", "in sums"], table)


def start(shards: int, processes: int, threads: int, way: str) -> dict[str, float]:
    """What the first of the processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        row = json.dumps([shards, threads, way])
        command = [sys.executable, *sys.argv, "--row", row, "--report", str(report)]
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--no-python"]
        subprocess.run([sys.executable, *run, *command], check=True, stderr=subprocess.DEVNULL)
        return dict(json.loads(report.read_text()))


def measure(chosen: argparse.Namespace) -> None:
    """In each of the processes."""
    shards, threads, way = json.loads(chosen.row)
    flags = {
        "model.name": chosen.model,
        "data.image_size": chosen.image_size,
        "training.batch_size": chosen.batch_size,
        "compute.device": "cpu",
        "compute.threads": threads,
        "compute.shards": shards,
        "compute.share_memory": way != "sent",
    }
    config = configure(flags).config
    restart(interpreter_variables(config), beside=int(os.environ["WORLD_SIZE"]) > 1)

    from steps import Stepper

    from genmed.engine import gradient_sums
    from genmed.ground import team as teams
    from genmed.workflows.team import joined

    sent, waited = [0], [0.0]

    def watch(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def watched(*given: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                waited[0] += time.perf_counter() - begin

        setattr(owner, name, watched)

    swap = teams.Link.swap

    def counted(link: teams.Link, peer: int, *pairs: Any) -> None:
        sent[0] += sum(mine.nbytes for mine, _ in pairs)
        swap(link, peer, *pairs)

    with joined(config) as team:
        teams.Link.swap = counted  # type: ignore[method-assign]
        watch(teams.Link, "tell")
        watch(gradient_sums._UnderWay, "join")
        stepper = Stepper(config, team)
        for _ in range(WARM_UP):
            stepper.step()
        sent[0], waited[0] = 0, 0.0
        seconds = [stepper.step() for _ in range(chosen.steps)]
        if team.leads:
            gradients = sum(value.nbytes for value in stepper.session.learner.trained.values())
            found = {
                "step": statistics.median(seconds),
                "sent": sent[0] / chosen.steps,
                "sums": waited[0] / chosen.steps,
                "gradients": gradients,
            }
            Path(chosen.report).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
