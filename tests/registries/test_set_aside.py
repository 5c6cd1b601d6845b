"""A damaged registry gets another name, so that a rebuild makes a new one; any other keeps its own."""

import os
import sqlite3
from pathlib import Path

import pytest

from genmed.ground.errors import StorageError
from genmed.records.registry import refusals, set_aside, sqlite
from tests.registries.making import make_registry, make_run


def _damage(root: Path) -> None:
    connection = sqlite3.connect(root / "registry.db")
    connection.execute("UPDATE runs SET config = '{}'")
    connection.commit()
    connection.close()


def test_damaged_registry_is_set_aside_with_its_log_and_another_can_be_made(tmp_path: Path) -> None:
    make_registry(tmp_path, make_run(config={"seed": 1}))
    reader = sqlite3.connect(tmp_path / "registry.db")  # the last to close would merge the log
    reader.execute("SELECT * FROM runs").fetchall()
    _damage(tmp_path)
    log = (tmp_path / "registry.db-wal").read_bytes()
    assert log
    aside = set_aside(tmp_path)
    assert aside is not None
    assert aside.parent == tmp_path
    assert aside.name.startswith("registry.db.damaged-2")
    assert aside.name.endswith("Z")
    assert sorted(os.listdir(tmp_path)) == [aside.name, f"{aside.name}-shm", f"{aside.name}-wal"]
    assert Path(f"{aside}-wal").read_bytes() == log
    reader.close()
    assert make_registry(tmp_path).count() == 0
    assert set_aside(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"not a database\n" * 1000])
def test_file_that_cannot_be_opened_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "registry.db").write_bytes(content)
    aside = set_aside(tmp_path)
    assert aside is not None
    assert (os.listdir(tmp_path), aside.read_bytes()) == ([aside.name], content)


def test_registry_without_a_version_is_set_aside(tmp_path: Path) -> None:
    make_registry(tmp_path)
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute("DELETE FROM alembic_version")
    connection.close()
    assert set_aside(tmp_path) is not None


def test_sound_or_missing_registry_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set_aside(tmp_path) is None
    make_registry(tmp_path, make_run())
    before = (tmp_path / "registry.db").read_bytes()
    assert set_aside(tmp_path) is None
    assert (os.listdir(tmp_path), (tmp_path / "registry.db").read_bytes()) == (["registry.db"], before)
    monkeypatch.setenv("GENMED_REGISTRY", "postgresql://host/x")
    assert set_aside(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "has schema 9999"),
        ("DROP TABLE runs; DROP TABLE alembic_version", "is not a registry"),
    ],
)
def test_registry_of_a_newer_genmed_or_another_program_is_refused_and_left(
    tmp_path: Path, change: str, message: str
) -> None:
    make_registry(tmp_path)
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.executescript(change)
    connection.close()
    with pytest.raises(StorageError, match=message):
        set_aside(tmp_path)
    assert os.listdir(tmp_path) == ["registry.db"]


def test_locked_registry_is_refused_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "file_system_type", lambda path: "nfs")
    make_registry(tmp_path)
    _damage(tmp_path)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    monkeypatch.setattr(refusals, "PATIENCE", 0.1)
    holder = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match=r"registry\.db is locked by another process"):
        set_aside(tmp_path)
    holder.close()
    assert os.listdir(tmp_path) == ["registry.db"]
