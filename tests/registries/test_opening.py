"""Reading makes nothing and changes nothing; the file suits its disk and survives its writers."""

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from genmed.records.registry import Registry, open_registry, registry_url, sqlite
from tests.registries.making import make_registry, make_run, refused, run_process


def test_reading_where_there_is_no_registry_makes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert open_registry(root, create=False) is None
    assert not root.exists()


def test_empty_file_is_a_registry_that_was_cut_and_is_left_empty(tmp_path: Path) -> None:
    (tmp_path / "registry.db").touch()
    for create in (False, True):
        assert refused(tmp_path, create=create).message == f"{tmp_path}/registry.db is damaged: it is empty"
    assert (tmp_path / "registry.db").stat().st_size == 0


@pytest.mark.parametrize("kind", ["ext4", "nfs"])
def test_file_has_its_name_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(sqlite, "file_system_type", lambda path: kind)
    make_whole = sqlite._make_whole

    def watched(path: Path) -> None:
        assert not (tmp_path / "registry.db").exists()
        make_whole(path)
        assert path.stat().st_size > 0

    monkeypatch.setattr(sqlite, "_make_whole", watched)
    sqlite.create_database(tmp_path / "registry.db")
    assert os.listdir(tmp_path) == ["registry.db"]


def test_file_that_another_process_made_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_whole = sqlite._make_whole
    (tmp_path / "other").mkdir()
    make_registry(tmp_path / "other", make_run())

    def overtaken(path: Path) -> None:
        make_whole(path)
        (tmp_path / "other" / "registry.db").rename(tmp_path / "registry.db")

    monkeypatch.setattr(sqlite, "_make_whole", overtaken)
    sqlite.create_database(tmp_path / "registry.db")
    registry = open_registry(tmp_path, create=False)
    assert registry is not None
    assert registry.count() == 1


def test_file_is_made_on_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert make_registry(tmp_path, make_run()).count() == 1
    assert os.listdir(tmp_path) == ["registry.db"]


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
    assert run_process(_write_and_die, tmp_path) == -signal.SIGKILL
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
    assert run_process(_open_and_die, tmp_path) == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ["registry.db", "registry.db-journal"]
    assert [run.note for run in registry.runs()] == ["committed"]
    assert os.listdir(tmp_path) == ["registry.db"]


def test_registry_holds_no_file_open_between_calls(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.runs()
    # those of earlier tests in this process may still wait for the garbage collector
    assert [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))] == []


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
