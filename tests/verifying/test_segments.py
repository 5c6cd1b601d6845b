"""Stretches between kept states: each is verified alone, some as an audit, all of them beside each other."""

import json
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from genmed.engine.trace import read_trace
from genmed.ground.interpreter import WAITING_BESIDE
from genmed.records.run_folder import RunFolder
from genmed.workflows.verification.stretches import list_kept, list_stretches
from tests.harness import Genmed, digest_again, edit_document, forge_trace, own_environment
from tests.verifying.faults import OFTEN, Arguments

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


def test_difference_is_found_in_its_segment_alone(finished: Genmed) -> None:
    forge_trace(finished.run_folder(), lambda lines: lines[10].update(grad="xxh3-128:" + 32 * "0"))
    other = finished("verify", "latest", "--json", "--segment", 3, "--segment", 9)
    assert (other.code, other.json["verdict"]) == (0, f"2 of {SEGMENTS} segments identical")
    result = finished("verify", "latest", "--json", "--segment", 4)
    assert (result.code, result.json["verdict"]) == (1, "diverged")
    found = result.json["first_divergence"]
    assert (found["step"], found["epoch"], found["field"]) == (10, 2, "grad")
    assert result.json["steps_compared"] == 2
    assert result.json["localisation"]["step"] == 10


def test_killed_and_resumed_run_is_verified_in_segments(finished: Genmed, tiny: Arguments) -> None:
    model = json.loads((finished.run_folder() / "run.json").read_text())["model"]
    command = finished.start(*tiny("--model", model, "--epochs", 8, *OFTEN))
    end = time.monotonic() + 60
    while not list(finished.root.glob("runs/*/checkpoints/step-0000040-*/manifest.json")):
        assert time.monotonic() < end
        time.sleep(0.005)
    command.send(signal.SIGKILL)
    command.wait()
    early = verify_segments(finished)
    assert early[-1]["last_step"] >= 40
    assert finished("resume", "latest", "--json").code == 0
    checked = verify_segments(finished)
    assert len(checked) == 20  # 13 states after every fourth step and 7 at ends of epochs, of which two are one
    assert checked[-1]["last_step"] == 56


def verify_segments(genmed: Genmed) -> list[dict[str, Any]]:
    """All segments of the newest run, which are identical and lie one behind the other from the first step on."""
    first = genmed("verify", "latest", "--json", "--segment", 1).json
    total = first["segments"]["total"]
    rest = [part for number in range(2, total + 1) for part in ("--segment", number)]
    result = genmed("verify", "latest", "--json", *rest)
    assert first["verdict"] == f"1 of {total} segments identical", first
    assert (result.code, result.json["verdict"]) == (0, f"{total - 1} of {total} segments identical"), result.json
    checked = first["segments"]["checked"] + result.json["segments"]["checked"]
    assert [entry["first_step"] for entry in checked] == [1, *(entry["last_step"] + 1 for entry in checked[:-1])]
    assert all(entry["steps_compared"] == entry["last_step"] - entry["first_step"] + 1 for entry in checked)
    return checked


def test_first_difference_is_found_though_a_later_segment_ends_sooner(finished: Genmed) -> None:
    def forge(lines: list[dict[str, object]]) -> None:
        lines[20]["grad"] = lines[9]["grad"] = lines[1]["grad"]

    forge_trace(finished.run_folder(), forge)
    result = finished("verify", "latest", "--json", "--jobs", 3)
    assert (result.code, result.json["verdict"]) == (1, "diverged")
    assert result.json["first_divergence"]["step"] == 9
    checked = [entry["segment"] for entry in result.json["segments"]["checked"]]
    assert checked[:4] == [1, 2, 3, 4]


@pytest.mark.parametrize("options", [("--jobs", 2), ("--segment", SEGMENTS), ("--segments", SEGMENTS - 1)])
def test_recorded_states_do_not_make_other_arithmetic_consistent(finished: Genmed, options: tuple[object, ...]) -> None:
    """The last segment begins with the record's own state: what it comes to says nothing of the arithmetic here."""
    path = finished.run_folder() / "environment.json"
    edit_document(path, lambda document: document["packages"].update(torch="2.0.1"))
    verify = ("verify", "latest", "--json")
    tolerance = ("--tolerance", 0) if "--jobs" in options else ()
    whole = finished(*verify, *tolerance, GENMED_TEST_FAULT="other arithmetic").json
    result = finished(*verify, *tolerance, *options, GENMED_TEST_FAULT="other arithmetic")
    assert (result.code, result.json["verdict"]) == (1, "diverged")
    if "--jobs" in options:
        assert {**result.json, "segments": None} == whole
        assert any(entry["difference"] for entry in result.json["metrics"])
    else:
        assert {entry["found"] for entry in result.json["metrics"]} == {None}


def test_last_segment_without_the_best_state_goes_back_to_where_it_arises(finished: Genmed, tiny: Arguments) -> None:
    model = json.loads((finished.run_folder() / "run.json").read_text())["model"]
    trained = finished(*tiny("--model", model, *OFTEN, "--lr", 0.05)).json
    run = finished.root / trained["path"]
    epoch = json.loads((run / "run.json").read_text())["best_epoch"]
    assert epoch < 4, "choose another rate, so that an earlier epoch is the best"
    shutil.rmtree(next(run.glob(f"checkpoints/*-epoch-{epoch:04d}-end")))
    digest_again(run)
    last = verify_segments(finished)[-1]
    assert last["first_step"] <= 7 * epoch
    assert last["last_step"] == 28


def test_killed_worker_is_one_line_and_no_verdict(finished: Genmed, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = finished.start("verify", "latest", "--jobs", 2, TMPDIR=str(scratch))
    wait_for_workers(command.pid, 3)[-1].kill()
    result = command.wait()
    said = result.err.splitlines()
    assert result.code == 1
    assert said[-1] == (
        "error: a process that verified a segment was killed: no verdict (with fewer --jobs it takes less memory)"
    )
    assert not any(line.startswith("Traceback") for line in said)
    assert not list(finished.run_folder().glob("verifications.jsonl"))
    assert [path.name for path in scratch.iterdir() if path.name.startswith("genmed")] == []


WRONG = {
    "too many": (("--segments", SEGMENTS + 1), f"--segments must be from 1 to {SEGMENTS}, got {SEGMENTS + 1}"),
    "no such one": (("--segment", 0), f"--segment must be from 1 to {SEGMENTS}, got 0"),
    "both": (("--segments", 1, "--segment", 1), "--segments and --segment exclude each other"),
    "a tolerance": (("--segment", 1, "--tolerance", 0.1), "--tolerance judges the metrics of a whole run"),
    "no number": (("--tolerance", "inf"), "--tolerance must be a finite number, got inf"),
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
    assert "GOMP_SPINCOUNT" not in {**own_environment(), **recorded.environ}
    command = [sys.executable, "-m", "genmed", "verify", "latest", "--jobs", "2"]
    environ = {**own_environment(), **recorded.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:
        workers = wait_for_workers(process.pid, 4)  # and what tracks their resources
        waiting = [worker.environ()["GOMP_SPINCOUNT"] for worker in workers]
        process.kill()
    assert waiting == [WAITING_BESIDE["GOMP_SPINCOUNT"]] * len(workers)  # they share the cores
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (len(workers), [])


def wait_for_workers(pid: int, count: int) -> list[psutil.Process]:
    """The server that forks, and two that it forked."""
    end = time.monotonic() + 120
    while len(found := psutil.Process(pid).children(recursive=True)) < count:
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return sorted(found, key=lambda process: process.pid)
