"""Tags, notes, hiding and removing: kept by the folder and the registry alike, whenever the process dies."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from genmed.ground.errors import RequestError, StorageError
from genmed.records.registry import Registry
from genmed.workflows.known import find_run
from genmed.workflows.marking import add_tags
from genmed.workflows.removal import find_doomed, purge
from genmed.workflows.reporting import Silent
from tests.harness import Genmed, edit_document, own_environment

Arguments = Callable[..., list[object]]


@pytest.fixture(scope="module")
def pair(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Genmed:
    """genmed with the finished run `old` and `new`, which continues it; read only."""
    prepared = Genmed(server, tmp_path_factory.mktemp("pair"), image_cache)
    assert prepared(*tiny("--name", "old", "--epochs", 1, "--tag", "first")).code == 0
    assert prepared("resume", "old", "--epochs", 2).code == 0
    return prepared


@pytest.fixture
def two(pair: Genmed, tmp_path: Path) -> Genmed:
    """A copy of the pair that a test may edit."""
    return pair.copied_to(tmp_path)


def listed(genmed: Genmed, *options: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = genmed("list", "--json", *options).json
    return found


def rebuilt(genmed: Genmed, *options: object) -> list[dict[str, object]]:
    for path in genmed.root.glob("registry.db*"):
        path.unlink()
    return listed(genmed, "--rebuild", *options)


def refusal(genmed: Genmed, *arguments: object) -> str:
    result = genmed(*arguments)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1), result.err
    return result.err


def make_living(genmed: Genmed, run: object) -> None:
    """As if this test was the process that trains it."""
    from genmed.records.environment import identify_process

    edit_document(
        genmed.root / "runs" / str(run) / "run.json",
        lambda document: document.update(status="running", process=identify_process()),
    )


def test_tags_are_added_and_removed_in_folder_and_registry(two: Genmed) -> None:
    result = two("tag", "latest", "paper", "first", "größer", "--json")
    name = listed(two)[0]["name"]
    assert result.json == {
        "schema": 1,
        "id": str(name)[-8:],
        "name": name,
        "tags": ["first", "paper", "größer"],
        "note": "",
    }
    assert listed(two)[0]["tags"] == ["first", "paper", "größer"]
    removed = two("tag", "latest", "first", "--remove")
    assert removed.out == f"run\t{name}\ntags\tpaper, größer\nnote\t-\n"
    assert [run["tags"] for run in listed(two)] == [["paper", "größer"], ["first"]]
    assert rebuilt(two)[0]["tags"] == ["paper", "größer"]
    assert "has no tag 'first' (it has 'paper', 'größer')" in refusal(two, "tag", "latest", "first", "--remove")
    assert two("tag", "latest", "a", "b", "--json").json["tags"] == ["paper", "größer", "a", "b"]
    assert two("tag", "latest", "b", "a", "--remove", "--json").json["tags"] == ["paper", "größer"]
    for tag in ("", " ", "a\tb", "a\nb"):
        assert "a tag must be a word" in refusal(two, "tag", "latest", "good", tag)
    assert listed(two)[0]["tags"] == ["paper", "größer"]
    assert two("verify", "latest", "--json").json["verdict"] == "identical"


def test_note_is_set_appended_to_shown_and_cleared(two: Genmed) -> None:
    assert two("note", "latest", "Not bad", "--append", "--json").json["note"] == "Not bad"
    assert two("note", "latest", "Best so far").code == 0
    assert two("note", "latest", "for the paper", "--append", "--json").json["note"] == "Best so far\nfor the paper"
    assert "note\tBest so far / for the paper\n" in two("show", "latest").out
    assert rebuilt(two)[0]["note"] == "Best so far\nfor the paper"
    assert two("note", "latest", "").code == 0
    assert listed(two)[0]["note"] == two("show", "latest", "--json").json["note"] == ""


def test_hidden_run_is_on_no_list_and_found_by_its_name_alone(two: Genmed) -> None:
    new, old = (str(run["name"]) for run in listed(two))
    assert two("rm", "latest").out == f"{new}\thidden\n"
    assert [run["name"] for run in listed(two)] == [old]
    assert [run["name"] for run in listed(two, "--hidden")] == [new]
    assert two("show", "latest", "--json").json["name"] == old
    shown = two("show", new, "--json").json
    assert (shown["name"], shown["hidden"]) == (new, True)
    assert [run["name"] for run in rebuilt(two)] == [old]
    assert two("rm", new, new, "--restore", "--json").json == [{"schema": 1, "run": new, "done": "restored"}]
    assert [run["name"] for run in listed(two)] == [new, old]


def test_purged_run_leaves_nothing_and_the_run_that_continues_it_stays(two: Genmed) -> None:
    new, old = (str(run["name"]) for run in listed(two))
    assert two("rm", new).code == 0
    asked = two("rm", old, "--purge")
    assert two("rm", new, "--restore").code == 0
    assert (asked.code, asked.out) == (2, "")
    assert f"{new} continued from it" in asked.err
    assert asked.err.splitlines()[-1].endswith("and nobody can be asked here (say --yes)")
    assert len(listed(two)) == 2
    done = two("rm", old, "--purge", "--yes")
    assert (done.code, done.out) == (0, f"{old}\tpurged\n")
    assert os.listdir(two.root / "runs") == [new]
    assert [run["name"] for run in listed(two)] == [run["name"] for run in rebuilt(two)] == [new]
    assert two("verify", new, "--json").json["verdict"] == "identical"


def test_runs_that_are_purged_together_are_told_once_and_continue_from_nothing(two: Genmed) -> None:
    new, old = (str(run["name"]) for run in listed(two))
    done = two("rm", old, new, old, "--purge", "--yes")
    assert (done.code, done.out) == (0, f"{old}\tpurged\n{new}\tpurged\n")
    assert "continued from it" not in done.err
    assert listed(two) == os.listdir(two.root / "runs") == []


@pytest.mark.parametrize("arguments", ["tag {} x", "note {} x", "rm {}", "rm {} --restore", "rm {} --purge --yes"])
def test_run_that_a_process_works_on_is_left_alone(two: Genmed, arguments: str) -> None:
    run = listed(two)[0]["name"]
    make_living(two, run)
    before = (two.root / "runs" / str(run) / "run.json").read_bytes()
    assert f"is running now, as process {os.getpid()}" in refusal(two, *arguments.format(run).split())
    assert (two.root / "runs" / str(run) / "run.json").read_bytes() == before
    assert len(listed(two)) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        "rm latest --restore --purge",
        "rm latest --yes",
        "rm nothing",
        "rm",
        "tag latest",
        "note latest",
        "rm latest x -y",
    ],
)
def test_wrong_request_is_refused_in_one_line(two: Genmed, arguments: str) -> None:
    refusal(two, *arguments.split())
    assert len(listed(two)) == 2


def test_registry_that_cannot_be_written_is_said_and_the_folder_has_it(
    two: Genmed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **fields: object) -> None:
        raise StorageError("registry.db is full")

    class Listener(Silent):
        def message(self, text: str) -> None:
            told.append(text)

    told: list[str] = []
    monkeypatch.setattr(Registry, "update_run", refuse)
    folder = find_run("latest", two.root)
    add_tags(folder, two.root, ["x"], Listener())
    assert told == ["registry.db is full; going on, `genmed list --rebuild` will make up for it"]
    assert folder.read().tags == ("first", "x")


DIE = """
import os, signal, sys, shutil
from pathlib import Path
from genmed.records.registry.store import Registry
from genmed.records.run_folder import RunFolder

def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

{patch}
from genmed.cli.app import run
sys.exit(run(sys.argv[1:]))
"""
PLACES = {
    "before the row": "Registry.remove_run = die",
    "between row and folder": "Path.rename = die",
    "before the files": "shutil.rmtree = die",
    "within the files": """
unlink = os.unlink
os.unlink = lambda *a, **k: die() if str(a[0]).endswith("trace.jsonl") else unlink(*a, **k)
""",
    "before the mark's row": "Registry.update_run = die",
}


def run_and_die(genmed: Genmed, place: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIE.format(patch=PLACES[place]), *arguments],
        env={**own_environment(), **genmed.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(("place", "left"), [(place, n) for place, n in zip(PLACES, (2, 2, 1, 1), strict=False)])
def test_purge_that_is_killed_leaves_all_of_the_run_or_nothing(two: Genmed, place: str, left: int) -> None:
    new, old = (str(run["name"]) for run in listed(two))
    run_and_die(two, place, "rm", old, "--purge", "--yes")
    assert [run["name"] for run in listed(two)] == [new, old][:left]
    assert [run["name"] for run in rebuilt(two)] == [new, old][:left]
    assert all(two("verify", str(run["name"]), "--json").code == 0 for run in listed(two))
    if left == 2:
        assert two("rm", old, "--purge", "--yes").code == 0
    else:
        assert two("rm", new, "--purge", "--yes").code == 0
        new = ""
    assert os.listdir(two.root / "runs") == ([new] if new else [])


def test_tag_that_is_killed_before_the_registry_is_mended_by_doing_it_again(two: Genmed) -> None:
    run_and_die(two, "before the mark's row", "tag", "latest", "x")
    assert json.loads(next(two.root.glob(f"runs/{listed(two)[0]['name']}/run.json")).read_text())["tags"][-1] == "x"
    assert listed(two)[0]["tags"] == ["first"]
    assert two("tag", "latest", "x").code == 0
    assert listed(two)[0]["tags"] == ["first", "x"]


def test_run_on_which_a_process_began_to_work_meanwhile_is_not_purged(two: Genmed) -> None:
    (doomed,) = find_doomed(["latest"], two.root)
    make_living(two, doomed.name)
    with pytest.raises(RequestError, match="is running now"):
        purge(doomed, two.root)
    assert len(listed(two)) == 2


def test_run_that_a_list_took_in_again_while_it_was_purged_is_gone(
    two: Genmed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_and_rename(path: Path, target: Path) -> Path:
        assert len(listed(two)) == 2
        os.rename(path, target)
        return target

    (doomed,) = find_doomed(["latest"], two.root)
    assert doomed.size > 10_000
    monkeypatch.setattr(Path, "rename", list_and_rename)
    purge(doomed, two.root)
    assert len(listed(two)) == 1


def test_run_whose_folder_is_gone_is_purged_from_the_list(two: Genmed) -> None:
    new, old = (str(run["name"]) for run in listed(two))
    shutil.rmtree(two.root / "runs" / old)
    assert two("rm", old, "--purge", "--yes").code == 0
    assert [run["name"] for run in listed(two)] == [new]


@pytest.mark.parametrize(("answer", "left"), [("n", 2), ("y", 1)])
def test_purge_asks_on_a_terminal(two: Genmed, answer: str, left: int) -> None:
    master, slave = pty.openpty()
    os.write(master, f"{answer}\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "genmed", "rm", "latest", "--purge"],
        env={**own_environment(), **two.environ},
        stdin=slave,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert "for ever? [y/N]" in done.stderr
    assert "continued from it" not in done.stderr
    assert done.stdout.endswith({"n": "\tkept\n", "y": "\tpurged\n"}[answer])
    assert len(listed(two)) == left
    os.close(slave)
    os.close(master)


def test_damaged_document_is_mended_with_the_tags_of_the_registry(two: Genmed) -> None:
    new = str(listed(two)[0]["name"])
    assert two("tag", new, "paper").code == 0
    (two.root / "runs" / new / "run.json").write_text("{}")
    assert "it is taken from" in two("resume", new).err
    assert listed(two)[0]["tags"] == ["first", "paper"]
