"""Event files for TensorBoard: the steps of the trace, each once; and not a bit of the trace is another."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genmed.workflows.tensorboard import EventFile
from tests.harness import TINY_MODEL, Genmed, own_environment

Arguments = Callable[..., list[object]]
KILLED = f"""
import os, runpy, signal

def build(num_classes):
    model = runpy.run_path({TINY_MODEL.rpartition(":")[0]!r})["build"](num_classes)
    passes = 0

    def count(module, inputs):
        nonlocal passes
        passes += module.training
        if passes == 11 and os.environ.get("GENMED_TEST_KILL"):  # in step 10; the first is the trial before step 1
            os.kill(os.getpid(), signal.SIGKILL)

    model.register_forward_pre_hook(count)
    return model
"""


def read_events(file: Path) -> Iterator[Any]:
    """The records of an event file: length, its checksum, content, its checksum; a torn last one is left out."""
    from tensorboardX.proto.event_pb2 import Event

    content, at = file.read_bytes(), 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        if at + 16 + length <= len(content):
            yield Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length


def read_scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """As TensorBoard shows them: the start of a session at a step drops what was told of it and later ones before."""
    from tensorboardX.proto.event_pb2 import SessionLog

    shown: dict[str, list[tuple[int, float]]] = {}
    for file in sorted((run / "tensorboard").iterdir()):
        for event in read_events(file):
            if event.session_log.status == SessionLog.START:
                shown = {name: [pair for pair in pairs if pair[0] < event.step] for name, pairs in shown.items()}
            for value in event.summary.value:
                shown.setdefault(value.tag, []).append((event.step, value.simple_value))
    return shown


def read_losses(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()[1:]]
    return [(line["step"], float.fromhex(line["loss"][0])) for line in lines]


def test_scalars_are_those_of_the_trace_and_the_table_and_change_no_bit(
    genmed: Genmed, trained: Genmed, tiny: Arguments
) -> None:
    pytest.importorskip("tensorboardX")
    run = genmed(*tiny("--tensorboard", "--num-workers", 1))
    assert run.code == 0, run.err
    plain = trained("show", "latest", "--json").json
    assert (run.json["trace_digest"], run.json["fingerprint"]) == (plain["trace_digest"], plain["fingerprint"])
    scalars = read_scalars(genmed.run_folder())
    steps = [step for step, _ in scalars["train/loss"]]
    assert steps == list(range(1, 29)) == [step for step, _ in scalars["train/lr"]]
    epochs = [7, 14, 21, 28]
    assert [step for step, _ in scalars["val/auroc_macro"]] == epochs
    assert scalars["val/loss"][-1][1] == pytest.approx(run.json["metrics"]["val_loss"], rel=0.5)
    assert "val/auroc_Edema" not in scalars  # undefined
    assert not (trained.run_folder() / "tensorboard").exists()
    assert genmed("verify", "latest", "--json").json["verdict"] == "identical"
    assert len(list((genmed.run_folder() / "tensorboard").iterdir())) == 1  # verify writes none


def test_killed_and_resumed_training_has_each_step_once(
    genmed: Genmed, trained: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboardX")
    (tmp_path / "killed.py").write_text(KILLED)
    killed = genmed(*tiny("--tensorboard", "--model", f"{tmp_path / 'killed.py'}:build"), GENMED_TEST_KILL="yes")
    assert killed.code == -signal.SIGKILL
    before = read_scalars(genmed.run_folder())["train/loss"]
    assert [step for step, _ in before] == list(range(1, 10))  # nothing that was done is lost
    assert genmed("resume", "latest").code == 0
    scalars = read_scalars(genmed.run_folder())
    told = [event.step for file in (genmed.run_folder() / "tensorboard").iterdir() for event in read_events(file)]
    assert told.count(9) > 2  # it was computed twice, and told twice
    assert [step for step, _ in scalars["train/loss"]] == list(range(1, 29))
    assert [step for step, _ in scalars["val/loss"]] == [7, 14, 21, 28]
    assert (
        genmed("show", "latest", "--json").json["trace_digest"]
        == trained("show", "latest", "--json").json["trace_digest"]
    )


def test_resume_writes_events_though_the_training_did_not(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    (tmp_path / "killed.py").write_text(KILLED)
    genmed(*tiny("--model", f"{tmp_path / 'killed.py'}:build"), GENMED_TEST_KILL="yes")
    assert not (genmed.run_folder() / "tensorboard").exists()
    assert genmed("resume", "latest", "--tensorboard").code == 0
    steps = [step for step, _ in read_scalars(genmed.run_folder())["train/loss"]]
    assert steps[0] in (1, 8)  # whether the checkpoint of the first epoch was safe by then
    assert steps == list(range(steps[0], 29))


def test_loss_is_the_traces(genmed: Genmed, tiny: Arguments) -> None:
    pytest.importorskip("tensorboardX")
    assert genmed(*tiny("--tensorboard", "--epochs", 1)).code == 0
    shown = read_scalars(genmed.run_folder())["train/loss"]
    for (step, value), (recorded, loss) in zip(shown, read_losses(genmed.run_folder()), strict=True):
        assert (step, value) == (recorded, struct.unpack("<f", struct.pack("<f", loss))[0])


def test_files_of_one_second_are_two(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    for step in (1, 10):
        file = EventFile(tmp_path, step)
        file.write(step, {"train/loss": step / 2, "undefined": None})
        file.close()
    assert read_scalars(tmp_path) == {"train/loss": [(1, 0.5), (10, 5.0)]}


WITHOUT = """
import sys
sys.modules["tensorboardX"] = None
from genmed.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["train --seed 42 --tensorboard", "resume latest --tensorboard"])
def test_without_the_extra_nothing_is_begun(genmed: Genmed, tiny: Arguments, tmp_path: Path, command: str) -> None:
    if command.startswith("resume"):
        (tmp_path / "killed.py").write_text(KILLED)
        genmed(*tiny("--model", f"{tmp_path / 'killed.py'}:build"), GENMED_TEST_KILL="yes")
        genmed("list")  # clears away what SQLite may have been left with beside the registry
    before = sorted(os.walk(genmed.root))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *command.split()],
        env={**own_environment(), **genmed.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "error: run.tensorboard (--tensorboard) needs the package tensorboardX, which is not here"
        " (pip install 'genmed[tensorboard]')\n"
    )
    assert sorted(os.walk(genmed.root)) == before
