"""resume RUN --epochs N: a finished run goes on as a new one."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.harness import Genmed
from tests.resuming.runs import Arguments, Pair, flip, names, read_metrics, snapshot
from tests.resuming.test_accept import other_code


@pytest.fixture
def finished(pair: Pair, tmp_path: Path) -> Genmed:
    """A copy of the run of 3 epochs that was left alone."""
    return pair.whole.copied_to(tmp_path)


def lines_of(folder: Path) -> list[str]:
    return (folder / "trace.jsonl").read_text().splitlines()


def test_child_goes_on_from_the_last_state_and_its_parent_stays_as_it_was(finished: Genmed) -> None:
    parent = finished.run_folder()
    before, known = snapshot(parent), json.loads((parent / "run.json").read_text())
    result = finished("resume", "latest", "--epochs", 5, "--json")
    assert result.code == 0, result.err
    child = result.json
    assert snapshot(parent) == before
    assert child["id"] != known["id"]
    assert (child["parent"], child["status"]) == (known["id"], "completed")
    assert (child["epochs_done"], child["steps_done"]) == (5, 35)
    folder = finished.root / child["path"]
    assert f"Continues: {known['name']}, from epoch 3, step 21" in result.err
    header, *lines = (json.loads(line) for line in lines_of(folder))
    last = json.loads(lines_of(parent)[-1])
    assert header["initial"] == last["state"] == known["fingerprint"]
    assert header["start"] == {"step": 21, "epoch": 3, "state": header["initial"], "chain": last["chain"]}
    assert [line["step"] for line in lines] == [*range(22, 36)]
    assert [line["epoch"] for line in lines] == [4] * 7 + [5] * 7
    assert read_metrics(folder)[:3] == read_metrics(parent)
    assert len(read_metrics(folder)) == 5
    assert "step-0000021-epoch-0003-end" in names(folder / "checkpoints")
    assert [run["id"] for run in finished("list", "--json").json] == [child["id"], known["id"]]


def test_child_is_verified_without_its_parent(finished: Genmed) -> None:
    assert finished("resume", "latest", "--epochs", 4, "--json").code == 0
    [parent] = [path for path in (finished.root / "runs").iterdir() if len(lines_of(path)) == 22]
    shutil.rmtree(parent)
    result = finished("verify", "latest", "--json")
    assert result.code == 0, result.err
    assert (result.json["verdict"], result.json["steps_compared"], result.json["steps_total"]) == ("identical", 7, 7)


def test_child_that_is_killed_resumes_to_the_bits_of_one_left_alone(finished: Genmed, tmp_path: Path) -> None:
    whole = finished("resume", "latest", "--epochs", 6, "--json")
    assert whole.code == 0, whole.err
    parent = whole.json["parent"]
    for passes, safe, trace_gone in ((2, 21, False), (9, 28, False), (9, 28, True)):
        limits = {"GENMED_TEST_PASSES": str(passes), "GENMED_TEST_AWAIT": str(safe)}
        assert finished("resume", parent, "--epochs", 6, "--json", **limits).code == -signal.SIGKILL
        if trace_gone:  # the best state before the child's own is no longer there, either
            (finished.root / finished("show", "latest", "--json").json["path"] / "trace.jsonl").unlink()
        result = finished("resume", "latest", "--json")
        assert result.code == 0, result.err
        folders = [finished.root / run.json["path"] for run in (result, whole)]
        assert lines_of(folders[0]) == lines_of(folders[1])
        assert read_metrics(folders[0]) == read_metrics(folders[1])
        for key in ("fingerprint", "metrics", "trace_digest"):
            assert result.json[key] == whole.json[key], key


def test_two_children_of_one_run_are_equal_and_a_grandchild_goes_on(finished: Genmed) -> None:
    first = finished("resume", "latest", "--epochs", 4, "--json").json
    second = finished("resume", first["parent"], "--epochs", 4, "--json").json
    assert first["id"] != second["id"]
    assert (first["fingerprint"], first["trace_digest"]) == (second["fingerprint"], second["trace_digest"])
    third = finished("resume", first["id"], "--epochs", 5, "--json").json
    assert (third["parent"], third["epochs_done"]) == (first["id"], 5)
    assert finished("verify", third["id"], "--json").json["verdict"] == "identical"


def test_constant_rate_goes_on_as_one_longer_run(genmed: Genmed, tiny: Arguments) -> None:
    """Where the schedule does not depend on the length, a child is the rest of the longer run."""
    constant = ("--schedule", "constant", "--set", "schedule.warmup=0")
    longer = genmed(*tiny("--epochs", 4, *constant))
    shorter = genmed(*tiny("--epochs", 2, *constant))
    child = genmed("resume", shorter.json["id"], "--epochs", 4, "--json")
    assert child.code == 0, child.err
    for key in ("fingerprint", "metrics", "epochs_done", "steps_done"):
        assert child.json[key] == longer.json[key], key
    tails = [
        [
            {k: v for k, v in json.loads(line).items() if k != "chain"}
            for line in lines_of(genmed.root / run["path"])[-14:]
        ]
        for run in (longer.json, child.json)
    ]
    assert tails[0] == tails[1]


@pytest.mark.parametrize("epochs", [0, 2, 3])
def test_no_more_epochs_than_done_are_refused(finished: Genmed, epochs: int) -> None:
    before = snapshot(finished.root)
    result = finished("resume", "latest", "--epochs", epochs, "--json")
    assert result.code == 2
    assert f"--epochs must be more than the 3 of {finished.run_folder().name}, got {epochs}" in result.out
    assert snapshot(finished.root) == before


def test_unfinished_run_takes_no_more_epochs(killed: Genmed) -> None:
    result = killed("resume", "latest", "--epochs", 9, "--json")
    assert result.code == 2
    assert "is interrupted, and this needs a finished run" in result.json["error"]["message"]
    assert result.json["error"]["hint"].startswith("finish it with: genmed resume ")
    assert len(list((killed.root / "runs").iterdir())) == 1


def test_damaged_last_state_is_named_and_no_child_is_born(finished: Genmed) -> None:
    path = finished.run_folder() / "checkpoints" / "step-0000021-epoch-0003-end" / "model.safetensors"
    flip(path)
    result = finished("resume", "latest", "--epochs", 4, "--json")
    assert result.code == 2
    assert f"{path} fails its digest" in result.json["error"]["message"]
    assert len(list((finished.root / "runs").iterdir())) == 1


def test_run_that_stopped_early_goes_on_and_its_patience_counts_anew(genmed: Genmed, tiny: Arguments) -> None:
    parent = genmed(*tiny("--epochs", 40, "--lr", 1e-9, "--set", "training.patience=2")).json
    done = parent["epochs_done"]
    assert done < 38
    child = genmed("resume", parent["id"], "--epochs", done + 3, "--json")
    assert child.code == 0, child.err
    assert child.json["epochs_done"] in (done + 2, done + 3)
    assert genmed("verify", child.json["id"], "--json").json["verdict"] == "identical"


def test_accepted_difference_marks_the_child_and_not_the_parent(finished: Genmed, tmp_path: Path) -> None:
    parent = finished.run_folder()
    other_code(finished, tmp_path)
    assert finished("resume", "latest", "--epochs", 4, "--json").code == 2
    before = snapshot(parent)
    result = finished("resume", "latest", "--epochs", 4, "--json", "--accept", "code")
    assert result.code == 0, result.err
    assert [entry["what"] for entry in result.json["accepted"]] == ["code"]
    assert snapshot(parent) == before
    assert finished("show", parent.name, "--json").json["accepted"] == []
    assert finished("verify", result.json["id"], "--json").json["verdict"] == "identical"
