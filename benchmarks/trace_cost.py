"""What the trace costs: the same step with and without it, in pairs, on one learner.

    uv run python benchmarks/trace_cost.py [--model resnet18] [--image-size 64] [--batch-size 32] [--pairs 60]

The order within a pair changes at random, so that a drift of the machine falls on both. Printed: the median of the
ratios with a 95% bootstrap interval, and the median times.
"""

import argparse
import random
import statistics
import time

from genmed.ground.interpreter import restart
from genmed.workflows.configure import configure, interpreter_variables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=60)
    chosen = parser.parse_args()
    flags = {
        "model.name": chosen.model,
        "data.image_size": chosen.image_size,
        "training.batch_size": chosen.batch_size,
    }
    config = configure(flags).config
    restart(interpreter_variables(config))

    from dataclasses import replace

    from genmed.engine.step import run_step
    from genmed.parts.data.augmentation import draw_epoch
    from genmed.parts.data.loader import plan_epoch
    from genmed.parts.models.build import set_training_mode
    from genmed.workflows.assemble import assemble
    from genmed.workflows.execute import make_loader
    from genmed.workflows.reporting import Silent

    session = assemble(config, Silent())
    learner, traced = session.learner, session.task
    plain = replace(traced, config=config.replace(**{"run.trace": False, "compute.device": traced.device}))
    plan = plan_epoch(config.seed, 1, traced.rows["train"], config.training.batch_size, 1)[:-1]
    batches = list(make_loader(traced).read(plan))
    draws = draw_epoch(config.seed, 1, len(traced.ids))
    set_training_mode(learner.model, config.model, len(traced.classes))
    step = 0

    def measure(task: object) -> float:
        nonlocal step
        step += 1
        start = time.perf_counter()
        run_step(learner, task, batches[step % len(batches)], draws, step % traced.total_steps + 1, 1)  # type: ignore
        return time.perf_counter() - start

    for _ in range(5):
        measure(traced), measure(plain)
    pairs = []
    for _ in range(chosen.pairs):
        if random.random() < 0.5:
            with_trace = measure(traced)
            without = measure(plain)
        else:
            without = measure(plain)
            with_trace = measure(traced)
        pairs.append((with_trace, without))
    ratios = [a / b for a, b in pairs]
    medians = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(2000))
    print(f"{chosen.model}, {chosen.image_size} px, batch {chosen.batch_size}, {config.compute.threads} threads")
    print(f"step with trace     {1000 * statistics.median(a for a, _ in pairs):8.1f} ms")
    print(f"step without        {1000 * statistics.median(b for _, b in pairs):8.1f} ms")
    print(
        f"ratio               {statistics.median(ratios):8.3f}  (95% interval {medians[50]:.3f} to {medians[1949]:.3f})"
    )


if __name__ == "__main__":
    main()
