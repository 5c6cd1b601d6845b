"""A file and a server give equal answers, to the last seal, whatever is written into them."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String
from sqlmodel import AutoString

from genmed.records.registry import FINAL, Registry, RunRecord, open_place, parse_place
from genmed.records.registry.tables import Record
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

Text = String | AutoString
WORDS = "_|-|a|A|b|B|ä|Ä|z|Z|ß|ss|é|1|10|9||€|🫁| x".split("|")
TEXTS = [
    *("", " ", "'", '"', "\\", "\\u0000", "%s", "%(a)s", ":a", "a\tb\nc\r\nd", "größer", "胸部X線", "🫁", "e\u0301"),
    *("\x01", "\x7f", "\u2028", "\ufeff", "\uffff", "\U0010ffff", "NULL", "null", "{}", "x" * 300_000),
]
FLOATS = [
    *(0.0, -0.0, 0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 2.225073858507201e-308, 1e-300, 1e308, 1e16, 1e22),
    *(1.7976931348623157e308, -1.7976931348623157e308, 0.30000000000000004, 123456789012345680.0),
]
NO_NUMBERS = [float("nan"), float("inf"), float("-inf")]
WHOLE = [0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)]
MOMENTS = [
    datetime(1, 1, 2, tzinfo=UTC),
    datetime(1900, 1, 1, 12, 34, 56, 1, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    START,
    START + timedelta(microseconds=1),
    START + timedelta(microseconds=999_999),
    datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC),
]


@pytest.fixture
def both(postgresql: Server, tmp_path: Path) -> tuple[Registry, Registry]:
    """A file and a server, both empty."""
    server = open_place(parse_place(postgresql.make_registry(), ""), create=False)
    assert server is not None
    return make_registry(tmp_path), server


def write_alike(both: tuple[Registry, Registry], write: Callable[[Registry], object]) -> dict[str, list[Any]]:
    """What both hold, row by row, once it is found equal and sound."""
    for registry in both:
        write(registry)
        for run in registry.runs(include_hidden=True):
            if run.heartbeat and abs(datetime.now(UTC) - run.heartbeat) < timedelta(hours=1):  # of this very write
                registry.update_run(run.id, heartbeat=START)
        registry.check()
    rows = [dump(registry) for registry in both]
    assert rows[0] == rows[1]
    answers = [_ask_all(registry) for registry in both]
    assert repr(answers[0]) == repr(answers[1])  # so that 0.0 is not -0.0, nor the order of keys another
    return rows[0]


def _ask_all(registry: Registry) -> list[Any]:
    names = registry.names()
    ids = [run.id for run in names]
    of_run = (registry.run, registry.metrics, registry.checkpoints, registry.verifications, registry.evaluations)
    found: list[Any] = [names, registry.runs(), registry.runs(include_hidden=True, limit=3), registry.count()]
    found += [registry.final_metrics(ids), registry.evaluations_of(ids, "a")]
    found += [sorted(map(repr, registry.whole_runs())), sorted(map(repr, registry.running()))]
    return [*found, [ask(run_id) for run_id in ids for ask in of_run]]


def test_text_is_the_same(both: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")  # as a shell may have it set for other programs

    def write(registry: Registry) -> None:
        for number, text in enumerate(TEXTS):
            run_id, name = f"{number:08x}", f"{text[:99]}{number}"
            told = {"note": text, "tags": [text, text], "config": {text: [text]}, "host": text}
            registry.add_run(make_run(run_id, name=name, **told))
            registry.record_final_metrics(run_id, {f"m{text[:99]}": 0.5}, error=text)
            registry.record_verification(make_verification(run_id, text))
            registry.record_evaluation(make_evaluation(run_id, text[:99], report={"metrics": {text: None}}))

    rows = write_alike(both, write)["runs"]
    assert [row["note"] for row in rows] == TEXTS
    assert [row["tags"] for row in rows] == [[text, text] for text in TEXTS]


def test_what_is_no_text_is_written_as_the_sign_for_it(both: tuple[Registry, Registry]) -> None:
    def write(registry: Registry) -> None:
        registry.add_run(make_run(note="a\0b", host="\0", tags=["\0"], config={"\0": "\0"}))
        registry.update_run("3fa9c2d1", error="a\0\ud800b", dataset="\0")
        registry.record_epoch("3fa9c2d1", 0, {"m\0": 1.0})
        registry.record_verification(make_verification("3fa9c2d1", "\0"))

    rows = write_alike(both, write)
    run = rows["runs"][0]
    assert (run["note"], run["host"]) == ("a\ufffdb", "\ufffd")
    assert (run["error"], run["dataset"]) == ("a\ufffd\ufffdb", "\ufffd")
    assert (run["tags"], run["config"]) == (["\0"], {"\0": "\0"})  # JSON has a way to write it
    assert (rows["metrics"][0]["name"], rows["verifications"][0]["verdict"]) == ("m\ufffd", "\ufffd")


def test_numbers_are_the_same(both: tuple[Registry, Registry]) -> None:
    def write(registry: Registry) -> None:
        for number, whole in enumerate(WHOLE):
            run_id = f"{number:08x}"
            counts = dict.fromkeys(("pid", "epochs_total", "epochs_done", "steps_done"), whole)
            registry.add_run(make_run(run_id, seed=whole, **counts, config={"whole": whole, "far": 10**30}))
            registry.record_checkpoints(run_id, [make_checkpoint(run_id, whole).model_copy(update={"epoch": whole})])
            metrics = {f"m{i}": value for i, value in enumerate([*FLOATS, *NO_NUMBERS])}
            registry.record_epoch(run_id, abs(whole) % 2**63, metrics)
            registry.record_evaluation(make_evaluation(run_id, images=whole, report={"floats": FLOATS}))
        registry.update_run("00000000", process_started=-0.0)
        registry.update_run("00000001", process_started=5e-324)

    rows = write_alike(both, write)
    assert [row["epochs_done"] for row in rows["runs"]] == WHOLE
    assert [row["epoch"] for row in rows["checkpoints"]] == WHOLE
    values = {row["name"]: row["value"] for row in rows["metrics"]}
    assert [values[f"m{i}"] for i in range(len(values))] == [*FLOATS, None, None, None]


def test_moments_are_the_same(both: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTZ", "Pacific/Kiritimati")

    def write(registry: Registry) -> None:
        for number, moment in enumerate(MOMENTS):
            run_id = f"{number:08x}"
            registry.add_run(make_run(run_id, created=moment, started=moment, heartbeat=moment))
            registry.record_evaluation(make_evaluation(run_id, created=moment))

    rows = write_alike(both, write)["runs"]
    assert [row["created"] for row in rows] == MOMENTS
    assert [run.created for run in both[1].runs()] == MOMENTS[::-1]


def test_text_is_ordered_by_its_bytes(both: tuple[Registry, Registry]) -> None:
    expected = sorted(WORDS, key=str.encode)
    assert expected != sorted(WORDS, key=str.lower)

    def write(registry: Registry) -> None:
        registry.add_run(make_run())
        for word in WORDS:
            registry.record_evaluation(make_evaluation("3fa9c2d1", word))
        checkpoints = [make_checkpoint("3fa9c2d1", 0).model_copy(update={"path": word}) for word in WORDS]
        registry.record_checkpoints("3fa9c2d1", checkpoints)
        registry.record_final_metrics("3fa9c2d1", dict.fromkeys(WORDS, 0.5))

    write_alike(both, write)
    for registry in both:
        assert [row.name for row in registry.evaluations("3fa9c2d1")] == expected
        assert [row.path for row in registry.checkpoints("3fa9c2d1")] == expected
        assert list(registry.metrics("3fa9c2d1")[FINAL]) == expected


def test_all_text_on_a_server_is_ordered_by_its_bytes(postgresql: Server) -> None:
    """A migration that adds a column of text has to say so."""
    name = postgresql.make_registry().rpartition("/")[2]
    query = """SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'
               AND collation_name = 'C' ORDER BY table_name COLLATE "C", column_name COLLATE "C" """
    tables = Record.metadata.tables.values()
    texts = [(table.name, column.name) for table in tables for column in table.c if isinstance(column.type, Text)]
    assert postgresql.execute(query, database=name) == sorted(texts)


def test_keys_of_json_keep_their_order(both: tuple[Registry, Registry]) -> None:
    config = {"z": 1, "a": {"y": [{"c": 1, "b": 2}], "x": None}, "B": 1.0, "": True}
    write_alike(both, lambda registry: registry.add_run(make_run(config=config)))
    assert [repr(registry.run("3fa9c2d1").config) for registry in both] == [repr(config)] * 2


def test_runs_at_random_give_equal_answers(both: tuple[Registry, Registry]) -> None:
    draw = random.Random(20261130)
    letters = "aäAÄbB z0_-'\"\\\n🫁"

    def text() -> str:
        return "".join(draw.choices(letters, k=draw.randrange(9)))

    records = []
    for number in range(40):
        run_id = f"{draw.getrandbits(32):08x}"
        created = START + timedelta(microseconds=draw.randrange(5))
        told = {"note": text(), "tags": [text()], "config": {text(): draw.random()}, "hidden": draw.random() < 0.3}
        status = draw.choice(["running", "failed"])
        run = make_run(run_id, name=f"{text()}{number}", created=created, status=status, **told)
        metrics = {epoch: {text(): draw.uniform(-1, 1) for _ in range(3)} for epoch in (FINAL, 0, 10, 9)}
        evaluations = [make_evaluation(run_id, f"{text()}{i}", created) for i in range(3)]
        checkpoints = [make_checkpoint(run_id, draw.randrange(2**40)) for _ in range(2)]
        records.append(RunRecord(run, metrics, checkpoints, [make_verification(run_id, text())], evaluations))
    write_alike(both, lambda registry: registry.rebuild(records))
