"""A commit whose answer is lost is tried again, and leaves what it leaves when it is done once."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from genmed.ground.errors import ConfigError, RunNotFoundError
from genmed.records.registry import Registry, RunRecord, copy_registry, open_place, parse_place
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
from tests.registries.proxy import Proxy, proxy

ID = "3fa9c2d1"
WRITES: dict[str, Callable[[Registry], Any]] = {
    "add_run": lambda registry: registry.add_run(make_run("00000002", tags=["a"])),
    "update_run": lambda registry: registry.update_run(ID, note="new", tags=["b"]),
    "beat": lambda registry: registry.beat(ID),
    "record_epoch": lambda registry: registry.record_epoch(ID, 1, {"a": 1.5}, epochs_done=2),
    "record_final_metrics": lambda registry: registry.record_final_metrics(ID, {"a": 1.5}, status="completed"),
    "record_checkpoints": lambda registry: registry.record_checkpoints(ID, [make_checkpoint(ID, 9)]),
    "record_verification": lambda registry: registry.record_verification(make_verification(ID, "consistent")),
    "record_evaluation": lambda registry: registry.record_evaluation(make_evaluation(ID, images=9)),
    "remove_run": lambda registry: registry.remove_run(ID),
    "replace_run": lambda registry: registry.replace_run(RunRecord(make_run(note="anew"), {0: {"a": 2.5}})),
    "rebuild": lambda registry: registry.rebuild([RunRecord(make_run("00000003"), {0: {"a": 2.5}})]),
    "rebuild beside others": lambda registry: registry.rebuild([RunRecord(make_run("00000003"))], keep_sound=True),
}


@pytest.fixture
def way(postgresql: Server) -> Iterator[Proxy]:
    with proxy(postgresql.port) as opened:
        yield opened


def _open(url: str, port: int) -> Registry:
    server = url.rpartition(":")[0]
    registry = open_place(parse_place(f"{server}:{port}/{url.rpartition('/')[2]}", ""), create=True)
    assert registry is not None
    return registry


def _fill(registry: Registry) -> None:
    registry.add_run(make_run())
    registry.add_run(make_run("00000001"))
    registry.record_epoch(ID, 0, {"a": 0.5})
    registry.record_verification(make_verification(ID, "identical", START - timedelta(days=1)))
    registry.record_evaluation(make_evaluation(ID))


def _read(registry: Registry) -> dict[str, list[Any]]:
    """All rows, but for the moments of heartbeats and the seals over them."""
    rows = dump(registry)
    for row in rows["runs"]:
        row["heartbeat"] = row["heartbeat"] is None
        del row["seal"]
    for row in rows["verifications"]:  # a number that was drawn in vain is drawn
        del row["number"]
    return rows


@pytest.mark.parametrize("name", WRITES)
def test_write_whose_answer_is_lost_is_done_once(postgresql: Server, way: Proxy, name: str) -> None:
    once, lossy = _open(postgresql.make_registry(), way.port), _open(postgresql.make_registry(), way.port)
    for registry in (once, lossy):
        _fill(registry)
    answer = WRITES[name](once)
    way.lose = 1
    assert WRITES[name](lossy) == answer
    assert way.lost == 1
    assert _read(lossy) == _read(once)
    lossy.check()


def test_what_is_refused_stays_refused_though_answers_are_lost(postgresql: Server, way: Proxy) -> None:
    registry = _open(postgresql.make_registry(), way.port)
    _fill(registry)
    way.lose = 3
    with pytest.raises(ConfigError, match=f"with id {ID} exists"):
        registry.add_run(make_run(name="another"))
    with pytest.raises(RunNotFoundError):
        registry.remove_run("00000009")
    registry.remove_run(ID)
    with pytest.raises(RunNotFoundError):
        registry.remove_run(ID)


def test_schema_whose_commit_was_not_heard_of_is_there_once(postgresql: Server, way: Proxy) -> None:
    way.lose = 1
    registry = _open(postgresql.make_blank(), way.port)
    assert way.lost == 1
    assert registry.count() == 0


@pytest.mark.parametrize("existing", ["refuse", "merge", "replace"])
def test_copy_whose_answer_is_lost_is_made_once(postgresql: Server, way: Proxy, tmp_path: Path, existing: Any) -> None:
    source, target = make_registry(tmp_path), _open(postgresql.make_registry(), way.port)
    _fill(source)
    if existing != "refuse":
        target.add_run(make_run("00000001"))
    way.lose = 1
    copied = copy_registry(source, target, existing)
    assert way.lost == 1
    assert (copied.runs, copied.there) == ((1, 1) if existing == "merge" else (2, 0))
    assert (copied.metrics, copied.verifications, copied.evaluations) == (1, 1, 1)
    assert dump(target) == dump(source)
