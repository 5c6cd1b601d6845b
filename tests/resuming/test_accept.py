"""resume --accept: what is not as recorded is let through on demand, and the run is marked for it for ever."""

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from genmed.ground.sealed import read_sealed
from tests.harness import Genmed, edit_document
from tests.resuming.runs import FRAGILE, Pair, assert_same_run, flip, names, read_metrics

Edit = Callable[[Genmed, Path], tuple[object, ...]]


def other_package(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    path = genmed.run_folder() / "environment.json"
    edit_document(path, lambda document: document["packages"].update(torchvision="0.1.2"))
    return ()


def other_code(genmed: Genmed, tmp_path: Path, source: str = FRAGILE + "# changed\n") -> tuple[object, ...]:
    (tmp_path / "fragile.py").write_text(source)
    path = genmed.run_folder() / "config.yaml"
    path.write_text(re.sub(r"name: \S+fragile.py:build", f"name: {tmp_path}/fragile.py:build", path.read_text()))
    return ()


def other_arithmetic(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    return other_code(genmed, tmp_path, FRAGILE.replace("nn.Dropout(0.2)", "nn.Dropout(0.3)"))


def other_pixels(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    root = yaml.safe_load((genmed.run_folder() / "config.yaml").read_text())["data"]["root"]
    shutil.copytree(root, tmp_path / "data")
    for path in sorted((tmp_path / "data" / "images").iterdir()):
        with Image.open(path) as image:
            inverted = image.convert("L").point(lambda value: 255 - value)
        inverted.save(path)
    return "--data-root", tmp_path / "data"


def image_left_out(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    more = other_pixels(genmed, tmp_path)
    table = tmp_path / "data" / "Data_Entry_2017_v2020.csv"
    rows = table.read_text().splitlines(keepends=True)
    name = rows[-1].split(",")[0]
    table.write_text("".join(rows[:-1]))
    (tmp_path / "data" / "images" / name).unlink()
    return more


def resume(genmed: Genmed, *more: object) -> Any:
    result = genmed("resume", "latest", "--json", *more)
    assert result.code == 0, result.err
    return result


@pytest.mark.parametrize(
    ("edit", "part", "changed"),
    [
        (other_package, "environment", ["packages.torchvision"]),
        (other_code, "code", ["code", "code.files.fragile.py"]),
    ],
    ids=["environment", "code"],
)
def test_accepted_change_that_changes_no_bit_ends_in_the_same_run_with_a_mark(
    pair: Pair, killed: Genmed, tmp_path: Path, edit: Edit, part: str, changed: list[str]
) -> None:
    edit(killed, tmp_path)
    recorded = (killed.run_folder() / "environment.json").read_bytes()
    refused = killed("resume", "latest", "--json")
    assert refused.code == 2
    assert f"--accept {part}, which marks the run for ever" in refused.json["error"]["hint"]
    result = resume(killed, "--accept", part)
    [accepted] = result.json["accepted"]
    assert (accepted["what"], accepted["step"], accepted["count"]) == (part, 9, len(changed))
    assert [change["what"] for change in accepted["changes"]] == changed
    assert all(change["recorded"] != change["found"] for change in accepted["changes"])
    assert_same_run(killed, pair.whole)
    folder = killed.run_folder()
    assert (folder / "environment-until-step-0000009.json").read_bytes() == recorded
    log = (folder / "train.log").read_text()
    assert f"Accepted another {part} from step 9 on: {changed[0]} was" in log
    assert "took the place" not in log
    shown = killed("show", "latest").out
    assert f"another {part} from step 9 on: {changed[0]} was" in shown
    listed = killed("verify", "latest", "--json").json
    assert listed["verdict"] == "identical"
    assert [entry["what"] for entry in listed["cause"]] == [f"{what}, until step 9" for what in changed]


def test_accepted_change_of_bits_replaces_the_steps_behind_the_checkpoint(
    pair: Pair, killed: Genmed, tmp_path: Path
) -> None:
    before = (killed.run_folder() / "trace.jsonl").read_text().splitlines()
    other_arithmetic(killed, tmp_path)
    result = resume(killed, "--accept", "code")
    folder = killed.run_folder()
    lines = (folder / "trace.jsonl").read_text().splitlines()
    whole = (pair.whole.run_folder() / "trace.jsonl").read_text().splitlines()
    assert lines[:10] == before[:10] == whole[:10]
    assert [one == other for one, other in zip(lines[10:], whole[10:], strict=True)] == [False] * 12
    assert "From step 10 on the steps took the place of others" in (folder / "train.log").read_text()
    assert json.loads(lines[-1])["state"] == result.json["fingerprint"]
    again = killed("verify", "latest", "--json")
    assert (again.code, again.json["verdict"]) == (1, "diverged")
    assert again.json["cause"][0]["what"] == "code, until step 9"


def test_changed_run_is_resumed_again_without_asking_and_keeps_its_mark(
    pair: Pair, killed: Genmed, tmp_path: Path
) -> None:
    other_arithmetic(killed, tmp_path)
    stopped = killed("resume", "latest", "--json", "--accept", "code", GENMED_TEST_PASSES="3", GENMED_TEST_SIGNAL="15")
    assert stopped.code == 130, stopped.err
    result = resume(killed)
    assert [entry["what"] for entry in result.json["accepted"]] == ["code"]
    assert result.json["status"] == "completed"
    assert names(killed.run_folder() / "checkpoints")[-1] == "step-0000021-epoch-0003-end"


def test_two_parts_are_both_to_be_accepted(killed: Genmed, tmp_path: Path) -> None:
    other_package(killed, tmp_path)
    other_code(killed, tmp_path)
    result = killed("resume", "latest", "--json", "--accept", "environment")
    assert result.code == 2
    assert "code was sha256:" in result.json["error"]["message"]
    assert "fragile.py" in result.json["error"]["message"]
    assert "torchvision" not in result.json["error"]["message"]
    both = resume(killed, "--accept", "environment", "--accept", "code")
    assert [entry["what"] for entry in both.json["accepted"]] == ["code", "environment"]


def test_other_pixels_are_accepted_as_data_and_become_the_record(killed: Genmed, tmp_path: Path) -> None:
    more = other_pixels(killed, tmp_path)
    folder = killed.run_folder()
    recorded = read_sealed(folder / "data.json")["fingerprint"]
    assert killed("resume", "latest", "--json", *more).code == 2
    result = resume(killed, *more, "--accept", "data")
    [accepted] = result.json["accepted"]
    assert accepted["count"] == 1 + len(list((tmp_path / "data" / "images").iterdir()))
    assert accepted["changes"][0]["what"] == "data"
    assert accepted["changes"][1]["what"].startswith("pixels of ")
    assert read_sealed(folder / "data-until-step-0000009.json")["fingerprint"] == recorded
    assert read_sealed(folder / "data.json")["fingerprint"] == accepted["changes"][0]["found"]
    assert (folder / "data-images-until-step-0000009.csv").is_file()
    assert len(read_metrics(folder)) == 3


def test_other_images_are_never_accepted(killed: Genmed, tmp_path: Path) -> None:
    more = image_left_out(killed, tmp_path)
    result = killed("resume", "latest", "--json", *more, "--accept", "data")
    assert result.code == 2
    assert result.json["error"]["kind"] == "EnvironmentMismatch"
    assert re.search(r"image \S+ was present, is None", result.json["error"]["message"])
    assert "--accept" not in result.json["error"]["hint"]


def test_accepting_what_has_not_changed_marks_nothing(pair: Pair, killed: Genmed) -> None:
    result = resume(killed, "--accept", "code", "--accept", "environment", "--accept", "data")
    assert result.json["accepted"] == []
    assert_same_run(killed, pair.whole)


def test_unknown_part_is_refused_in_one_line(killed: Genmed) -> None:
    result = killed("resume", "latest", "--accept", "luck")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "'luck' is not one of 'code', 'environment', 'data'" in result.err


@pytest.mark.parametrize("passes", ["1", "2"])
def test_accepted_change_of_bits_holds_though_the_run_dies_before_it_shows(
    pair: Pair, killed: Genmed, tmp_path: Path, passes: str
) -> None:
    """Killed in the dry step or in the first step, when no line of the trace was replaced yet."""
    other_arithmetic(killed, tmp_path)
    command = ("resume", "latest", "--json", "--accept", "code")
    assert killed(*command, GENMED_TEST_PASSES=passes).code == -signal.SIGKILL
    if passes == "1":
        assert killed("resume", "latest", "--json").code == 2  # the dry step is before the mark
        resume(killed, "--accept", "code")
    else:
        assert [entry["what"] for entry in resume(killed).json["accepted"]] == ["code"]


def test_later_checkpoint_of_the_steps_before_a_change_is_replaced(pair: Pair, killed: Genmed, tmp_path: Path) -> None:
    """The trace is damaged before the newest checkpoint, of step 9."""
    path = killed.run_folder() / "trace.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:9]))
    other_arithmetic(killed, tmp_path)
    result = resume(killed, "--accept", "code")
    assert result.json["accepted"][0]["step"] == 7
    assert result.json["status"] == "completed"


def test_change_counts_from_the_checkpoint_that_the_run_goes_back_to(
    pair: Pair, killed: Genmed, tmp_path: Path
) -> None:
    other_arithmetic(killed, tmp_path)
    command = ("resume", "latest", "--json", "--accept", "code")
    assert killed(*command, GENMED_TEST_PASSES="3").code == -signal.SIGKILL
    for folder in (killed.run_folder() / "checkpoints").glob("step-0000009*"):
        flip(folder / "model.safetensors")
    result = resume(killed)
    assert [entry["step"] for entry in result.json["accepted"]] == [7]
