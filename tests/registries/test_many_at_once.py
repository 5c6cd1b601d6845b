"""Many processes and threads on one registry: nothing is lost, nobody is turned away."""

import sqlite3
import threading
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from genmed.ground.errors import StorageError
from genmed.records.registry import FINAL, RunRecord, open_registry, refusals, sqlite
from genmed.records.registry.queries import select_run
from tests.registries.making import (
    START,
    make_evaluation,
    make_registry,
    make_run,
    make_verification,
    run_processes,
    started,
)
from tests.registries.postgresql import Server
from tests.resuming.runs import wait_for


def test_processes_that_create_one_registry_at_once_all_succeed(
    tmp_path: Path, blank: str, server: ForkServerContext
) -> None:
    run_processes(_create_at, tmp_path, 6, server)
    assert make_registry(tmp_path).count() == 6


def _create_at(root: Path, number: int, barrier: Any) -> None:
    barrier.wait()
    make_registry(root, make_run(f"{number:08x}"))


@pytest.fixture(params=["ext4", "nfs", "server"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On a local disk, on a network disk, on a server."""
    if request.param == "server":
        monkeypatch.setenv("GENMED_REGISTRY", request.getfixturevalue("postgresql").make_registry())
    else:
        monkeypatch.setattr(sqlite, "file_system_type", lambda path: request.param)
    return str(request.param)


def test_eight_processes_writing_at_once_lose_nothing(tmp_path: Path, kind: str, server: ForkServerContext) -> None:
    registry = make_registry(tmp_path)
    run_processes(_train, tmp_path, 8, server)
    assert registry.count() == 8 * 3
    recorded = {FINAL: {"a": 1.0}, **{epoch: {"a": epoch, "b": None} for epoch in range(5)}}
    for run in registry.runs():
        assert (run.status, run.epochs_done) == ("completed", 5)
        assert registry.metrics(run.id) == recorded


def _train(root: Path, number: int, barrier: Any) -> None:
    registry = open_registry(root, create=False)
    assert registry is not None
    barrier.wait()
    for run_id in (f"{number:04x}{part:04x}" for part in range(3)):
        registry.add_run(make_run(run_id))
        for epoch in range(5):
            registry.record_epoch(run_id, epoch, {"a": epoch, "b": None}, epochs_done=epoch + 1)
            registry.beat(run_id)
        registry.record_final_metrics(run_id, {"a": 1.0}, status="completed")


def test_server_that_is_restarted_while_processes_write_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgresql: Server, server: ForkServerContext
) -> None:
    monkeypatch.setenv("GENMED_REGISTRY", postgresql.make_registry())
    registry = make_registry(tmp_path)
    with started(_write_until_told, tmp_path, 6, server):
        for epochs in (1, 3, 5):
            wait_for(lambda epochs=epochs: sum(run.epochs_done >= epochs for run in registry.runs()) == 6)
            if epochs < 5:
                postgresql.restart()
        (tmp_path / "enough").touch()
    for number in range(6):
        written = int((tmp_path / f"written-{number}").read_text())
        assert written >= 5
        run = registry.run(f"{number:08x}")
        assert (run.epochs_done, run.status) == (written, "completed")
        assert registry.metrics(run.id) == {FINAL: {"n": written}, **{epoch: {"n": epoch} for epoch in range(written)}}
        assert len(registry.verifications(run.id)) == written
    registry.check()


def _write_until_told(root: Path, number: int, barrier: Any) -> None:
    registry = open_registry(root, create=False)
    assert registry is not None
    barrier.wait()
    run_id, epoch = f"{number:08x}", 0
    registry.add_run(make_run(run_id))
    while not (root / "enough").exists():
        registry.record_epoch(run_id, epoch, {"n": epoch}, epochs_done=epoch + 1)
        registry.record_verification(make_verification(run_id, "identical", START + timedelta(seconds=epoch)))
        epoch += 1
    registry.record_final_metrics(run_id, {"n": epoch}, status="completed")
    (root / f"written-{number}").write_text(str(epoch))


def test_processes_writing_of_one_run_at_once_lose_nothing(
    tmp_path: Path, database: str, server: ForkServerContext
) -> None:
    registry = make_registry(tmp_path, make_run())
    run_processes(_write_of_one_run, tmp_path, 6, server)
    assert len(registry.verifications("3fa9c2d1")) == 6 * 4
    names = sorted(row.name for row in registry.evaluations("3fa9c2d1"))
    assert names == [*(f"of {number}" for number in range(6)), "of all"]
    assert registry.metrics("3fa9c2d1") == {0: {"a": 0.5}}
    registry.check()
    run = registry.run("3fa9c2d1")
    assert [getattr(run, name) for name in OF_EACH] == [3] * 6


OF_EACH = ("seed", "pid", "epochs_total", "epochs_done", "steps_done", "process_started")


def _write_of_one_run(root: Path, number: int, barrier: Any) -> None:
    registry = open_registry(root, create=False)
    assert registry is not None
    barrier.wait()
    for turn in range(4):
        created = START + timedelta(seconds=10 * number + turn)
        registry.record_verification(make_verification("3fa9c2d1", "identical", created))
        registry.record_evaluation(make_evaluation("3fa9c2d1", f"of {number}"))
        registry.record_evaluation(make_evaluation("3fa9c2d1", "of all", images=number))
        registry.record_epoch("3fa9c2d1", 0, {"a": 0.5})
        registry.update_run("3fa9c2d1", **{OF_EACH[number]: turn})


def test_readers_that_find_one_new_run_at_once_all_succeed(
    tmp_path: Path, database: str, server: ForkServerContext
) -> None:
    registry = make_registry(tmp_path)
    run_processes(_take_in, tmp_path, 6, server)
    assert [run.id for run in registry.runs()] == ["00000004", "00000003", "00000002", "00000001", "00000000"]


def _take_in(root: Path, number: int, barrier: Any) -> None:
    registry = open_registry(root, create=False)
    assert registry is not None
    for turn in range(5):
        barrier.wait(30)
        registry.replace_run(RunRecord(make_run(f"{turn:08x}"), metrics={0: {"a": 0.5}}))


def test_reader_beside_a_writer_sees_whole_epochs(tmp_path: Path, database: str, server: ForkServerContext) -> None:
    registry = make_registry(tmp_path, make_run())
    seen = set()
    with started(_write_epochs, tmp_path, 1, server) as [process]:
        while process.is_alive():
            epochs = registry.metrics("3fa9c2d1")
            assert all(len(metrics) == 50 for metrics in epochs.values())
            assert sorted(epochs) == list(range(len(epochs)))
            seen.add(len(epochs))
    assert len(seen) > 2
    assert registry.run("3fa9c2d1").epochs_done == len(registry.metrics("3fa9c2d1")) == 100


def test_reader_sees_one_state_though_a_writer_commits_between_its_queries(tmp_path: Path, database: str) -> None:
    registry = make_registry(tmp_path, make_run())

    def read(connection: Connection) -> list[str]:
        notes = [select_run(connection, "3fa9c2d1").note]
        registry.update_run("3fa9c2d1", note="new")
        return [*notes, select_run(connection, "3fa9c2d1").note]

    assert registry.read(read) == ["", ""]
    assert registry.run("3fa9c2d1").note == "new"


def _write_epochs(root: Path, number: int, barrier: Any) -> None:
    registry = make_registry(root)
    for epoch in range(100):
        registry.record_epoch("3fa9c2d1", epoch, {f"m{i}": 0.5 for i in range(50)}, epochs_done=epoch + 1)


def test_threads_of_one_process_share_a_registry(tmp_path: Path, database: str) -> None:
    registry = make_registry(tmp_path, make_run())
    errors: list[Exception] = []

    def beat() -> None:
        try:
            for _ in range(30):
                registry.beat("3fa9c2d1")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for epoch in range(30):
        registry.record_epoch("3fa9c2d1", epoch, {"a": 0.5})
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(registry.metrics("3fa9c2d1")) == 30


def _hold_lock(root: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(root / "registry.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_write_is_tried_again_while_the_database_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make_registry(tmp_path, make_run())
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    holder = _hold_lock(tmp_path)
    released = threading.Event()

    def release() -> None:
        released.set()
        holder.rollback()

    timer = threading.Timer(0.5, release)
    timer.start()
    registry.update_run("3fa9c2d1", note="in the end")
    assert released.is_set()
    timer.join()
    holder.close()
    assert registry.run("3fa9c2d1").note == "in the end"


def test_write_to_a_database_that_stays_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make_registry(tmp_path, make_run())
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    monkeypatch.setattr(refusals, "PATIENCE", 0.1)
    holder = _hold_lock(tmp_path)
    begun: list[object] = []
    with pytest.raises(StorageError, match=r"registry\.db is locked by another process"):
        registry.write(begun.append)
    assert begun == []  # a lock is asked for first, not when something is changed
    assert registry.count() == 1
    holder.close()
