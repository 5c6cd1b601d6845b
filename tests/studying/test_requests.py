"""Mistakes of a user: exit code 2, one line, nothing left behind; empty folders; the table while it runs."""

import io
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from genmed.cli.study.screen import draw_views
from genmed.ground.errors import ConfigError, RunNotFoundError
from genmed.records.study_folder import StudyDocument, study_folder
from genmed.workflows.studies.conduct import View
from genmed.workflows.studies.listing import find_study, list_studies
from genmed.workflows.studies.plan import Plan, make_plan, read_seeds
from tests.harness import Genmed
from tests.registries.making import START
from tests.studying.conftest import SLOW
from tests.test_listing import complete


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "a study needs --seeds (--seeds 5 trains each model with five seeds)"),
        ("--seeds 0", "--seeds must be from 1 to 1000, got 0"),
        ("--seeds five", "--seeds takes how many, or a list of seeds, got 'five'"),
        ("--seeds 1,7,1", "--seeds has 1 twice"),
        ("--seeds 1,,7", "--seeds takes how many, or a list of seeds, got '1,,7'"),
        ("--seeds 1,4294967296", "a seed must be at most 4294967295, got 4294967296"),
        ("--seeds 2 --seed 4294967295", "a seed must be at most 4294967295, got 4294967296"),
        ("--seeds 1,7 --seed 3", "a list of --seeds and --seed exclude each other"),
        ("--seeds 2 --models resnet18,resnet81", "unknown model 'resnet81'"),
        ("--seeds 2 --models resnet18,resnet18", "--models has resnet18 twice"),
        ("--seeds 2 --models resnet18,", "--models takes names between commas"),
        (
            "--seeds 2 --models resnet18 --model resnet50",
            "--models and --model both give model.name (leave one of them out)",
        ),
        ("--seeds 2 --grid optimizer.lrr=1,2", "unknown key optimizer.lrr (--grid) (did you mean optimizer.lr?)"),
        ("--seeds 2 --grid optimizer.lr", "--grid takes KEY=V1,V2, got 'optimizer.lr'"),
        ("--seeds 2 --grid optimizer.lr=0.1,no", "optimizer.lr must be a"),
        ("--seeds 2 --grid optimizer.lr=0.1,0.1", "--grid optimizer.lr has 0.1 twice"),
        ("--seeds 2 --grid optimizer.lr=0.1,0.10", "cells that differ in optimizer.lr alone would be the same runs"),
        ("--seeds 2 --grid compute.num_workers=0,1", "cells that differ in compute.num_workers alone"),
        (
            "--seeds 2 --grid optimizer.lr=0.1,0.2 --grid compute.num_workers=0,1",
            "cells that differ in compute.num_workers alone would be the same runs (it changes no bit of a result)",
        ),
        ("--seeds 2 --grid seed=1,2", "--grid takes no seed"),
        (
            "--seeds 2 --set compute.shards=2 --set compute.processes=2",
            "each run of a study is computed by one process (leave out compute.processes",
        ),
        ("--seeds 2 --grid optimizer.lr=1,2 --grid optimizer.lr=3", "optimizer.lr is given twice"),
        ("--seeds 2 --grid optimizer.lr=1,2 --set optimizer.lr=3", "--grid optimizer.lr and --set both give"),
        ("--seeds 2 --metric auroc_marco", "has no metric 'auroc_marco' (did you mean auroc_macro"),
        (
            "--seeds 2 --metric net_benefit_macro",
            "net_benefit_macro compares no models: it weighs harms by the threshold",
        ),
        ("--seeds 2 --metric test_net_benefit_Mass", "test_net_benefit_Mass compares no models"),
        ("--seeds 2 --name a/b", "--name must be of at most 64 letters"),
        ("--seeds 2 --name latest", "no study can be named latest"),
        ("--seeds 2 --jobs 0", "Invalid value for '--jobs'"),
        ("--seeds 2 show", "--seeds stands before `show`, which does not take it"),
        ("resume absent", "no study goes by 'absent' (there are no studies here)"),
        ("show absent", "no study goes by 'absent' (there are no studies here)"),
    ],
)
def test_wrong_request_is_one_line_and_leaves_nothing(genmed: Genmed, nih: Path, arguments: str, told: str) -> None:
    small = ["--dataset", nih, "--data-root", nih, "--image-size", "16"]
    small[1] = "nih"
    words = arguments.split()
    begins = not any(word in ("show", "resume") for word in words)
    result = genmed("study", *(small if begins else []), *words)
    assert result.code == 2, result.err
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert told in result.err
    assert len(result.err.splitlines()) == 1
    assert list(genmed.root.iterdir()) == []


@pytest.mark.parametrize("words", ["study list", "study show"])
def test_reading_in_an_empty_folder_prints_an_empty_answer_and_creates_nothing(genmed: Genmed, words: str) -> None:
    told = genmed(*words.split())
    assert (told.code, told.out) == (0, "")
    assert told.err.startswith("no studies here yet")
    assert genmed(*words.split(), "--json").json == ([] if words == "study list" else None)
    assert list(genmed.root.iterdir()) == []


def test_seeds_are_counted_from_the_config_s_or_listed() -> None:
    assert read_seeds("5", 42) == (42, 43, 44, 45, 46)
    assert read_seeds("1,7, 9", 42) == (1, 7, 9)


def test_so_many_seeds_and_such_high_ones_are_the_last_that_are_taken() -> None:
    assert read_seeds("1000", 0)[-1] == 999
    with pytest.raises(ConfigError, match="--seeds must be from 1 to 1000, got 1001"):
        read_seeds("1001", 0)
    assert read_seeds("2", 2**32 - 2) == (2**32 - 2, 2**32 - 1)
    assert plan_of(flags={"seed": 3}, seeds="2").seeds == (3, 4)


def plan_of(*grid: str, flags: Mapping[str, Any] | None = None, seeds: str = "2", models: str | None = None) -> Plan:
    return make_plan(flags or {}, name="", metric="auroc_macro", seeds=seeds, models=models, grid=grid)


def test_keys_that_end_alike_are_named_in_full() -> None:
    plan = plan_of("optimizer.name=adam,sgd", "schedule.name=constant,cosine")
    assert plan.cells[1].name == "optimizer.name=adam schedule.name=cosine"


def test_user_files_of_one_name_are_refused_and_others_go_by_their_names(tmp_path: Path) -> None:
    files = [tmp_path / folder / "net.py" for folder in ("one", "other")]
    for file in files:
        file.parent.mkdir()
        file.write_text(SLOW)
    assert plan_of(models=f"{files[0]}:build,{files[0]}:wide").cells[1].name == "net.py:wide"
    with pytest.raises(ConfigError, match=r"model\.name alone would be the same runs") as caught:
        plan_of(models=",".join(f"{file}:build" for file in files))
    assert caught.value.hint == "user files need names of their own"


def test_devices_that_are_one_here_are_refused(genmed: Genmed) -> None:
    devices = ["--seeds", 1, "--grid", "compute.device=cpu,auto"]
    result = genmed("study", *devices, CUDA_VISIBLE_DEVICES="")
    assert (result.code, "cells that differ in compute.device alone" in result.err) == (2, True), result.err


@pytest.fixture
def three_studies(tmp_path: Path) -> Path:
    """A root with three studies that were begun a day apart, the newest not the last by the alphabet."""
    for day, (name, study_id) in enumerate([("second", "bbbbbbbb"), ("third", "cccccccc"), ("secret", "aaaaaaaa")]):
        moment = START + timedelta(days=day)
        study = StudyDocument(id=study_id, name=name, created=moment, metric="auroc_macro", seeds=(1,), cells=())
        study_folder(tmp_path, name).write(study)
    return tmp_path


def test_studies_are_found_by_name_id_and_beginning_the_newest_first(three_studies: Path) -> None:
    assert [entry["study"] for entry in list_studies(three_studies)] == ["secret", "third", "second"]
    for reference, name in {
        "second": "second", "th": "third", "cccccccc": "third", "secr": "secret", "latest": "secret", None: "secret"
    }.items():  # fmt: skip
        assert find_study(reference, three_studies)[1].name == name
    with pytest.raises(RunNotFoundError, match="'sec' fits 2 studies") as caught:
        find_study("sec", three_studies)
    assert caught.value.hint == "which one: secret, second?"
    for reference in ("ird", "cccc", ""):
        with pytest.raises(RunNotFoundError, match=f"no study goes by '{reference}'"):
            find_study(reference, three_studies)


def test_tab_offers_the_studies_of_the_root(genmed: Genmed, three_studies: Path) -> None:
    assert complete(genmed, f"genmed study show --root {three_studies} sec") == ["second", "secret"]
    assert complete(genmed, "genmed study show sec") == []


def test_cells_are_the_product_of_models_and_grid() -> None:
    plan = make_plan(
        {}, name="", metric="auroc_macro", seeds="2", models="resnet18,resnet50", grid=["optimizer.lr=0.1,1e-3"]
    )
    assert [cell.name for cell in plan.cells] == [
        "resnet18 lr=0.1", "resnet18 lr=0.001", "resnet50 lr=0.1", "resnet50 lr=0.001"
    ]  # fmt: skip
    assert plan.cells[3].settings == {"model.name": "resnet50", "optimizer.lr": 0.001}
    assert plan.cells[3].resolved.config.optimizer.lr == 0.001
    assert plan.cells[3].resolved.origins["optimizer.lr"] == "--grid"


def test_grid_takes_lists_and_words() -> None:
    plan = make_plan({}, name="", metric="", seeds="1", models=None, grid=["schedule.milestones=[0.3],[0.5, 0.75]"])
    assert [cell.settings["schedule.milestones"] for cell in plan.cells] == [[0.3], [0.5, 0.75]]


def test_dry_run_tells_the_cells_and_creates_nothing(genmed: Genmed) -> None:
    result = genmed("study", "--seeds", 3, "--models", "resnet18,resnet50", "--dry-run")
    assert result.out == (
        "cell\tmodel.name\nresnet18\tresnet18\nresnet50\tresnet50\n"
        "seeds\t42, 43, 44\nruns\t6\ncompared by\tauroc_macro\n"
    )
    assert list(genmed.root.iterdir()) == []


def test_table_of_a_study_under_way_shows_what_runs_and_fits_the_screen() -> None:
    views = [View("a", seed, "completed", epoch=2, epochs=2, result=0.9, seconds=30.0) for seed in range(10)]
    views += [View("a", 10, "running", 1, 2, 10, 20, val_auroc=0.8123), View("a", 11, "pending")]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(draw_views(views, 5))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert ["a", "10", "running", "1/2", "0.8123", "-"] in lines
    assert len(lines) == 2 + 5 + 1
    assert " ".join(lines[-1]).startswith("10 of 12 runs done")
