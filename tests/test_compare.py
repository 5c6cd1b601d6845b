"""compare: two runs side by side; what differs is named, what is equal is not, and nothing is written."""

import json
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmed.engine.trace import Divergence, RecordedTrace, read_trace
from genmed.ground.fingerprints import digest_file
from genmed.records.run_folder import RunFolder
from genmed.workflows.compare import Steps, compare_traces
from genmed.workflows.compare import compare as compare_runs
from tests.harness import Genmed, edit_document, forge_trace
from tests.resuming.runs import flip, snapshot
from tests.test_cli import run_without_torch
from tests.test_step import NETWORK

Arguments = Callable[..., list[object]]
STEPS = 28  # of `tiny`
KEYS = "schema runs identical config code environment data metrics trace".split()
PARTS = "config code environment data metrics".split()


@pytest.fixture
def copied(finished: Genmed) -> Path:
    """The folder of a second run, `other`, with all that the finished one recorded."""
    first = finished.run_folder()
    second = first.with_name("other-00c0ffee")
    shutil.copytree(first, second)
    edit_document(second / "run.json", lambda document: document.update(id="00c0ffee", name=second.name))
    return second


def compare(genmed: Genmed, first: str = "nih", second: str = "other") -> dict[str, Any]:
    """The object for scripts, after a look at what the command leaves: nothing."""
    genmed("list")  # takes in folders that the registry does not know
    before = snapshot(genmed.root / "runs")
    result = genmed("compare", first, second, "--json")
    assert (result.code, result.err) == (0, "")
    assert snapshot(genmed.root / "runs") == before
    found: dict[str, Any] = result.json
    assert list(found) == KEYS
    assert found["schema"] == 1
    return found


def different(found: dict[str, Any]) -> set[str]:
    """The parts in which the runs differ."""
    return {part for part in PARTS if found[part]}


def train_other(genmed: Genmed, tiny: Arguments, *more: object) -> None:
    result = genmed(*tiny("--name", "other", *more))
    assert result.code == 0, result.err


# What differs


def test_config_that_was_run_twice_gives_identical_runs_and_nothing_else(finished: Genmed, tiny: Arguments) -> None:
    assert finished(*tiny()).code == 0
    found = compare(finished, "latest~1", "latest")
    names = [run["name"] for run in finished("list", "--json").json]
    assert found == {
        "schema": 1,
        "runs": names[::-1],
        "identical": True,
        "config": [],
        "code": [],
        "environment": [],
        "data": None,
        "metrics": [],
        "trace": {"steps": [STEPS, STEPS], "equal": STEPS, "first_divergence": None},
    }


def test_keys_that_affect_no_bits_differ_and_the_runs_are_identical(finished: Genmed, tiny: Arguments) -> None:
    train_other(finished, tiny, "--num-workers", 1)
    found = compare(finished)
    assert found["identical"] is True
    assert different(found) == {"config"}
    assert found["config"] == [
        {"key": "compute.num_workers", "first": 0, "second": 1, "affects_bits": False},
        {"key": "run.name", "first": "", "second": "other", "affects_bits": False},
    ]


def test_another_seed_differs_from_its_initial_state_on_the_same_split(finished: Genmed, tiny: Arguments) -> None:
    train_other(finished, tiny, "--seed", 43)
    found = compare(finished)
    assert found["identical"] is False
    assert {"key": "seed", "first": 42, "second": 43, "affects_bits": True} in found["config"]
    assert found["trace"] == {
        "steps": [STEPS, STEPS],
        "equal": 0,
        "first_divergence": {"step": 0, "epoch": 0, "field": "initial"},
    }
    assert [entry["field"] for entry in found["environment"]] == ["determinism.PYTHONHASHSEED"]
    assert found["data"] is None
    runs = [finished("show", name, "--json").json for name in ("nih", "other")]
    tables = [(finished.root / run["path"] / "data-images.csv").read_text() for run in runs]
    assert tables[0] == tables[1]
    assert runs[0]["fingerprint"] != runs[1]["fingerprint"]
    assert runs[0]["trace_digest"] != runs[1]["trace_digest"]
    shown = [run["metrics"] for run in runs]
    assert {entry["name"] for entry in found["metrics"]} == {
        name for name in shown[0] if shown[0][name] != shown[1][name]
    }
    for entry in found["metrics"]:
        assert list(entry) == ["name", "first", "second", "difference"]
        assert (entry["first"], entry["second"]) == (shown[0][entry["name"]], shown[1][entry["name"]])
        assert entry["difference"] == entry["second"] - entry["first"]
    assert shown[0]["test_auroc_Edema"] is shown[1]["test_auroc_Edema"] is None  # equal, so not among them


def test_another_learning_rate_parts_at_the_first_update(finished: Genmed, tiny: Arguments) -> None:
    train_other(finished, tiny, "--lr", 0.002)
    found = compare(finished)
    assert [entry["key"] for entry in found["config"]] == ["optimizer.lr", "run.name"]
    assert [entry["affects_bits"] for entry in found["config"]] == [True, False]
    assert (found["trace"]["equal"], found["trace"]["first_divergence"]["field"]) == (0, "param")
    assert found["trace"]["first_divergence"]["step"] == 1


def test_schedule_that_changes_late_parts_where_it_changes(genmed: Genmed, tiny: Arguments) -> None:
    falling = ("--set", "schedule.name=multistep", "--set")
    assert genmed(*tiny(*falling, "schedule.milestones=[0.5]", "--name", "early")).code == 0
    train_other(genmed, tiny, *falling, "schedule.milestones=[0.75]")
    found = compare(genmed, "early", "other")
    assert found["identical"] is False
    assert found["trace"] == {
        "steps": [STEPS, STEPS],
        "equal": 14,
        "first_divergence": {"step": 15, "epoch": 3, "field": "param"},
    }


def test_code_differs_by_file(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    path = tmp_path / "network.py"
    path.write_text(NETWORK)
    assert genmed(*tiny("--model", f"{path}:build", "--epochs", 1, "--name", "nih")).code == 0
    path.write_text(NETWORK + "# the same in other words\n")
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(path, tmp_path / "elsewhere" / "network.py")
    train_other(genmed, tiny, "--model", f"{moved}:build", "--epochs", 1)
    found = compare(genmed)
    assert found["identical"] is True
    (entry,) = found["code"]
    assert (entry["file"], entry["second"]) == ("network.py", digest_file(path))
    path.write_text(NETWORK)
    assert entry["first"] == digest_file(path)
    (model,) = [entry for entry in found["config"] if entry["key"] == "model.name"]
    assert model["first"] != model["second"]
    assert model["affects_bits"] is False  # another folder alone


def test_source_file_that_only_one_run_had_is_null_in_the_other(finished: Genmed, copied: Path) -> None:
    edit_document(
        copied / "environment.json", lambda document: document["code"]["files"].update({"genmed/more.py": "sha256:1"})
    )
    edit_document(copied / "environment.json", lambda document: document["code"]["files"].pop("genmed/seed.py"))
    found = compare(finished)
    assert different(found) == {"code"}
    seed = digest_file(Path(__file__).parents[1] / "genmed" / "seed.py")
    assert found["code"] == [
        {"file": "genmed/seed.py", "first": seed, "second": None},
        {"file": "genmed/more.py", "first": None, "second": "sha256:1"},
    ]


@pytest.mark.parametrize(
    ("package", "changes_bits", "why"),
    [
        ("numpy", True, "its arithmetic changes between versions"),
        ("rich", False, "it reads commands and prints"),
    ],
)
def test_another_package_differs_with_the_reason_why_it_matters(
    finished: Genmed, copied: Path, package: str, changes_bits: bool, why: str
) -> None:
    version = json.loads((copied / "environment.json").read_text())["packages"][package]
    edit_document(copied / "environment.json", lambda document: document["packages"].update({package: "0.1.2"}))
    found = compare(finished)
    assert found["identical"] is True
    assert different(found) == {"environment"}
    assert found["environment"] == [
        {
            "field": f"packages.{package}",
            "first": version,
            "second": "0.1.2",
            "changes_bits": changes_bits,
            "why": why,
        }
    ]


def test_whether_a_difference_matters_is_judged_by_the_device_of_the_first_run(finished: Genmed, copied: Path) -> None:
    edit_document(copied / "environment.json", lambda document: document["libraries"].update(onednn="0.1.2"))
    edit_document(copied / "run.json", lambda document: document.update(device="cuda"))
    (on_cpu,) = compare(finished)["environment"]
    (on_cuda,) = compare(finished, "other", "nih")["environment"]
    assert (on_cpu["field"], on_cpu["second"], on_cpu["changes_bits"]) == ("libraries.onednn", "0.1.2", True)
    assert (on_cuda["field"], on_cuda["first"], on_cuda["changes_bits"]) == ("libraries.onednn", "0.1.2", False)
    assert on_cuda["why"] == "the run computed on cuda, and this matters on cpu and mps alone"


def change_pixel(data: Path) -> None:
    path = data / "images" / "00000001_001.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[5, 7] ^= 128  # a smaller change may be lost where the image is made smaller
    Image.fromarray(pixels).save(path)


def change_label(data: Path) -> None:
    edit_table(data, lambda line: line.replace("00000001_001.png,Effusion,", "00000001_001.png,Effusion|Hernia,"))


def remove_image(data: Path) -> None:
    (data / "images" / "00000001_001.png").unlink()
    edit_table(data, lambda line: "" if "00000001_001" in line else line)


def add_image(data: Path) -> None:
    shutil.copyfile(data / "images" / "00000001_001.png", data / "images" / "00000001_009.png")
    edit_table(data, lambda line: line + line.replace("1_001.png", "1_009.png") if "00000001_001" in line else line)


def edit_table(data: Path, change: Callable[[str], str]) -> None:
    path = data / "Data_Entry_2017_v2020.csv"
    before = path.read_text()
    path.write_text("".join(change(line) for line in before.splitlines(keepends=True)))
    assert path.read_text() != before


OTHER_DATA: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "pixel": (change_pixel, {"what": "pixels of 00000001_001.png"}, "input"),
    "label": (
        change_label,
        {"what": "labels of 00000001_001.png", "first": "Effusion", "second": "Effusion|Hernia"},
        "loss",
    ),
    "image less": (remove_image, {"what": "image 00000001_001.png", "first": "present", "second": None}, "samples"),
    "image more": (add_image, {"what": "image 00000001_009.png", "first": None, "second": "present"}, "samples"),
}


@pytest.mark.parametrize(("change", "expected", "field"), OTHER_DATA.values(), ids=OTHER_DATA)
def test_other_data_differ_by_image(
    finished: Genmed,
    tiny: Arguments,
    nih: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
    expected: dict[str, Any],
    field: str,
) -> None:
    data = Path(shutil.copytree(nih, tmp_path / "data"))
    change(data)
    train_other(finished, tiny, "--data-root", data)
    found = compare(finished)
    assert found["identical"] is False
    assert [(entry["key"], entry["affects_bits"]) for entry in found["config"]] == [
        ("data.root", False),
        ("run.name", False),
    ]
    assert list(found["data"]) == ["first", "second", "images", "count"]
    assert found["data"]["first"] != found["data"]["second"]
    (image,) = found["data"]["images"]
    assert list(image) == ["what", "first", "second"]
    assert image["first"] != image["second"]
    assert image | expected == image
    assert found["data"]["count"] == 1
    assert found["trace"]["first_divergence"]["field"] == field


def test_another_split_names_its_images_and_counts_them_all(finished: Genmed, tiny: Arguments) -> None:
    train_other(finished, tiny, "--split-seed", 1)
    found = compare(finished)["data"]
    assert found["count"] == len(found["images"]) > 10
    assert all(entry["what"].startswith("split of ") for entry in found["images"])
    shown = finished("compare", "nih", "other").out.splitlines()
    named = [line for line in shown if line.startswith("split of ")]
    assert named == ["\t".join(entry.values()) for entry in found["images"][:10]]
    assert f"and {found['count'] - 10} more\t\t" in shown


def test_images_kept_are_limited_and_all_are_counted(
    finished: Genmed, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genmed.workflows.compare.MOST_IMAGES", 7)
    pretend_other_data(copied, ",train,", ",test,")
    described = {"file": "data-images.csv", "sha256": digest_file(copied / "data-images.csv")}
    edit_document(copied / "data.json", lambda document: document.update(images=described))
    data = compare_runs(RunFolder(original(copied)), RunFolder(copied)).data
    assert data is not None
    assert len(data.images) == 7
    assert data.count > 7


def test_metric_that_one_run_lacks_is_null_there_and_has_no_difference(finished: Genmed, copied: Path) -> None:
    edit_document(
        copied / "run.json",
        lambda document: document["metrics"].update(
            test_loss=document["metrics"]["test_loss"] + 0.25, test_auroc_macro=None
        ),
    )
    found = compare(finished)
    assert different(found) == {"metrics"}
    assert found["identical"] is True
    entries = {entry["name"]: entry for entry in found["metrics"]}
    assert entries.keys() == {"test_loss", "test_auroc_macro"}
    assert entries["test_loss"]["difference"] == pytest.approx(0.25)
    assert entries["test_auroc_macro"]["first"] is not None
    assert entries["test_auroc_macro"]["second"] is entries["test_auroc_macro"]["difference"] is None


# Where traces part


def test_divergence_in_the_middle_is_found_at_its_step(finished: Genmed, copied: Path) -> None:
    forge_trace(copied, lambda lines: lines[10].update(grad="xxh3-128:" + 32 * "0"))
    found = compare(finished)
    assert different(found) == set()
    assert found["identical"] is False
    assert found["trace"] == {
        "steps": [STEPS, STEPS],
        "equal": 9,
        "first_divergence": {"step": 10, "epoch": 2, "field": "grad"},
    }


def test_killed_run_is_equal_as_far_as_it_came(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    (tmp_path / "network.py").write_text(NETWORK)
    command = tiny("--model", f"{tmp_path / 'network.py'}:build")
    assert genmed(*command, "--name", "nih").code == 0
    assert genmed(*command, "--name", "other", GENMED_TEST_KILL_AT="12").code == -signal.SIGKILL
    found = compare(genmed)
    assert found["identical"] is False
    assert found["trace"] == {"steps": [STEPS, 10], "equal": 10, "first_divergence": None}
    assert {entry["second"] for entry in found["metrics"]} == {None}
    lines = genmed("compare", "nih", "other").out.splitlines()
    assert lines[-4].endswith(" (interrupted)")
    assert lines[-3:] == [
        f"steps\t{STEPS}, 10",
        "equal steps\t10",
        "traces\tequal as far as both go; the first run has 18 more steps",
    ]


def test_state_that_only_the_shorter_run_recorded_at_its_end_is_no_divergence(genmed: Genmed, tiny: Arguments) -> None:
    constant = ("--set", "schedule.name=constant", "--set", "schedule.warmup=0")
    assert genmed(*tiny("--name", "nih", *constant)).code == 0
    train_other(genmed, tiny, *constant, "--set", "training.max_steps=10")
    assert compare(genmed)["trace"] == {"steps": [STEPS, 10], "equal": 10, "first_divergence": None}


def test_runs_without_a_trace_are_compared_by_their_final_states(finished: Genmed, tiny: Arguments) -> None:
    train_other(finished, tiny, "--set", "run.trace=false")
    found = compare(finished)
    assert found["identical"] is False
    assert [entry["key"] for entry in found["config"]] == ["run.name", "run.trace"]
    assert found["metrics"] == []
    assert found["trace"] == {"steps": [STEPS, None], "equal": None, "first_divergence": None}
    lines = finished("compare", "nih", "other").out.splitlines()
    assert lines[-2:] == ["traces\tcannot be compared: the second run has none", "final states\tequal"]


def test_run_that_was_broken_off_before_its_trace_began_has_none(finished: Genmed, copied: Path) -> None:
    break_off(copied, checkpoint_step=0)
    assert compare(finished)["trace"] == {"steps": [STEPS, None], "equal": None, "first_divergence": None}
    assert finished("compare", "other", "nih").out.endswith("traces\tcannot be compared: the first run has none\n")


def test_run_that_continues_another_has_no_step_in_common_with_it(finished: Genmed) -> None:
    assert finished("resume", "latest", "--epochs", 5, "--json").code == 0
    found = compare(finished, "latest~1", "latest")
    assert found["identical"] is False
    assert found["trace"] == {"steps": [STEPS, 7], "equal": 0, "first_divergence": None}
    lines = finished("compare", "latest~1", "latest").out.splitlines()
    assert lines[-3:] == ["steps\t28, 7 from step 29 on", "equal steps\t0", "traces\thave no step in common"]


@pytest.fixture(scope="module")
def trace(trained: Genmed) -> RecordedTrace:
    return read_trace(trained.run_folder() / "trace.jsonl")


def continue_at(trace: RecordedTrace, step: int, initial: str) -> RecordedTrace:
    """The rest of the trace, as of a run that continues another."""
    header = {**trace.header, "initial": initial, "start": {"step": step, "epoch": trace.line(step)["epoch"]}}
    return RecordedTrace(header, trace.lines[step:], trace.ends[step:])


def test_run_that_continues_another_is_compared_from_the_first_step_that_both_have(trace: RecordedTrace) -> None:
    child = continue_at(trace, 14, trace.line(14)["state"])
    for pair in ((trace, child), (child, trace)):
        found = compare_traces(*pair)
        assert {found.first, found.second} == {Steps(0, 28), Steps(14, 28)}
        assert (found.equal, found.first_divergence, found.whole) == (14, None, False)
    assert compare_traces(child, child).whole


def test_run_that_continues_from_another_state_parts_before_the_first_common_step(trace: RecordedTrace) -> None:
    child = continue_at(trace, 14, "sha256:other")
    for pair in ((trace, child), (child, trace), (child, continue_at(trace, 14, "sha256:third"))):
        found = compare_traces(*pair)
        assert (found.equal, found.first_divergence) == (0, Divergence(14, 2, "initial"))


@pytest.mark.parametrize("field", ["samples", "input", "loss", "grad", "param", "buffer", "optim", "lr", "state"])
def test_divergence_names_the_field(trace: RecordedTrace, field: str) -> None:
    lines = [*trace.lines[:20], {**trace.line(21), field: "other"}, *trace.lines[21:]]
    found = compare_traces(trace, replace(trace, lines=lines))
    assert (found.equal, found.first_divergence) == (20, Divergence(21, 3, field))


# For people, and for those who got it wrong


def test_tables_for_people_show_only_what_differs(finished: Genmed, copied: Path) -> None:
    known = json.loads((copied / "environment.json").read_text())
    macro = json.loads((copied / "run.json").read_text())["metrics"]["test_auroc_macro"]
    edit_document(copied / "environment.json", lambda document: document["packages"].update(rich="0.1.2"))
    edit_document(copied / "environment.json", lambda document: document["code"]["files"].pop("genmed/seed.py"))
    edit_document(copied / "run.json", lambda document: document["metrics"].update(test_auroc_macro=None))
    edit_config(copied, "note: ''", 'note: "one\\ttwo"')
    forge_trace(copied, lambda lines: lines[10].update(grad="xxh3-128:" + 32 * "0"))
    finished("list")
    result = finished("compare", "nih", "other", TERM="xterm-256color", COLUMNS="20")
    assert (result.code, result.err) == (0, "")
    assert [line.split("\t") for line in result.out.splitlines()] == [
        ["config", "first", "second", "affects bits"],
        ["run.note", "", "one\\ttwo", "no"],
        ["code", "first", "second"],
        ["genmed/seed.py", known["code"]["files"]["genmed/seed.py"][:19], "-"],
        ["environment", "first", "second", "can change bits", "why"],
        [
            *("packages.rich", known["packages"]["rich"], "0.1.2", "no"),
            "it reads commands and prints",
        ],
        ["metric", "first", "second", "difference"],
        ["test_auroc_macro", f"{macro:.4f}", "-", "-"],
        ["first run", original(copied).name],
        ["second run", copied.name],
        ["steps", "28, 28"],
        ["equal steps", "9"],
        ["traces", "part at step 10, epoch 2: grad"],
    ]


def test_equal_runs_get_no_table_and_one_clear_line(finished: Genmed, copied: Path) -> None:
    finished("list")
    result = finished("compare", "nih", "other")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        f"first run\t{original(copied).name}",
        f"second run\t{copied.name}",
        "steps\t28, 28",
        "equal steps\t28",
        "traces\tidentical: all 28 steps are equal",
    ]


def test_initial_states_that_differ_are_told_in_words(finished: Genmed, copied: Path) -> None:
    forge_trace(copied, lambda lines: lines[0].update(initial="sha256:0"))
    finished("list")
    lines = finished("compare", "nih", "other").out.splitlines()
    assert lines[-1] == "traces\tpart before step 1: the initial states differ"


def test_change_that_was_accepted_in_a_run_is_told_beside_its_name(finished: Genmed, copied: Path) -> None:
    change = {"what": "packages.rich", "recorded": "0.1.1", "found": "0.1.2"}
    accepted = {"what": "environment", "step": 7, "when": "2026-01-28T19:30:00Z", "changes": [change], "count": 1}
    edit_document(copied / "run.json", lambda document: document.update(accepted=[accepted]))
    finished("list")
    told = "another environment from step 7 on: packages.rich was 0.1.1, is 0.1.2"
    assert f"second run\t{copied.name} ({told})" in finished("compare", "nih", "other").out.splitlines()


def test_comparison_needs_neither_torch_nor_the_data(finished: Genmed, copied: Path, nih: Path, tmp_path: Path) -> None:
    for folder in (copied, original(copied)):
        edit_config(folder, f"root: {nih}", "root: /nowhere")
    code = "from genmed.cli.app import run\nassert run(['compare', 'nih', 'other', '--json']) == 0"
    printed = run_without_torch(code, tmp_path, GENMED_ROOT=str(finished.root))
    assert json.loads(printed)["identical"] is True


@pytest.mark.parametrize("runs", [("nih", "x"), ("x", "nih")])
def test_run_that_is_not_there_is_one_line(trained: Genmed, runs: tuple[str, str]) -> None:
    result = trained("compare", *runs)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert result.err.startswith("error: no run goes by 'x'")


def test_one_run_alone_is_no_comparison(trained: Genmed) -> None:
    result = trained("compare", "latest")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert "genmed compare --help" in result.err


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "run.json": (lambda folder: flip(folder / "run.json"), "run.json is damaged"),
    "config": (lambda folder: edit_config(folder, "batch_size: 8", "batch_size: 16"), "config.yaml was edited"),
    "environment": (lambda folder: (folder / "environment.json").unlink(), "environment.json is missing"),
    "trace edited": (lambda folder: flip(folder / "trace.jsonl"), "trace.jsonl"),
    "trace missing": (lambda folder: (folder / "trace.jsonl").unlink(), "no trace .*trace.jsonl"),
    "trace missing of a run broken off": (lambda folder: break_off(folder, 7), "no trace .*trace.jsonl"),
    "images": (lambda folder: pretend_other_data(folder, ",train,", ",test,"), "data-images.csv is damaged"),
}


@pytest.mark.parametrize(("spoil", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_file_of_a_run_is_named(
    finished: Genmed, copied: Path, spoil: Callable[[Path], object], message: str
) -> None:
    finished("list")
    spoil(copied)
    result = finished("compare", "nih", copied.name, "--json")
    assert (result.code, list(result.json)) == (2, ["schema", "error"]), result.out
    assert re.search(message, result.json["error"]["message"])


def break_off(folder: Path, checkpoint_step: int) -> None:
    """Leaves it as a run that was broken off, and without a trace."""
    (folder / "trace.jsonl").unlink()
    fields = {"status": "interrupted", "trace_digest": None, "fingerprint": None, "checkpoint_step": checkpoint_step}
    edit_document(folder / "run.json", lambda document: document.update(fields))


def original(copied: Path) -> Path:
    """The folder of which it is a copy."""
    (found,) = copied.parent.glob("nih-*")
    return found


def edit_config(folder: Path, before: str, after: str) -> None:
    path = folder / "config.yaml"
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, after))


def pretend_other_data(folder: Path, before: str, after: str) -> None:
    """Edits data-images.csv without its digest."""
    path = folder / "data-images.csv"
    path.write_text(path.read_text().replace(before, after))
    edit_document(folder / "run.json", lambda document: document.update(data_fingerprint="sha256:0"))
