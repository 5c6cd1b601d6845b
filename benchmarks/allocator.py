"""What it brings that freed memory is kept: the same steps in processes with and without it, by turns.

    uv run python benchmarks/allocator.py [--model resnet18] [--image-size 64] [--batch-size 32] [--pairs 5]

Printed: each process's median seconds a step, and the median of the ratios.
"""

import argparse
import statistics
import subprocess
import sys

from genmed.ground.interpreter import restart
from genmed.workflows.configure import configure, interpreter_variables

STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--way", choices=["kept", "given back"], help="of one such process")
    chosen = parser.parse_args()
    if chosen.way:
        return measure_steps(chosen)
    ratios = []
    for _ in range(chosen.pairs):
        kept, given_back = (run_process(way) for way in ("kept", "given back"))
        ratios.append(given_back / kept)
        print(f"kept {1000 * kept:.1f} ms, given back {1000 * given_back:.1f} ms, ratio {ratios[-1]:.3f}", flush=True)
    print(f"given back takes {statistics.median(ratios):.3f} times as long")


def run_process(way: str) -> float:
    command = [sys.executable, *sys.argv, "--way", way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_steps(chosen: argparse.Namespace) -> None:
    flags = {
        "model.name": chosen.model,
        "data.image_size": chosen.image_size,
        "training.batch_size": chosen.batch_size,
    }
    config = configure(flags).config
    restart(interpreter_variables(config))

    from steps import Stepper

    from genmed.workflows import assemble

    if chosen.way == "given back":
        assemble.keep_freed_memory = bool
    stepper = Stepper(config)
    seconds = [stepper.step() for _ in range(STEPS)]
    print(statistics.median(seconds[STEPS // 4 :]))


if __name__ == "__main__":
    main()
