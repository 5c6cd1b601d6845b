"""Runs that are killed and resumed: a model that kills its process at a chosen moment; comparison of two runs."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from genmed.engine.checkpoint import list_checkpoints, read_progress
from genmed.ground.fingerprints import digest_file
from tests.harness import Genmed

Arguments = Callable[..., list[object]]

FRAGILE = """
import glob
import os
import resource
import signal
import sys
import time
from torch import nn

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def build(num_classes):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )
    counted = {"passes": 0, "rests": 0, "events": 0}
    own = os.getpid()  # the loader's workers are forked from this process, hook and all
    awaited = os.environ.get("GENMED_TEST_AWAIT")

    def count(what):
        counted[what] += 1
        if counted[what] == int(os.environ.get(f"GENMED_TEST_{what.upper()}", -1)):
            if awaited:
                wait_for_checkpoint()
            os.kill(os.getpid(), int(os.environ.get("GENMED_TEST_SIGNAL", signal.SIGKILL)))

    def wait_for_checkpoint():
        documents = glob.glob(os.path.join(os.environ["GENMED_ROOT"], "runs", "*", "run.json"))
        while not any(f'"checkpoint_step": {awaited},' in open(path).read() for path in documents):
            time.sleep(0.001)

    def before_pass(module, inputs):
        limit = os.environ.get("GENMED_TEST_LIMIT")
        if limit and counted["passes"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        count("passes" if module.training else "rests")
        if counted["events"]:
            count("events")

    def before_file(event, arguments):
        if event not in EVENTS or os.getpid() != own:
            return
        if event == "shutil.rmtree" and removed and os.path.basename(arguments[0]).endswith(removed):
            counted["removed"] = 0
        if event == "os.remove" and "removed" in counted:
            count("removed")
        if file and any(".tmp-" in str(argument) and file in str(argument) for argument in arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        if counted["events"] or str(arguments[0]).endswith("trace.jsonl"):
            count("events")

    model.register_forward_pre_hook(before_pass)
    file, removed = os.environ.get("GENMED_TEST_FILE"), os.environ.get("GENMED_TEST_REMOVING")
    if file or removed or "GENMED_TEST_EVENTS" in os.environ:
        sys.addaudithook(before_file)
    return model
"""
"""A model's file. Counts passes of training, those at rest, and, from the opening of the trace on, passes and files
touched. At the number in a variable (GENMED_TEST_PASSES, _RESTS, _EVENTS) the process gets SIGKILL or the signal in
GENMED_TEST_SIGNAL, after a checkpoint of step GENMED_TEST_AWAIT is safe; it gets SIGKILL as it is about to write a file
named GENMED_TEST_FILE. From the third pass of training on no file may be longer than GENMED_TEST_LIMIT."""


class Pair(NamedTuple):
    """The same training left alone, and killed in step 12 with checkpoints of steps 7 and 9."""

    whole: Genmed
    killed: Genmed
    command: list[object]


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """Without what a machine's speed and memory make of it."""
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("images_per_second", "peak_memory_mib")} for row in rows]


def assert_same_run(found: Genmed, expected: Genmed) -> None:
    one, other = found.run_folder(), expected.run_folder()
    for name in ("trace.jsonl", "predictions.csv", "data-images.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert read_metrics(one) == read_metrics(other)
    documents = [json.loads((folder / "run.json").read_text()) for folder in (one, other)]
    for key in ("status", "fingerprint", "trace_digest", "metrics", "best_epoch", "epochs_done", "steps_done", "error"):
        assert documents[0][key] == documents[1][key], key
    kept = [
        {
            path.name: (digest_file(path / "model.safetensors"), read_progress(path))
            for path in list_checkpoints(folder / "checkpoints")
        }
        for folder in (one, other)
    ]
    assert kept[0] == kept[1]


def snapshot(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
