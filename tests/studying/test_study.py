"""A study is killed, stopped and resumed, and its runs are those that the same commands give alone."""

import json
import queue
import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import psutil
import pytest

from genmed.ground.interpreter import WAITING_ALONE, WAITING_BESIDE
from genmed.records.config import Config
from genmed.records.run_folder import list_run_folders
from genmed.records.study_folder import study_folder
from genmed.workflows.studies.found import Found
from genmed.workflows.studies.results import make_results
from genmed.workflows.studies.trainings import MODULE, Order, Training
from genmed.workflows.verification.spread import bounds_of_seeds
from tests.harness import Genmed, edit_document
from tests.resuming.runs import Arguments, snapshot
from tests.studying.conftest import Storm, find_run, list_documents

pytestmark = pytest.mark.timeout(600)  # seven fresh interpreters, before the first test
CELLS = ["slow.py:build", "slow.py:wide"]


def statuses(described: dict[str, Any]) -> list[str]:
    return [run["status"] for cell in described["cells"] for run in cell["runs"]]


def read_traces(genmed: Genmed) -> dict[str, bytes]:
    return {folder.name: folder.trace_path.read_bytes() for folder in list_run_folders(genmed.root)}


@pytest.mark.parametrize(("beside", "waiting"), [(True, WAITING_BESIDE), (False, WAITING_ALONE)])
def test_trainings_beside_each_other_wait_shorter(
    beside: bool, waiting: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    training = Training(Order(tmp_path, Config(), {}, None), queue.SimpleQueue(), beside=beside)
    try:
        [process] = [child for child in psutil.Process().children() if MODULE in child.cmdline()]
        assert waiting.items() <= process.environ().items()
    finally:
        training.kill()


# Killed, stopped, resumed


def test_training_of_a_killed_study_ends_with_its_state_safe(storm: Storm) -> None:
    assert storm.after_kill["status"] == "interrupted"
    assert statuses(storm.after_kill) == ["interrupted", "pending", "pending", "pending"]
    [run, *_] = storm.after_kill["cells"][0]["runs"]
    assert run["id"] == storm.under_way.id
    lines = (storm.genmed.run_folder(run["run"]) / "train.log").read_text().splitlines()
    [first, *_] = [line for line in lines if "Interrupted: " in line]
    assert "] Interrupted: SIGTERM at epoch 1, step " in first


def test_stopped_study_exits_with_130_and_says_how_to_go_on(storm: Storm) -> None:
    assert storm.stopped.code == 130
    lines = storm.stopped.err.splitlines()
    assert lines[0] == "Study: 4 runs, 0 of them done"
    assert lines[1] == f"slow.py:build seed 42: resuming {storm.under_way.name}"
    assert lines[-1] == (
        "interrupted: SIGTERM after 0 of 4 runs (all states are safe; go on with: genmed study resume storm --jobs 2)"
    )
    assert "a model that talks" not in storm.stopped.err


def test_study_that_went_on_has_one_complete_run_a_cell_and_seed(storm: Storm) -> None:
    documents = list_documents(storm.genmed.root)
    assert [entry.status for entry in documents] == ["completed"] * 4
    assert all(entry.tags == ("study:storm",) for entry in documents)
    assert storm.ended.err.count("resuming nih-slow-") == 2
    listed = storm.genmed("list")
    assert listed.out.count("\tstudy:storm\n") == 4


@pytest.mark.parametrize(("number", "seed"), [(0, 42), (1, 43)])
def test_run_of_a_study_is_the_same_run_made_alone(
    storm: Storm, genmed: Genmed, tiny: Arguments, number: int, seed: int
) -> None:
    """And a study that finds it made already takes it as it is."""
    often = ["--set", "checkpoints.every_steps=2", "--epochs", 2, "--seed", seed]
    alone = genmed(*tiny(*often, "--model", storm.models[number]))
    assert alone.code == 0, alone.err
    of_study = find_run(storm.genmed, storm.models[number], seed)
    described = json.loads(alone.out[alone.out.index("{") :])  # the model talks before
    assert of_study.read().trace_digest == described["trace_digest"]
    for name in ("trace.jsonl", "predictions.csv", "data-images.csv"):
        assert (of_study.path / name).read_bytes() == (genmed.run_folder() / name).read_bytes(), name
    command = tiny(*often, "--model", storm.models[number], "--seeds", 1, command="study")
    study = genmed(*command)
    assert study.code == 0, study.err
    assert "begun" not in study.err
    assert [run["id"] for cell in study.json["cells"] for run in cell["runs"]] == [described["id"]]
    assert genmed("list", "--json").json[0]["tags"] == [f"study:{study.json['study']}"]


# What it tells


def test_study_that_is_done_trains_nothing(storm: Storm, copied: Genmed) -> None:
    traces = read_traces(copied)
    again = copied(*storm.command, "--json")
    assert again.code == 0, again.err
    assert again.err == "Study: 4 runs, 4 of them done\n"
    assert read_traces(copied) == traces
    shown = copied("study", "show", "storm", "--json")
    assert shown.json == again.json
    assert again.json["created"] == storm.genmed("study", "show", "--json").json["created"]


def test_show_has_the_documented_keys_and_writes_nothing(storm: Storm, copied: Genmed) -> None:
    before = snapshot(copied.root / "runs")
    shown = copied("study", "show", "--json").json
    assert snapshot(copied.root / "runs") == before
    assert shown["schema"] == 1
    assert (shown["study"], shown["status"], shown["runs_done"], shown["runs_total"]) == ("storm", "completed", 4, 4)
    assert (shown["metric"], shown["seeds"], shown["unit"]) == ("test_auroc_macro", [42, 43], "patient")
    assert [cell["cell"] for cell in shown["cells"]] == CELLS
    assert [list(cell["settings"].values()) for cell in shown["cells"]] == [[model] for model in storm.models]
    [compared] = shown["comparisons"]
    assert (compared["a"], compared["b"], compared["seeds"]) == (*CELLS, 2)
    means = []
    for cell in shown["cells"]:
        found = [run["metrics"]["test_auroc_macro"] for run in cell["runs"]]
        entry = cell["metrics"]["test_auroc_macro"]
        validated = [run["metrics"]["val_auroc_macro"] for run in cell["runs"]]
        assert cell["val_mean"] == pytest.approx(sum(validated) / 2)
        means.append(entry["mean"])
        assert entry["mean"] == pytest.approx(sum(found) / 2, abs=1e-9)
        assert entry["sd"] == pytest.approx(abs(found[0] - found[1]) / 2**0.5, abs=1e-9)
    assert compared["difference"] == pytest.approx(means[0] - means[1], abs=1e-9)
    assert [entry["cell"] for entry in shown["flips"]] == CELLS
    assert all(0 <= entry["share"] <= 1 for entry in shown["flips"])
    assert any(note.startswith("2 seeds: the spread over seeds is poorly known") for note in shown["notes"])


def test_another_metric_is_shown_when_asked_for(storm: Storm) -> None:
    shown = storm.genmed("study", "show", "storm", "--metric", "test_brier_macro", "--json").json
    assert shown["comparisons"][0]["metric"] == "test_brier_macro"
    refused = storm.genmed("study", "show", "storm", "--metric", "auroc_marco")
    assert refused.code == 2
    assert refused.err.startswith("error: storm has no metric 'auroc_marco' (did you mean auroc_macro")


def test_net_benefit_at_each_run_s_own_threshold_compares_nothing(storm: Storm) -> None:
    refused = storm.genmed("study", "show", "storm", "--metric", "test_net_benefit_macro")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "error: test_net_benefit_macro compares no models: it weighs harms by the threshold, and each run has its own"
        " (take auroc_macro or brier_macro; `genmed report` draws net benefit at all thresholds)\n"
    )
    near = storm.genmed("study", "show", "storm", "--metric", "benefit_macro").err
    assert "has no metric 'benefit_macro'" in near
    assert "net_benefit" not in near


@pytest.mark.parametrize(
    ("seeds_of_wide", "told"),
    [
        (range(1, 6), []),
        (range(4, 9), ["2 seeds in common (slow.py:build - slow.py:wide): the spread over seeds is poorly known"]),
        (range(5, 10), ["1 seed in common (slow.py:build - slow.py:wide): nothing is known of the spread over seeds"]),
        (range(6, 11), ["cells without a seed in common are not compared"]),
        (range(1, 4), ["3 seeds: the spread over seeds is poorly known"]),
    ],
)
def test_few_seeds_are_counted_where_they_are_compared(storm: Storm, seeds_of_wide: range, told: list[str]) -> None:
    """The first cell has seeds 1 to 5; one run stands for all of its cell."""
    runs = [find_run(storm.genmed, model, 42) for model in storm.models]
    study = study_folder(storm.genmed.root, "storm").read().model_copy(update={"seeds": tuple(range(1, 11))})
    there = [range(1, 6), seeds_of_wide]
    found = {
        (number, seed): Found("completed", runs[number]) if seed in there[number] else Found("pending")
        for number in range(2)
        for seed in study.seeds
    }
    notes = make_results(study, found, "auroc_macro")["notes"]
    assert [note.partition(", which")[0].partition("; ")[0] for note in notes if "seed" in note] == told


def test_table_is_plain_off_a_terminal(storm: Storm) -> None:
    lines = storm.genmed("study", "show").out.splitlines()
    assert lines[0].split("\t")[:5] == ["cell", "status", "seeds", "mean (95%)", "sd of seeds"]
    assert lines[1].split("\t")[:3] == ["slow.py:build", "completed", "2/2"]
    assert "study\tstorm" in lines
    [listed] = storm.genmed("study", "list", "--json").json
    assert (listed["study"], listed["status"], listed["runs_done"], listed["cells"]) == ("storm", "completed", 4, CELLS)


# What is lost, damaged, failed or another


def test_lost_study_is_made_again_by_its_command(storm: Storm, copied: Genmed) -> None:
    shutil.rmtree(copied.root / "runs" / "studies")
    assert copied("study", "list", "--json").json == []
    again = copied(*storm.command, "--json")
    assert again.err == "Study: 4 runs, 4 of them done\n"
    assert again.json["cells"] == storm.genmed("study", "show", "--json").json["cells"]


def test_damaged_results_are_made_anew_and_a_damaged_study_is_named(storm: Storm, copied: Genmed) -> None:
    place = copied.root / "runs" / "studies" / "storm"
    (place / "results.json").write_text("{}")
    assert copied("study", "show", "--json").json == storm.genmed("study", "show", "--json").json
    (place / "study.json").write_bytes((place / "study.json").read_bytes()[:-9])
    [listed] = copied("study", "list", "--json").json
    assert (listed["study"], listed["status"]) == ("storm", "damaged")
    refused = copied(*storm.command)
    assert refused.code == 2
    assert "study.json is damaged" in refused.err
    assert "remove it and give the same command again" in refused.err


def test_run_whose_predictions_were_edited_does_not_count(storm: Storm, copied: Genmed) -> None:
    path = find_run(copied, storm.models[0], 43).predictions_path
    path.write_text(path.read_text().replace("test", "val", 1))
    assert statuses(copied("study", "show", "--json").json) == ["completed", "pending", "completed", "completed"]


ACCEPTED = {"what": "code", "step": 1, "when": "2026-01-28T19:30:00Z", "changes": [], "count": 1}


@pytest.mark.parametrize(
    "change",
    [{"code_digest": "sha256:0"}, {"data_fingerprint": "sha256:0"}, {"accepted": [ACCEPTED]}, {"hidden": True}],
)
def test_run_of_other_code_or_data_or_changed_on_its_way_does_not_count(
    storm: Storm, copied: Genmed, change: dict[str, Any]
) -> None:
    edit_document(find_run(copied, storm.models[1], 42).document_path, lambda document: document.update(change))
    copied("list", "--rebuild")
    shown = copied("study", "show", "--json").json
    assert statuses(shown) == ["completed", "completed", "pending", "completed"]


def test_code_that_changed_since_the_study_was_last_run_is_told(copied: Genmed) -> None:
    path = copied.root / "runs" / "studies" / "storm" / "study.json"
    edit_document(path, lambda document: [cell.update(code_digest="sha256:0") for cell in document["cells"]])
    assert statuses(copied("study", "show", "--json").json) == ["pending"] * 4
    gone_on = copied("study", "resume", "storm", "--json")
    assert gone_on.err == (
        "the code changed since the study was last run; runs made before that do not count\n"
        "Study: 4 runs, 4 of them done\n"
    )
    assert statuses(gone_on.json) == ["completed"] * 4


def test_study_of_the_same_name_and_another_config_is_refused_with_the_differences(
    storm: Storm, copied: Genmed
) -> None:
    before = snapshot(copied.root)
    refused = copied(*storm.command, "--lr", "0.5")
    assert refused.code == 2
    assert "there is a study storm of another config: optimizer.lr was 0.001, is 0.5" in refused.err
    more = [*storm.command]
    more[more.index("--seeds") + 1] = 3
    assert "seeds were 42, 43, are 42, 43, 44" in copied(*more).err
    assert "metric was auroc_macro, is brier_macro" in copied(*storm.command, "--metric", "brier_macro").err
    fewer = [storm.models[0] if part == ",".join(storm.models) else part for part in storm.command]
    assert "cells were slow.py:build, slow.py:wide, are slow.py:build" in copied(*fewer).err
    assert snapshot(copied.root) == before


def test_failed_run_is_told_and_gone_on_with_when_asked(storm: Storm, copied: Genmed) -> None:
    folder = find_run(copied, storm.models[1], 43)

    def fail(document: dict[str, Any]) -> None:
        document.update(status="failed", error="OSError: a fault", trace_digest=None, fingerprint=None, files={})

    edit_document(folder.document_path, fail)
    copied("list", "--rebuild")
    told = copied("study", "resume", "storm")
    assert told.code == 1
    assert told.err == "Study: 4 runs, 3 of them done\nslow.py:wide seed 43: failed before: OSError: a fault\n"
    assert "failed\tslow.py:wide seed 43: OSError: a fault\n" in told.out
    retried = copied("study", "resume", "storm", "--retry-failed", "--json")
    assert retried.code == 0, retried.err
    assert f"slow.py:wide seed 43: resuming {folder.name}\n" in retried.err
    digest = find_run(storm.genmed, storm.models[1], 43).read().trace_digest
    assert retried.json["cells"][1]["runs"][1]["trace_digest"] == digest


def test_training_that_cannot_begin_keeps_no_other_from_its_end(storm: Storm, genmed: Genmed, tiny: Arguments) -> None:
    """The file has no such function, which is known when it is imported; the run never begins."""
    absent = storm.models[0].replace(":build", ":absent")
    grid = ["--models", f"{absent},{storm.models[0]}", "--set", "training.max_steps=2", "--seeds", 1, "--jobs", 2]
    command = tiny(*grid, command="study")
    model = command.index("--model")
    del command[model : model + 2]
    result = genmed(*command)
    assert result.code == 1, result.err
    assert statuses(result.json) == ["failed", "completed"]
    assert "slow.py has no function absent" in result.json["cells"][0]["runs"][0]["error"]
    assert "slow.py:absent seed 42: failed: " in result.err
    assert [entry["cell"] for entry in result.json["flips"]] == ["slow.py:build"]
    assert len(list_documents(genmed.root)) == 1


def test_study_under_way_is_left_to_its_process(storm: Storm, copied: Genmed, server: ForkServerContext) -> None:
    from genmed.records.study_folder import study_folder

    with study_folder(copied.root, "storm").alone():
        refused = copied("study", "resume", "storm")
    assert refused.code == 2
    assert refused.err == "error: the study storm is running now (wait for its end)\n"


def test_runs_of_a_study_are_no_folders_of_runs(storm: Storm) -> None:
    """What else reads runs/ sees four runs, and no fifth."""
    assert len(storm.genmed("list", "--rebuild", "--json").json) == 4
    document = list_documents(storm.genmed.root)[0]
    assert bounds_of_seeds(storm.genmed.root, document) is None, "2 seeds are too few"
    assert json.loads((storm.genmed.root / "runs/studies/storm/study.json").read_text())["name"] == "storm"


def test_copy_of_the_root_goes_on_elsewhere(storm: Storm, copied: Genmed, tmp_path: Path) -> None:
    shutil.move(copied.root, tmp_path / "moved")
    found = copied("study", "resume", "storm", "--root", tmp_path / "moved", "--json")
    assert found.code == 0, found.err
    assert found.err == "Study: 4 runs, 4 of them done\n"
    shutil.move(tmp_path / "moved", copied.root)
