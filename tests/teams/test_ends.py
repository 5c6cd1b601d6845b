"""How a team ends: a member that is killed or fails, a signal; and what goes on from there, with other numbers."""

import json
import re
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Genmed
from tests.resuming.runs import FRAGILE, Arguments
from tests.teams.starting import describe, finish, run_team, start_team

DRY = 4
"""Passes of training before the first step, in each process: one a shard."""


@pytest.fixture(scope="module")
def command(tiny: Arguments, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Of a training with 4 shards whose model can kill its process."""
    path = tmp_path_factory.mktemp("fragile") / "fragile.py"
    path.write_text(FRAGILE)
    often = ["--set", "checkpoints.every_steps=2", "--set", "compute.patience_seconds=20"]
    return [*tiny("--shards", 4, *often), "--model", f"{path}:build"]


@pytest.fixture(scope="module")
def by_one(
    server: ForkServerContext, image_cache: Path, command: list[object], tmp_path_factory: pytest.TempPathFactory
) -> Genmed:
    """With the run of one process; only read."""
    genmed = Genmed(server, tmp_path_factory.mktemp("alone"), image_cache)
    assert genmed(*command).code == 0
    return genmed


@pytest.fixture(scope="module")
def alone(by_one: Genmed) -> dict[str, Any]:
    """What that run came to."""
    return describe(by_one("show", "latest", "--json"))


def read_run(genmed: Genmed, name: str) -> dict[str, object]:
    [path] = (genmed.root / "runs").glob(f"{name}-*/run.json")
    return dict(json.loads(path.read_text()))


def test_run_whose_members_are_killed_goes_on_with_other_numbers_to_the_same_bits(
    genmed: Genmed, command: list[object], alone: dict[str, Any]
) -> None:
    words = [*command, "--name", "killed"]
    for size, victim, passes in ((2, 1, DRY + 2 * 9), (4, 3, DRY + 5), (2, 0, DRY + 2 * 4)):
        team = start_team(genmed, size, *words, only={victim: {"GENMED_TEST_PASSES": str(passes)}})
        results = [member.wait() for member in team]
        assert results[victim].code == -signal.SIGKILL
        words = ["resume", "killed", "--json"]
        if victim:
            error = results[0].json["error"]
            assert results[0].code == 1
            assert f"lost contact with rank {victim}" in error["message"], error
            assert not re.search(r"rank (\d) on \S+: rank \1 ", error["message"]), error
            assert read_run(genmed, "killed")["status"] == "failed"
        for rank in set(range(1, size)) - {victim}:
            assert (results[rank].code, results[rank].out, results[rank].err) == (1, "", "")
    assert describe(run_team(genmed, 1, *words)) == alone


def test_member_that_fails_is_named_with_its_error(genmed: Genmed, command: list[object], tmp_path: Path) -> None:
    (genmed.root / "failing.py").write_text(FAILING)
    command = [*command[:-1], f"{genmed.root / 'failing.py'}:build", "--name", "failed"]
    team = start_team(genmed, 4, *command, only={2: {"GENMED_TEST_FAIL": "1"}})
    leader, first, failed, last = (member.wait() for member in team)
    assert "ZeroDivisionError" in failed.err
    assert failed.err.splitlines()[-1].startswith("error in rank 2: ZeroDivisionError: ")
    error = leader.json["error"]
    assert error["message"].startswith("rank 2 on ")
    assert "ZeroDivisionError" in error["message"]
    assert "go on with: genmed resume" in error["hint"]
    assert {leader.code, first.code, failed.code, last.code} == {1}
    assert (first.err, last.err) == ("", "")


FAILING = """
import os
from torch import nn


def build(num_classes):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    )
    passes = []

    def count(module, inputs):
        passes.append(None)
        if len(passes) > 10 and "GENMED_TEST_FAIL" in os.environ:
            1 / 0

    model.register_forward_pre_hook(count)
    return model
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_signal_to_one_member_stops_all_after_the_state_is_safe(
    rank: int, genmed: Genmed, command: list[object], alone: dict[str, Any]
) -> None:
    number = str(int(signal.SIGTERM))
    only = {rank: {"GENMED_TEST_PASSES": str(DRY + 2 * 9), "GENMED_TEST_SIGNAL": number}}
    stopped = finish(start_team(genmed, 2, *command, "--name", "stopped", only=only))
    assert stopped.code == 130
    assert stopped.json["error"]["message"] == "SIGTERM at epoch 2, step 2"
    assert read_run(genmed, "stopped")["status"] == "interrupted"
    assert describe(run_team(genmed, 4, "resume", "stopped", "--json")) == alone


def test_run_of_two_processes_is_verified_by_any_number(genmed: Genmed, command: list[object]) -> None:
    assert run_team(genmed, 2, *command).code == 0
    for size in (1, 2, 4):
        result = run_team(genmed, size, "verify", "latest", "--json")
        assert (result.code, result.json["verdict"]) == (0, "identical"), result.err
        assert result.json["steps_compared"] == result.json["steps_total"] > 10
    result = run_team(genmed, 2, "verify", "latest", "--json", "--segments", 2)
    assert (result.code, result.json["verdict"]) == (0, "identical"), result.err


def test_finished_run_is_continued_by_two_processes(by_one: Genmed, tmp_path: Path) -> None:
    genmed = by_one.copied_to(tmp_path)
    run = genmed("show", "latest", "--json").json["id"]
    alone = describe(genmed("resume", run, "--epochs", 6, "--json"))
    again = describe(run_team(genmed, 2, "resume", run, "--epochs", 6, "--json"))
    assert again == alone


def test_processes_that_are_not_needed_have_nothing_to_do(
    genmed: Genmed, command: list[object], alone: dict[str, Any]
) -> None:
    assert describe(run_team(genmed, 3, *command)) == alone


def test_run_goes_on_where_its_processes_are_started_again_under_the_same_name(
    genmed: Genmed, command: list[object], alone: dict[str, Any]
) -> None:
    """As torchrun does after a failure, and a batch system with a job that it queues again."""
    words, launch = [*command, "--name", "again"], {"TORCHELASTIC_RUN_ID": "job-17"}
    for victim in (1, 0):
        only = {victim: {"GENMED_TEST_PASSES": str(DRY + 2 * 9)}}
        for member in start_team(genmed, 2, *words, only=only, **launch):
            member.wait()
    other = finish(start_team(genmed, 2, *words, "--epochs", 1, **launch))  # of another config
    ended = finish(start_team(genmed, 4, *words, **launch))
    assert describe(ended) == alone
    assert "was begun under the same name of torchrun's: it goes on" in ended.err
    assert other.json["id"] != ended.json["id"]
    anew = finish(start_team(genmed, 2, *words, **launch))  # a new start of torchrun's, after a run that is complete
    assert anew.json["id"] not in (ended.json["id"], other.json["id"])


def test_command_starts_its_processes_itself_and_ends_as_they_do(
    genmed: Genmed, command: list[object], alone: dict[str, Any], tiny: Arguments
) -> None:
    together = genmed.fresh(*command, "--processes", 2)
    assert describe(together) == alone
    wrong = genmed(*tiny("--shards", 2, "--processes", 2, "--lr", "1e30"))
    error = wrong.json["error"]
    assert (wrong.code, error["kind"]) == (1, "RunError")
    assert error["message"].startswith("the loss is ")
    assert "exitcode" not in wrong.err  # of torchrun's own words none
