"""What cannot be a registry, or cannot be written, is told in one clear line."""

import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from genmed.ground.errors import StorageError
from genmed.records.registry import open_registry, refusals, sqlite
from tests.registries.making import make_registry, make_run, refused, run_process

NOBODY = 65534


@pytest.mark.parametrize("create", [False, True])
def test_file_of_another_kind_is_refused(tmp_path: Path, create: bool) -> None:
    (tmp_path / "registry.db").write_bytes(b"not a database\n" * 1000)
    error = refused(tmp_path, create=create)
    assert error.message == f"{tmp_path}/registry.db is damaged or no registry: file is not a database"
    assert "anew from the folders in runs/" in error.hint


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
    assert run_process(_write_on_a_full_disk, tmp_path) == 0
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
    assert run_process(_read_as_another, open_folder) == 0
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


def test_letters_that_no_terminal_shows_are_written_out() -> None:
    error = sqlite3.DatabaseError('malformed database schema (runs) - unrecognized token: "\x7f"\nand more')
    told = refusals.refusal(Path("registry.db"), error).message
    assert (
        told
        == r'the registry registry.db cannot be used: malformed database schema (runs) - unrecognized token: "\x7f"'
    )
