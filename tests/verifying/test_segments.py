"""Stretches between kept states: each is verified alone, some as an audit, all of them beside each other."""

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from genmed.engine.trace import read_trace
from genmed.records.run_folder import RunFolder
from genmed.workflows.verification.stretches import list_kept, list_stretches
from tests.harness import Genmed, forge_trace, own_environment

POINTS = [0, 4, 7, 8, 12, 14, 16, 20, 21, 24, 28]
SEGMENTS = len(POINTS) - 1


def test_stretches_lie_between_the_kept_states_and_make_up_the_trace(recorded: Genmed) -> None:
    folder = RunFolder(recorded.run_folder())
    found = list_stretches(read_trace(folder.trace_path), list_kept(folder))
    assert [(entry.after, entry.last) for entry in found] == list(pairwise(POINTS))
    assert [entry.number for entry in found] == list(range(1, SEGMENTS + 1))
    assert [entry.is_last for entry in found] == [False] * (SEGMENTS - 1) + [True]
    assert (found[0].begin, found[1].begin and found[1].begin.step) == (None, 4)


@pytest.mark.parametrize("segment", range(1, SEGMENTS + 1))
def test_each_segment_is_computed_alone_from_its_own_state(finished: Genmed, segment: int) -> None:
    result = finished("verify", "latest", "--json", "--segment", segment)
    assert result.code == 0, result.err
    report = result.json
    steps = POINTS[segment] - POINTS[segment - 1]
    assert report["verdict"] == f"1 of {SEGMENTS} segments identical"
    assert (report["steps_compared"], report["steps_total"]) == (steps, 28)
    checked = {"segment": segment, "first_step": POINTS[segment - 1] + 1, "last_step": POINTS[segment]}
    assert report["segments"] == {
        "total": SEGMENTS,
        "checked": [{**checked, "steps_compared": steps, "identical": True}],
    }
    computed = {entry["found"] is not None for entry in report["metrics"] if entry["recorded"] is not None}
    assert computed == {segment == SEGMENTS}


def test_audit_takes_segments_at_random_and_says_how_many(finished: Genmed) -> None:
    taken = set()
    for _ in range(3):
        result = finished("verify", "latest", "--json", "--segments", 3)
        assert (result.code, result.json["verdict"]) == (0, f"3 of {SEGMENTS} segments identical"), result.err
        numbers = [entry["segment"] for entry in result.json["segments"]["checked"]]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 3
        taken.add(tuple(numbers))
    assert len(taken) > 1  # of 120 choices, three times the same: once in 14,400
    people = finished("verify", "latest", "--segments", 2)
    assert people.out.splitlines()[-1] == f"verdict\t2 of {SEGMENTS} segments identical"
    kept = (finished.run_folder() / "verifications.jsonl").read_text().splitlines()
    assert json.loads(kept[-1])["verdict"] == f"2 of {SEGMENTS} segments identical"


def test_all_segments_beside_each_other_are_the_whole_run(finished: Genmed) -> None:
    whole = finished("verify", "latest", "--json").json
    result = finished("verify", "latest", "--json", "--jobs", 2)
    assert result.code == 0, result.err
    report = result.json
    assert len(report["segments"]["checked"]) == report["segments"]["total"] == SEGMENTS
    assert {**report, "segments": None} == whole
    assert result.err.count("identical") == SEGMENTS


@pytest.mark.parametrize("jobs", [1, 2])
def test_difference_is_found_in_its_segment_alone(finished: Genmed, jobs: int) -> None:
    forge_trace(finished.run_folder(), lambda lines: lines[10].update(grad="xxh3-128:" + 32 * "0"))
    other = finished("verify", "latest", "--json", "--segment", 3, "--segment", 9, "--jobs", jobs)
    assert (other.code, other.json["verdict"]) == (0, f"2 of {SEGMENTS} segments identical")
    result = finished("verify", "latest", "--json", "--segment", 4, "--jobs", jobs)
    assert (result.code, result.json["verdict"]) == (1, "diverged")
    found = result.json["first_divergence"]
    assert (found["step"], found["epoch"], found["field"]) == (10, 2, "grad")
    assert result.json["steps_compared"] == 2
    assert result.json["localisation"]["step"] == 10


def test_killed_and_resumed_run_is_verified_in_segments(finished: Genmed, tiny: object) -> None:
    assert callable(tiny)
    model = json.loads((finished.run_folder() / "run.json").read_text())["model"]
    command = finished.start(*tiny("--model", model, "--epochs", 12, "--set", "checkpoints.keep_every_steps=40"))
    end = time.monotonic() + 60
    while not list(finished.root.glob("runs/*/checkpoints/step-0000040-*/manifest.json")):
        assert time.monotonic() < end
        time.sleep(0.005)
    command.send(signal.SIGKILL)
    command.wait()
    early = finished("verify", "latest", "--json", "--jobs", 2)
    assert (early.code, early.json["verdict"]) == (0, "identical"), early.json["problems"]
    assert finished("resume", "latest", "--json").code == 0
    result = finished("verify", "latest", "--json", "--jobs", 2)
    assert (result.code, result.json["verdict"]) == (0, "identical"), result.json["problems"]
    assert (result.json["steps_compared"], result.json["steps_total"]) == (84, 84)


WRONG = {
    "too many": (("--segments", SEGMENTS + 1), f"--segments must be from 1 to {SEGMENTS}, got {SEGMENTS + 1}"),
    "no such one": (("--segment", 0), f"--segment must be from 1 to {SEGMENTS}, got 0"),
    "both": (("--segments", 1, "--segment", 1), "--segments and --segment exclude each other"),
    "no job": (("--jobs", 0), "--jobs"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_choice_of_segments_is_one_line(finished: Genmed, options: tuple[object, ...], message: str) -> None:
    result = finished("verify", "latest", *options)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert not (finished.run_folder() / "verifications.jsonl").exists()


def test_verification_that_is_killed_leaves_no_process(recorded: Genmed, tmp_path: Path) -> None:
    """A process of its own, for here the server that forks belongs to the command itself."""
    command = [sys.executable, "-m", "genmed", "verify", "latest", "--jobs", "2"]
    environ = {**own_environment(), **recorded.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while len(workers := psutil.Process(process.pid).children(recursive=True)) < 3:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (len(workers), [])
