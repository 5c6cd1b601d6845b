"""How threads should wait for the next operation: asleep at once, or looking out for it for a while first.

    uv run python benchmarks/waiting.py [--counts 0 1000 4000 10000 300000] [--model resnet18] [--image-size 64]
                                        [--batch-size 32] [--rounds 20] [--steps 2]

genmed's training step, strict and with its trace, in processes that differ in GOMP_SPINCOUNT alone (1,000 looks take
some 20 us; 300,000 are what GNU's library does by default), by short turns in random order; the others are stopped
meanwhile. Each alone; beside a second training that waits in the same way; beside a process that keeps one core busy.
Printed: milliseconds a step, the median of the turns, and in brackets the ratio to the first row's in the same round.
Two trainings beside each other have half the cores each: twice the time alone is all that can be had.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from printing import describe_machine, print_table
from turns import Contestant, Turns

from genmed.ground.interpreter import prepare_environment
from genmed.records.config import Config
from genmed.workflows.configure import configure, interpreter_variables

WARM_UP = 2
ALONE, BESIDE, BUSY = "alone", "beside another", "beside a busy process"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 1000, 4000, 10_000, 300_000])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2, help="of a turn")
    parser.add_argument("--inside", nargs=2, type=int, metavar=("TOKEN", "REPORT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    flags = {
        "model.name": chosen.model,
        "data.image_size": chosen.image_size,
        "training.batch_size": chosen.batch_size,
        "compute.device": "cpu",
    }
    config = configure(flags).config
    if chosen.inside:
        train(config, Turns(*chosen.inside, chosen.steps))
    print(describe_machine("torch"))
    print(
        f"{chosen.model}, {chosen.image_size} px, batch {chosen.batch_size}, {config.compute.threads} threads,", end=" "
    )
    print(f"{chosen.rounds} rounds of {chosen.steps} steps\n")
    measured = race(config, chosen)
    rows = []
    for count in chosen.counts:
        cells = []
        for way in (ALONE, BESIDE, BUSY):
            seconds, first = measured[count, way], measured[chosen.counts[0], way]
            ratio = statistics.median(own / other for own, other in zip(seconds, first, strict=True))
            cells.append(f"{1000 * statistics.median(seconds):.0f} ({ratio:.2f})")
        rows.append([f"{count:,}", *cells])
    print_table(["GOMP_SPINCOUNT", *(f"ms a step, {way}" for way in (ALONE, BESIDE, BUSY))], rows)


def train(config: Config, turns: Turns) -> None:
    """Until the benchmark ends."""
    from steps import Stepper

    stepper = Stepper(config)
    turns.begin()
    while True:
        stepper.step()
        turns.step(config.training.batch_size, 0.0)


def race(config: Config, chosen: argparse.Namespace) -> dict[tuple[int, str], list[float]]:
    """Seconds a step of each turn, by count and by what ran beside it."""
    variables = prepare_environment(interpreter_variables(config))
    command = [str(Path(__file__)), *sys.argv[1:], "--inside"]
    contestants: list[tuple[int, list[Contestant]]] = []
    measured: dict[tuple[int, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        try:
            for count in chosen.counts:
                environ = {**variables, "GOMP_SPINCOUNT": str(count)}
                logs = [Path(name) / f"{count}-{number}.log" for number in range(2)]
                contestants.append((count, [Contestant(log.stem, command, environ, log) for log in logs]))
            for number in range(WARM_UP + chosen.rounds):
                print(f"round {number + 1} of {WARM_UP + chosen.rounds}", file=sys.stderr)
                for count, pair in random.sample(contestants, len(contestants)):
                    alone = pair[0].take_turn()[0]
                    both = statistics.mean(pool.map(lambda one: one.take_turn()[0], pair))
                    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
                        beside_busy = pair[0].take_turn()[0]
                        busy.kill()
                    for way, seconds in ((ALONE, alone), (BESIDE, both), (BUSY, beside_busy)):
                        if number >= WARM_UP:
                            measured.setdefault((count, way), []).append(seconds / chosen.steps)
        finally:
            for contestant in (one for _, pair in contestants for one in pair):
                contestant.end()
    return measured


if __name__ == "__main__":
    main()
