"""Where a training's time goes: the parts of a step, what the trace has to read, what a checkpoint takes from steps.

    uv run python benchmarks/where_time_goes.py [--model resnet18] [--image-size 64] [--batch-size 32] [--steps 40]
                                                [--rounds 10]

1. Parts of a step with its trace: medians over the steps; a part is what was spent in it and in no other row.
2. Digests of as many bytes as a step's fingerprints take in, by one thread and by two, beside the same bytes copied
   (read and written) by torch with all its threads: how fast this machine's memory is.
3. How much longer the four steps are beside which a thread writes a checkpoint, does a part of that, or nothing; by
   turns, medians with a 95% bootstrap interval.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from printing import describe_machine, print_table

from genmed.ground.interpreter import restart
from genmed.workflows.configure import configure, interpreter_variables

WARM_UP, BESIDE = 5, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args()
    flags = {
        "model.name": chosen.model,
        "data.image_size": chosen.image_size,
        "training.batch_size": chosen.batch_size,
        "compute.device": "cpu",
    }
    config = configure(flags).config
    restart(interpreter_variables(config))

    from steps import Stepper

    print(describe_machine("torch", "xxhash"))
    print(f"{chosen.model}, {chosen.image_size} px, batch {chosen.batch_size}, {config.compute.threads} threads\n")
    stepper = Stepper(config)
    show_parts(stepper, chosen.steps)
    show_reading(stepper, chosen.rounds)
    show_checkpoints(stepper, chosen.rounds)


class Clock:
    """Notes when functions begin and end."""

    def __init__(self) -> None:
        self._open: list[float] = []
        self.own: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, name: str, what: str) -> None:
        function = getattr(owner, name)

        def watched(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            self._open.append(0.0)
            try:
                return function(*given, **named)
            finally:
                whole = time.perf_counter() - start
                self.own[what] += whole - self._open.pop()
                if self._open:
                    self._open[-1] += whole

        setattr(owner, name, watched)


def show_parts(stepper: Any, steps: int) -> None:
    import torch

    from genmed.engine import learner, step

    clock = Clock()
    clock.watch(step, "to_input", "bytes to the network's input")
    clock.watch(step, "compute_logits", "forward")
    clock.watch(step, "sum_loss", "loss")
    clock.watch(torch.Tensor, "backward", "backward")
    clock.watch(stepper.session.learner.optimizer, "step", "update")
    clock.watch(step, "read_tensors", "trace: where the tensors lie")
    for name in ("read_gradients", "read_state"):
        clock.watch(learner.Learner, name, "trace: where the tensors lie")
    clock.watch(step, "Snapshot", "trace: digests")
    measured: list[dict[str, float]] = []
    for _ in range(WARM_UP + steps):
        clock.own.clear()
        whole = stepper.step()
        measured.append({**clock.own, "all else": whole - sum(clock.own.values()), "step": whole})
    medians = {what: 1000 * statistics.median(one[what] for one in measured[WARM_UP:]) for what in measured[-1]}
    rows = [[what, f"{value:.2f}", f"{value / medians['step']:.1%}"] for what, value in medians.items()]
    print_table(["part", "ms", "of the step"], rows)


def show_reading(stepper: Any, rounds: int) -> None:
    import torch

    from genmed.ground.tensor_fingerprints import Snapshot
    from genmed.ground.tensor_reading import read_tensors

    learner = stepper.session.learner
    gradients = {name: torch.zeros_like(value) for name, value in learner.trained.items()}
    readings = [read_tensors(gradients.items()), *learner.read_state()]
    size = sum(reading.size for reading in readings)
    source, target = torch.zeros(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "digests, one thread": (lambda: Snapshot(readings, 1), size),
        "digests, two threads": (lambda: Snapshot(readings, 2), size),
        f"copied, {torch.get_num_threads()} threads": (lambda: target.copy_(source), 2 * size),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(WARM_UP + rounds):
        for way in random.sample(list(ways), len(ways)):
            start = time.perf_counter()
            ways[way][0]()
            seconds[way].append(time.perf_counter() - start)
    rows = []
    for way, measured in seconds.items():
        median = statistics.median(measured[WARM_UP:])
        rows.append([way, f"{1000 * median:.2f}", f"{ways[way][1] / median / 1e9:.1f}"])
    print_table([f"{size / 1e6:.0f} MB, as the trace reads each step", "ms", "GB/s"], rows)


def show_checkpoints(stepper: Any, rounds: int) -> None:
    import torch
    from steps import bootstrap_median

    from genmed.engine.checkpoint import Memory, write_checkpoint
    from genmed.engine.progress import Progress
    from genmed.ground.files import remove_folder

    learner, identity = stepper.session.learner, stepper.session.identity
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoints"
        weights, optimizer = learner.weights(), learner.optimizer_tensors()
        state = [value.clone() for value in (*weights.values(), *optimizer.values())]
        snapshot = Memory().take(learner, Progress(step=1, best_epoch=1), "", None)
        views = [value.detach().reshape(-1).view(torch.uint8).numpy() for value in state if value.numel()]

        def digest() -> None:
            whole = hashlib.sha256()
            for view in views:
                whole.update(view)

        def write(*, sync: bool = False) -> None:
            with open(Path(name) / "raw", "wb") as file:
                for view in views:
                    file.write(view)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            (Path(name) / "raw").unlink()

        def write_all() -> None:
            remove_folder(write_checkpoint(folder, snapshot, identity).folder)

        ways: dict[str, Callable[[], None]] = {
            "nothing": lambda: None,
            "SHA-256 of its bytes": digest,
            "its bytes written": write,
            "written and synced": lambda: write(sync=True),
            "a checkpoint, and the old one removed": write_all,
        }
        extra: dict[str, list[float]] = {way: [] for way in ways}
        usual = statistics.median(stepper.step() for _ in range(WARM_UP + 10))
        for number in range(1 + rounds):
            for way in random.sample(list(ways), len(ways)):
                thread = threading.Thread(target=ways[way])
                thread.start()
                spent = sum(stepper.step() for _ in range(BESIDE)) - BESIDE * usual
                thread.join()
                if number:
                    extra[way].append(1000 * spent)
    rows = []
    for way, measured in extra.items():
        beyond = [own - other for own, other in zip(measured, extra["nothing"], strict=True)]
        value, low, high = bootstrap_median(beyond)
        rows.append([way, f"{value:.0f}", f"{low:.0f} to {high:.0f}"])
    size = sum(view.nbytes for view in views)
    print_table(
        [f"beside {BESIDE} steps of {1000 * usual:.0f} ms, {size / 1e6:.0f} MB", "ms more", "95% interval"], rows
    )


if __name__ == "__main__":
    main()
