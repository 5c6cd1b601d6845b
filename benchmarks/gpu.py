"""Training on a CUDA device: images a second, beside bare loops, and which kernels determinism makes slower.

    uv run python benchmarks/gpu.py [--model resnet50] [--image-size 224] [--batch-size 256] [--precision bf16]
                                    [--rounds 10] [--steps 20]

The built-in dataset, all in the device's memory, channels-last. Four ways by turns, in blocks of `--steps` steps, the
device waited for before and after each: genmed as it is (strict, with its trace); genmed seeded, without a trace; a
bare loop with the same model, optimizer and autocast over batches made ready on the device, with deterministic
kernels; and the same with cuDNN's autotuning. genmed's steps are waited for one behind, as in a training; it gathers,
converts and normalises each batch within the step, the bare loops do not. Then the kernels of genmed's step, strict and
seeded, both without a trace, by torch's profiler. Without a CUDA device it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from printing import describe_machine, print_table

from genmed.ground.interpreter import restart
from genmed.records.config import Config
from genmed.workflows.configure import configure, interpreter_variables

TINY_MODEL = f"{Path(__file__).resolve().parents[1] / 'tests/models/tiny.py'}:build"
PROFILED, SHOWN = 5, 12
STRICT, SEEDED = "genmed, strict, trace", "genmed, seeded, no trace"
BARE, TUNED = "bare loop, deterministic", "bare loop, autotuned"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tiny-on-cpu", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    flags = {
        "model.name": TINY_MODEL if chosen.tiny_on_cpu else chosen.model,
        "data.image_size": 16 if chosen.tiny_on_cpu else chosen.image_size,
        "training.batch_size": 32 if chosen.tiny_on_cpu else chosen.batch_size,
        "compute.precision": chosen.precision,
        "compute.device": "cpu" if chosen.tiny_on_cpu else "cuda",
        "compute.images": "resident",
    }
    config = configure(flags).config
    restart(interpreter_variables(config))

    import torch

    print(describe_machine("torch", "torchvision"))
    if not (torch.cuda.is_available() or chosen.tiny_on_cpu):
        print("no CUDA device: left out")
        return
    if not chosen.tiny_on_cpu:
        print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    contest = Contest(config)
    seconds: dict[str, list[float]] = {way: [] for way in contest.ways}
    for way in contest.ways:
        contest.run_block(way, 3)  # chooses kernels, takes memory
        contest.run_block(way, chosen.steps)
    for _ in range(chosen.rounds):
        for way in random.sample(list(seconds), len(seconds)):
            seconds[way].append(contest.run_block(way, chosen.steps))
    model = "tiny" if chosen.tiny_on_cpu else chosen.model
    print(
        f"{model}, {config.data.image_size} px, batch {config.training.batch_size}, {chosen.precision}, channels-last,"
    )
    print(f"{chosen.rounds} rounds of {chosen.steps} steps\n")
    show_rates(seconds, config.training.batch_size * chosen.steps)
    show_kernels(contest.profile(strict=True), contest.profile(strict=False))


class Contest:
    """Learners that have the same task, each with its way to a step."""

    def __init__(self, config: Config) -> None:
        from genmed.parts.data.augmentation import draw_epoch
        from genmed.parts.data.loader import plan_epoch
        from genmed.parts.models.build import set_training_mode
        from genmed.workflows.assemble import assemble, renew_learner
        from genmed.workflows.execute import make_loader
        from genmed.workflows.reporting import Silent

        task = assemble(config, Silent()).task
        self.task = task
        self.plain = replace(task, config=task.config.replace(**{"run.trace": False}))
        batch = config.training.batch_size
        self._plan = [rows for rows in plan_epoch(config.seed, 1, task.rows["train"], batch, 1) if len(rows) == batch]
        self._draws = draw_epoch(config.seed, 1, len(task.ids))
        self._loader = make_loader(task)
        self.learners = {way: renew_learner(task) for way in (STRICT, SEEDED, BARE, TUNED)}
        for learner in self.learners.values():
            set_training_mode(learner.model, config.model, task.outputs)
        self._ready = self._make_ready()
        self.ways: dict[str, Callable[[int], None]] = {
            STRICT: lambda steps: self._train(STRICT, task, steps),
            SEEDED: lambda steps: self._train(SEEDED, self.plain, steps),
            BARE: lambda steps: self._train_bare(BARE, steps),
            TUNED: lambda steps: self._train_bare(TUNED, steps),
        }

    def run_block(self, way: str, steps: int) -> float:
        """Seconds, the device's work included."""
        self._set(strict=way in (STRICT, BARE), autotuned=way == TUNED)
        wait()
        start = time.perf_counter()
        self.ways[way](steps)
        wait()
        return time.perf_counter() - start

    def _set(self, *, strict: bool, autotuned: bool = False) -> None:
        import torch

        from genmed.ground.determinism import apply_settings

        compute = self.task.config.compute
        apply_settings(strict=strict, tf32=compute.tf32, threads=compute.threads)
        torch.backends.cudnn.benchmark = autotuned

    def _read(self, steps: int) -> Iterator[Any]:
        return self._loader.read(list(itertools.islice(itertools.cycle(self._plan), steps)))

    def _make_ready(self) -> list[tuple[Any, Any]]:
        """Inputs as the network takes them, and targets as floating point numbers."""
        from genmed.engine.step import to_input

        learner = self.learners[BARE]
        return [
            (to_input(batch.images, learner, self.task, None), batch.targets.float())
            for batch in self._read(len(self._plan))
        ]

    def _train(self, way: str, task: Any, steps: int) -> None:
        from genmed.engine.step import LaunchedStep, launch_step

        before: LaunchedStep | None = None
        for number, batch in enumerate(self._read(steps), start=1):
            launched = launch_step(self.learners[way], task, batch, self._draws, number, 1)
            if before:
                before.wait()
            before = launched
        if before:
            before.wait()

    def _train_bare(self, way: str, steps: int) -> None:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        model, optimizer = self.learners[way].model, self.learners[way].optimizer
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.task.config.compute.precision)
        for images, targets in itertools.islice(itertools.cycle(self._ready), steps):
            with torch.autocast(self.task.device, dtype=kind or torch.bfloat16, enabled=kind is not None):
                logits = model(images)
            binary_cross_entropy_with_logits(logits.float(), targets).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def profile(self, *, strict: bool) -> dict[str, float]:
        """Milliseconds a step by kernel; where there is no device, by operation."""
        from torch.profiler import ProfilerActivity, profile

        self._set(strict=strict)
        on_device = self.task.device == "cuda"
        self._train(SEEDED, self.plain, 3)
        wait()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
        with profile(activities=activities) as found:
            self._train(SEEDED, self.plain, PROFILED)
            wait()
        times: dict[str, float] = {}
        for entry in found.key_averages():
            spent = entry.self_device_time_total if on_device else entry.self_cpu_time_total
            if not on_device or str(entry.device_type).endswith(
                "CUDA"
            ):  # else an operation and its kernels count twice
                times[entry.key] = times.get(entry.key, 0.0) + spent / 1000 / PROFILED
        return times


def wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def show_rates(seconds: dict[str, list[float]], images: int) -> None:
    from steps import bootstrap_median

    rows = []
    for way, measured in seconds.items():
        row = [way, f"{images / statistics.median(measured):.0f}"]
        for beside in (BARE, TUNED):
            rates = [other / own for own, other in zip(measured, seconds[beside], strict=True)]
            ratio, low, high = bootstrap_median(rates)
            row += [f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"] if way != beside else ["1", ""]
        rows.append(row)
    print_table(["way", "images/s", f"of {BARE}'s", "95% interval", f"of {TUNED}'s", "95% interval"], rows)


def show_kernels(strict: dict[str, float], seeded: dict[str, float]) -> None:
    """Those whose time differs most; one that only one of the two uses has 0 in the other."""
    taxes = {name: strict.get(name, 0.0) - seeded.get(name, 0.0) for name in {**strict, **seeded}}
    rows = [
        [name[:70], *(f"{value:.3f}" for value in (strict.get(name, 0.0), seeded.get(name, 0.0), taxes[name]))]
        for name in sorted(taxes, key=lambda name: -abs(taxes[name]))[:SHOWN]
    ]
    total = [sum(times.values()) for times in (strict, seeded)]
    rows.append(["all", f"{total[0]:.3f}", f"{total[1]:.3f}", f"{total[0] - total[1]:.3f}"])
    print_table(["kernel, without a trace", "strict ms a step", "seeded", "difference"], rows)


if __name__ == "__main__":
    main()
