"""The trace: what stands in it, what damages it, and all that must not change a byte of it."""

import csv
import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genmed as genmed_package
from genmed.engine.schedule import learning_rate
from genmed.engine.step import StepRecord
from genmed.engine.trace import FIELDS, TraceFile, find_divergence, make_header, make_line, read_trace, trace_digest
from genmed.ground.errors import RecordError, TraceError
from genmed.ground.fingerprints import digest_names
from genmed.parts.data.loader import plan_epoch
from genmed.records.config.sections import Optimizer, Schedule
from tests.harness import Genmed

Arguments = Callable[..., list[object]]
KEYS = "step epoch samples input loss grad param buffer optim lr chain".split()
STEPS_PER_EPOCH, EPOCHS, BATCH = 7, 4, 8
FLOAT = r"-?0x[01]\.[0-9a-f]{13}p[+-]\d+|0x0\.0p\+0"


@pytest.fixture(scope="module")
def folder(trained: Genmed) -> Path:
    """Of the finished run; read only."""
    return trained.run_folder()


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[dict[str, Any]]:
    """The header, then the steps."""
    return [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]


def digest(value: Any) -> str:
    """SHA-256 of canonical JSON, written out."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    return path


def chain_anew(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same lines, each chained to those before it."""
    chained, chain = [lines[0]], digest(lines[0])
    for line in lines[1:]:
        content = {key: value for key, value in line.items() if key != "chain"}
        chain = digest([chain, content])
        chained.append({**content, "chain": chain})
    return chained


def test_header_names_schema_algorithms_and_the_initial_state(lines: list[dict[str, Any]]) -> None:
    assert list(lines[0]) == ["schema", "tensors", "chain", "initial"]
    assert lines[0]["schema"] == 1
    assert lines[0]["tensors"] == {"cpu": "xxh3-128", "device": "mix64x2+xxh3-128"}
    assert lines[0]["chain"] == "sha256"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", lines[0]["initial"])


def test_line_has_the_documented_keys_in_their_order_and_state_ends_an_epoch(lines: list[dict[str, Any]]) -> None:
    assert len(lines) == 1 + EPOCHS * STEPS_PER_EPOCH
    for number, line in enumerate(lines[1:], start=1):
        ends = number % STEPS_PER_EPOCH == 0
        assert list(line) == [*KEYS[:-1], *(["state"] if ends else []), "chain"]
        assert (line["step"], line["epoch"]) == (number, (number - 1) // STEPS_PER_EPOCH + 1)


def test_line_holds_digests_and_exact_numbers_and_nothing_else(folder: Path, lines: list[dict[str, Any]]) -> None:
    """So no time, path, host or process has a place to stand in."""
    for line in lines[1:]:
        for key in ("samples", "grad", "param", "buffer", "optim"):
            assert re.fullmatch(r"xxh3-128:[0-9a-f]{32}", line[key])
        assert [re.fullmatch(r"xxh3-128:[0-9a-f]{32}", value) is not None for value in line["input"]] == [True]
        assert [re.fullmatch(FLOAT, value) is not None for value in line["loss"]] == [True]
        assert re.fullmatch(FLOAT, line["lr"])
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", line[key]) for key in ("state", "chain") if key in line)
    text = (folder / "trace.jsonl").read_text()
    run_id = folder.name.rpartition("-")[2]
    assert not [word for word in (str(folder), run_id, f'"{socket.gethostname()}"', "checkpoint") if word in text]


def test_samples_are_the_images_that_the_plan_names(folder: Path, lines: list[dict[str, Any]]) -> None:
    with open(folder / "data-images.csv", newline="") as file:
        images = list(csv.DictReader(file))
    names = [image["id"] for image in images]
    train = np.array([row for row, image in enumerate(images) if image["split"] == "train"])
    for epoch in range(1, EPOCHS + 1):
        plan = plan_epoch(42, epoch, train, BATCH, 1)
        found = [line["samples"] for line in lines[1:] if line["epoch"] == epoch]
        assert found == [digest_names(names[row] for row in rows) for rows in plan]
    assert len({line["samples"] for line in lines[1:]}) == len(lines) - 1


def test_numbers_are_those_of_the_schedule_and_of_the_metrics(folder: Path, lines: list[dict[str, Any]]) -> None:
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    total = EPOCHS * STEPS_PER_EPOCH
    for line in lines[1:]:
        assert float.fromhex(line["lr"]) == learning_rate(line["step"], total, Optimizer(), Schedule())
    for row in rows:
        losses = [float.fromhex(line["loss"][0]) for line in lines[1:] if line["epoch"] == int(row["epoch"])]
        assert float(row["train_loss"]) == sum(losses) / len(losses)
        last = lines[int(row["step"])]
        assert float(row["lr"]) == float.fromhex(last["lr"])


def test_chain_ties_each_line_to_all_before_it(lines: list[dict[str, Any]]) -> None:
    assert chain_anew(lines) == lines
    changed = [lines[0], {**lines[1], "grad": "xxh3-128:" + "0" * 32}, *lines[2:]]
    assert not {line["chain"] for line in chain_anew(changed)[1:]} & {line["chain"] for line in lines[1:]}


def test_digest_of_the_trace_is_sha256_of_the_file_and_the_last_state_is_the_runs(
    trained: Genmed, folder: Path, lines: list[dict[str, Any]]
) -> None:
    described = trained("show", "latest", "--json").json
    assert described["trace_digest"] == "sha256:" + hashlib.sha256((folder / "trace.jsonl").read_bytes()).hexdigest()
    assert described["trace_digest"] == trace_digest(folder / "trace.jsonl")
    assert described["fingerprint"] == lines[-1]["state"]
    assert trace_digest(folder / "no.jsonl") is None


def test_trace_is_read_as_it_was_written(folder: Path, lines: list[dict[str, Any]]) -> None:
    found = read_trace(folder / "trace.jsonl")
    assert (found.header, list(found.lines)) == (lines[0], lines[1:])
    assert found.ends[-1] == (folder / "trace.jsonl").stat().st_size
    assert [found.chain_at(step) for step in (0, 1, 28)] == [digest(lines[0]), lines[1]["chain"], lines[28]["chain"]]


@pytest.mark.parametrize("cut", [1, 2, 50, 300])
def test_torn_last_line_is_dropped(folder: Path, tmp_path: Path, cut: int) -> None:
    whole = (folder / "trace.jsonl").read_bytes()
    path = tmp_path / "trace.jsonl"
    path.write_bytes(whole[:-cut])
    found = read_trace(path)
    assert len(found.lines) == EPOCHS * STEPS_PER_EPOCH - 1
    assert whole[: found.ends[-1]].endswith(b"\n")
    assert found.ends[-1] == whole.rindex(b"\n", 0, -1) + 1


def edit(lines: list[dict[str, Any]], step: int, **values: Any) -> list[dict[str, Any]]:
    return [{**line, **values} if line.get("step") == step else line for line in lines]


EDITS: dict[str, Callable[[list[dict[str, Any]]], list[Any]]] = {
    "a loss": lambda lines: edit(lines, 9, loss=["0x1.0000000000000p-1"]),
    "a gradient": lambda lines: edit(lines, 9, grad=lines[10]["grad"]),
    "an epoch": lambda lines: edit(lines, 9, epoch=1),
    "the last line": lambda lines: edit(lines, 28, param=lines[1]["param"]),
    "a state": lambda lines: edit(lines, 7, state="sha256:" + "0" * 64),
    "a key more": lambda lines: edit(lines, 9, note="hello"),
    "a key less": lambda lines: [{k: v for k, v in line.items() if k != "optim"} for line in lines],
    "no chain": lambda lines: [{k: v for k, v in line.items() if k != "chain" or "step" not in line} for line in lines],
    "the header": lambda lines: [{**lines[0], "initial": "sha256:" + "0" * 64}, *lines[1:]],
    "a line less": lambda lines: lines[:9] + lines[10:],
    "the first line less": lambda lines: lines[:1] + lines[2:],
    "a line twice": lambda lines: lines[:9] + lines[8:],
    "a line appended": lambda lines: [*lines, {**lines[28], "step": 29}],
    "two lines swapped": lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]],
    "a line of another kind": lambda lines: [*lines[:9], 5, *lines[10:]],
    "an empty line": lambda lines: [*lines[:9], {}, *lines[9:]],
    "a list": lambda lines: [*lines, []],
    "steps that do not count from 1": lambda lines: chain_anew([lines[0], *lines[2:]]),
    "a step twice, chained": lambda lines: chain_anew([*lines, lines[28]]),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_edited_trace_is_refused(
    tmp_path: Path, lines: list[dict[str, Any]], change: Callable[[list[dict[str, Any]]], list[Any]]
) -> None:
    path = write_lines(tmp_path / "trace.jsonl", change(lines))
    with pytest.raises(RecordError, match=rf"{path} is damaged or was edited: line \d+ does not follow"):
        read_trace(path)


def test_edited_line_is_named_by_its_number(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    path = write_lines(tmp_path / "trace.jsonl", edit(lines, 9, grad="xxh3-128:" + "0" * 32))
    with pytest.raises(RecordError, match="line 10 does not follow"):
        read_trace(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no header"),
        (b'{"schema":1', "has no header"),
        (b'{"schema":2}\n', "has no header of schema 1"),
        (b'{"step":1}\n', "has no header of schema 1"),
        (b"[1]\n", "has no header of schema 1"),
        (b"\n", "is damaged"),
        (b'{"schema":1}\n{"step":1,\n', "is damaged"),
        (b'{"schema":1}\n\xff\xfe\n', "is damaged"),
        (b'{"schema":1}\n\x00\x00\x00\n', "is damaged"),
    ],
)
def test_file_that_is_no_trace_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_trace(path)


def test_missing_trace_is_refused_with_the_likely_reason(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no trace") as caught:
        read_trace(tmp_path / "trace.jsonl")
    assert "run.trace=false" in caught.value.hint


RECORD = StepRecord(
    step=1,
    epoch=1,
    samples="s",
    input=("i0", "i1"),
    loss=(0.1, 0.2),
    grad="g",
    param="p",
    buffer="b",
    optim="o",
    lr=0.1,
)
OTHERS: dict[str, Any] = {
    "samples": "x",
    "input": ("i0", "x"),
    "loss": (0.1, 0.3),
    "grad": "x",
    "param": "x",
    "buffer": "x",
}
OTHERS |= {"optim": "x", "lr": 0.2}


def test_line_of_a_step_is_exact() -> None:
    line = make_line(RECORD, "z", "before")
    content = {
        "step": 1,
        "epoch": 1,
        "samples": "s",
        "input": ["i0", "i1"],
        "loss": ["0x1.999999999999ap-4", "0x1.999999999999ap-3"],
        "grad": "g",
        "param": "p",
        "buffer": "b",
        "optim": "o",
        "lr": "0x1.999999999999ap-4",
        "state": "z",
    }
    assert line == {**content, "chain": digest(["before", content])}
    assert list(line)[-1] == "chain"
    assert "state" not in make_line(RECORD, None, "before")


@pytest.mark.parametrize("field", [*OTHERS, "state"])
def test_divergence_names_the_first_field_that_differs(field: str) -> None:
    recorded = make_line(RECORD, "z", "c")
    later = list(FIELDS)[list(FIELDS).index(field) :]
    changed = replace(RECORD, step=1, epoch=2, **{name: OTHERS[name] for name in later if name != "state"})
    parted = find_divergence(recorded, make_line(changed, "y", "c"))
    assert parted is not None
    assert (parted.step, parted.epoch, parted.field) == (1, 2, field)


def test_chains_alone_are_no_divergence() -> None:
    assert find_divergence(make_line(RECORD, None, "a"), make_line(RECORD, None, "b")) is None
    assert FIELDS == ("samples", "input", "loss", "grad", "param", "buffer", "optim", "lr", "state")


def write_trace(path: Path, count: int) -> TraceFile:
    trace = TraceFile(path, make_header("initial"))
    trace.start_at(0)
    for step in range(1, count + 1):
        trace.record(replace(RECORD, step=step), None)
    return trace


def test_trace_goes_on_where_it_ended_and_computes_again_what_it_knows(tmp_path: Path) -> None:
    write_trace(tmp_path / "whole.jsonl", 6).close()
    write_trace(tmp_path / "trace.jsonl", 4).close()
    with open(tmp_path / "trace.jsonl", "a") as file:
        file.write('{"step":5,"epo')
    again = TraceFile(tmp_path / "trace.jsonl", make_header("initial"))
    again.start_at(2)
    for step in (3, 4, 5, 6):
        again.record(replace(RECORD, step=step), None)
    again.sync()
    again.close()
    assert (tmp_path / "trace.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("field", OTHERS)
def test_step_computed_again_with_another_result_stops_and_leaves_the_trace(tmp_path: Path, field: str) -> None:
    path = tmp_path / "trace.jsonl"
    write_trace(path, 4).close()
    before = path.read_bytes()
    again = TraceFile(path, make_header("initial"))
    again.start_at(2)
    with pytest.raises(TraceError, match=rf"step 3 \(epoch 1\), computed again, has another {field} than recorded"):
        again.record(replace(RECORD, step=3, **{field: OTHERS[field]}), None)
    again.close()
    assert path.read_bytes() == before


def test_trace_of_another_initial_state_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    write_trace(path, 4).close()
    before = path.read_bytes()
    with pytest.raises(TraceError, match="initial state"):
        TraceFile(path, make_header("another"))
    assert path.read_bytes() == before


def test_checkpoint_beyond_the_end_of_the_trace_is_refused(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.jsonl", 4).close()
    trace = TraceFile(tmp_path / "trace.jsonl", make_header("initial"))
    with pytest.raises(RecordError, match="ends at step 4, the checkpoint is of step 5"):
        trace.start_at(5)
    trace.close()


@pytest.mark.parametrize("content", [b"", b'{"schema":1,"ten'])
def test_trace_that_was_torn_in_its_header_begins_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    write_trace(path, 2).close()
    assert len(read_trace(path).lines) == 2


FREE: dict[str, tuple[object, ...]] = {
    "checkpoints": ("--set", "checkpoints.every_steps=2", "--set", "checkpoints.keep=5"),
    "validation": ("--set", "training.validate_every=3"),
    "workers": ("--num-workers", 2),
    "workers of an epoch": ("--num-workers", 1, "--set", "compute.persistent_workers=false"),
    "names": ("--name", "other", "--tag", "a", "--note", "größer"),
}


@pytest.mark.parametrize("way", FREE.values(), ids=FREE)
def test_what_is_free_to_vary_changes_no_byte(
    genmed: Genmed, tiny: Arguments, lines: list[dict[str, Any]], way: tuple[object, ...]
) -> None:
    result = genmed(*tiny(*way))
    assert result.code == 0, result.err
    assert [json.loads(line) for line in (genmed.run_folder() / "trace.jsonl").read_text().splitlines()] == lines
    assert result.json["fingerprint"] == lines[-1]["state"]


def test_place_of_the_data_and_order_of_files_change_no_byte(
    genmed: Genmed, tiny: Arguments, nih: Path, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    """Another folder, the files written in another order with other times, the image cache cold."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "images_003" / "images").mkdir(parents=True)
    for path in sorted((nih / "images").iterdir(), reverse=True):
        shutil.copyfile(path, elsewhere / "images_003" / "images" / path.name)
    shutil.copyfile(nih / "Data_Entry_2017_v2020.csv", elsewhere / "Data_Entry_2017_v2020.csv")
    result = genmed(*tiny("--data-root", elsewhere), GENMED_CACHE=str(tmp_path / "cache"))
    assert result.code == 0, result.err
    assert [json.loads(line) for line in (genmed.run_folder() / "trace.jsonl").read_text().splitlines()] == lines
    warm = genmed(*tiny("--data-root", elsewhere), GENMED_CACHE=str(tmp_path / "cache"))
    assert warm.json["trace_digest"] == result.json["trace_digest"]


def test_three_runs_at_once_on_one_registry_change_no_byte(
    genmed: Genmed, tiny: Arguments, lines: list[dict[str, Any]]
) -> None:
    commands = [genmed.start(*tiny("--epochs", 4)) for _ in range(3)]
    results = [command.wait() for command in commands]
    assert [result.code for result in results] == [0, 0, 0], [result.err for result in results]
    for result in results:
        trace = (genmed.root / result.json["path"] / "trace.jsonl").read_text()
        assert [json.loads(line) for line in trace.splitlines()] == lines
    listed = genmed("list", "--json").json
    assert sorted(entry["id"] for entry in listed) == sorted(result.json["id"] for result in results)
    assert {entry["status"] for entry in listed} == {"completed"}


def test_new_interpreter_elsewhere_in_another_zone_and_locale_changes_no_byte(
    genmed: Genmed, tiny: Arguments, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    """The package in another folder, another working folder, clock, locale and hash seed."""
    shutil.copytree(
        Path(genmed_package.__file__ or "").parent,
        tmp_path / "elsewhere" / "genmed",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    foreign = {
        "PYTHONPATH": str(tmp_path / "elsewhere"),
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "LANGUAGE": "de",
        "PYTHONHASHSEED": "7",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "HOME": str(tmp_path),
    }
    result = genmed.fresh(*tiny(), cwd=tmp_path / "elsewhere", **foreign)
    assert result.code == 0, result.err
    assert [json.loads(line) for line in (genmed.run_folder() / "trace.jsonl").read_text().splitlines()] == lines
    assert (
        str(tmp_path / "elsewhere")
        in json.loads((genmed.run_folder() / "environment.json").read_text())["where"]["genmed"]
    )


def test_record_of_a_run_is_read_alike_under_any_locale(genmed: Genmed, tiny: Arguments) -> None:
    result = genmed(*tiny("--note", "größer", "--epochs", 1))
    assert result.code == 0, result.err
    shown = genmed.fresh("show", "latest", "--json", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert shown.code == 0, shown.out + shown.err
    assert shown.json["fingerprint"] == result.json["fingerprint"]


def test_run_without_a_trace_has_the_same_bits_and_cannot_be_verified(
    genmed: Genmed, tiny: Arguments, lines: list[dict[str, Any]]
) -> None:
    result = genmed(*tiny("--set", "run.trace=false"))
    assert result.code == 0, result.err
    assert result.json["fingerprint"] == lines[-1]["state"]
    assert result.json["trace_digest"] is None
    assert not (genmed.run_folder() / "trace.jsonl").exists()
    verified = genmed("verify", "latest", "--json")
    assert verified.code == 2
    assert (verified.json["verdict"], verified.json["steps_compared"]) == ("not comparable", 0)
    assert "no trace" in verified.json["problems"][0]
