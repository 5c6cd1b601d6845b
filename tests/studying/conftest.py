"""A study that was killed and stopped in the middle, and then went on to its end."""

import os
import shlex
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from genmed.records.run_folder import RunDocument, RunFolder, list_run_folders
from tests.harness import Genmed, Result
from tests.resuming.runs import Arguments, wait_for

SLOW = """
import os
import sys
import time
from torch import nn


def build(num_classes, width=8):
    print("a model that talks")
    net = nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )

    def rest(module, inputs):
        if module.training:
            time.sleep(float(os.environ.get("GENMED_TEST_SLEEP", 0)))

    net.register_forward_pre_hook(rest)
    return net


def wide(num_classes):
    return build(num_classes, 16)
"""
"""Two models that talk, and sleep in each pass of training for GENMED_TEST_SLEEP seconds."""


class Storm(NamedTuple):
    """A study of 2 models and 2 seeds that was killed, then stopped, and what each command said."""

    genmed: Genmed
    models: list[str]
    command: list[object]
    under_way: RunDocument
    """Its training as it was killed."""
    after_kill: dict[str, Any]
    stopped: Result
    ended: Result


def list_documents(root: Path) -> list[RunDocument]:
    return [folder.read() for folder in list_run_folders(root)]


def await_trainings(genmed: Genmed, count: int, step: int) -> list[RunDocument]:
    """Until so many runs are under way and have a checkpoint of that step or a later one."""
    found: list[RunDocument] = []

    def are_there() -> bool:
        running = [entry for entry in list_documents(genmed.root) if entry.true_status == "running"]
        found[:] = [entry for entry in running if entry.checkpoint_step >= step]
        return len(found) >= count

    wait_for(are_there, 150)
    return found


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(scope="module")
def storm(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Storm:
    folder = tmp_path_factory.mktemp("storm")
    (folder / "slow.py").write_text(SLOW)
    models = [f"{folder / 'slow.py'}:{name}" for name in ("build", "wide")]
    genmed = Genmed(server, folder, image_cache)
    often = ["--set", "checkpoints.every_steps=2", "--epochs", 2, "--num-workers", 1]
    grid = ["--seeds", 2, "--models", ",".join(models), "--jobs", 2, "--name", "storm"]
    command = [argument for argument in tiny(*often, *grid, command="study") if argument != "--json"]
    model = command.index("--model")
    del command[model : model + 2]

    alone = [1 if argument == 2 and command[at - 1] == "--jobs" else argument for at, argument in enumerate(command)]
    killed = genmed.start(*alone, GENMED_TEST_SLEEP="0.2")
    [under_way] = await_trainings(genmed, 1, 4)
    orphan = under_way.process["pid"]
    killed.send(signal.SIGKILL)
    killed.wait()
    wait_for(lambda: is_gone(orphan), 45)
    after_kill = genmed("study", "show", "--json").json

    again = genmed.start(*command, cwd=genmed.root, GENMED_TEST_SLEEP="0.5")
    await_trainings(genmed, 2, 2)
    again.send(signal.SIGTERM)
    stopped = again.wait()
    last = stopped.err.splitlines()[-1]
    words = shlex.split(last[last.index("genmed study resume") : -1])
    ended = genmed(*words[1:], cwd=genmed.root)
    assert ended.code == 0, ended.err
    return Storm(genmed, models, command, under_way, after_kill, stopped, ended)


@pytest.fixture
def copied(storm: Storm, tmp_path: Path) -> Genmed:
    """A copy of the finished study that a test may spoil."""
    return storm.genmed.copied_to(tmp_path)


def find_run(genmed: Genmed, model: str, seed: int) -> RunFolder:
    found = [folder for folder in list_run_folders(genmed.root) if _is(folder.read(), model, seed)]
    assert len(found) == 1, found
    return found[0]


def _is(document: RunDocument, model: str, seed: int) -> bool:
    return os.path.basename(document.model) == os.path.basename(model) and document.seed == seed
