"""Damage to the registry's file: found and told with the file's name, or without any effect on what is read."""

import random
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from genmed.ground.errors import StorageError
from genmed.records.registry import FINAL, Registry, RunRecord, open_registry
from genmed.records.registry.refusals import REBUILD_HINT, DamageError
from genmed.records.registry.seals import seal
from tests.registries.making import START, make_checkpoint, make_evaluation, make_registry, make_run, make_verification

TABLES = ("runs", "checkpoints", "metrics", "verifications", "evaluations", "alembic_version")
SIDE_FILES = ("-wal", "-shm")
RUNS = 3


def _record(number: int) -> RunRecord:
    """A run whose values are long and occur nowhere else, so that the file can be searched for them."""
    run_id = f"{0x3FA00000 + number:08x}"

    def text(column: str) -> str:
        return f"{column} größer of {run_id}"

    texts = ("device", "config_fingerprint", "host", "boot_id", "parent", "note", "fingerprint", "trace_digest",
             "error", "data_fingerprint", "code_digest", "git_commit", "dataset", "model")  # fmt: skip
    run = make_run(
        run_id, created=START + timedelta(seconds=number), started=START, ended=START, heartbeat=START,
        status="failed" if number % 3 else "completed", seed=0x3132333435363700 + number,
        steps_done=0x4142434445464700 + number, epochs_total=0x51525300 + number, epochs_done=0x61626300 + number,
        pid=0x71727300 + number, process_started=1769628600.1 + number, hidden=number % 5 == 0, git_dirty=True,
        tags=[text("tag")], accepted=[text("accepted")], hardware={"gpus": [text("gpu")]},
        versions={"torch": text("torch")}, config={f"option.{key}": text(f"{key}") for key in range(number * 25)},
        **{column: text(column) for column in texts},
    )  # fmt: skip
    return RunRecord(
        run,
        metrics={epoch: {f"metric_{i}": (number + i) / 7 for i in range(8)} for epoch in (FINAL, 0)},
        checkpoints=[make_checkpoint(run_id, 0x2122232425262700 + step) for step in range(2)],
        verifications=[make_verification(run_id, f"verdict {i} of {run_id}") for i in range(2)],
        evaluations=[
            make_evaluation(
                run_id,
                text("name"),
                dataset=text("data"),
                split=text("side"),
                images=0x31323300 + number,
                report={"metrics": {"test_auroc_macro": {"value": 0.5}}, "unit": text("unit")},
            )
        ],
    )


def _read_all(registry: Registry) -> list[Any]:
    """What every method gives."""
    names = registry.names()
    runs = [registry.runs(include_hidden=True), registry.runs(), registry.runs(limit=3)]
    runs += [registry.runs(status="completed"), registry.runs(dataset="x", tag="y")]
    ids = [name.id for name in names]
    methods: list[Callable[[str], Any]] = [registry.run, registry.metrics, registry.checkpoints, registry.verifications]
    methods.append(registry.evaluations)
    each = [method(run_id) for run_id in ids for method in methods]
    return [names, runs, registry.count(), registry.final_metrics(ids), registry.find("latest"), each]


def _read_stored(path: Path) -> Any:
    """What SQLite finds in the tables themselves, past indexes and seals; None if it finds nothing."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = bytes
            return [connection.execute(f"SELECT * FROM {name} NOT INDEXED").fetchall() for name in TABLES]
    except (sqlite3.Error, UnicodeDecodeError):
        return None


class _Bench:
    """A sound registry's files, to be put back after each damage."""

    def __init__(self, root: Path, live: bool) -> None:
        self.path = root / "registry.db"
        registry = make_registry(root)
        registry.rebuild([_record(number) for number in range(RUNS)])
        with closing(sqlite3.connect(self.path)) as reader:
            if live:  # the last to close would merge the log
                reader.execute("SELECT * FROM runs").fetchall()
                registry.replace_run(_record(RUNS))
                registry.beat("3fa00001")
            self.log = Path(f"{self.path}-wal").read_bytes() if live else b""
            self.sound = self.path.read_bytes()
        assert bool(self.log) is live
        self.put(self.sound)
        self.read, self.stored = self._read(), _read_stored(self.path)
        assert len(self.read[0]) == RUNS + live

    def put(self, content: bytes) -> None:
        for side in SIDE_FILES:
            Path(f"{self.path}{side}").unlink(missing_ok=True)
        self.path.write_bytes(content)
        if self.log:
            Path(f"{self.path}-wal").write_bytes(self.log)

    def _read(self) -> list[Any]:
        registry = open_registry(self.path.parent, create=False)
        assert registry is not None
        return _read_all(registry)

    def finds(self, content: bytes) -> bool:
        """Whether the damage is told; if not, nothing that is read is other than it was."""
        self.put(content)
        try:
            read = self._read()
        except StorageError as error:
            told = error
        else:
            assert read == self.read
            return False
        assert isinstance(told, DamageError), told.message
        assert (told.kind, told.hint) == ("StorageError", REBUILD_HINT)
        assert told.message.startswith(f"{self.path} is damaged")
        assert told.message.isprintable()
        return True

    def changes_a_row(self, content: bytes) -> bool:
        self.put(content)
        return bool(_read_stored(self.path) != self.stored)


@pytest.fixture(params=["merged", "live"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> _Bench:
    """With the log merged into the file, and with a log beside it."""
    return _Bench(tmp_path, request.param == "live")


def _flip(content: bytes, place: int, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    return bytes(damaged)


def test_flipped_bit_anywhere_is_found_or_without_effect(bench: _Bench) -> None:
    places = random.Random(20260128)
    found = changing = 0
    for _ in range(100):
        damaged = _flip(bench.sound, places.randrange(len(bench.sound)), places.randrange(8))
        told = bench.finds(damaged)
        found += told
        if bench.changes_a_row(damaged):
            changing += 1
            assert told
    assert 100 > found >= changing > (1 if bench.log else 10)  # the others lie in unused space or under the log


def test_file_cut_anywhere_is_found(bench: _Bench) -> None:
    places = random.Random(20260129)
    for place in [0, 1, 15, 16, 99, 100, 512, 4096, *(places.randrange(len(bench.sound)) for _ in range(92))]:
        told = bench.finds(bench.sound[:place])
        assert told or bench.log, place  # a log may hold every page that was cut off


def test_flipped_bit_in_any_column_is_found(tmp_path: Path) -> None:
    bench = _Bench(tmp_path, live=False)
    flipped = set()
    for table, column, value in _list_values(bench.path):
        for place in _find_all(bench.sound, value):
            damaged = _flip(bench.sound, place + len(value) // 2, 0)
            if bench.changes_a_row(damaged):
                flipped.add((table, column))
                assert bench.finds(damaged), (table, column)
                break
    with closing(sqlite3.connect(bench.path)) as connection:
        columns = {
            (name, row[1])
            for name in TABLES
            for row in connection.execute(f"SELECT '', name FROM pragma_table_info('{name}')")
        }
    assert columns - flipped == {
        *(("runs", name) for name in ("hidden", "git_dirty")),  # no byte of their own: they stand in the row's header
        *(("checkpoints", "epoch"), ("metrics", "epoch")),
        *(("verifications", name) for name in ("number", "steps_compared", "steps_total")),
    }


def _list_values(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Of one run in the middle, as bytes in the file; those too short to be searched for are left out."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for table in TABLES:
            owner = {"runs": "id", "alembic_version": "'3fa00002'"}.get(table, "run_id")
            for row in connection.execute(f"SELECT * FROM {table} WHERE {owner} = '3fa00002'").fetchall():
                for column in row.keys():  # noqa: SIM118
                    value = row[column]
                    if isinstance(value, str):
                        yield table, column, value.encode()
                    elif isinstance(value, float):
                        yield table, column, struct.pack(">d", value)
                    elif isinstance(value, int) and value > 2**24:
                        yield table, column, struct.pack(">q" if value > 2**32 else ">i", value)


def _find_all(content: bytes, value: bytes) -> Iterator[int]:
    place = content.find(value)
    while place >= 0:
        yield place
        place = content.find(value, place + 1)


def _execute(root: Path, *statements: str) -> None:
    with closing(sqlite3.connect(root / "registry.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def _refuse(root: Path) -> str:
    with pytest.raises(DamageError) as caught:
        open_registry(root, create=False)
    assert caught.value.hint == REBUILD_HINT
    return caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE runs SET note = 'other'", "the row of run 3fa9c2d1 in runs does not fit its seal"),
        ("UPDATE runs SET hidden = 1", "the row of run 3fa9c2d1 in runs does not fit its seal"),
        ("UPDATE runs SET seal = NULL", "the row of run 3fa9c2d1 in runs does not fit its seal"),
        ("UPDATE runs SET started = 'once upon a time'", "a row in runs cannot be read ("),
        ("UPDATE runs SET tags = '[\"a\", '", "a row in runs cannot be read (Expecting value"),
        ("UPDATE runs SET tags = '[] []'", "a row in runs cannot be read (there is more than one JSON value)"),
        ("UPDATE runs SET note = CAST(x'ff' AS TEXT)", "Could not decode to UTF-8 column 'note' with text '\ufffd'"),
        ("UPDATE runs SET pid = x'ff'", "the row of run 3fa9c2d1 in runs does not fit its seal"),
        ("UPDATE runs SET process_started = 9e999", "the row of run 3fa9c2d1 in runs does not fit its seal"),
    ],
)  # fmt: skip
def test_summary_that_was_changed_is_refused(tmp_path: Path, change: str, message: str) -> None:
    registry = make_registry(tmp_path, make_run())
    _execute(tmp_path, change)
    for read in (registry.runs, lambda: registry.run("3fa9c2d1"), lambda: registry.beat("3fa9c2d1")):
        with pytest.raises(DamageError) as caught:
            read()
        assert caught.value.message.startswith(f"{tmp_path}/registry.db is damaged: {message}")


def test_metrics_that_were_changed_are_refused(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    for change in ("DELETE FROM metrics WHERE name = 'a'", "UPDATE metrics SET value = NULL WHERE name = 'b'"):
        registry.record_final_metrics("3fa9c2d1", {"a": 1.0, "b": 2.0})
        _execute(tmp_path, change)
        with pytest.raises(DamageError, match="the rows of run 3fa9c2d1 in metrics of epoch -1 do not fit their seal"):
            registry.final_metrics(["3fa9c2d1"])


def test_row_that_was_lost_is_found_when_the_registry_is_opened(tmp_path: Path) -> None:
    make_registry(tmp_path, make_run(), make_run("00000001"))
    hide = "DELETE FROM sqlite_master WHERE name = 'ix_runs_created_id'"
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        index = connection.execute("SELECT * FROM sqlite_master WHERE name = 'ix_runs_created_id'").fetchone()
    _execute(tmp_path, "PRAGMA writable_schema = 1", hide)
    _execute(tmp_path, "DELETE FROM runs WHERE id = '00000001'")
    with closing(sqlite3.connect(tmp_path / "registry.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", index)
    assert _refuse(tmp_path) == f"{tmp_path}/registry.db is damaged: wrong # of entries in index ix_runs_created_id"


def test_definition_of_a_table_that_was_changed_is_refused(tmp_path: Path) -> None:
    make_registry(tmp_path, make_run("00000001"))
    change = "UPDATE sqlite_master SET sql = replace(sql, 'host VARCHAR', 'host VARCHAX')"
    _execute(tmp_path, "PRAGMA writable_schema = 1", change)
    assert (
        _refuse(tmp_path) == f"{tmp_path}/registry.db is damaged: the definitions of its tables do not fit their seal"
    )


def test_update_of_one_part_leaves_the_damage_of_another(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(config={"seed": 1}))
    _execute(tmp_path, "UPDATE runs SET config = '{\"seed\":2}'")
    registry.update_run("3fa9c2d1", note="new")
    assert registry.runs()[0].note == "new"
    with pytest.raises(DamageError, match="the row of run 3fa9c2d1 in runs does not fit its seal"):
        registry.run("3fa9c2d1")


def test_rebuild_mends_damaged_rows(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(note="right"))
    _execute(tmp_path, "UPDATE runs SET note = 'wrong', started = 'never'")
    assert registry.rebuild([RunRecord(make_run(note="right"))]) == 1
    assert registry.run("3fa9c2d1") == make_run(note="right")


def test_seal_is_what_it_was() -> None:
    """Another encoding would call every registry damaged: it needs a migration."""
    values = ["größer", None, True, 42, 0.1, START, [{"b": 1, "a": "\n"}]]
    assert seal(values) == "blake2b-64:aa70bac5c6c4a2fa"
    assert seal([START.astimezone()]) == seal([START])
