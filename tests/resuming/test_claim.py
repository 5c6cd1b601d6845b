"""One process at a time works on a run; a dead one does not count."""

import json
import os
import signal
from pathlib import Path

import pytest

from genmed.ground.errors import RequestError
from genmed.records.run_folder import RunFolder
from genmed.workflows.claim import claimed
from tests.harness import Genmed, edit_document
from tests.resuming.runs import Pair, assert_same_run, snapshot, wait_for


def test_of_two_resumes_at_once_the_second_is_refused_with_the_firsts_pid(pair: Pair, killed: Genmed) -> None:
    commands = [killed.start("resume", "latest", "--json") for _ in range(4)]
    results = [command.wait() for command in commands]
    winners = [command.pid for command, result in zip(commands, results, strict=True) if "resuming" in result.err]
    assert len(winners) == 1
    refused = [result for result in results if result.code]
    assert refused
    for result in refused:
        error = result.json["error"]
        assert error["message"] == f"{killed.run_folder().name} is running now, as process {winners[0]}"
    assert_same_run(killed, pair.whole)


def test_resume_that_was_refused_leaves_the_run_as_it_was(killed: Genmed) -> None:
    path = killed.run_folder() / "environment.json"
    edit_document(path, lambda document: document["packages"].update(torch="0.1"))
    before = snapshot(killed.run_folder())
    assert killed("resume", "latest", "--json").code == 2
    assert snapshot(killed.run_folder()) == before
    assert killed("list", "--json").json[0]["status"] == "interrupted"


def test_resume_that_is_killed_while_it_reads_the_data_leaves_a_run_to_resume(pair: Pair, killed: Genmed) -> None:
    command = killed.start("resume", "latest", "--json")
    document = killed.run_folder() / "run.json"
    wait_for(lambda: json.loads(document.read_text())["process"]["pid"] == command.pid)
    command.send(signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    assert killed("list", "--json").json[0]["status"] == "interrupted"
    assert killed("resume", "latest", "--json").code == 0
    assert_same_run(killed, pair.whole)


def belongs_elsewhere(folder: Path) -> Path:
    """Gives the run to a process of another host. Returns a path that is not there."""

    def move(document: dict[str, object]) -> None:
        document["process"] = {"host": "elsewhere", "boot_id": "other", "pid": 7, "pid_namespace": None, "started": 1.0}

    edit_document(folder / "run.json", move)
    return folder / "not there"


@pytest.mark.parametrize("command", ["resume", "verify"])
def test_run_of_another_host_is_left_alone_while_it_is_heard_of(killed: Genmed, command: str) -> None:
    belongs_elsewhere(killed.run_folder())
    result = killed(command, "latest", "--json")
    assert result.code == 2
    assert "is running now, as process 7 of elsewhere" in result.json["error"]["message"]
    assert "5 minutes after its last sign" in result.json["error"]["hint"]
    assert killed("list", "--json").json[0]["status"] == "running"


def test_run_of_another_host_that_fell_silent_is_resumed(pair: Pair, killed: Genmed) -> None:
    belongs_elsewhere(killed.run_folder())
    edit_document(
        killed.run_folder() / "run.json", lambda document: document.update(started="2026-01-01T00:00:00.000Z")
    )
    (killed.root / "registry.db").unlink()  # so that the folder alone is asked
    for name in ("run.json", "trace.jsonl"):
        os.utime(killed.run_folder() / name, (1.7e9, 1.7e9))
    result = killed("resume", killed.run_folder().name, "--json")
    assert result.code == 0, result.err
    assert_same_run(killed, pair.whole)


def test_run_of_another_host_is_heard_of_by_its_trace(killed: Genmed) -> None:
    """The registry may be lost or unwritable while it trains."""
    belongs_elsewhere(killed.run_folder())
    document = killed.run_folder() / "run.json"
    edit_document(document, lambda content: content.update(started="2026-01-01T00:00:00.000Z"))
    os.utime(document, (1.7e9, 1.7e9))
    (killed.root / "registry.db").unlink()
    assert killed("resume", killed.run_folder().name, "--json").code == 2


def test_run_that_another_host_took_meanwhile_is_left_to_it(killed: Genmed) -> None:
    folder = RunFolder(killed.run_folder())
    with pytest.raises(RequestError, match="was taken by process 7 of elsewhere"), claimed(folder, killed.root):
        belongs_elsewhere(folder.path)
    assert folder.read().process["host"] == "elsewhere"


def test_claim_that_fails_puts_back_its_own_document_alone(killed: Genmed) -> None:
    folder = RunFolder(killed.run_folder())
    before = folder.read()
    with pytest.raises(ZeroDivisionError), claimed(folder, killed.root):
        raise ZeroDivisionError
    assert folder.read() == before
    with pytest.raises(FileNotFoundError), claimed(folder, killed.root):
        belongs_elsewhere(folder.path).rename("nowhere")
    assert folder.read().process["host"] == "elsewhere"
