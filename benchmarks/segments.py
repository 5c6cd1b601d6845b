"""How long a verification takes: of the whole run, of stretches beside each other, and of a few as an audit.

    uv run python benchmarks/segments.py [--model resnet18] [--image-size 64] [--epochs 5] [--segments 10] [--jobs 2]

Trains a run on the built-in dataset with one CPU thread and a state kept after each of its segments, then runs the
command afresh for each row, from the start of the interpreter to the verdict. In the last row a tenth of the way is
another than recorded, in a record that is forged throughout. Printed: seconds, the ratio to the whole run's, and the
verdict. Exit code 1 if any verdict is another than expected.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' harness forges records

STEPS_AN_EPOCH = 42  # of the built-in dataset, 32 images a batch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--segments", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    from tests.harness import forge_trace

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)

        def genmed(*arguments: object) -> tuple[dict[str, Any], float]:
            environ = {**os.environ, "GENMED_ROOT": str(root)}
            command = [sys.executable, "-m", "genmed", *map(str, arguments), "--json"]
            start = time.perf_counter()
            done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
            return json.loads(done.stdout), time.perf_counter() - start

        how = ["--model", chosen.model, "--image-size", chosen.image_size, "--epochs", chosen.epochs, "--threads", 1]
        steps = STEPS_AN_EPOCH * chosen.epochs
        every = -(-steps // chosen.segments)
        run, seconds = genmed("train", *how, "--set", f"checkpoints.keep_every_steps={every}")
        print(f"{chosen.model}, {chosen.image_size} px, {run['steps_done']} steps, 1 thread, {os.cpu_count()} cores")
        print(f"training\t{seconds:.1f} s")
        whole: float | None = None
        audit = min(3, chosen.segments)
        rows: dict[str, tuple[list[object], str]] = {
            "the whole run": ([], "identical"),
            f"all segments, {chosen.jobs} jobs": (["--jobs", chosen.jobs], "identical"),
            f"{audit} random segments": (["--segments", audit], "segments identical"),
            f"{audit} random segments, {chosen.jobs} jobs": (
                ["--segments", audit, "--jobs", chosen.jobs],
                "segments identical",
            ),
            "the last segment": (["--segment", chosen.segments], "segments identical"),
            f"a difference at step {steps // 10}": ([], "diverged"),
        }
        good = True
        print("\t".join(["verified", "steps", "seconds", "of the whole run's", "verdict"]))
        for label, (options, expected) in rows.items():
            if expected == "diverged":
                forge_trace(root / run["path"], lambda lines: lines[steps // 10].update(grad="xxh3-128:" + 32 * "0"))
            report, seconds = genmed("verify", run["id"], *options)
            whole = whole or seconds
            good = good and report["verdict"].endswith(expected)
            figures = str(report["steps_compared"]), f"{seconds:.1f}", f"{seconds / whole:.2f}"
            print("\t".join([label, *figures, report["verdict"]]), flush=True)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
