"""What a step and a start may cost, in counts that hold still where times do not."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils._python_dispatch import TorchDispatchMode

from genmed.engine.learner import Learner, build_learner
from genmed.engine.step import launch_step
from genmed.engine.task import Task
from genmed.parts.data.augmentation import draw_epoch
from genmed.parts.models.build import set_training_mode
from tests.test_step import CLASSES, COUNT, list_batches, make_task

VIEWS = {"as_strided", "detach", "expand", "permute", "slice", "squeeze", "t", "view"}
"""Operations that touch no element."""


class Kernels(TorchDispatchMode):
    """Counts the operations that compute or copy."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation._schema.name.removeprefix("aten::")
        if name not in VIEWS and "profiler" not in name:
            self.counts[name] += 1
        return operation(*args, **(kwargs or {}))


def count_step(learner: Learner, task: Task, step: int) -> Counter[str]:
    set_training_mode(learner.model, task.config.model, len(CLASSES))
    epoch, batch = list_batches(task)[step - 1]
    draws = draw_epoch(task.config.seed, epoch, COUNT)
    with Kernels() as kernels:
        launch_step(learner, task, batch, draws, step, epoch)
    return kernels.counts


def count_bare_step(learner: Learner) -> Counter[str]:
    """Forward, loss, backward, update, as anybody writes it."""
    images, targets = torch.rand(8, 3, 16, 16), torch.zeros(8, len(CLASSES))
    with Kernels() as kernels:
        binary_cross_entropy_with_logits(learner.model(images), targets).backward()  # type: ignore[no-untyped-call]
        learner.optimizer.step()
        learner.optimizer.zero_grad()
    return kernels.counts


def test_step_launches_a_bare_loops_kernels_and_a_few_on_the_batch_and_none_for_the_trace(tmp_path: Path) -> None:
    task = make_task(tmp_path, {})
    learner = build_learner(task)
    plain = replace(task, config=task.config.replace(**{"run.trace": False}))
    for step in (1, 2):
        count_step(learner, task, step)
    traced, untraced = (count_step(learner, each, 3) for each in (task, plain))
    assert traced == untraced
    bare = count_bare_step(learner)
    on_the_batch = {"_to_copy": 3, "sub_": 1, "mul_": 1, "clone": 1}  # bytes to numbers, in the network's channels
    in_the_loss = {"ne": 1, "clamp": 1, "mul": 1, "div": 2, "stack": 1}  # labels not known; shards
    assert traced - bare == Counter({**on_the_batch, **in_the_loss})
    assert bare - traced == Counter({"div_": 1})  # the mean is taken of the sum


def test_listing_imports_the_registrys_library_and_nothing_that_computes(tmp_path: Path) -> None:
    code = """
import json, sys
from genmed.cli.app import run
run(["list"])
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules} - sys.stdlib_module_names)))
"""
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    imported = {name for name in json.loads(out.splitlines()[-1]) if not name.startswith("_")}
    registry = {"sqlmodel", "sqlalchemy", "greenlet", "pydantic", "pydantic_core", "annotated_types"}
    command_line = {"typer", "annotated_doc", "shellingham", "typing_extensions", "typing_inspection"}
    assert imported <= {"genmed", "cython_runtime", "xxhash"} | registry | command_line
