"""What the trace costs: the same step with and without it, in pairs, on one learner.

    uv run python benchmarks/trace_cost.py [--model resnet18] [--image-size 64] [--batch-size 32] [--pairs 60]
                                           [--modules]

--modules: what `train --trace-modules` costs, beside a step with the trace that every run has. The order within a pair
changes at random, so that a drift of the machine falls on both. Printed: the median of the ratios with a 95% bootstrap
interval, and the median times.
"""

import argparse
import random
import statistics
import tempfile
from functools import partial
from pathlib import Path

from genmed.ground.interpreter import restart
from genmed.workflows.configure import configure, interpreter_variables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--modules", action="store_true")
    chosen = parser.parse_args()
    flags = {
        "model.name": chosen.model,
        "data.image_size": chosen.image_size,
        "training.batch_size": chosen.batch_size,
    }
    config = configure(flags).config
    restart(interpreter_variables(config))

    from dataclasses import replace

    from steps import Stepper, bootstrap_median

    from genmed.engine.module_trace import ModuleTrace

    stepper = Stepper(config)
    traced = stepper.task
    plain = replace(traced, config=traced.config.replace(**{"run.trace": False}))
    place = tempfile.TemporaryDirectory()
    modules = ModuleTrace(Path(place.name) / "modules.jsonl", 0)
    ways = {
        True: partial(stepper.step, traced, modules if chosen.modules else None),
        False: partial(stepper.step, traced if chosen.modules else plain),
    }
    for way in [*ways.values()] * 5:
        way()
    pairs = []
    for _ in range(chosen.pairs):
        first = random.random() < 0.5
        times = {which: ways[which]() for which in (first, not first)}
        pairs.append((times[True], times[False]))
    modules.close()
    place.cleanup()
    ratio, low, high = bootstrap_median([a / b for a, b in pairs])
    print(f"{chosen.model}, {chosen.image_size} px, batch {chosen.batch_size}, {config.compute.threads} threads")
    what = "modules" if chosen.modules else "trace"
    print(f"{f'step with {what}':<20}{1000 * statistics.median(a for a, _ in pairs):8.1f} ms")
    print(f"step without        {1000 * statistics.median(b for _, b in pairs):8.1f} ms")
    print(f"ratio               {ratio:8.3f}  (95% interval {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
