"""The registry's rows, lists and references, and its rebuild; `registries/` has what is asked of its file."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from genmed.ground.errors import ConfigError, RecordError, RunNotFoundError, StorageError
from genmed.records.registry import FINAL, Registry, RunRecord, RunSummary, seals
from genmed.records.registry.seals import seal
from tests.registries.making import (
    START,
    dump,
    make_checkpoint,
    make_evaluation,
    make_registry,
    make_run,
    make_verification,
)


@pytest.fixture(autouse=True)
def _on_each_database(database: str) -> None:
    """All that follows holds for a file and for a server."""


IN_A_FILE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what no database has a part in."""


def test_run_comes_back_as_it_was_added(tmp_path: Path) -> None:
    run = make_run(
        config={"train": {"lr": 1e-4, "mean": [0.1, None]}}, tags=["größer"], process_started=1769628600.123456,
        seed=2**32 - 1, git_dirty=True, accepted=[{"what": "torch"}], hardware={"gpus": []}, steps_done=2**40,
    )  # fmt: skip
    registry = make_registry(tmp_path, run)
    assert registry.run(run.id) == run
    summary = registry.runs()[0]
    assert summary.model_dump() == {name: getattr(run, name) for name in RunSummary.model_fields}


def test_times_come_back_aware_and_in_utc(tmp_path: Path) -> None:
    tokyo = datetime(2026, 1, 29, 4, 30, tzinfo=timezone(timedelta(hours=9)))
    registry = make_registry(tmp_path, make_run(created=tokyo))
    created = registry.run("3fa9c2d1").created
    assert (created, created.tzinfo) == (tokyo, UTC)
    with pytest.raises(ValidationError):
        make_run(created=START.replace(tzinfo=None))


@IN_A_FILE
@pytest.mark.parametrize("wrong", [{"status": "done"}, {"id": "3FA9C2D1"}, {"colour": "red"}, {"seed": "many"}])
def test_row_with_a_wrong_field_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_run(**{"run_id": wrong.pop("id", "3fa9c2d1"), **wrong})


def test_second_run_of_a_name_or_id_is_refused(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(name="mine"))
    for second in (make_run(name="other"), make_run("00000001", name="mine")):
        with pytest.raises(ConfigError, match=f"a run named {second.name} or with id {second.id} exists"):
            registry.add_run(second)
    assert registry.count() == 1


def test_update_sets_the_fields_given_and_no_others(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(), make_run("00000001"))
    registry.update_run("3fa9c2d1", status="completed", tags=["a"], ended=START)
    assert registry.run("3fa9c2d1") == make_run(status="completed", tags=["a"], ended=START)
    assert registry.run("00000001") == make_run("00000001")


def test_update_with_an_unknown_field_or_a_wrong_value_is_a_mistake_in_the_program(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    naive = START.replace(tzinfo=None)
    wrong: list[dict[str, Any]] = [{"colour": "red"}, {"id": "00000001"}, {"status": "done"}, {"ended": naive}]
    for fields in wrong:
        with pytest.raises((AssertionError, ValidationError)):
            registry.update_run("3fa9c2d1", **fields)
    assert registry.run("3fa9c2d1") == make_run()


def test_update_with_a_numpy_number_stores_a_number(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.update_run("3fa9c2d1", steps_done=np.int64(5), process_started=np.float32(0.5))
    run = registry.run("3fa9c2d1")
    assert [(type(value), value) for value in (run.steps_done, run.process_started)] == [(int, 5), (float, 0.5)]


def test_writing_about_a_run_that_is_gone_says_so(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.remove_run("3fa9c2d1")
    attempts: list[Callable[[], object]] = [
        lambda: registry.run("3fa9c2d1"),
        lambda: registry.beat("3fa9c2d1"),
        lambda: registry.remove_run("3fa9c2d1"),
        lambda: registry.record_epoch("3fa9c2d1", 0, {"a": 1.0}),
        lambda: registry.record_final_metrics("3fa9c2d1", {}),
        lambda: registry.record_checkpoints("3fa9c2d1", []),
        lambda: registry.record_verification(make_verification("3fa9c2d1", "identical")),
        lambda: registry.record_evaluation(make_evaluation("3fa9c2d1")),
    ]
    for attempt in attempts:
        with pytest.raises(RunNotFoundError, match="the registry holds no run with id 3fa9c2d1"):
            attempt()


@IN_A_FILE
def test_registry_that_vanished_is_not_made_anew_by_a_write(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    (tmp_path / "registry.db").unlink()
    with pytest.raises(StorageError, match="cannot open"):
        registry.beat("3fa9c2d1")
    assert os.listdir(tmp_path) == []


def test_heartbeat_is_now_and_follows_every_record_of_the_training(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    writes: list[Callable[[], object]] = [
        lambda: registry.beat("3fa9c2d1"),
        lambda: registry.record_epoch("3fa9c2d1", 0, {}),
        lambda: registry.record_checkpoints("3fa9c2d1", []),
        lambda: registry.record_final_metrics("3fa9c2d1", {}),
    ]
    for write in writes:
        before = datetime.now(UTC)
        write()
        heartbeat = registry.run("3fa9c2d1").heartbeat
        assert heartbeat is not None
        assert before <= heartbeat <= datetime.now(UTC)


def test_undefined_metrics_are_null_and_zero_is_not(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    nothing = {"nan": float("nan"), "infinite": float("inf"), "none": None}
    values: dict[str, Any] = {**nothing, "zero": 0.0, "single": np.float32(0.5)}
    registry.record_epoch("3fa9c2d1", 0, values)
    registry.record_final_metrics("3fa9c2d1", {"test_auroc_Hernia": float("nan")})
    assert registry.metrics("3fa9c2d1") == {
        FINAL: {"test_auroc_Hernia": None},
        0: {"infinite": None, "nan": None, "none": None, "single": 0.5, "zero": 0.0},
    }


def test_epoch_recorded_again_replaces_itself_and_what_came_after(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    for epoch in range(4):
        registry.record_epoch("3fa9c2d1", epoch, {"a": 0.0, "b": 0.0}, epochs_done=epoch + 1)
    registry.record_final_metrics("3fa9c2d1", {"test": 0.5, "old": 0.5})
    registry.record_epoch("3fa9c2d1", 2, {"a": 1.0}, epochs_done=3)
    registry.record_final_metrics("3fa9c2d1", {"test": 0.75})
    both = {"a": 0.0, "b": 0.0}
    assert registry.metrics("3fa9c2d1") == {FINAL: {"test": 0.75}, 0: both, 1: both, 2: {"a": 1.0}}
    assert registry.run("3fa9c2d1").epochs_done == 3


def test_epoch_that_cannot_be_recorded_whole_is_not_recorded_at_all(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    registry.record_epoch("3fa9c2d1", 0, {"a": 0.5}, epochs_done=1)
    with pytest.raises(TypeError):
        registry.record_epoch("3fa9c2d1", 0, {"a": "high"}, epochs_done=2)  # type: ignore[dict-item]
    assert registry.metrics("3fa9c2d1") == {0: {"a": 0.5}}
    assert registry.run("3fa9c2d1").epochs_done == 1


def test_final_metrics_of_many_runs_come_at_once(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"), make_run("00000002"), make_run("00000003"))
    registry.record_epoch("00000001", 0, {"val": 0.5})
    registry.record_final_metrics("00000001", {"test": 0.25})
    registry.record_final_metrics("00000003", {"test": 0.75})
    assert registry.final_metrics(["00000001", "00000002"]) == {"00000001": {"test": 0.25}, "00000002": {}}
    assert registry.final_metrics([]) == {}


def test_checkpoints_recorded_are_those_on_the_disk_now(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(), make_run("00000001"))
    registry.record_checkpoints("00000001", [make_checkpoint("00000001", 5)])
    registry.record_checkpoints("3fa9c2d1", [make_checkpoint("3fa9c2d1", step) for step in (20, 100, 10)])
    kept = [make_checkpoint("3fa9c2d1", step) for step in (20, 100)]
    registry.record_checkpoints("3fa9c2d1", kept)
    assert registry.checkpoints("3fa9c2d1") == kept
    assert len(registry.checkpoints("00000001")) == 1
    with pytest.raises(AssertionError):
        registry.record_checkpoints("3fa9c2d1", [make_checkpoint("00000001", 1)])


def test_verifications_are_listed_oldest_first(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run())
    rows = [
        make_verification("3fa9c2d1", "diverged", START + timedelta(days=1)),
        make_verification("3fa9c2d1", "identical"),
        make_verification("3fa9c2d1", "consistent"),
    ]
    for row in rows:
        registry.record_verification(row)
    assert registry.verifications("3fa9c2d1") == [rows[1], rows[2], rows[0]]


def test_evaluation_takes_the_place_of_an_older_one_of_its_name_and_run(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(), make_run("00000001"))
    newest = make_evaluation("3fa9c2d1", created=START + timedelta(days=1), images=7)
    kept = [make_evaluation("3fa9c2d1", "other"), newest]
    for row in (make_evaluation("3fa9c2d1"), make_evaluation("00000001"), *kept):
        registry.record_evaluation(row)
    assert registry.evaluations("3fa9c2d1") == kept
    assert registry.evaluations("00000001") == [make_evaluation("00000001")]
    registry.remove_run("3fa9c2d1")
    assert registry.evaluations("3fa9c2d1") == []


# ---- lists and references


def test_runs_are_listed_newest_first_and_filtered(tmp_path: Path) -> None:
    registry = make_registry(
        tmp_path,
        make_run("00000001", created=START + timedelta(seconds=1), tags=["a", "b"], status="failed"),
        make_run("00000003", created=START, dataset="phantom"),
        make_run("00000002", created=START, tags=["a"]),
        make_run("00000004", created=START - timedelta(days=1), tags=["a"], hidden=True),
        make_run("00000005", created=START - timedelta(days=2), tags=["ab", 'a"']),
    )

    def listed(**filters: Any) -> list[int]:
        return [int(run.id) for run in registry.runs(**filters)]

    assert listed() == [1, 3, 2, 5]
    assert listed(include_hidden=True) == [1, 3, 2, 4, 5]
    assert listed(limit=2) == [1, 3]
    assert listed(limit=0) == []
    assert listed(status="failed") == [1]
    assert listed(dataset="phantom") == [3]
    assert listed(tag="a") == [1, 2]
    assert listed(tag="a", limit=1) == [1]
    assert listed(tag="a", status="running", include_hidden=True) == [2, 4]
    assert listed(tag='", "') == []
    assert [(name.id, name.hidden) for name in registry.names()][3] == ("00000004", True)
    assert registry.count() == 5


def test_reading_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make_registry(tmp_path, *(make_run(f"{number:08x}") for number in range(9)))
    sealed: list[object] = []
    monkeypatch.setattr(seals, "seal", lambda values: sealed.append(values) or seal(values))
    assert [run.id for run in registry.runs(limit=3)] == ["00000008", "00000007", "00000006"]
    assert len(sealed) == 3


def test_summary_has_no_config_rather_than_an_empty_one(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run(config={"seed": 1}))
    assert not hasattr(registry.runs()[0], "config")
    assert registry.find("latest").config == {"seed": 1}


@pytest.fixture
def named(tmp_path: Path) -> Registry:
    return make_registry(
        tmp_path,
        make_run("3fa9c2d1", name="nih-resnet50-s42-3fa9c2d1", created=START),
        make_run("3fa00000", name="nih-resnet50-s4-3fa00000", created=START + timedelta(days=1)),
        make_run("11111111", name="phantom", created=START + timedelta(days=2)),
        make_run("22222222", name="phantom-resnet18", created=START + timedelta(days=3)),
        make_run("33333333", name="secret", created=START + timedelta(days=4), hidden=True),
    )


@IN_A_FILE
@pytest.mark.parametrize(
    ("reference", "run_id"),
    [
        ("nih-resnet50-s42-3fa9c2d1", "3fa9c2d1"),
        ("nih-resnet50-s42", "3fa9c2d1"),
        ("3fa9", "3fa9c2d1"),
        ("11111111", "11111111"),
        ("phantom", "11111111"),
        ("phantom-", "22222222"),
        ("secret", "33333333"),
        ("latest", "22222222"),
        ("latest~0", "22222222"),
        ("latest~3", "3fa9c2d1"),
    ],
)
def test_reference_finds_the_one_run_that_it_fits(named: Registry, reference: str, run_id: str) -> None:
    assert named.find(reference).id == run_id


@IN_A_FILE
@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("3fa", "'3fa' fits 2 runs", "which one: nih-resnet50-s4-3fa00000, nih-resnet50-s42-3fa9c2d1?"),
        ("p", "'p' fits 2 runs", "which one: phantom-resnet18 (22222222), phantom (11111111)?"),
        ("nih-resnet5-s42", "no run goes by 'nih-resnet5-s42'", "did you mean nih-resnet50-s42-3fa9c2d1 or "
         "nih-resnet50-s4-3fa00000?"),
        ("3fa9c2dd", "no run goes by '3fa9c2dd'", "did you mean 3fa9c2d1?"),
        ("PHANTOM", "no run goes by 'PHANTOM'", "`genmed list` shows the runs"),
        ("%", "no run goes by '%'", "`genmed list` shows the runs"),
        ("", "no run goes by ''", "`genmed list` shows the runs"),
        ("latest~4", "there is no run latest~4: the registry lists 4 runs", ""),
        ("latest~-1", "no run goes by 'latest~-1'", "`genmed list` shows the runs"),
    ],
)  # fmt: skip
def test_reference_that_fits_none_or_several_is_refused(
    named: Registry, reference: str, message: str, hint: str
) -> None:
    with pytest.raises(RunNotFoundError) as caught:
        named.find(reference)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_reference_that_is_one_runs_name_and_anothers_id_is_ambiguous(named: Registry) -> None:
    named.add_run(make_run("44444444", name="11111111"))
    with pytest.raises(RunNotFoundError, match="'11111111' fits 2 runs"):
        named.find("11111111")


def test_ambiguous_reference_lists_ten_candidates(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, *(make_run(f"aa{number:06x}") for number in range(13)))
    with pytest.raises(RunNotFoundError, match="'aa' fits 13 runs") as caught:
        registry.find("aa")
    assert caught.value.hint.count("nih-resnet50") == 10
    assert caught.value.hint.endswith(" and 3 more?")


def test_reference_in_an_empty_registry_finds_nothing(tmp_path: Path) -> None:
    registry = make_registry(tmp_path)
    with pytest.raises(RunNotFoundError, match="there is no run latest: the registry lists no runs"):
        registry.find("latest")
    with pytest.raises(RunNotFoundError) as caught:
        registry.find("nih")
    assert caught.value.hint == "the registry holds no runs"


# ---- rebuild


def _record(run_id: str, **fields: Any) -> RunRecord:
    return RunRecord(
        make_run(run_id, **fields),
        metrics={0: {"val": 0.5}, FINAL: {"test": float("nan")}},
        checkpoints=[make_checkpoint(run_id, 7)],
        verifications=[make_verification(run_id, "identical")],
        evaluations=[make_evaluation(run_id)],
    )


def test_rebuild_holds_the_runs_given_and_no_others(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001", note="old"), make_run("00000002"))
    for run_id in ("00000001", "00000002"):
        registry.record_epoch(run_id, 9, {"old": 1.0})
        registry.record_checkpoints(run_id, [make_checkpoint(run_id, 1)])
        registry.record_verification(make_verification(run_id, "diverged"))
    records = [_record("00000001", note="new"), _record("00000003", created=START - timedelta(days=1))]
    assert registry.rebuild(iter(records)) == 2
    assert [registry.run(run.id) for run in registry.runs()] == [record.run for record in records]
    for run_id in ("00000001", "00000003"):
        assert registry.metrics(run_id) == {FINAL: {"test": None}, 0: {"val": 0.5}}
        assert registry.checkpoints(run_id) == [make_checkpoint(run_id, 7)]
        assert [row.verdict for row in registry.verifications(run_id)] == ["identical"]
        assert registry.evaluations(run_id) == [make_evaluation(run_id)]
    assert (registry.metrics("00000002"), registry.checkpoints("00000002")) == ({}, [])
    assert registry.rebuild([]) == 0
    assert registry.count() == 0


def test_rebuild_leaves_alone_what_changed_while_the_folders_were_read(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"), make_run("00000002"), make_run("00000003"))

    def read_folders() -> Iterator[RunRecord]:
        yield _record("00000001", note="as read")
        yield _record("00000002", note="as read")
        yield _record("00000003", note="as read")
        registry.record_epoch("00000002", 5, {"val": 0.75}, epochs_done=6)
        registry.remove_run("00000003")
        registry.add_run(make_run("00000004"))

    assert registry.rebuild(read_folders()) == 3
    assert {run.id: run.note for run in registry.runs()} == {"00000001": "as read", "00000002": "", "00000004": ""}
    assert registry.metrics("00000002") == {5: {"val": 0.75}}


def test_rebuild_that_fails_leaves_the_registry_as_it_was(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"))
    registry.record_epoch("00000001", 0, {"val": 0.5})
    before = dump(registry)
    broken = replace(_record("00000002"), metrics={0: {"val": "high"}})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        registry.rebuild([_record("00000001"), broken])
    assert dump(registry) == before


def test_rebuild_refuses_two_folders_of_one_run(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, make_run("00000001"))
    copied = replace(_record("00000001"), run=make_run("00000001", path="runs/copy"))
    with pytest.raises(RecordError, match="runs/nih-resnet50-s42-00000001 and runs/copy are both run 00000001"):
        registry.rebuild([_record("00000001"), copied])
    assert registry.count() == 1
