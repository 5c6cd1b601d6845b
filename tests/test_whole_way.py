"""The whole way: train, train again, resume, verify; as processes."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.harness import Genmed

Arguments = Callable[..., list[object]]
KEYS = (
    "schema id name status path seed dataset model device epochs_done steps_done metrics fingerprint trace_digest"
    " checkpoints parent accepted tags note hidden benchmark host stopped_early stopped_because verification"
).split()


def read_trace(folder: Path) -> list[str]:
    return (folder / "trace.jsonl").read_text().splitlines()


def test_training_twice_gives_equal_bits(genmed: Genmed, tiny: Arguments) -> None:
    first, second = (genmed(*tiny()) for _ in range(2))
    assert [first.code, second.code] == [0, 0], first.err
    assert list(first.json) == KEYS
    assert first.json["status"] == "completed"
    assert first.json["fingerprint"] == second.json["fingerprint"]
    assert first.json["trace_digest"] == second.json["trace_digest"]


def test_number_of_workers_prefetch_and_persistence_change_no_bit(genmed: Genmed, tiny: Arguments) -> None:
    ways = [
        (),
        ("--num-workers", 1),
        ("--num-workers", 2, "--set", "compute.prefetch=4"),
        ("--num-workers", 2, "--set", "compute.persistent_workers=false"),
    ]
    digests = {genmed(*tiny(*way)).json["trace_digest"] for way in ways}
    assert len(digests) == 1


def test_run_killed_between_epochs_resumes_to_the_bits_of_one_left_alone(
    genmed: Genmed, trained: Genmed, tiny: Arguments
) -> None:
    command = genmed.start(*tiny("--set", "training.epochs=4"))
    wait_for(lambda: any(genmed.root.glob("runs/*/checkpoints/*-end/manifest.json")))
    command.send(signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    assert genmed("list", "--json").json[0]["status"] == "interrupted"
    resumed = genmed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    assert "resuming" in resumed.err
    assert read_trace(genmed.run_folder()) == read_trace(trained.run_folder())
    assert resumed.json["fingerprint"] == trained("show", "latest", "--json").json["fingerprint"]
    again = genmed("resume", "latest", "--json")
    assert again.code == 0
    assert "already complete" in again.err


def test_verify_of_an_untouched_run_is_identical_and_leaves_only_its_record(trained: Genmed) -> None:
    folder = trained.run_folder()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    result = trained("verify", "latest", "--json")
    assert result.code == 0, result.err
    report = result.json
    assert (report["verdict"], report["first_divergence"], report["cause"]) == ("identical", None, [])
    assert report["steps_compared"] == report["steps_total"] > 0
    assert all(entry["difference"] in (0, None) for entry in report["metrics"])
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in after.keys() - before.keys()} <= {"verifications.jsonl"}
    assert all(after[path] == time_ for path, time_ in before.items() if path.name != "verifications.jsonl")
    assert json.loads((folder / "verifications.jsonl").read_text().splitlines()[-1])["verdict"] == "identical"


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
