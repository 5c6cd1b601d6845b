"""The registry: nothing is lost, nothing is made by reading, and every refusal is one clear line."""

import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import ValidationError
from sqlalchemy import event

from genmed.ground.errors import ConfigError, RecordError, RunNotFoundError, StorageError
from genmed.records.registry import (
    FINAL,
    CheckpointRow,
    Registry,
    RunRecord,
    RunRow,
    RunSummary,
    VerificationRow,
    migrate,
    open_registry,
    refusals,
    registry_url,
    sqlite,
)
from genmed.records.registry.tables import Record

OLDEST = Path(__file__).parent / "registries" / "0001.sql"
START = datetime(2026, 1, 28, 19, 30, tzinfo=UTC)
PROCESSES = multiprocessing.get_context("spawn")
NOBODY = 65534


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENMED_REGISTRY", raising=False)


def make_run(run_id: str = "3fa9c2d1", **fields: Any) -> RunRow:
    name = fields.pop("name", f"nih-resnet50-s42-{run_id}")
    given = {"path": f"runs/{name}", "status": "running", "seed": 42, "dataset": "nih", "model": "resnet50"}
    return RunRow(**{"id": run_id, "name": name, "device": "cpu", "created": START, **given, **fields})


def make_checkpoint(run_id: str, step: int, created: datetime = START) -> CheckpointRow:
    path = f"checkpoints/step-{step}"
    return CheckpointRow(
        run_id=run_id, path=path, epoch=0, step=step, sha256="sha256:ef", kinds=["last"], created=created
    )


def make_verification(run_id: str, verdict: str, created: datetime = START) -> VerificationRow:
    return VerificationRow(
        run_id=run_id, created=created, verdict=verdict, steps_compared=1, steps_total=2, report={"cause": []}
    )


def make_registry(root: Path, *runs: RunRow) -> Registry:
    registry = open_registry(root, create=True)
    assert registry is not None
    for run in runs:
        registry.add_run(run)
    return registry


def refused(root: Path, *, create: bool) -> StorageError:
    with pytest.raises(StorageError) as caught:
        open_registry(root, create=create)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def run_python(code: str, *arguments: object) -> str:
    """What a fresh interpreter prints, on stdout and stderr; a warning is an error."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


# ---- opening


def test_reading_where_there_is_no_registry_makes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert open_registry(root, create=False) is None
    assert not root.exists()


def test_reading_an_empty_file_finds_no_registry_and_leaves_it_empty(tmp_path: Path) -> None:
    (tmp_path / "registry.db").touch()
    assert open_registry(tmp_path, create=False) is None
    assert (tmp_path / "registry.db").stat().st_size == 0
    assert make_registry(tmp_path, make_run()).count() == 1


def test_reading_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    make_registry(tmp_path, make_run())
    file = tmp_path / "registry.db"
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    registry = open_registry(tmp_path, create=False)
    assert registry is not None
    assert len(registry.runs()) == 1
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert os.listdir(tmp_path) == ["registry.db"]


def test_reading_after_a_writer_was_killed_sees_its_commits_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    make_registry(tmp_path)
    process = PROCESSES.Process(target=_write_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "registry.db-wal").stat().st_size > 0
    before = (tmp_path / "registry.db").read_bytes()
    registry = open_registry(tmp_path, create=False)
    assert registry is not None
    assert [run.note for run in registry.runs()] == ["committed"]
    assert (tmp_path / "registry.db").read_bytes() == before
    registry.update_run("3fa9c2d1", note="mended")
    assert os.listdir(tmp_path) == ["registry.db"]


def _write_and_die(root: Path) -> None:
    registry = make_registry(root)
    with registry._reading.connect() as reader:  # the last to close would merge the log
        reader.exec_driver_sql("SELECT * FROM runs")
        registry.add_run(make_run(note="committed"))
        _die_in_a_transaction(registry)


def _die_in_a_transaction(registry: Registry) -> None:
    def work(connection: Any) -> None:
        connection.exec_driver_sql("PRAGMA cache_size = 1")  # what is not committed yet goes to the disk
        connection.exec_driver_sql("UPDATE runs SET note = ?", ("half done" * 10_000,))
        os.kill(os.getpid(), signal.SIGKILL)

    registry.write(work)


def _open_and_die(root: Path) -> None:
    registry = open_registry(root, create=False)
    assert registry is not None
    _die_in_a_transaction(registry)


def test_reading_on_a_network_disk_undoes_what_a_killed_writer_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "file_system_type", lambda path: "nfs")
    registry = make_registry(tmp_path, make_run(note="committed"))
    process = PROCESSES.Process(target=_open_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ["registry.db", "registry.db-journal"]
    assert [run.note for run in registry.runs()] == ["committed"]
    assert os.listdir(tmp_path) == ["registry.db"]


def test_registry_holds_no_file_open_between_calls(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.runs()
    assert [file.path for file in psutil.Process().open_files() if "registry.db" in file.path] == []


def test_registry_url_is_the_variable_or_the_file_in_the_root(tmp_path: Path) -> None:
    assert registry_url(tmp_path, {}) == f"sqlite:///{tmp_path}/registry.db"
    assert registry_url(tmp_path, {"GENMED_REGISTRY": ""}) == f"sqlite:///{tmp_path}/registry.db"
    assert registry_url(tmp_path, {"GENMED_REGISTRY": "sqlite:////x.db"}) == "sqlite:////x.db"


def test_registry_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENMED_REGISTRY", f"sqlite:///{tmp_path}/elsewhere/index.db")
    make_registry(tmp_path / "root", make_run())
    assert (tmp_path / "elsewhere" / "index.db").is_file()
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("registry.db", "GENMED_REGISTRY is not a database URL"),
        ("sqlite://", "GENMED_REGISTRY is a database in memory"),
        ("sqlite:///:memory:", "GENMED_REGISTRY is a database in memory"),
        ("nosuchdatabase://me:secret@host/x", "cannot use the registry nosuchdatabase://me:***@host/x"),
    ],
)
def test_registry_url_that_cannot_serve_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setenv("GENMED_REGISTRY", url)
    assert message in refused(tmp_path, create=True).message


def test_registry_opens_in_a_folder_of_any_name(tmp_path: Path) -> None:
    root = tmp_path / "what? 100%20 #1 é"
    make_registry(root, make_run())
    assert os.listdir(root) == ["registry.db"]


def test_registry_on_a_local_disk_has_a_write_ahead_log_and_on_a_network_disk_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_registry(tmp_path / "local")
    for kind in ("nfs4", "fuse.sshfs", "SMB3", "lustre", "9p"):
        mounts = [SimpleNamespace(mountpoint=at, fstype=of) for at, of in (("/", "ext4"), (str(tmp_path), kind))]
        monkeypatch.setattr(psutil, "disk_partitions", lambda mounts=mounts, **_: mounts)
        make_registry(tmp_path / kind, make_run())
        assert _pragma(tmp_path / kind, "journal_mode") == "delete"
        registry = open_registry(tmp_path / kind, create=False)
        assert registry is not None
        assert registry.count() == 1
    assert _pragma(tmp_path / "local", "journal_mode") == "wal"
    make_registry(tmp_path / "local")  # as if the folder had been moved to the network disk
    assert _pragma(tmp_path / "local", "journal_mode") == "delete"


def _pragma(root: Path, name: str, access: sqlite.Access = "write") -> Any:
    connection = sqlite.connect(root / "registry.db", access)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


def test_connection_waits_enforces_keys_and_syncs_each_commit_only_without_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_registry(tmp_path)
    assert [_pragma(tmp_path, name) for name in ("busy_timeout", "foreign_keys", "synchronous")] == [30_000, 1, 1]
    monkeypatch.setattr(sqlite, "file_system_type", lambda path: "nfs")
    make_registry(tmp_path)
    assert _pragma(tmp_path, "synchronous") == 2


# ---- what cannot be a registry


@pytest.mark.parametrize("create", [False, True])
def test_file_of_another_kind_is_refused(tmp_path: Path, create: bool) -> None:
    (tmp_path / "registry.db").write_bytes(b"not a database\n" * 1000)
    error = refused(tmp_path, create=create)
    assert error.message == f"{tmp_path}/registry.db is damaged or no registry: file is not a database"
    assert "built again from the folders in runs/" in error.hint


@pytest.mark.parametrize("create", [False, True])
def test_truncated_registry_is_refused(tmp_path: Path, create: bool) -> None:
    make_registry(tmp_path, make_run())
    os.truncate(tmp_path / "registry.db", 6000)
    assert "damaged or no registry" in refused(tmp_path, create=create).message


def test_registry_damaged_behind_its_first_pages_is_refused_when_read(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, *(make_run(f"{number:08x}", note="x" * 3000) for number in range(40)))
    with open(tmp_path / "registry.db", "r+b") as file:
        file.seek(16 * 4096)
        file.write(b"\xff" * 4096 * 20)
    with pytest.raises(StorageError, match="damaged or no registry"):
        registry.runs()


@pytest.mark.parametrize("create", [False, True])
def test_folder_in_the_place_of_the_file_is_refused(tmp_path: Path, create: bool) -> None:
    (tmp_path / "registry.db").mkdir()
    assert "is a folder where the registry's file should be" in refused(tmp_path, create=create).message


def test_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    assert "is not a folder" in refused(tmp_path / "root", create=True).message
    assert "is not a folder" in refused(tmp_path / "root", create=False).message
    assert "cannot make the folder" in refused(tmp_path / "root" / "deeper", create=True).message


@pytest.mark.parametrize("create", [False, True])
def test_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, create: bool) -> None:
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.execute("CREATE TABLE patients (name TEXT)")
    connection.close()
    before = (tmp_path / "registry.db").read_bytes()
    error = refused(tmp_path, create=create)
    assert "it holds the tables patients" in error.message
    if not create:
        assert (tmp_path / "registry.db").read_bytes() == before


def test_full_disk_is_told_and_leaves_the_registry_whole(tmp_path: Path) -> None:
    make_registry(tmp_path, make_run())
    process = PROCESSES.Process(target=_write_on_a_full_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    registry = open_registry(tmp_path, create=False)
    assert registry is not None
    assert [run.note for run in registry.runs()] == [""]


def _write_on_a_full_disk(root: Path) -> None:
    registry = make_registry(root)
    size = (root / "registry.db").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    with pytest.raises(StorageError, match=r"cannot read or write .*/registry\.db: .* MiB free") as caught:
        registry.update_run("3fa9c2d1", note="x" * 1_000_000)
    assert "make room" in caught.value.hint
    with pytest.raises(StorageError):
        open_registry(root / "new", create=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for inside in folder.iterdir():
        inside.chmod(0o755)
    shutil.rmtree(folder)


def test_registry_that_may_not_be_written_can_be_read(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (open_folder / "empty").mkdir(mode=0o555)
    for kind in ("ext4", "nfs"):
        monkeypatch.setattr(sqlite, "file_system_type", lambda path, kind=kind: kind)
        make_registry(open_folder / kind, make_run())
        (open_folder / kind / "registry.db").chmod(0o444)
        (open_folder / kind).chmod(0o555)
    process = PROCESSES.Process(target=_read_as_another, args=(open_folder,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert sorted(path.name for path in open_folder.rglob("*")) == [
        "empty",
        "ext4",
        "nfs",
        "registry.db",
        "registry.db",
    ]


def _read_as_another(folder: Path) -> None:
    if os.getuid() == 0:  # whom no permission stops
        os.setuid(NOBODY)
    for root in (folder / "ext4", folder / "nfs"):
        registry = open_registry(root, create=False)
        assert registry is not None
        assert registry.count() == 1
        with pytest.raises(StorageError, match=r"cannot open .*/registry\.db: .*") as caught:
            registry.beat("3fa9c2d1")
        assert "a folder that you may write" in caught.value.hint
    assert "cannot" in refused(folder / "empty", create=True).message
    assert "cannot" in refused(folder / "empty" / "new", create=True).message


def test_only_a_database_that_nobody_can_change_is_read_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("ext4", "nfs"):
        monkeypatch.setattr(sqlite, "file_system_type", lambda path, kind=kind: kind)
        make_registry(tmp_path / kind)
    monkeypatch.setattr(os, "access", lambda *_: False)
    modes = [sqlite._open_mode(tmp_path / kind / "registry.db", "read") for kind in ("ext4", "nfs")]
    assert modes == ["immutable=1", "mode=ro"]


def test_refusal_of_several_lines_is_told_in_one() -> None:
    error = refusals.refusal("postgresql://host/x", sqlite3.OperationalError("connection refused\nis it running?\n"))
    assert error.message == "the registry postgresql://host/x cannot be used: connection refused"


# ---- migrations


def test_head_is_alembics_head_and_files_are_numbered() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrate.MIGRATIONS))
    assert script.get_heads() == [migrate.HEAD]
    numbers = [path.name[:4] for path in sorted((migrate.MIGRATIONS / "versions").glob("*.py"))]
    assert numbers == [f"{number:04}" for number in range(1, int(migrate.HEAD) + 1)]


def test_blank_database_gets_the_tables_of_the_models(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    options = {"compare_type": True, "compare_server_default": True}
    with make_registry(tmp_path)._reading.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert context.get_current_revision() == migrate.HEAD
        assert compare_metadata(context, Record.metadata) == []


def test_oldest_schema_is_upgraded_with_every_row_kept(tmp_path: Path) -> None:
    _load_oldest(tmp_path)
    registry = open_registry(tmp_path, create=False)
    assert registry is not None
    assert registry.read(lambda connection: migrate.read_version(connection, "")) == migrate.HEAD
    first = registry.find("nih-")
    assert (first.id, first.status, first.seed, first.git_dirty) == ("3fa9c2d1", "completed", 42, False)
    assert (first.tags, first.note) == (["paper", "größer"], 'the "first" run')
    assert first.ended == START + timedelta(hours=5, microseconds=250)
    assert first.config == {"seed": 42, "train": {"lr": 1e-4}}
    second = registry.run("00c0ffee")
    assert (second.seed, second.parent, second.hidden, second.started) == (2**32 - 1, "3fa9c2d1", True, None)
    assert second.accepted == [{"what": "torch"}]
    assert registry.metrics(first.id) == {
        FINAL: {"test_auroc_macro": 0.8125, "test_auroc_Hernia": None},
        0: {"train_loss": 0.25, "val_auroc_macro": 0.5},
        1: {"train_loss": None, "val_auroc_macro": 0.75},
    }
    assert [(row.path, row.kinds) for row in registry.checkpoints(first.id)] == [
        ("checkpoints/epoch-0001", ["best", "last"])
    ]
    assert [row.verdict for row in registry.verifications(first.id)] == ["identical", "diverged"]


def _load_oldest(root: Path) -> None:
    root.mkdir(exist_ok=True)
    connection = sqlite3.connect(root / "registry.db")
    connection.executescript(OLDEST.read_text())
    connection.close()


@pytest.mark.parametrize("version", ["9999", "3f2a77b1c0de", "000a77b1c0de"])
def test_schema_of_a_newer_genmed_is_refused_and_left_alone(tmp_path: Path, version: str) -> None:
    make_registry(tmp_path)
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.commit()
    connection.close()
    before = (tmp_path / "registry.db").read_bytes()
    for create in (False, True):
        error = refused(tmp_path, create=create)
        assert error.message == (
            f"the registry {tmp_path}/registry.db has schema {version}; this genmed knows schemas up to {migrate.HEAD}"
        )
        assert "newer" in error.hint
    assert (tmp_path / "registry.db").read_bytes() == before


NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{next}", "{head}"
def upgrade():
    with op.batch_alter_table("runs") as batch:
        batch.alter_column("note", type_=sa.Text())
    {last}
"""


def _release_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str = "pass") -> str:
    """As if a genmed with one migration more was installed: it builds the table of the runs anew."""
    following = f"{int(migrate.HEAD) + 1:04}"
    folder = tmp_path / "100% migrations"
    shutil.copytree(migrate.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "next.py").write_text(NEXT.format(next=following, head=migrate.HEAD, last=last))
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)
    monkeypatch.setattr(migrate, "HEAD", following)
    monkeypatch.setattr("genmed.records.registry.opening.HEAD", following)
    return following


def test_migration_that_builds_a_table_anew_keeps_the_rows_that_refer_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    _load_oldest(root)
    following = _release_next(tmp_path, monkeypatch)
    registry = open_registry(root, create=False)
    assert registry is not None
    assert registry.read(lambda connection: migrate.read_version(connection, "")) == following
    assert registry.count() == 2
    assert (len(registry.metrics("3fa9c2d1")), len(registry.verifications("3fa9c2d1"))) == (3, 2)


def test_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    _load_oldest(root)
    before = _dump(root)
    _release_next(tmp_path, monkeypatch, last='op.execute("INSERT INTO nowhere VALUES (1)")')
    assert "no such table: nowhere" in refused(root, create=False).message
    assert _dump(root) == before


def _dump(root: Path) -> list[str]:
    connection = sqlite3.connect(root / "registry.db")
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def test_migrating_prints_nothing_and_leaves_logging_alone(tmp_path: Path) -> None:
    code = """
import logging, sys
from pathlib import Path
from genmed.records.registry import open_registry
open_registry(Path(sys.argv[1]), create=True)
assert "alembic" in sys.modules
assert logging.root.handlers == [] and logging.root.level == logging.WARNING
assert logging.getLogger("alembic").level == logging.NOTSET
"""
    assert run_python(code, tmp_path) == ""


def test_opening_a_registry_that_is_up_to_date_imports_no_alembic_torch_or_pandas(tmp_path: Path) -> None:
    make_registry(tmp_path, make_run())
    code = """
import sys
from pathlib import Path
from genmed.records.registry import open_registry
for create in (False, True):
    registry = open_registry(Path(sys.argv[1]), create=create)
    registry.beat("3fa9c2d1")
    assert len(registry.runs()) == 1
print(sorted({"alembic", "torch", "pandas", "sklearn"} & set(sys.modules)))
"""
    assert run_python(code, tmp_path) == "[]\n"


def test_processes_that_create_one_registry_at_once_all_succeed(tmp_path: Path) -> None:
    run_processes(_create_at, tmp_path, 4)
    assert make_registry(tmp_path).count() == 4


def _create_at(root: Path, number: int, barrier: Any) -> None:
    import alembic.command  # noqa: F401  so that the four arrive together

    barrier.wait()
    make_registry(root, make_run(f"{number:08x}"))


def run_processes(target: Any, root: Path, count: int) -> None:
    barrier = PROCESSES.Barrier(count)
    processes = [PROCESSES.Process(target=target, args=(root, number, barrier)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


# ---- many at once


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


# ---- rows


def test_run_comes_back_as_it_was_added(tmp_path: Path) -> None:
    run = make_run(
        config={"train": {"lr": 1e-4, "mean": [0.1, None]}}, tags=["größer"], process_started=1769628600.123456,
        seed=2**32 - 1, git_dirty=True, accepted=[{"what": "torch"}], hardware={"gpus": []}, steps_done=2**40,
    )  # fmt: skip
    registry = make_registry(tmp_path, run)
    assert registry.run(run.id) == run
    summary = registry.runs()[0]
    assert summary.model_dump() == {name: getattr(run, name) for name in RunSummary.model_fields}


def test_times_come_back_aware_and_in_utc(tmp_path: Path) -> None:
    tokyo = datetime(2026, 1, 29, 4, 30, tzinfo=timezone(timedelta(hours=9)))
    registry = make_registry(tmp_path, make_run(created=tokyo))
    created = registry.run("3fa9c2d1").created
    assert (created, created.tzinfo) == (tokyo, UTC)
    with pytest.raises(ValidationError):
        make_run(created=START.replace(tzinfo=None))


@pytest.mark.parametrize("wrong", [{"status": "done"}, {"id": "3FA9C2D1"}, {"colour": "red"}, {"seed": "many"}])
def test_row_with_a_wrong_field_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_run(**{"run_id": wrong.pop("id", "3fa9c2d1"), **wrong})


def test_second_run_of_a_name_or_id_is_refused(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(name="mine"))
    for second in (make_run(name="other"), make_run("00000001", name="mine")):
        with pytest.raises(ConfigError, match=f"a run named {second.name} or with id {second.id} exists"):
            registry.add_run(second)
    assert registry.count() == 1


def test_update_sets_the_fields_given_and_no_others(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(), make_run("00000001"))
    registry.update_run("3fa9c2d1", status="completed", tags=["a"], ended=START)
    assert registry.run("3fa9c2d1") == make_run(status="completed", tags=["a"], ended=START)
    assert registry.run("00000001") == make_run("00000001")


def test_update_with_an_unknown_field_or_a_wrong_value_is_a_mistake_in_the_program(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    naive = START.replace(tzinfo=None)
    wrong: list[dict[str, Any]] = [{"colour": "red"}, {"id": "00000001"}, {"status": "done"}, {"ended": naive}]
    for fields in wrong:
        with pytest.raises((AssertionError, ValidationError)):
            registry.update_run("3fa9c2d1", **fields)
    assert registry.run("3fa9c2d1") == make_run()


def test_update_with_a_numpy_number_stores_a_number(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.update_run("3fa9c2d1", steps_done=np.int64(5), process_started=np.float32(0.5))
    run = registry.run("3fa9c2d1")
    assert [(type(value), value) for value in (run.steps_done, run.process_started)] == [(int, 5), (float, 0.5)]


def test_writing_about_a_run_that_is_gone_says_so(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.remove_run("3fa9c2d1")
    attempts: list[Callable[[], object]] = [
        lambda: registry.run("3fa9c2d1"),
        lambda: registry.beat("3fa9c2d1"),
        lambda: registry.remove_run("3fa9c2d1"),
        lambda: registry.record_epoch("3fa9c2d1", 0, {"a": 1.0}),
        lambda: registry.record_final_metrics("3fa9c2d1", {}),
        lambda: registry.record_checkpoints("3fa9c2d1", []),
        lambda: registry.record_verification(make_verification("3fa9c2d1", "identical")),
    ]
    for attempt in attempts:
        with pytest.raises(RunNotFoundError, match="the registry holds no run with id 3fa9c2d1"):
            attempt()


def test_registry_that_vanished_is_not_made_anew_by_a_write(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    (tmp_path / "registry.db").unlink()
    with pytest.raises(StorageError, match="cannot open"):
        registry.beat("3fa9c2d1")
    assert os.listdir(tmp_path) == []


def test_heartbeat_is_now_and_follows_every_record_of_the_training(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    writes: list[Callable[[], object]] = [
        lambda: registry.beat("3fa9c2d1"),
        lambda: registry.record_epoch("3fa9c2d1", 0, {}),
        lambda: registry.record_checkpoints("3fa9c2d1", []),
        lambda: registry.record_final_metrics("3fa9c2d1", {}),
    ]
    for write in writes:
        before = datetime.now(UTC)
        write()
        heartbeat = registry.run("3fa9c2d1").heartbeat
        assert heartbeat is not None
        assert before <= heartbeat <= datetime.now(UTC)


def test_undefined_metrics_are_null_and_zero_is_not(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    nothing = {"nan": float("nan"), "infinite": float("inf"), "none": None}
    values: dict[str, Any] = {**nothing, "zero": 0.0, "single": np.float32(0.5)}
    registry.record_epoch("3fa9c2d1", 0, values)
    registry.record_final_metrics("3fa9c2d1", {"test_auroc_Hernia": float("nan")})
    assert registry.metrics("3fa9c2d1") == {
        FINAL: {"test_auroc_Hernia": None},
        0: {"infinite": None, "nan": None, "none": None, "single": 0.5, "zero": 0.0},
    }


def test_epoch_recorded_again_replaces_itself_and_what_came_after(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    for epoch in range(4):
        registry.record_epoch("3fa9c2d1", epoch, {"a": 0.0, "b": 0.0}, epochs_done=epoch + 1)
    registry.record_final_metrics("3fa9c2d1", {"test": 0.5, "old": 0.5})
    registry.record_epoch("3fa9c2d1", 2, {"a": 1.0}, epochs_done=3)
    registry.record_final_metrics("3fa9c2d1", {"test": 0.75})
    both = {"a": 0.0, "b": 0.0}
    assert registry.metrics("3fa9c2d1") == {FINAL: {"test": 0.75}, 0: both, 1: both, 2: {"a": 1.0}}
    assert registry.run("3fa9c2d1").epochs_done == 3


def test_epoch_that_cannot_be_recorded_whole_is_not_recorded_at_all(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.record_epoch("3fa9c2d1", 0, {"a": 0.5}, epochs_done=1)
    with pytest.raises(TypeError):
        registry.record_epoch("3fa9c2d1", 0, {"a": "high"}, epochs_done=2)  # type: ignore[dict-item]
    assert registry.metrics("3fa9c2d1") == {0: {"a": 0.5}}
    assert registry.run("3fa9c2d1").epochs_done == 1


def test_final_metrics_of_many_runs_come_at_once(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"), make_run("00000002"), make_run("00000003"))
    registry.record_epoch("00000001", 0, {"val": 0.5})
    registry.record_final_metrics("00000001", {"test": 0.25})
    registry.record_final_metrics("00000003", {"test": 0.75})
    assert registry.final_metrics(["00000001", "00000002"]) == {"00000001": {"test": 0.25}, "00000002": {}}
    assert registry.final_metrics([]) == {}


def test_checkpoints_recorded_are_those_on_the_disk_now(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(), make_run("00000001"))
    registry.record_checkpoints("00000001", [make_checkpoint("00000001", 5)])
    registry.record_checkpoints("3fa9c2d1", [make_checkpoint("3fa9c2d1", step) for step in (20, 100, 10)])
    kept = [make_checkpoint("3fa9c2d1", step) for step in (20, 100)]
    registry.record_checkpoints("3fa9c2d1", kept)
    assert registry.checkpoints("3fa9c2d1") == kept
    assert len(registry.checkpoints("00000001")) == 1
    with pytest.raises(AssertionError):
        registry.record_checkpoints("3fa9c2d1", [make_checkpoint("00000001", 1)])


def test_verifications_are_listed_oldest_first(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    rows = [
        make_verification("3fa9c2d1", "diverged", START + timedelta(days=1)),
        make_verification("3fa9c2d1", "identical"),
        make_verification("3fa9c2d1", "consistent"),
    ]
    for row in rows:
        registry.record_verification(row)
    assert registry.verifications("3fa9c2d1") == [rows[1], rows[2], rows[0]]


# ---- lists and references


def test_runs_are_listed_newest_first_and_filtered(tmp_path: Path) -> None:
    registry = make_registry(
        tmp_path,
        make_run("00000001", created=START + timedelta(seconds=1), tags=["a", "b"], status="failed"),
        make_run("00000003", created=START, dataset="phantom"),
        make_run("00000002", created=START, tags=["a"]),
        make_run("00000004", created=START - timedelta(days=1), tags=["a"], hidden=True),
        make_run("00000005", created=START - timedelta(days=2), tags=["ab", 'a"']),
    )

    def listed(**filters: Any) -> list[int]:
        return [int(run.id) for run in registry.runs(**filters)]

    assert listed() == [1, 3, 2, 5]
    assert listed(include_hidden=True) == [1, 3, 2, 4, 5]
    assert listed(limit=2) == [1, 3]
    assert listed(limit=0) == []
    assert listed(status="failed") == [1]
    assert listed(dataset="phantom") == [3]
    assert listed(tag="a") == [1, 2]
    assert listed(tag="a", limit=1) == [1]
    assert listed(tag="a", status="running", include_hidden=True) == [2, 4]
    assert listed(tag='", "') == []
    assert [(name.id, name.hidden) for name in registry.names()][3] == ("00000004", True)
    assert registry.count() == 5


def test_newest_runs_are_chosen_by_the_database(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    statements: list[str] = []
    event.listen(registry._reading, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    registry.runs(limit=20)
    assert "LIMIT" in statements[-1]


def test_summary_has_no_config_rather_than_an_empty_one(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(config={"seed": 1}))
    assert not hasattr(registry.runs()[0], "config")
    assert registry.find("latest").config == {"seed": 1}


@pytest.fixture
def named(tmp_path: Path) -> Registry:
    return make_registry(
        tmp_path,
        make_run("3fa9c2d1", name="nih-resnet50-s42-3fa9c2d1", created=START),
        make_run("3fa00000", name="nih-resnet50-s4-3fa00000", created=START + timedelta(days=1)),
        make_run("11111111", name="phantom", created=START + timedelta(days=2)),
        make_run("22222222", name="phantom-resnet18", created=START + timedelta(days=3)),
        make_run("33333333", name="secret", created=START + timedelta(days=4), hidden=True),
    )


@pytest.mark.parametrize(
    ("reference", "run_id"),
    [
        ("nih-resnet50-s42-3fa9c2d1", "3fa9c2d1"),
        ("nih-resnet50-s42", "3fa9c2d1"),
        ("3fa9", "3fa9c2d1"),
        ("11111111", "11111111"),
        ("phantom", "11111111"),
        ("phantom-", "22222222"),
        ("secret", "33333333"),
        ("latest", "22222222"),
        ("latest~0", "22222222"),
        ("latest~3", "3fa9c2d1"),
    ],
)
def test_reference_finds_the_one_run_that_it_fits(named: Registry, reference: str, run_id: str) -> None:
    assert named.find(reference).id == run_id


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("3fa", "'3fa' fits 2 runs", "which one: nih-resnet50-s4-3fa00000, nih-resnet50-s42-3fa9c2d1?"),
        ("p", "'p' fits 2 runs", "which one: phantom-resnet18 (22222222), phantom (11111111)?"),
        ("nih-resnet5-s42", "no run goes by 'nih-resnet5-s42'", "did you mean nih-resnet50-s42-3fa9c2d1 or "
         "nih-resnet50-s4-3fa00000?"),
        ("3fa9c2dd", "no run goes by '3fa9c2dd'", "did you mean 3fa9c2d1?"),
        ("PHANTOM", "no run goes by 'PHANTOM'", "`genmed list` shows the runs"),
        ("%", "no run goes by '%'", "`genmed list` shows the runs"),
        ("", "no run goes by ''", "`genmed list` shows the runs"),
        ("latest~4", "there is no run latest~4: the registry lists 4 runs", ""),
        ("latest~-1", "no run goes by 'latest~-1'", "`genmed list` shows the runs"),
    ],
)  # fmt: skip
def test_reference_that_fits_none_or_several_is_refused(
    named: Registry, reference: str, message: str, hint: str
) -> None:
    with pytest.raises(RunNotFoundError) as caught:
        named.find(reference)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_reference_that_is_one_runs_name_and_anothers_id_is_ambiguous(named: Registry) -> None:
    named.add_run(make_run("44444444", name="11111111"))
    with pytest.raises(RunNotFoundError, match="'11111111' fits 2 runs"):
        named.find("11111111")


def test_ambiguous_reference_lists_ten_candidates(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, *(make_run(f"aa{number:06x}") for number in range(13)))
    with pytest.raises(RunNotFoundError, match="'aa' fits 13 runs") as caught:
        registry.find("aa")
    assert caught.value.hint.count("nih-resnet50") == 10
    assert caught.value.hint.endswith(" and 3 more?")


def test_reference_in_an_empty_registry_finds_nothing(tmp_path: Path) -> None:
    registry = make_registry(tmp_path)
    with pytest.raises(RunNotFoundError, match="there is no run latest: the registry lists no runs"):
        registry.find("latest")
    with pytest.raises(RunNotFoundError) as caught:
        registry.find("nih")
    assert caught.value.hint == "the registry holds no runs"


# ---- rebuild


def _record(run_id: str, **fields: Any) -> RunRecord:
    return RunRecord(
        make_run(run_id, **fields),
        metrics={0: {"val": 0.5}, FINAL: {"test": float("nan")}},
        checkpoints=[make_checkpoint(run_id, 7)],
        verifications=[make_verification(run_id, "identical")],
    )


def test_rebuild_holds_the_runs_given_and_no_others(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001", note="old"), make_run("00000002"))
    for run_id in ("00000001", "00000002"):
        registry.record_epoch(run_id, 9, {"old": 1.0})
        registry.record_checkpoints(run_id, [make_checkpoint(run_id, 1)])
        registry.record_verification(make_verification(run_id, "diverged"))
    records = [_record("00000001", note="new"), _record("00000003", created=START - timedelta(days=1))]
    assert registry.rebuild(iter(records)) == 2
    assert [registry.run(run.id) for run in registry.runs()] == [record.run for record in records]
    for run_id in ("00000001", "00000003"):
        assert registry.metrics(run_id) == {FINAL: {"test": None}, 0: {"val": 0.5}}
        assert registry.checkpoints(run_id) == [make_checkpoint(run_id, 7)]
        assert [row.verdict for row in registry.verifications(run_id)] == ["identical"]
    assert (registry.metrics("00000002"), registry.checkpoints("00000002")) == ({}, [])
    assert registry.rebuild([]) == 0
    assert registry.count() == 0


def test_rebuild_leaves_alone_what_changed_while_the_folders_were_read(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"), make_run("00000002"), make_run("00000003"))

    def read_folders() -> Iterator[RunRecord]:
        yield _record("00000001", note="as read")
        yield _record("00000002", note="as read")
        yield _record("00000003", note="as read")
        registry.record_epoch("00000002", 5, {"val": 0.75}, epochs_done=6)
        registry.remove_run("00000003")
        registry.add_run(make_run("00000004"))

    assert registry.rebuild(read_folders()) == 3
    assert {run.id: run.note for run in registry.runs()} == {"00000001": "as read", "00000002": "", "00000004": ""}
    assert registry.metrics("00000002") == {5: {"val": 0.75}}


def test_rebuild_that_fails_leaves_the_registry_as_it_was(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"))
    registry.record_epoch("00000001", 0, {"val": 0.5})
    before = _dump(tmp_path)
    broken = replace(_record("00000002"), metrics={0: {"val": "high"}})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        registry.rebuild([_record("00000001"), broken])
    assert _dump(tmp_path) == before


def test_rebuild_refuses_two_folders_of_one_run(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"))
    copied = replace(_record("00000001"), run=make_run("00000001", path="runs/copy"))
    with pytest.raises(RecordError, match="runs/nih-resnet50-s42-00000001 and runs/copy are both run 00000001"):
        registry.rebuild([_record("00000001"), copied])
    assert registry.count() == 1
