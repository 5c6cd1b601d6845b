"""A registry that goes away while a run is trained: the training goes on, and in the end its row is complete."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from genmed.ground.errors import StorageError
from genmed.records.config import flatten
from genmed.records.registry import FINAL, Registry, open_place, parse_place, refusals
from genmed.records.run_folder import RunFolder
from genmed.records.study_folder import StudyCell, StudyDocument
from genmed.workflows import index as module
from genmed.workflows.identity import read_config
from genmed.workflows.index import Index, record_of, write_now
from genmed.workflows.reporting import Silent
from genmed.workflows.studies.found import find_runs, find_runs_now
from tests.harness import Genmed
from tests.registries.making import START, make_checkpoint, make_registry, make_run, make_verification
from tests.registries.postgresql import Server
from tests.test_whole_way import wait_for

Arguments = Callable[..., list[object]]
ID = "3fa9c2d1"


class Listener(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def registry(postgresql: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """On a server that runs again afterwards."""
    monkeypatch.setenv("GENMED_REGISTRY", postgresql.make_registry())
    yield make_registry(tmp_path, make_run())
    if not postgresql.runs:
        postgresql.start()


def _record_epoch(epoch: int, registry: Registry) -> None:
    registry.record_epoch(ID, epoch, {"n": epoch}, epochs_done=epoch + 1)


def _train(index: Index, epochs: range) -> None:
    for epoch in epochs:
        rows = [make_checkpoint(ID, step) for step in (epoch, 1000)]
        index.attempt(partial(_record_epoch, epoch))
        index.attempt(lambda registry, rows=rows: registry.record_checkpoints(ID, rows))
        index.attempt(lambda registry: registry.beat(ID), lasting=False)


def test_training_does_not_wait_at_each_write_and_all_is_written_in_the_end(
    postgresql: Server, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HASTE", 0.2)
    monkeypatch.setattr(module, "SHARE", 1_000_000)  # the pause after a failed attempt is longer than this test
    listener = Listener()
    index = Index(registry, listener)
    _train(index, range(2, 4))
    postgresql.stop()
    attempts: list[object] = []
    catch_up = index._catch_up

    def count(registry: Registry) -> None:
        attempts.append(registry)
        catch_up(registry)

    index._catch_up = count  # type: ignore[method-assign]
    _train(index, range(4, 40))
    assert len(attempts) == 1
    (told,) = listener.told
    assert "does not answer" in told
    assert told.endswith("; going on, `genmed list --rebuild` will make up for it")
    index.settle(patiently=False)
    starter = threading.Timer(0.3, postgresql.start)
    starter.start()
    index.attempt(lambda registry: registry.record_final_metrics(ID, {"test": 1.0}, status="completed"))
    index.settle(patiently=True)
    starter.join()
    run = registry.run(ID)
    assert (run.status, run.epochs_done) == ("completed", 40)
    assert registry.metrics(ID) == {FINAL: {"test": 1.0}, **{epoch: {"n": epoch} for epoch in range(2, 40)}}
    assert [row.step for row in registry.checkpoints(ID)] == [39, 1000]
    assert len(listener.told) == 1


def test_what_was_missed_is_written_before_what_comes_next(
    postgresql: Server, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HASTE", 0.05)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.1)
    index = Index(registry, Listener())
    postgresql.stop()
    _train(index, range(5))
    postgresql.start()
    time.sleep(0.15)
    index.attempt(lambda registry: registry.beat(ID), lasting=False)
    assert registry.metrics(ID) == {epoch: {"n": epoch} for epoch in range(5)}
    heartbeat = registry.run(ID).heartbeat
    assert heartbeat is not None


def test_signs_of_life_are_not_made_up_for(
    postgresql: Server, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HASTE", 0.05)
    index, beaten = Index(registry, Listener()), []
    postgresql.stop()
    for _ in range(3):
        index.attempt(lambda registry: (registry.beat(ID), beaten.append(1)), lasting=False)
    postgresql.start()
    index.settle(patiently=True)
    assert beaten == []


def test_several_threads_may_miss_writes(
    postgresql: Server, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HASTE", 0.05)
    index = Index(registry, Listener())
    postgresql.stop()

    def write(number: int) -> None:
        row = make_verification(ID, f"{number}", START)
        index.attempt(lambda registry: registry.record_verification(row))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    postgresql.start()
    index.settle(patiently=True)
    assert sorted(row.verdict for row in registry.verifications(ID)) == sorted(map(str, range(20)))


def test_row_that_somebody_removed_does_not_stop_a_training(registry: Registry) -> None:
    listener = Listener()
    index = Index(registry, listener)
    registry.remove_run(ID)
    _train(index, range(2))
    index.settle(patiently=True)
    assert [text.partition(";")[0] for text in listener.told] == [f"the registry holds no run with id {ID}"]


def test_single_write_that_cannot_be_made_is_said(
    postgresql: Server, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    write_now(tmp_path, told.append, lambda registry: registry.update_run(ID, note="new"))
    assert (registry.run(ID).note, told) == ("new", [])
    monkeypatch.setattr(refusals, "PATIENCE", 0.2)
    postgresql.stop()
    write_now(tmp_path, told.append, lambda registry: registry.update_run(ID, note="newer"))
    assert [text.endswith("; going on, `genmed list --rebuild` will make up for it") for text in told] == [True]


# ---- real trainings


@pytest.fixture
def on_server(genmed: Genmed, postgresql: Server) -> Iterator[Genmed]:
    """genmed with an empty registry on a server, which runs again afterwards."""
    genmed.environ["GENMED_REGISTRY"] = postgresql.make_registry()
    yield genmed
    if not postgresql.runs:
        postgresql.start()


def _open(genmed: Genmed) -> Registry:
    registry = open_place(parse_place(genmed.environ["GENMED_REGISTRY"], ""), create=False)
    assert registry is not None
    return registry


def _check_row(genmed: Genmed) -> None:
    registry, record = _open(genmed), record_of(RunFolder(genmed.run_folder()))
    registry.check()
    row = registry.run(record.run.id)
    assert row.model_copy(update={"heartbeat": None}) == record.run.model_copy(update={"heartbeat": None})
    assert row.status == "completed"
    assert registry.metrics(row.id) == record.metrics
    assert registry.checkpoints(row.id) == record.checkpoints
    assert registry.evaluations(row.id) == record.evaluations


def _count_epochs(genmed: Genmed) -> int:
    tables = list(genmed.root.glob("runs/[!.]*/metrics.csv"))
    return len(tables[0].read_text().splitlines()) - 1 if tables else 0


def test_server_that_is_restarted_in_the_middle_of_a_training(
    on_server: Genmed, trained: Genmed, tiny: Arguments, postgresql: Server
) -> None:
    command = on_server.start(*tiny("--epochs", 40))
    for epoch in (2, 10):
        wait_for(lambda epoch=epoch: _count_epochs(on_server) >= epoch)
        postgresql.restart()
    assert command.running
    result = command.wait()
    assert result.code == 0, result.err
    assert not [line for line in result.err.splitlines() if "psycopg" in line or "Traceback" in line]
    _check_row(on_server)
    assert len(_open(on_server).metrics(result.json["id"])) == 40 + 1


def test_server_that_is_away_from_the_middle_of_a_training_to_its_end(
    on_server: Genmed, tiny: Arguments, postgresql: Server
) -> None:
    command = on_server.start(*tiny("--epochs", 12))
    wait_for(lambda: _count_epochs(on_server) >= 2)
    postgresql.stop()
    folder = RunFolder(on_server.run_folder())
    wait_for(lambda: folder.read().status == "completed")  # though the server is away
    assert command.running
    postgresql.start()
    result = command.wait()
    assert result.code == 0, result.err
    told = [line for line in result.err.splitlines() if "does not answer" in line and "going on" in line]
    assert len(told) == 1
    _check_row(on_server)


def test_training_that_is_killed_while_the_server_is_away_is_made_up_for_by_the_next_list(
    on_server: Genmed, tiny: Arguments, postgresql: Server
) -> None:
    command = on_server.start(*tiny("--epochs", 12))
    wait_for(lambda: _count_epochs(on_server) >= 2)
    postgresql.stop()
    folder = RunFolder(on_server.run_folder())
    wait_for(lambda: folder.read().status == "completed")
    command.send(signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    postgresql.start()
    (row,) = _open(on_server).runs()
    assert (row.status, row.fingerprint) == ("running", None)
    (listed,) = on_server("list", "--json").json
    assert (listed["status"], listed["epochs_done"]) == ("completed", 12)
    _check_row(on_server)


def test_training_is_not_begun_while_the_server_is_away(
    genmed: Genmed, tiny: Arguments, tmp_path: Path, postgresql: Server
) -> None:
    result = genmed(*tiny(), GENMED_REGISTRY=postgresql.url("nowhere"))
    assert result.code == 2
    assert 'database \\"nowhere\\" does not exist' in result.out
    assert not (genmed.root / "runs").exists()


def test_study_finds_its_runs_without_the_registry(
    finished: Genmed, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENMED_REGISTRY", postgresql.make_registry())
    folder = RunFolder(finished.run_folder())
    document = folder.read()
    cell = StudyCell(
        name="tiny", settings={}, values=flatten(read_config(folder, document)), origins={},
        data_fingerprint=document.data_fingerprint, code_digest=document.code_digest, weights_digest=None,
    )  # fmt: skip
    study = StudyDocument(id="0" * 8, name="s", created=START, metric="auroc_macro", seeds=(42, 43), cells=(cell,))
    told: list[str] = []
    make_registry(finished.root)
    found: dict[Any, Any] = find_runs_now(finished.root, study, told.append)
    assert {place: entry.status for place, entry in found.items()} == {(0, 42): "completed", (0, 43): "pending"}
    assert told == []
    monkeypatch.setattr(refusals, "PATIENCE", 0.2)
    postgresql.stop()
    try:
        alone = find_runs_now(finished.root, study, told.append)
        with pytest.raises(StorageError, match="does not answer"):
            find_runs(finished.root, study)
    finally:
        postgresql.start()
    assert {place: (entry.status, entry.document) for place, entry in alone.items()} == {
        place: (entry.status, entry.document) for place, entry in found.items()
    }
    assert [text.endswith("; going on, by the folders in runs/") for text in told] == [True]
