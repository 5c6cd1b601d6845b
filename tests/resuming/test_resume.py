"""resume: from the newest whole checkpoint, or not at all."""

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from genmed.engine.checkpoint import list_checkpoints
from genmed.ground.files import temporary_beside
from genmed.ground.fingerprints import digest_file, digest_json
from tests.harness import Genmed, edit_document
from tests.resuming.runs import FRAGILE, Arguments, Pair, assert_same_run, flip, names, snapshot, wait_for


def test_killed_run_resumes_from_its_newest_checkpoint(pair: Pair, killed: Genmed) -> None:
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert "resuming" in result.err
    assert "epoch 2/3, step 3/7" in result.err
    assert_same_run(killed, pair.whole)


def test_resume_ends_with_what_to_do_next(killed: Genmed) -> None:
    result = killed("resume", "latest")
    assert result.code == 0, result.err
    run_id = killed.run_folder().name.rpartition("-")[2]
    assert result.err.splitlines()[-3:] == [
        f"report: genmed report {run_id}",  # the tests' runs write none
        f"results with intervals: genmed evaluate {run_id}",
        f"to verify it: genmed verify {run_id}",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_taken(pair: Pair, killed: Genmed, name: str) -> None:
    newest = list_checkpoints(killed.run_folder() / "checkpoints")[-1]
    if name == "manifest.json":
        (newest / name).write_text("{")
    else:
        flip(newest / name)
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert f"{newest / name}" in result.err
    assert "; taken is the checkpoint of step 7\n" in result.err
    assert "epoch 2/3, step 1/7" in result.err
    assert_same_run(killed, pair.whole)


def test_no_whole_checkpoint_left_is_an_error_and_no_fresh_start(killed: Genmed) -> None:
    for folder in list_checkpoints(killed.run_folder() / "checkpoints"):
        flip(folder / "model.safetensors")
    before = snapshot(killed.run_folder())
    result = killed("resume", "latest", "--json")
    assert result.code == 2
    assert result.json["error"]["kind"] == "RecordError"
    assert "has no whole checkpoint left" in result.json["error"]["message"]
    assert result.json["error"]["message"].count("fails its digest") == 2
    assert snapshot(killed.run_folder()) == before
    assert killed("list", "--json").json[0]["status"] == "interrupted"


def test_checkpoints_that_were_removed_are_an_error_and_no_fresh_start(killed: Genmed) -> None:
    shutil.rmtree(killed.run_folder() / "checkpoints")
    result = killed("resume", "latest", "--json")
    assert result.code == 2
    assert "has no whole checkpoint left" in result.json["error"]["message"]


def test_run_killed_before_its_first_checkpoint_starts_from_the_beginning(pair: Pair, genmed: Genmed) -> None:
    assert genmed(*pair.command, GENMED_TEST_PASSES="4").code == -signal.SIGKILL
    assert names(genmed.run_folder() / "checkpoints") == []
    result = genmed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert "epoch 1/3, step 1/7" in result.err
    assert_same_run(genmed, pair.whole)


def test_resumed_run_leaves_no_temporaries_of_the_killed_one(killed: Genmed) -> None:
    folder = killed.run_folder()
    for pattern in ("{}-run.json", "{}-metrics.csv"):
        name = temporary_name(folder, pattern)
        (folder / name).write_text("half")
    assert killed("resume", "latest", "--json").code == 0
    assert [path.name for path in folder.rglob(".tmp-*")] == []


def temporary_name(folder: Path, pattern: str) -> str:
    """As a writer that is dead by now would have named it."""
    prefix = temporary_beside(folder / "x").name.rpartition("-")[0].rpartition("-")[0]
    return pattern.format(f"{prefix}-4194305")


def test_step_computed_again_must_be_the_recorded_one(killed: Genmed) -> None:
    folder = killed.run_folder()
    lines = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    lines[10]["param"] = lines[9]["param"]
    chain = digest_json(lines[0])
    for line in lines[1:]:
        del line["chain"]
        chain = digest_json([chain, line])
        line["chain"] = chain
    (folder / "trace.jsonl").write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    before = snapshot(folder)
    result = killed("resume", "latest", "--json")
    assert result.code == 1
    assert result.json["error"]["kind"] == "TraceError"
    message = "step 10 (epoch 2), computed again, has another param than recorded"
    assert result.json["error"]["message"] == message
    hint = "code, data and environment are those recorded: this machine does not compute the same twice"
    assert result.json["error"]["hint"] == hint
    assert killed("list", "--json").json[0]["status"] == "failed"
    changed = {name for name, digest in snapshot(folder).items() if digest != before.get(name)}
    assert changed <= {"run.json", "train.log", "metrics.csv"}


def test_run_that_lives_is_not_resumed(pair: Pair, genmed: Genmed) -> None:
    command = genmed.start(*pair.command, "--epochs", 5000)
    try:
        wait_for(lambda: any(genmed.root.glob("runs/*/checkpoints/*/manifest.json")))
        result = genmed("resume", "latest", "--json")
        assert result.code == 2
        assert result.json["error"]["kind"] == "RequestError"
        assert f"is running now, as process {command.pid}" in result.json["error"]["message"]
        assert genmed("list", "--json").json[0]["status"] == "running"
        assert command.running
    finally:
        command.send(signal.SIGKILL)
        command.wait()
    assert genmed("list", "--json").json[0]["status"] == "interrupted"


def edit_seed(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    path = genmed.run_folder() / "config.yaml"
    path.write_text(re.sub(r"^seed: 42", "seed: 43", path.read_text(), flags=re.M))
    return ()


def edit_pixel(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    config = yaml.safe_load((genmed.run_folder() / "config.yaml").read_text())
    shutil.copytree(config["data"]["root"], tmp_path / "data")
    path = tmp_path / "data" / "images" / "00000001_000.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[3, 4] ^= 1
    Image.fromarray(pixels).save(path)
    return "--data-root", tmp_path / "data"


def edit_package(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    path = genmed.run_folder() / "environment.json"
    edit_document(path, lambda document: document["packages"].update(torchvision="0.1.2"))
    return ()


def edit_model(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "fragile.py").write_text(FRAGILE + "# changed\n")
    path = genmed.run_folder() / "config.yaml"
    path.write_text(re.sub(r"name: \S+fragile.py:build", f"name: {tmp_path}/fragile.py:build", path.read_text()))
    return ()


CHANGED: dict[str, tuple[Callable[[Genmed, Path], tuple[object, ...]], str, str]] = {
    "seed": (
        edit_seed,
        "RecordError",
        r"config.yaml was edited: seed was 42, is 43$",
    ),
    "pixel": (edit_pixel, "EnvironmentMismatch", r"pixels of 00000001_000.png was xxh3-128:\w+, is xxh3-128:\w+"),
    "package": (edit_package, "EnvironmentMismatch", r"packages.torchvision was 0.1.2, is \d+\.\d+"),
    "code": (edit_model, "EnvironmentMismatch", r"code was sha256:\w+, is sha256:\w+"),
}


@pytest.mark.parametrize(("edit", "kind", "message"), CHANGED.values(), ids=CHANGED)
def test_run_whose_surroundings_changed_is_not_resumed(
    killed: Genmed,
    tmp_path: Path,
    edit: Callable[[Genmed, Path], tuple[object, ...]],
    kind: str,
    message: str,
) -> None:
    more = edit(killed, tmp_path)
    before = snapshot(killed.run_folder())
    result = killed("resume", "latest", "--json", *more)
    assert result.code == 2, result.err
    assert result.json["error"]["kind"] == kind
    assert re.search(message, result.json["error"]["message"]), result.json["error"]["message"]
    assert snapshot(killed.run_folder()) == before


def test_run_without_a_trace_resumes_to_the_same_state(pair: Pair, genmed: Genmed) -> None:
    command = (*pair.command, "--set", "run.trace=false")
    assert genmed(*command, GENMED_TEST_PASSES="13", GENMED_TEST_AWAIT="9").code == -signal.SIGKILL
    result = genmed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert "epoch 2/3, step 3/7" in result.err
    expected = pair.whole("show", "latest", "--json").json
    assert result.json["trace_digest"] is None
    for key in ("fingerprint", "metrics"):
        assert result.json[key] == expected[key], key


def test_temporaries_of_other_hosts_are_swept_from_a_run_that_is_ours_alone(pair: Pair, killed: Genmed) -> None:
    folder = killed.run_folder()
    (folder / ".tmp-elsewhere-7-run.json").write_text("half")
    (folder / "checkpoints" / ".tmp-elsewhere-7-step-0000011-epoch-0002").mkdir()
    assert killed("resume", "latest", "--json").code == 0
    assert [path.name for path in folder.rglob(".tmp-*")] == []


PARTLY_USED = """
from torch import nn


class Model(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.used = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.used(x)


def build(num_classes):
    return Model(num_classes)
"""


def test_model_with_a_part_that_no_gradient_reaches_is_resumed_extended_and_verified(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    (tmp_path / "partly.py").write_text(PARTLY_USED)
    often = ("--set", "checkpoints.keep_every_steps=3")
    trained = genmed(*tiny("--model", f"{tmp_path / 'partly.py'}:build", "--epochs", 1, *often))
    assert trained.code == 0, trained.err
    longer = genmed("resume", "latest", "--epochs", 2, "--json")
    assert longer.code == 0, longer.err
    result = genmed("verify", trained.json["id"], "--json", "--segment", 2)
    assert (result.code, result.json["verdict"]) == (0, "1 of 3 segments identical"), result.json


def test_row_of_an_epoch_that_ended_while_an_earlier_state_was_written_is_computed_again(
    pair: Pair, genmed: Genmed
) -> None:
    """A state is written beside the training, with metrics.csv as it is by then, and may be the first to be kept."""
    assert genmed(*pair.command, GENMED_TEST_PASSES="6", GENMED_TEST_AWAIT="3").code == -signal.SIGKILL
    [checkpoint] = (genmed.run_folder() / "checkpoints").iterdir()
    header, first, *_ = (pair.whole.run_folder() / "metrics.csv").read_text().splitlines(keepends=True)
    (checkpoint / "metrics.csv").write_text(header + first)
    digest = digest_file(checkpoint / "metrics.csv")
    edit_document(checkpoint / "manifest.json", lambda manifest: manifest["files"].update({"metrics.csv": digest}))
    result = genmed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert_same_run(genmed, pair.whole)
