"""What the trace costs: the same step with and without it, in pairs, on one learner.

    uv run python benchmarks/trace_cost.py [--models resnet18 resnet50 densenet121 vit_b_16] [--image-size 64]
                                           [--batch-size 32] [--pairs 60] [--modules]

Each model has a process of its own, one after the other. --modules: what `train --trace-modules` costs, beside a step
with the trace that every run has. The order within a pair changes at random, so that a drift of the machine falls on
both. Printed: the size of the parameters (of which, of their gradients and of the optimizer's two moments the trace
takes digests), the median times, and the median of the ratios with a 95% bootstrap interval.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from printing import describe_machine, print_table

from genmed.ground.interpreter import restart
from genmed.records.config import Config
from genmed.workflows.configure import configure, interpreter_variables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet18"])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--modules", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    flags = {"data.image_size": chosen.image_size, "training.batch_size": chosen.batch_size}
    configs = {model: configure({**flags, "model.name": model}).config for model in chosen.models}
    if chosen.only:
        return measure(configs[chosen.only], chosen.pairs, chosen.modules)
    print(describe_machine("torch"))
    first = configs[chosen.models[0]]
    print(f"{chosen.image_size} px, batch {chosen.batch_size}, {first.compute.threads} threads, {chosen.pairs} pairs\n")
    what = "modules" if chosen.modules else "trace"
    header = ["model", "parameters MB", f"step with {what} ms", "without ms", "ratio", "95% interval"]
    print_table(header, [measure_apart(model) for model in chosen.models])


def measure_apart(model: str) -> list[str]:
    call = [sys.executable, *sys.argv, "--only", model]
    printed = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [model, *json.loads(printed.splitlines()[-1])]


def measure(config: Config, pairs: int, with_modules: bool) -> None:
    """Prints the model's row but for its name, as JSON."""
    restart(interpreter_variables(config))

    from steps import Stepper, bootstrap_median

    from genmed.engine.module_trace import ModuleTrace

    stepper = Stepper(config)
    traced = stepper.task
    plain = replace(traced, config=traced.config.replace(**{"run.trace": False}))
    with tempfile.TemporaryDirectory() as place:
        modules = ModuleTrace(Path(place) / "modules.jsonl", 0)
        ways = {
            True: partial(stepper.step, traced, modules if with_modules else None),
            False: partial(stepper.step, traced if with_modules else plain),
        }
        for way in [*ways.values()] * 5:
            way()
        measured = []
        for _ in range(pairs):
            first = random.random() < 0.5
            times = {which: ways[which]() for which in (first, not first)}
            measured.append((times[True], times[False]))
        modules.close()
    ratio, low, high = bootstrap_median([a / b for a, b in measured])
    medians = [f"{1000 * statistics.median(column):.1f}" for column in zip(*measured, strict=True)]
    size = sum(value.numel() * value.element_size() for value in stepper.session.learner.model.parameters())
    print(json.dumps([f"{size / 1e6:.1f}", *medians, f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"]))


if __name__ == "__main__":
    main()
