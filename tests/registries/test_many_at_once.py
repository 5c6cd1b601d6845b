"""Many processes and threads on one registry: nothing is lost, nobody is turned away."""

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from genmed.ground.errors import StorageError
from genmed.records.registry import FINAL, open_registry, refusals, sqlite
from tests.registries.making import PROCESSES, make_registry, make_run, run_processes


def test_processes_that_create_one_registry_at_once_all_succeed(tmp_path: Path) -> None:
    run_processes(_create_at, tmp_path, 4)
    assert make_registry(tmp_path).count() == 4


def _create_at(root: Path, number: int, barrier: Any) -> None:
    import alembic.command  # noqa: F401  so that the four arrive together

    barrier.wait()
    make_registry(root, make_run(f"{number:08x}"))


def test_eight_processes_writing_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("ext4", "nfs"):
        monkeypatch.setattr(sqlite, "file_system_type", lambda path, kind=kind: kind)
        make_registry(tmp_path / kind)
    run_processes(_train, tmp_path, 8)
    for kind in ("ext4", "nfs"):
        registry = make_registry(tmp_path / kind)
        assert registry.count() == 8 * 3
        recorded = {FINAL: {"a": 1.0}, **{epoch: {"a": epoch, "b": None} for epoch in range(5)}}
        for run in registry.runs():
            assert (run.status, run.epochs_done) == ("completed", 5)
            assert registry.metrics(run.id) == recorded


def _train(root: Path, number: int, barrier: Any) -> None:
    for registry in [open_registry(root / kind, create=False) for kind in ("ext4", "nfs")]:
        assert registry is not None
        barrier.wait()
        for run_id in (f"{number:04x}{part:04x}" for part in range(3)):
            registry.add_run(make_run(run_id))
            for epoch in range(5):
                registry.record_epoch(run_id, epoch, {"a": epoch, "b": None}, epochs_done=epoch + 1)
                registry.beat(run_id)
            registry.record_final_metrics(run_id, {"a": 1.0}, status="completed")


def test_reader_beside_a_writer_sees_whole_epochs(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    process = PROCESSES.Process(target=_write_epochs, args=(tmp_path,))
    process.start()
    seen = set()
    while process.is_alive():
        epochs = registry.metrics("3fa9c2d1")
        assert all(len(metrics) == 50 for metrics in epochs.values())
        assert sorted(epochs) == list(range(len(epochs)))
        seen.add(len(epochs))
    process.join()
    assert process.exitcode == 0
    assert len(seen) > 2
    assert registry.run("3fa9c2d1").epochs_done == len(registry.metrics("3fa9c2d1")) == 100


def _write_epochs(root: Path) -> None:
    registry = make_registry(root)
    for epoch in range(100):
        registry.record_epoch("3fa9c2d1", epoch, {f"m{i}": 0.5 for i in range(50)}, epochs_done=epoch + 1)


def test_threads_of_one_process_share_a_registry(tmp_path: Path) -> None:
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
    timer = threading.Timer(0.5, holder.rollback)
    timer.start()
    start = time.monotonic()
    registry.update_run("3fa9c2d1", note="in the end")
    assert time.monotonic() - start > 0.4
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
