"""genmed registry copy: all of a registry, from a file or a server to a file or a server, and back."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from genmed.ground.errors import RequestError
from genmed.records.registry import FINAL, Copied, Registry, RunRecord, copy_registry, open_place, parse_place
from genmed.records.registry import copying as module
from genmed.records.registry.seals import seal_row
from genmed.records.registry.tables import RUNS
from tests.harness import Genmed, Result
from tests.registries.making import (
    START,
    dump,
    make_checkpoint,
    make_evaluation,
    make_registry,
    make_run,
    make_verification,
)
from tests.registries.postgresql import Server

Place = Callable[[str], str]
COUNTS = {"runs": 7, "metrics": 56, "checkpoints": 14, "verifications": 13, "evaluations": 7}


def _make_record(number: int) -> RunRecord:
    run_id = f"{number:08x}"
    run = make_run(
        run_id, created=START + timedelta(microseconds=number), hidden=number % 3 == 0, note="größer\n" * number,
        tags=["b", "a"], config={"z": 5e-324, "a": [None, -0.0, 2**70]}, process_started=1769628600.123456 + number,
        steps_done=2**40, epochs_total=2**33, git_dirty=None, accepted=[{"what": "torch"}], status="completed",
    )  # fmt: skip
    return RunRecord(
        run,
        metrics={epoch: {f"m{i}": (i + number) / 7 for i in range(3)} | {"none": None} for epoch in (FINAL, 2**33)},
        checkpoints=[make_checkpoint(run_id, step) for step in (1, 2**40)],
        verifications=[make_verification(run_id, f"verdict {i}") for i in range(2)],
        evaluations=[make_evaluation(run_id)],
    )


def _fill(registry: Registry) -> None:
    """7 runs, two of them hidden; the numbers of verifications have gaps."""
    for number in range(1, 9):
        registry.replace_run(_make_record(number))
    registry.remove_run("00000004")
    registry.record_verification(make_verification("00000001", "later"))
    registry.replace_run(RunRecord(make_run("00000005"), {0: {"a": 0.5}}))
    registry.replace_run(RunRecord(make_run("00000005"), *_rows_of(_make_record(5))))
    registry.rebuild([_make_record(5), *map(_make_record, (1, 2, 3, 6, 7, 8))])
    registry.record_verification(make_verification("00000002", "later"))
    registry.remove_run("00000002")
    registry.replace_run(RunRecord(make_run("00000002"), *_rows_of(_make_record(2), verifications=1)))


def _rows_of(record: RunRecord, verifications: int = 2) -> tuple[Any, ...]:
    return record.metrics, record.checkpoints, record.verifications[:verifications], record.evaluations


@pytest.fixture
def place(postgresql: Server, tmp_path: Path) -> Place:
    """A new place of a kind."""
    return lambda kind: postgresql.make_blank() if kind == "postgresql" else str(tmp_path / f"{kind}.db")


def _open(place: str, *, create: bool = True) -> Registry:
    registry = open_place(parse_place(place, ""), create=create)
    assert registry is not None
    return registry


@pytest.mark.parametrize("kinds", [("one", "postgresql", "two"), ("postgresql", "one", "postgresql"), ("one", "two")])
def test_copies_of_copies_are_equal_to_the_last_column(place: Place, kinds: tuple[str, ...]) -> None:
    first = registry = _open(place(kinds[0]))
    _fill(first)
    expected = dump(first)
    assert [len(expected[name]) for name in COUNTS] == list(COUNTS.values())
    numbers = [row["number"] for row in expected["verifications"]]
    assert numbers != list(range(1, len(numbers) + 1))
    for kind in kinds[1:]:
        target = _open(place(kind))
        assert copy_registry(registry, target) == Copied(**COUNTS, there=0)
        assert dump(target) == expected
        target.check()
        registry = target
    registry.record_verification(make_verification("00000001", "the next number"))
    assert [row["number"] for row in dump(registry)["verifications"]] == [*numbers, max(numbers) + 1]


@pytest.mark.parametrize("kind", ["postgresql", "file"])
def test_values_that_no_other_database_holds_are_sealed_as_they_are_copied(place: Place, kind: str) -> None:
    """As an earlier genmed wrote them into a file: a text with NUL."""
    source, target = _open(place("source")), _open(place(kind))
    source.replace_run(_make_record(1))

    def write(connection: Connection) -> None:
        [row] = connection.execute(select(RUNS)).mappings()
        connection.execute(update(RUNS).values(seal_row(RUNS, {**row, "note": "a\0b"})))

    source.write(write)
    source.check()
    copy_registry(source, target)
    target.check()
    assert target.run("00000001").note == "a\ufffdb"


def test_target_that_holds_runs_is_refused_and_left(tmp_path: Path, place: Place) -> None:
    source, target = make_registry(tmp_path, make_run()), _open(place("postgresql"))
    target.add_run(make_run("00000001"))
    with pytest.raises(RequestError, match=r"/blank[0-9]+ holds 1 run already") as caught:
        copy_registry(source, target)
    assert caught.value.hint == "--merge adds to them what it lacks, --replace drops them first"
    assert [run.id for run in target.runs()] == ["00000001"]


@pytest.mark.parametrize("kind", ["two", "postgresql"])
def test_merge_adds_what_is_lacking_and_leaves_what_is_equal(place: Place, kind: str) -> None:
    source, target = _open(place("one")), _open(place(kind))
    _fill(source)
    for number in (9, 1, 3):
        target.replace_run(_make_record(number))
    before = dump(target)
    assert copy_registry(source, target, "merge") == Copied(5, 40, 10, 9, 5, there=2)
    assert target.count() == 8
    target.check()
    after = dump(target)
    for name, rows in before.items():
        assert all(row in after[name] for row in rows)
    for run in source.names():
        assert (target.run(run.id), target.metrics(run.id)) == (source.run(run.id), source.metrics(run.id))
        assert target.verifications(run.id) == source.verifications(run.id)
    assert copy_registry(source, target, "merge") == Copied(0, 0, 0, 0, 0, there=7)
    assert dump(target) == after


@pytest.mark.parametrize(
    "change",
    [
        lambda registry: registry.update_run("00000001", note="other"),
        lambda registry: registry.record_final_metrics("00000001", {"m0": 9.0}),
        lambda registry: registry.record_checkpoints("00000001", []),
        lambda registry: registry.record_verification(make_verification("00000001", "other")),
        lambda registry: registry.record_evaluation(make_evaluation("00000001", images=9)),
    ],
)
def test_merge_of_a_run_that_is_another_there_is_refused_and_nothing_is_added(
    place: Place, change: Callable[[Registry], object]
) -> None:
    source, target = _open(place("one")), _open(place("postgresql"))
    for registry in (source, target):
        registry.replace_run(_make_record(1))
    source.replace_run(_make_record(2))
    change(target)
    before = dump(target)
    with pytest.raises(RequestError, match=r"s42-00000001 is in .* too and is not the same there") as caught:
        copy_registry(source, target, "merge")
    assert caught.value.hint == "remove it from one of the two"
    assert dump(target) == before


def test_merge_of_two_runs_of_one_name_is_refused(place: Place) -> None:
    source, target = _open(place("one")), _open(place("two"))
    source.add_run(make_run("00000001", name="same"))
    target.add_run(make_run("00000002", name="same"))
    with pytest.raises(RequestError, match=r"same is in .* too and is not the same there"):
        copy_registry(source, target, "merge")


@pytest.mark.parametrize("kind", ["two", "postgresql"])
def test_replace_drops_what_was_there(place: Place, kind: str) -> None:
    source, target = _open(place("one")), _open(place(kind))
    _fill(source)
    for number in (1, 9):
        target.replace_run(RunRecord(make_run(f"{number:08x}", note="old"), *_rows_of(_make_record(number))))
    assert copy_registry(source, target, "replace") == Copied(**COUNTS, there=0)
    assert dump(target) == dump(source)


def test_more_rows_than_a_statement_takes_are_copied(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 3)
    source, target = _open(place("one")), _open(place("postgresql"))
    _fill(source)
    copy_registry(source, target)
    assert dump(target) == dump(source)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("metrics", "value = 9 WHERE run_id = '00000008'"),
        ("runs", "note = 'other' WHERE id = '00000008'"),
        ("runs", "config = '{}' WHERE id = '00000008'"),
        ("checkpoints", "sha256 = 'x' WHERE run_id = '00000008'"),
        ("verifications", "verdict = 'identical' WHERE run_id = '00000008'"),
        ("evaluations", "images = 9 WHERE run_id = '00000008'"),
    ],
)
def test_target_is_left_as_it_was_where_the_source_is_damaged(
    place: Place, tmp_path: Path, table: str, change: str
) -> None:
    source, target = _open(place("one")), _open(place("two"))
    _fill(source)
    target.replace_run(_make_record(9))
    before = dump(target)
    with closing(sqlite3.connect(tmp_path / "one.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE {table} SET {change}")
    with pytest.raises(RequestError, match=rf"one\.db is damaged: the rows? of run 00000008 in {table}"):
        copy_registry(source, target, "replace")
    assert dump(target) == before


# ---- the command


def _refuse(result: Result) -> str:
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_command_copies_both_ways_and_says_what(genmed: Genmed, place: Place, tmp_path: Path) -> None:
    _fill(make_registry(genmed.root))
    url, file = place("postgresql"), genmed.root / "registry.db"
    shown = url.replace("+psycopg", "")
    there = genmed("registry", "copy", "--to", url)
    assert (there.code, there.err) == (0, "")
    told = {"from": str(file), "to": shown, **COUNTS}
    assert there.out == "".join(f"{name}\t{value}\n" for name, value in told.items())
    back = genmed("registry", "copy", "--from", url, "--to", tmp_path / "back" / "registry.db", "--json")
    assert back.code == 0, back.err
    assert back.json == {"schema": 1, "from": shown, "to": f"{tmp_path}/back/registry.db", **COUNTS, "there": 0}
    assert dump(_open(str(tmp_path / "back"))) == dump(_open(str(file))) == dump(_open(url))
    again = genmed("registry", "copy", "--from", genmed.root, "--merge", GENMED_REGISTRY=url)
    assert again.out.splitlines()[2:] == [*(f"{name}\t0" for name in COUNTS), "there already\t7 runs"]


def test_mistakes_are_one_line_and_leave_everything(genmed: Genmed, place: Place, tmp_path: Path) -> None:
    root, url = genmed.root, place("postgresql")
    make_registry(root, make_run())
    (tmp_path / "link.db").symlink_to(root / "registry.db")
    (tmp_path / "text.db").write_text("no database " * 999)
    mistakes = {
        "": f"--from and --to are both {root}/registry.db (give two places; what is left out is the one in use)",
        f"--to {tmp_path}/link.db": f"--from and --to are both {root}/registry.db",
        f"--from {url} --to {url.replace('+psycopg', '')}": "--from and --to are both postgresql://",
        f"--from {tmp_path}/none.db --to {url}": f"there is no registry at {tmp_path}/none.db (a file, its folder or",
        f"--from {url} --to {tmp_path}/new.db": f"there is no registry at {url.replace('+psycopg', '')}",
        f"--from {tmp_path} --to {url}": f"there is no registry at {tmp_path}/registry.db",
        f"--from {tmp_path}/text.db --to {url}": f"{tmp_path}/text.db is damaged or no registry: file is not a data",
        f"--to {tmp_path}/text.db": f"{tmp_path}/text.db is damaged or no registry: file is not a database",
        "--to mysql://host/x": "cannot use the registry mysql://host/x: it is kept in SQLite or PostgreSQL, not",
        "--to ://": "--to is not a database URL (a database URL is wanted, e.g. sqlite:////data/registry.db or",
        f"--to {url} --merge --replace": "--merge and --replace contradict each other (give one of them)",
    }
    before = sorted(path.name for path in tmp_path.rglob("*.db*"))
    for arguments, message in mistakes.items():
        assert _refuse(genmed("registry", "copy", *arguments.split())).startswith(message)
    assert sorted(path.name for path in tmp_path.rglob("*.db*")) == before
    assert open_place(parse_place(url, ""), create=False) is None  # no table was made


def test_source_that_is_damaged_or_of_a_newer_genmed_is_refused_and_no_target_made(
    genmed: Genmed, tmp_path: Path
) -> None:
    make_registry(genmed.root, make_run())
    changes = {
        "UPDATE runs SET note = 'other'": "registry.db is damaged: the row of run 3fa9c2d1 in runs does not fit",
        "UPDATE alembic_version SET version_num = '9999'": "registry.db has schema 9999; this genmed knows",
    }
    for change, message in changes.items():
        with closing(sqlite3.connect(genmed.root / "registry.db", isolation_level=None)) as connection:
            connection.execute(change)
        assert message in _refuse(genmed("registry", "copy", "--to", tmp_path / "new" / "registry.db"))
        assert not (tmp_path / "new").exists()


def test_refusal_is_json_where_json_is_asked_for(genmed: Genmed) -> None:
    result = genmed("registry", "copy", "--json")
    assert (result.code, result.err, result.json["error"]["kind"]) == (2, "", "RequestError")
