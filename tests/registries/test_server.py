"""A server as the registry uses it: what it refuses is said in one line, and no password with it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import delete

from genmed.ground.errors import StorageError
from genmed.records.registry import FINAL, RunRecord, open_place, open_registry, parse_place
from genmed.records.registry.refusals import MEND_HINT, DamageError
from genmed.records.registry.tables import RUNS
from tests.harness import Genmed, own_environment
from tests.registries.making import make_registry, make_run, make_verification, refused, run_python
from tests.registries.postgresql import GUARDED, USER, Server

SECRET = "s3cr3t"


def _name(url: str) -> str:
    return url.rpartition("/")[2]


# ---- the URL


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgres"])
def test_url_is_understood_with_and_without_its_driver(url: str, scheme: str) -> None:
    registry = open_place(parse_place(f"{scheme}://{url.partition('://')[2]}", ""), create=False)
    assert registry is not None
    assert registry.count() == 0
    assert registry.place == f"postgresql://{url.partition('://')[2]}"


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("postgresql+psycopg2://host/x", "GENMED_REGISTRY names the driver psycopg2", "begin it with postgresql://"),
        ("postgresql+asyncpg://host/x", "GENMED_REGISTRY names the driver asyncpg", "begin it with postgresql://"),
        ("mysql://me:s3cr3t@host/x", "cannot use the registry mysql://me:***@host/x: it is kept in SQLite or", ""),
        ("postgresql://me:s3cr3t@1@host/x", "GENMED_REGISTRY has an @ in its user or password", "write %40 for it"),
        ("postgresql://me:s3cr3t/x", "GENMED_REGISTRY is not a database URL", "postgresql://user@host/database"),
        ("postgresql:me:s3cr3t", "GENMED_REGISTRY is not a database URL", "postgresql://user@host/database"),
    ],
)
def test_url_that_cannot_serve_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, message: str, hint: str
) -> None:
    monkeypatch.setenv("GENMED_REGISTRY", url)
    error = refused(tmp_path, create=True)
    assert error.message.startswith(message)
    assert hint in error.hint
    assert SECRET not in error.say()


@pytest.fixture
def guarded(postgresql: Server) -> Iterator[str]:
    """A database, where a user with the password SECRET may do all."""
    name = _name(postgresql.make_blank())
    postgresql.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{SECRET}'", f"ALTER DATABASE {name} OWNER TO {GUARDED}")
    yield name
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {GUARDED}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("guarded:s3cr3tly@{host}/{name}", "password authentication failed"),
        ("guarded@{host}/{name}", "no password supplied"),
        ("{host}/{name}?user=guarded&password=s3cr3tly", "password authentication failed"),
        ("guarded:s3cr3t@{host}/nowhere", 'database "nowhere" does not exist'),
        ("guarded:s3cr3t@nowhere.invalid/{name}", "failed to resolve host 'nowhere.invalid'"),
        ("guarded:s3cr3t@{host}/{name}?colour=red", 'invalid connection option "colour"'),
        ("guarded:s3cr3t@{host}/{name}?sslmode=require&sslpassword=s3cr3t", "server does not support SSL"),
    ],
)
def test_mistake_in_the_url_is_one_line_without_the_password(
    genmed: Genmed, postgresql: Server, guarded: str, url: str, message: str
) -> None:
    whole = "postgresql://" + url.format(host=f"127.0.0.1:{postgresql.port}", name=guarded)
    result = genmed("list", GENMED_REGISTRY=whole)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert message in line
    assert line.startswith("error: the registry postgresql://")
    assert "the URL has to name a host, a database that `createdb` has made, and a user who may use it" in line
    debugged = genmed("list", "--json", "--debug", GENMED_REGISTRY=whole)
    assert debugged.code == 2
    assert SECRET not in result.err + debugged.out + debugged.err


def test_right_password_is_taken_from_the_url_or_from_libpq(genmed: Genmed, postgresql: Server, guarded: str) -> None:
    address = f"127.0.0.1:{postgresql.port}/{guarded}"
    for user, environ in ((f"guarded:{SECRET}", {}), ("guarded", {"PGPASSWORD": SECRET})):
        result = genmed("list", GENMED_REGISTRY=f"postgresql://{user}@{address}", **environ)
        assert (result.code, result.err) == (0, "no runs here yet; `genmed train --seed 42` makes the first\n")


WITHOUT = """
import sys
sys.modules["psycopg"] = None
from genmed.cli.app import run
sys.exit(run(["list"]))
"""


def test_without_the_driver_the_extra_is_named(url: str) -> None:
    environ = {**own_environment(), "GENMED_REGISTRY": url}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "needs the package psycopg, which is not here" in line
    assert line.endswith("(pip install 'genmed[postgres]')")


# ---- what a database is not


def test_blank_database_is_read_as_none_and_left_blank(postgresql: Server, tmp_path: Path) -> None:
    blank = postgresql.make_blank()
    assert open_place(parse_place(blank, ""), create=False) is None
    assert postgresql.execute("SELECT * FROM information_schema.tables WHERE table_schema = 'public'",
                              database=_name(blank)) == []  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "has schema 9999; this genmed knows schemas up to 0004"),
        ("DROP TABLE runs CASCADE; DROP TABLE alembic_version", "is not a registry: it holds the tables "),
        ("DELETE FROM alembic_version", "is damaged: it has 0 schema versions where it should have one"),
        ("DROP TABLE alembic_version", "is damaged: its table alembic_version is lost"),
        ("DROP TABLE metrics, evaluations", "is damaged: its tables evaluations, metrics are lost"),
    ],
)
def test_database_that_is_no_registry_of_this_genmed_is_refused_and_left(
    postgresql: Server, url: str, tmp_path: Path, statement: str, message: str
) -> None:
    postgresql.execute(statement, database=_name(url))
    for create in (False, True):
        error = refused(tmp_path, create=create)
        assert f"{url.replace('+psycopg', '')} {message}" in error.message
        assert (error.hint == MEND_HINT) is isinstance(error, DamageError)


def test_database_of_another_encoding_is_refused(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgresql.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    monkeypatch.setenv("GENMED_REGISTRY", postgresql.url("latin"))
    error = refused(tmp_path, create=True)
    assert "has the encoding LATIN1" in error.message
    assert "createdb --encoding UTF8 --template template0" in error.hint


def test_what_the_user_may_not_do_is_one_line(
    postgresql: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_registry(tmp_path, make_run())
    grant = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"
    postgresql.execute("CREATE ROLE reader LOGIN", grant, database=_name(url))
    monkeypatch.setenv("GENMED_REGISTRY", url.replace(f"{USER}@", "reader@"))
    registry = open_registry(tmp_path, create=False)
    assert registry is not None
    assert [run.id for run in registry.runs()] == ["3fa9c2d1"]
    with pytest.raises(StorageError, match="may not be used so: permission denied for table runs") as caught:
        registry.beat("3fa9c2d1")
    assert "GRANT" in caught.value.hint
    monkeypatch.setenv("GENMED_REGISTRY", postgresql.make_blank().replace(f"{USER}@", "reader@"))
    assert "may not be used so: permission denied for schema public" in refused(tmp_path, create=True).message


# ---- what is written and read


def test_reader_cannot_write(url: str, tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    with pytest.raises(StorageError, match="cannot execute DELETE in a read-only transaction"):
        registry.read(lambda connection: connection.execute(delete(RUNS)))
    assert registry.count() == 1


def test_no_connection_is_open_between_calls(postgresql: Server, url: str, tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.runs(limit=1)
    assert [one for one in psutil.Process().net_connections() if one.raddr and one.raddr.port == postgresql.port] == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET note = 'other'",
        "UPDATE runs SET hidden = true",
        "UPDATE runs SET seal = NULL",
        "UPDATE runs SET created = created + interval '1 microsecond'",
        "UPDATE runs SET process_started = 'NaN'",
        'UPDATE runs SET config = \'{"b": 1, "a": 2}\'',
    ],
)
def test_row_that_was_changed_is_told_and_mended_by_a_rebuild(
    postgresql: Server, url: str, tmp_path: Path, change: str
) -> None:
    run = make_run(config={"a": 2, "b": 1}, process_started=0.5)
    registry = make_registry(tmp_path, run, make_run("00000001"))
    postgresql.execute(f"{change} WHERE id = '3fa9c2d1'", database=_name(url))
    with pytest.raises(DamageError, match="the row of run 3fa9c2d1 in runs does not fit its seal") as caught:
        registry.check()
    assert caught.value.hint == MEND_HINT
    assert registry.rebuild([RunRecord(run)], keep_sound=True) == 2
    assert (registry.run(run.id), registry.run("00000001")) == (run, make_run("00000001"))


def test_rebuild_beside_others_drops_of_them_what_is_damaged(postgresql: Server, url: str, tmp_path: Path) -> None:
    ids = [f"0000000{number}" for number in range(5)]
    registry = make_registry(tmp_path, *(make_run(run_id) for run_id in ids))
    for run_id in ids:
        registry.record_final_metrics(run_id, {"a": 1.0, "b": 2.0})
        registry.record_verification(make_verification(run_id, "identical"))
    changes = (
        "UPDATE runs SET note = 'x' WHERE id = '00000001'",
        "DELETE FROM metrics WHERE run_id = '00000002' AND name = 'a'",
        "UPDATE verifications SET steps_total = 9 WHERE run_id = '00000003'",
    )
    postgresql.execute(*changes, database=_name(url))
    assert registry.rebuild([RunRecord(make_run("00000009"))], keep_sound=True) == 3
    registry.check()
    assert [run.id for run in registry.names()] == ["00000009", "00000004", "00000000"]
    assert registry.metrics("00000004") == {FINAL: {"a": 1.0, "b": 2.0}}


def test_what_psycopg_logs_of_connections_is_not_printed(url: str, tmp_path: Path) -> None:
    code = """
import logging, sys
from pathlib import Path
from genmed.records.registry import open_registry
open_registry(Path(sys.argv[1]), create=False)
logging.getLogger("psycopg").warning("error ignored terminating a pipeline")
"""
    assert run_python(code, tmp_path) == ""


def test_server_is_not_asked_by_a_process_that_uses_a_file(tmp_path: Path) -> None:
    make_registry(tmp_path, make_run())
    code = """
import sys
from pathlib import Path
from genmed.records.registry import open_registry
open_registry(Path(sys.argv[1]), create=False).runs()
print("psycopg" in sys.modules)
"""
    assert run_python(code, tmp_path) == "False\n"
    assert os.listdir(tmp_path) == ["registry.db"]
