"""What a server refuses only for the moment is waited for, and told when it lasts too long."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text, update

from genmed.ground.errors import StorageError
from genmed.records.registry import Registry, open_place, parse_place, refusals
from genmed.records.registry import postgresql as registry_on_server
from genmed.records.registry.tables import RUNS
from tests.registries.making import make_registry, make_run, watch_queries
from tests.registries.postgresql import USER, Server
from tests.resuming.runs import wait_for

psycopg = pytest.importorskip("psycopg")


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _connect(postgresql: Server, url: str) -> Any:
    return psycopg.connect(f"host=127.0.0.1 port={postgresql.port} user={USER} dbname={_name(url)}")


def test_server_that_is_started_meanwhile_is_waited_for(postgresql: Server, url: str, tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    postgresql.stop()
    begun = threading.Event()

    def start() -> None:
        begun.set()
        postgresql.start()

    starter = threading.Timer(0.5, start)
    starter.start()
    registry.update_run("3fa9c2d1", note="in the end")
    assert begun.is_set()
    starter.join()
    assert registry.run("3fa9c2d1").note == "in the end"


def test_server_that_stays_away_is_told(
    postgresql: Server, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make_registry(tmp_path, make_run())
    monkeypatch.setattr(refusals, "SILENCE", 0.1)
    postgresql.stop()
    try:
        with pytest.raises(StorageError, match=r"does not answer: connection .*: Connection refused") as told:
            registry.with_patience(0.5).beat("3fa9c2d1")
        assert "start the server" in told.value.hint
        assert [record.getMessage().rpartition(";")[2] for record in caplog.records] == [" waiting up to 0 s"]
        with pytest.raises(StorageError, match="does not answer"):
            registry.with_patience(0).beat("3fa9c2d1")
    finally:
        postgresql.start()


def test_server_that_takes_no_connections_yet_is_waited_for(postgresql: Server, url: str, tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    postgresql.turn_away()
    try:
        with pytest.raises(StorageError, match=r"does not answer: connection .* the database system is"):
            registry.with_patience(0.5).beat("3fa9c2d1")
    finally:
        starter = threading.Timer(0.3, postgresql.take_in)
        starter.start()
    registry.update_run("3fa9c2d1", note="in the end")
    starter.join()
    assert registry.run("3fa9c2d1").note == "in the end"


def test_connection_that_breaks_within_a_transaction_is_made_anew(postgresql: Server, url: str, tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    attempts = []

    def work(connection: Connection) -> None:
        connection.execute(update(RUNS).values(note=f"attempt {len(attempts)}"))
        attempts.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        if len(attempts) == 1:
            postgresql.execute(f"SELECT pg_terminate_backend({attempts[0]})")
        connection.execute(text("SELECT 1"))

    registry.write(work)
    assert len(attempts) == 2
    assert postgresql.execute("SELECT note FROM runs", database=_name(url)) == [("attempt 1",)]


def test_two_writers_that_wait_for_each_other_both_come_to_an_end(postgresql: Server, url: str, tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"), make_run("00000002"))
    postgresql.execute(f"ALTER DATABASE {_name(url)} SET deadlock_timeout = '50ms'")
    both_hold_one, attempts = threading.Barrier(2), []

    def write(first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            attempts.append(first)
            connection.execute(update(RUNS).where(RUNS.c.id == first).values(steps_done=RUNS.c.steps_done + 1))
            if len(attempts) <= 2:
                both_hold_one.wait()
            connection.execute(update(RUNS).where(RUNS.c.id == second).values(steps_done=RUNS.c.steps_done + 1))

        registry.write(work)

    pairs = [("00000001", "00000002"), ("00000002", "00000001")]
    threads = [threading.Thread(target=write, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(attempts) == 3
    assert postgresql.execute("SELECT steps_done FROM runs", database=_name(url)) == [(2,), (2,)]


def test_row_that_stays_locked_is_told(
    postgresql: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make_registry(tmp_path, make_run(), make_run("00000001"))
    monkeypatch.setattr(registry_on_server, "BEGIN_WRITE", "SET LOCAL lock_timeout = '50ms'")
    with _connect(postgresql, url) as holder:
        holder.execute("SELECT * FROM runs WHERE id = '3fa9c2d1' FOR UPDATE")
        with pytest.raises(StorageError, match="is locked by another process"):
            registry.with_patience(0.2).beat("3fa9c2d1")
        registry.beat("00000001")  # another run's row is free
        timer = threading.Timer(0.3, holder.rollback)
        timer.start()
        registry.beat("3fa9c2d1")
        timer.join()


def test_place_among_too_many_connections_is_waited_for(postgresql: Server, tmp_path: Path) -> None:
    name = _name(postgresql.make_registry())
    grant = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO single"
    postgresql.execute("CREATE ROLE single LOGIN CONNECTION LIMIT 1", grant, database=name)
    registry = open_place(parse_place(postgresql.url(name, "single"), ""), create=False)
    assert registry is not None
    left = "SELECT 1 FROM pg_stat_activity WHERE usename = 'single'"
    wait_for(lambda: not postgresql.execute(left))  # for a connection that was closed its process takes a moment to end
    with psycopg.connect(f"host=127.0.0.1 port={postgresql.port} user=single dbname={name}") as holder:
        with pytest.raises(StorageError, match=r"takes no more connections: .*too many connections") as told:
            registry.with_patience(0.1).count()
        assert "max_connections" in told.value.hint
        timer = threading.Timer(0.3, holder.close)
        timer.start()
        assert registry.count() == 0
        timer.join()


def test_constraint_that_a_write_breaks_is_no_reason_to_wait(url: str, tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    with pytest.raises(StorageError, match="out of range"), watch_queries() as sent:
        registry.write(lambda connection: connection.execute(text("UPDATE runs SET seed = seed * 1e30")))
    assert sum(query.startswith("UPDATE") for query in sent) == 1  # not tried again
    assert isinstance(registry, Registry)
