"""Every schema that was ever released becomes the newest one, with all its rows."""

import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import MetaData, Table, insert, select

from genmed.records.registry import FINAL, RunRecord, migrate, open_place, open_registry, parse_place, seals
from genmed.records.registry.place import parse_url
from genmed.records.registry.postgresql import server_engines
from genmed.records.registry.sqlite import sqlite_engine
from genmed.records.registry.tables import Record
from tests.registries.making import START, dump, make_registry, make_run, refused, run_python
from tests.registries.postgresql import Server

OLDEST = Path(__file__).parent / "0001.sql"


def test_head_is_alembics_head_and_files_are_numbered() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrate.MIGRATIONS))
    assert script.get_heads() == [migrate.HEAD]
    numbers = [path.name[:4] for path in sorted((migrate.MIGRATIONS / "versions").glob("*.py"))]
    assert numbers == [f"{number:04}" for number in range(1, int(migrate.HEAD) + 1)]


def test_blank_database_gets_the_tables_of_the_models(tmp_path: Path, blank: str) -> None:
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
    assert registry.evaluations(first.id) == []


def test_rows_of_the_oldest_schema_are_sealed_as_new_ones_are(tmp_path: Path) -> None:
    _load_oldest(tmp_path)
    registry = open_registry(tmp_path, create=False)
    assert registry is not None
    registry.read(seals.check_rows)
    before = _read_seals(tmp_path)
    assert [len(rows) for rows in before] == [2, 1, 6, 2]
    for run_id in ("3fa9c2d1", "00c0ffee"):
        registry.replace_run(
            RunRecord(
                registry.run(run_id),
                registry.metrics(run_id),
                registry.checkpoints(run_id),
                registry.verifications(run_id),
            )
        )
    assert _read_seals(tmp_path) == before


def _read_seals(root: Path) -> list[list[tuple[str, ...]]]:
    queries = (
        "SELECT id, name_seal, seal, rest_seal FROM runs ORDER BY id",
        "SELECT run_id, path, seal FROM checkpoints ORDER BY run_id, path",
        "SELECT run_id, epoch, name, seal FROM metrics ORDER BY run_id, epoch, name",
        "SELECT run_id, verdict, seal FROM verifications ORDER BY run_id, verdict",
    )
    connection = sqlite3.connect(root / "registry.db")
    try:
        return [connection.execute(query).fetchall() for query in queries]
    finally:
        connection.close()


def test_oldest_schema_on_a_server_is_upgraded_to_the_same_rows_and_seals(
    tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load_oldest(tmp_path)
    url = postgresql.make_blank()
    _load_oldest_on_server(tmp_path / "registry.db", url, monkeypatch)
    upgraded = [open_registry(tmp_path, create=False), open_place(parse_place(url, ""), create=False)]
    rows = []
    for registry in upgraded:
        assert registry is not None
        registry.check()
        rows.append(dump(registry))
    assert rows[0] == rows[1]


def _load_oldest_on_server(file: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first genmed would have made it: its tables, and the rows of the file."""
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "HEAD", "0001")
        _, writing = server_engines(parse_url(url, ""))
        migrate.migrate(writing, "")
    tables = MetaData()
    with sqlite_engine(file, "read").connect() as source, writing.begin() as target:
        for name in ("runs", "checkpoints", "metrics", "verifications"):
            table = Table(name, tables, autoload_with=target)
            rows = source.execute(select(table)).all()
            target.execute(insert(table), [dict(row._mapping) for row in rows])


def test_migration_that_fails_on_a_server_changes_nothing(
    tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.make_registry()
    monkeypatch.setenv("GENMED_REGISTRY", url)
    registry = make_registry(tmp_path, make_run())
    before = dump(registry)
    _release_next(tmp_path, monkeypatch, last='op.execute("INSERT INTO nowhere VALUES (1)")')
    assert 'relation "nowhere" does not exist' in refused(tmp_path, create=False).message
    assert registry.read(lambda connection: migrate.read_version(connection, "")) == f"{int(migrate.HEAD) - 1:04}"
    assert dump(registry) == before


def _dump(root: Path) -> list[str]:
    connection = sqlite3.connect(root / "registry.db")
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def _load_oldest(root: Path) -> None:
    root.mkdir(exist_ok=True)
    connection = sqlite3.connect(root / "registry.db")
    connection.executescript(OLDEST.read_text())
    connection.close()


@pytest.mark.parametrize("version", ["9999", "3f2a77b1c0de", "0000a77b1c0d"])
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
