"""Every command with its registry on a server: as with a file, and with other hosts' runs beside one's own."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from genmed.records.environment import host_name
from genmed.records.registry import FINAL, Registry, RunRecord, open_place, parse_place
from genmed.records.run_folder import RunFolder, this_process
from genmed.workflows.index import record_of
from tests.harness import Genmed, edit_document
from tests.registries.making import START, make_evaluation, make_registry, make_run
from tests.registries.postgresql import Server
from tests.test_listing import ask

Arguments = Callable[..., list[object]]


@pytest.fixture
def on_server(genmed: Genmed, postgresql: Server) -> Genmed:
    """genmed with an empty registry on a server."""
    genmed.environ["GENMED_REGISTRY"] = postgresql.make_registry()
    return genmed


def _open(genmed: Genmed) -> Registry:
    registry = open_place(parse_place(genmed.environ["GENMED_REGISTRY"], ""), create=False)
    assert registry is not None
    return registry


def _run(genmed: Genmed, *words: object) -> Any:
    result = genmed(*words, "--json")
    assert result.code == 0, result.err
    return result.json


def _check_row(genmed: Genmed, run: Path) -> None:
    """What the registry holds of the run is what its folder tells."""
    registry, record = _open(genmed), record_of(RunFolder(run))
    registry.check()
    row = registry.run(record.run.id)
    assert row.model_copy(update={"heartbeat": None}) == record.run.model_copy(update={"heartbeat": None})
    assert registry.metrics(row.id) == record.metrics
    assert registry.checkpoints(row.id) == record.checkpoints
    assert registry.verifications(row.id) == record.verifications
    assert registry.evaluations(row.id) == record.evaluations


def test_commands_of_a_run_s_life_keep_its_row(on_server: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    trained = _run(on_server, *tiny("--epochs", 2, "--tag", "a")[:-1])
    run = on_server.run_folder()
    _check_row(on_server, run)
    longer = _run(on_server, "resume", "latest", "--epochs", 3)
    assert longer["parent"] == trained["id"]
    _check_row(on_server, on_server.root / longer["path"])
    assert _run(on_server, "verify", trained["id"])["verdict"] == "identical"
    for words in (["tag", "latest~1", "paper"], ["note", "latest~1", "größer"], ["evaluate", "latest~1"]):
        _run(on_server, *words)
    _check_row(on_server, run)
    assert [entry["id"] for entry in _run(on_server, "list", "--tag", "paper")] == [trained["id"]]
    assert _run(on_server, "rm", "latest")[0]["done"] == "hidden"
    assert [entry["id"] for entry in _run(on_server, "list", "--hidden")] == [longer["id"]]
    assert _run(on_server, "rm", "--restore", longer["id"])[0]["done"] == "restored"
    assert len(_run(on_server, "export", "--csv")) == 2
    assert _run(on_server, "compare", "latest", "latest~1")["schema"] == 1
    assert on_server("list", "--rebuild").err == "registry rebuilt: 2 runs\n"
    _check_row(on_server, run)
    assert _run(on_server, "rm", "--purge", "--yes", "latest")[0]["done"] == "purged"
    assert [row.id for row in _open(on_server).names()] == [trained["id"]]
    assert not (on_server.root / "registry.db").exists()


def test_lists_and_completions_are_those_of_a_file(genmed: Genmed, postgresql: Server) -> None:
    letters = ["B", "a", "Ä", "_", "z"]
    runs = [
        make_run(f"{n:08x}", name=f"{letter}-{n}", dataset=letter, model=f"m{n}.py:build", tags=[letter, "a b"], seed=n,
                 created=START + timedelta(microseconds=n % 2), status="completed", hidden=letter == "z")
        for n, letter in enumerate(letters)
    ]  # fmt: skip
    records = [
        RunRecord(run, {FINAL: {"test_auroc_macro": 0.5}}, evaluations=[make_evaluation(run.id)]) for run in runs
    ]
    make_registry(genmed.root).rebuild(records)
    url = postgresql.make_blank()
    assert genmed("registry", "copy", "--to", url).code == 0
    for words in ("", "--sort name", "--sort dataset --reverse", "--sort auroc", "--tag Ä", "--hidden", "-n 2"):
        file = genmed("list", *words.split(), "--json")
        server = genmed("list", *words.split(), "--json", GENMED_REGISTRY=url)
        assert (server.code, server.out, server.err) == (0, file.out, file.err)
        assert file.json
    for line in ("show ", "show 0000", "list --tag ", "list --dataset ", "list --model ", "rm --restore "):
        file = genmed(**ask(f"genmed {line}"))
        server = genmed(**ask(f"genmed {line}"), GENMED_REGISTRY=url)
        assert (server.code, server.out, server.err) == (0, file.out, "")
        assert file.out


def test_tab_where_no_server_answers_offers_nothing(genmed: Genmed) -> None:
    nowhere = genmed(**ask("genmed show la"), GENMED_REGISTRY="postgresql://127.0.0.1:1/x")
    assert (nowhere.code, nowhere.out, nowhere.err) == (0, "latest\n", "")


# ---- other hosts


def _make_foreign(genmed: Genmed, **fields: Any) -> Registry:
    """A registry with a run of another host, whose folder is not here."""
    registry = make_registry(genmed.root) if "GENMED_REGISTRY" not in genmed.environ else _open(genmed)
    now = datetime.now(UTC)
    given = {"host": "elsewhere", "boot_id": "b", "pid": 7, "process_started": 1.0, "heartbeat": now}
    registry.add_run(make_run("aaaaaaaa", name="theirs", created=now, **{**given, **fields}))
    return registry


def _read_table(genmed: Genmed) -> list[dict[str, str]]:
    columns, *rows = (line.split("\t") for line in genmed("list").out.splitlines())
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_host_of_a_run_is_shown_and_listed_where_there_are_several(finished: Genmed) -> None:
    shown = finished("show", "latest")
    assert f"host\t{host_name()}\n" in shown.out
    assert finished("show", "latest", "--json").json["host"] == host_name()
    assert [run["host"] for run in finished("list", "--json").json] == [host_name()]
    assert ["host" in row for row in _read_table(finished)] == [False]
    _make_foreign(finished)
    assert [row["host"] for row in _read_table(finished)] == ["elsewhere", host_name()]


def test_run_of_another_host_whose_folder_is_not_here_is_judged_by_its_heartbeat(on_server: Genmed) -> None:
    registry = _make_foreign(on_server)
    assert [run["status"] for run in _run(on_server, "list")] == ["running"]
    registry.update_run("aaaaaaaa", heartbeat=datetime.now(UTC) - timedelta(minutes=6))
    assert [run["status"] for run in _run(on_server, "list")] == ["interrupted"]
    registry.update_run("aaaaaaaa", heartbeat=datetime.now(UTC), host=host_name())
    assert [run["status"] for run in _run(on_server, "list")] == ["interrupted"]


def test_folder_that_is_not_here_is_said_to_be_elsewhere(on_server: Genmed) -> None:
    _make_foreign(on_server)
    result = on_server("show", "theirs")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"error: the folder of theirs is not here: {on_server.root}/runs/theirs"
        " (its host was elsewhere: name the root that it lies below with --root, or reach it from here)\n"
    )


def test_run_that_another_host_works_on_is_not_purged(on_server: Genmed) -> None:
    registry = _make_foreign(on_server)
    result = on_server("rm", "--purge", "--yes", "theirs")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: theirs is running now, as process 7 of elsewhere (wait for its end)\n"
    registry.update_run("aaaaaaaa", status="completed")
    assert on_server("rm", "--purge", "--yes", "theirs").code == 0
    assert registry.count() == 0


@pytest.mark.parametrize("on", ["server", "file"])
def test_rebuild_leaves_runs_of_other_roots_on_a_server_alone(
    on: str, genmed: Genmed, trained: Genmed, postgresql: Server, tmp_path: Path
) -> None:
    if on == "server":
        genmed.environ["GENMED_REGISTRY"] = postgresql.make_registry()
    (genmed.root / "runs").symlink_to(trained.root / "runs")
    registry = _make_foreign(genmed)
    rebuilt = genmed("list", "--rebuild", "--json")
    names = [run["name"] for run in rebuilt.json]
    own = trained.run_folder().name
    if on == "server":
        assert names == ["theirs", own]
        elsewhere = f"1 of them have no folder below {genmed.root}, and stay as they are\n"
        assert rebuilt.err == f"{elsewhere}registry rebuilt: 2 runs\n"
        _check_row(genmed, genmed.root / "runs" / own)
    else:
        assert (names, rebuilt.err) == ([own], "registry rebuilt: 1 runs\n")
    assert registry.count() == len(names)


# ---- what the registry was not told


@pytest.fixture
def untold(finished: Genmed, database: str) -> Genmed:
    """genmed with a finished run, of which its registry knows nothing yet."""
    (finished.root / "registry.db").unlink()
    finished.environ["GENMED_REGISTRY"] = os.environ.get("GENMED_REGISTRY", "")
    return finished


def test_end_that_the_registry_was_not_told_of_is_taken_from_the_folder(untold: Genmed) -> None:
    registry, record = make_registry(untold.root), record_of(RunFolder(untold.run_folder()))
    behind = {"status": "running", "epochs_done": 1, "steps_done": 7, "fingerprint": None}
    registry.replace_run(RunRecord(record.run.model_copy(update=behind), {1: record.metrics[1]}))
    (listed,) = _run(untold, "list")
    assert (listed["status"], listed["epochs_done"], listed["fingerprint"]) == ("completed", 4, record.run.fingerprint)
    assert registry.run(record.run.id) == record.run
    assert registry.metrics(record.run.id) == record.metrics
    assert registry.evaluations(record.run.id) == record.evaluations


def test_epochs_of_a_killed_run_that_the_registry_was_not_told_of_are_taken_from_the_folder(untold: Genmed) -> None:
    registry, run = make_registry(untold.root), untold.run_folder()
    edit_document(run / "run.json", lambda document: document.update(status="running"))
    record = record_of(RunFolder(run))
    registry.replace_run(RunRecord(record.run.model_copy(update={"epochs_done": 1})))
    (listed,) = _run(untold, "list")
    assert (listed["status"], listed["epochs_done"]) == ("interrupted", 4)
    assert registry.metrics(record.run.id) == record.metrics


def test_damaged_row_of_a_running_run_keeps_nobody_from_another(untold: Genmed) -> None:
    registry, record = make_registry(untold.root), record_of(RunFolder(untold.run_folder()))
    registry.replace_run(record)
    registry.add_run(make_run("aaaaaaaa", name="theirs"))
    registry.write(lambda connection: connection.execute(text("UPDATE runs SET note = 'x' WHERE id = 'aaaaaaaa'")))
    assert _run(untold, "show", record.run.id)["id"] == record.run.id
    refused = untold("list")
    assert (refused.code, refused.out) == (2, "")
    assert "the row of run aaaaaaaa in runs does not fit its seal" in refused.err


def test_row_of_a_process_that_lives_is_its_own_to_write(untold: Genmed) -> None:
    registry, run = make_registry(untold.root), untold.run_folder()
    edit_document(run / "run.json", lambda document: document.update(process=this_process()))
    record = record_of(RunFolder(run))
    registry.replace_run(RunRecord(record.run.model_copy(update={"status": "running", "epochs_done": 1})))
    (listed,) = _run(untold, "list")
    assert listed["epochs_done"] == 1
    assert registry.metrics(record.run.id) == {}
