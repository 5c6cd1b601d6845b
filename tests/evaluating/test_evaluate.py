"""genmed evaluate: results of a run's own test from its own tables, and of other data by its network."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genmed.parts.metrics.thresholds import choose_threshold
from genmed.workflows.evaluation.scored import Scored
from tests.datasets.making import make_chexpert, make_folder, make_manifest
from tests.harness import TINY_MODEL, Genmed

Arguments = Callable[..., list[object]]


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def copy(nih: Path, tmp_path: Path) -> Path:
    """The run's data elsewhere, to be changed."""
    return Path(shutil.copytree(nih, tmp_path / "copy"))


def test_finished_run_has_results_of_its_own_test_with_intervals(trained: Genmed) -> None:
    folder = trained.run_folder()
    kept = json.loads((folder / "evaluations" / "test.json").read_text())
    found = trained("evaluate", "latest", "--json").json
    assert {**kept, "created": "", "seal": "", "seeds": None} == {**found, "created": "", "seal": ""}
    document = json.loads((folder / "run.json").read_text())
    for name, value in document["metrics"].items():
        if name.startswith(("test_auroc", "test_average")):
            measured = found["metrics"][name]["value"]
            assert measured == value, name
    assert found["unit"] == "patient"
    rows = read_rows(folder / "predictions.csv")
    assert found["patients"] == len({row["patient"] for row in rows if row["split"] == "test"})
    validation = [row for row in rows if row["split"] == "val"]
    scores = np.array([float(row["score_Effusion"]) for row in validation], np.float32)
    truth = np.array([int(row["truth_Effusion"]) for row in validation], np.int8)
    threshold = found["thresholds"]["Effusion"]
    assert threshold == choose_threshold(scores, truth)
    test = [row for row in rows if row["split"] == "test" and row["truth_Effusion"] == "1"]
    called = [float(row["score_Effusion"]) >= threshold for row in test]
    assert found["metrics"]["test_sensitivity_Effusion"]["value"] == pytest.approx(sum(called) / len(called))
    assert "Edema" in found["undefined"]
    text = trained("evaluate", "latest").out
    assert "left out\t" in text
    assert "Edema" in text.partition("left out\t")[2]


def test_images_of_the_run_s_own_test_get_its_scores_to_the_bit(trained: Genmed) -> None:
    result = trained("evaluate", "latest", "--split", "test", "--json")
    assert result.code == 0, result.err
    folder = trained.run_folder()
    own = [row for row in read_rows(folder / "predictions.csv") if row["split"] == "test"]
    assert read_rows(folder / "evaluations" / result.json["predictions"]["file"]) == own
    assert result.json["metrics"] == json.loads((folder / "evaluations" / "test.json").read_text())["metrics"]
    assert result.json["trained_on"] == 0


def test_images_that_were_trained_on_are_counted_wherever_they_lie(trained: Genmed, copy: Path) -> None:
    for path in (copy / "images").iterdir():
        path.touch()
    result = trained("evaluate", "latest", "--data-root", copy, "--split", "all", "--json")
    assert result.code == 0, result.err
    split = json.loads((trained.run_folder() / "data.json").read_text())["split"]["sides"]
    assert result.json["trained_on"] == split["train"]["images"] + split["val"]["images"]
    assert "trained or selected on" in trained("evaluate", "latest", "--data-root", copy, "--split", "all").out


def test_study_of_two_views_is_of_neither() -> None:
    scored = Scored(
        classes=("a",),
        kind="multi-label",
        ids=("1", "2", "3", "4", "5"),
        scores=np.array([[0.2], [0.9], [0.1], [0.3], [0.4]], np.float32),
        truth=np.array([[0], [1], [0], [0], [1]], np.int8),
        studies=("t", "t", "s", "s", "u"),
        traits={"view": ("AP", "lateral", "PA", "PA", "AP"), "sex": ("F", "F", "M", "M", "F")},
    )
    pooled = scored.pool()
    assert pooled.traits == {"view": ("PA", "", "AP"), "sex": ("M", "F", "F")}
    assert pooled.scores[:, 0].tolist() == np.float32([0.3, 0.9, 0.4]).tolist()


def test_results_are_given_by_sex_age_and_view(trained: Genmed, copy: Path) -> None:
    table = copy / "Data_Entry_2017_v2020.csv"
    header, *rows = table.read_text().splitlines()
    people = ["17,F,PA", "058Y,M,AP", "414,F,PA", "91,M,"]
    changed = [row.replace("58,M,PA", people[number % 4]) for number, row in enumerate(rows)]
    table.write_text("\n".join([header, *changed]))
    result = trained("evaluate", "latest", "--data-root", copy, "--split", "all", "--json")
    assert result.code == 0, result.err
    groups = {(group["by"], group["value"]): group["images"] for group in result.json["groups"]}
    quarter = [len(rows[number::4]) for number in range(4)]
    assert groups == {
        ("sex", "F"): quarter[0] + quarter[2],
        ("sex", "M"): quarter[1] + quarter[3],
        ("age", "0 to 17"): quarter[0],
        ("age", "40 to 59"): quarter[1],
        ("age", "80 and older"): quarter[3],
        ("view", "AP"): quarter[1],
        ("view", "PA"): quarter[0] + quarter[2],
    }
    assert "\nage\t0 to 17\t" in trained("evaluate", "latest", "--data-root", copy, "--split", "all").out


def test_other_dataset_is_measured_by_the_findings_that_both_name(trained: Genmed, tmp_path: Path) -> None:
    root = make_chexpert(tmp_path / "chexpert")
    result = trained("evaluate", "latest", "--dataset", "chexpert", "--data-root", root, "--json")
    assert result.code == 0, result.err
    found = result.json
    assert found["matched"]["Effusion"] == "Pleural Effusion"
    assert found["without_match"] == [
        name for name in json.loads((trained.run_folder() / "data.json").read_text())["classes"]
        if name not in found["matched"]
    ]  # fmt: skip
    assert {"Hernia", "Mass", "Nodule"} <= set(found["without_match"])
    assert (found["split"], found["own"], found["related"]) == ("test", False, False)
    judged = found["positives"]["Cardiomegaly"] + found["negatives"]["Cardiomegaly"]
    assert judged <= found["studies"] < found["images"]
    kept = trained.run_folder() / "evaluations" / f"{found['name']}.json"
    assert json.loads(kept.read_text())["metrics"] == found["metrics"]
    truth = {row["id"]: row["truth_Effusion"] for row in read_rows(kept.with_suffix(".csv"))}
    cells = {"1.0": "1", "0.0": "0", "": "0", "-1.0": ""}
    for row in read_rows(root / "valid.csv"):
        assert truth[row["Path"].partition("/")[2]] == cells[row["Pleural Effusion"]]
    scores = [row["score_Pneumothorax"] for row in read_rows(kept.with_suffix(".csv"))]
    named = ("--match", "Atelectasis=Fracture", "--match", "Mass=Lung Lesion")
    chosen = trained("evaluate", "latest", "--dataset", "chexpert", "--data-root", root, *named, "--json").json
    assert chosen["matched"]["Mass"] == "Lung Lesion"
    rows = read_rows(kept.with_suffix(".csv"))
    assert [row["score_Pneumothorax"] for row in rows] == scores
    assert len({tuple(row[f"score_{name}"] for row in rows) for name in chosen["matched"]}) == len(chosen["matched"])
    test = trained("evaluate", "latest", "--split", "all", "--json").json["predictions"]["file"]
    assert read_rows(kept.with_name(test))[0].keys() >= {"score_Mass", "score_Hernia"}
    text = trained("evaluate", "latest", "--dataset", "chexpert", "--data-root", root).out
    assert "matched\tEffusion is Pleural Effusion" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "tests"], "--split is 'tests'"),
        (["--set", "model.name=vgg11"], "--set model.name=vgg11 is not about data"),
        (["--match", "Mass"], "--match takes two names, got 'Mass'"),
        (["--match", "Mess=Mass"], "--match names 'Mess', which is no class of the run's"),
        (["--match", "Mass=Mess"], "--match names 'Mess', which is no class of the dataset's"),
        (["--dataset", "chexpert", "--data-root", "nowhere"], "no data folder"),
        (["--dataset", "nihh"], "unknown dataset 'nihh'"),
    ],
)
def test_bad_request_is_one_line_and_leaves_nothing(trained: Genmed, arguments: list[str], message: str) -> None:
    before = sorted((trained.run_folder() / "evaluations").iterdir())
    result = trained("evaluate", "latest", *arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert sorted((trained.run_folder() / "evaluations").iterdir()) == before


def test_classes_that_exclude_each_other_must_all_match(genmed: Genmed, tmp_path: Path) -> None:
    root = make_manifest(tmp_path / "data", "classes")
    flags = ["--dataset", "manifest", "--data-root", root, "--model", TINY_MODEL, "--image-size", 16, "--epochs", 1]
    result = genmed("train", *flags, "--batch-size", 8, "--json")
    assert result.code == 0, result.err
    (tmp_path / "models").mkdir()
    other = Path(shutil.copytree(root, tmp_path / "other"))
    again = genmed("evaluate", "latest", "--data-root", other, "--split", "test", "--json")
    assert again.code == 0, again.err
    assert again.json["metrics"]["test_accuracy"]["value"] == result.json["metrics"]["test_accuracy"]
    table = other / "manifest.csv"
    table.write_text(table.read_text().replace("benign", "kind"))
    refused = genmed("evaluate", "latest", "--data-root", other)
    assert refused.code == 2
    assert "all classes must match where they exclude each other" in refused.err
    folder = make_folder(tmp_path / "folder", (), 3)
    unmatched = genmed("evaluate", "latest", "--dataset", "folder", "--data-root", folder)
    assert unmatched.code == 2
    assert "--match" in unmatched.err


def test_run_is_evaluated_by_its_own_copy_of_the_model_s_file(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    file = Path(shutil.copy(TINY_MODEL.rpartition(":")[0], tmp_path / "mine.py"))
    assert genmed(*tiny("--model", f"{file}:build", "--epochs", 1)).code == 0
    file.unlink()
    result = genmed("evaluate", "latest", "--split", "val", "--json")
    assert result.code == 0, result.err
    own = [row for row in read_rows(genmed.run_folder() / "predictions.csv") if row["split"] == "val"]
    assert read_rows(genmed.run_folder() / "evaluations" / result.json["predictions"]["file"]) == own


def test_state_is_that_of_the_best_epoch_and_not_of_the_last(genmed: Genmed, tiny: Arguments) -> None:
    result = genmed(*tiny("--lr", 1))
    assert result.code == 0, result.err
    assert json.loads((genmed.run_folder() / "run.json").read_text())["best_epoch"] < 4
    found = genmed("evaluate", "latest", "--split", "test", "--json").json
    own = [row for row in read_rows(genmed.run_folder() / "predictions.csv") if row["split"] == "test"]
    assert read_rows(genmed.run_folder() / "evaluations" / found["predictions"]["file"]) == own


def test_run_without_its_tables_or_its_state_is_refused(genmed: Genmed, tiny: Arguments) -> None:
    assert genmed(*tiny("--epochs", 1)).code == 0
    folder = genmed.run_folder()
    weights = next((folder / "checkpoints").glob("*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    spoilt = genmed("evaluate", "latest", "--split", "all")
    assert (spoilt.code, "model.safetensors fails its digest" in spoilt.err) == (2, True)
    table = folder / "predictions.csv"
    edited = table.read_bytes().replace(b",1,", b",0,", 1)
    for content, told in ((edited, "is damaged or was edited"), (b"", "is damaged"), (None, "is missing")):
        table.unlink() if content is None else table.write_bytes(content)
        result = genmed("evaluate", "latest")
        assert result.code == 2
        assert f"predictions.csv {told}" in result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize("more", [("--match", "Mass=Mass"), ("--set", "data.on_bad_image=skip")])
def test_images_that_the_run_was_trained_on_are_measured_only_where_asked_for(
    trained: Genmed, more: tuple[str, str]
) -> None:
    kept = sorted((trained.run_folder() / "evaluations").iterdir())
    refused = trained("evaluate", "latest", *more)
    assert refused.code == 2
    said = (
        r"error: the run was trained or selected on \d+ of these 100 images \(all\) \(say which are meant: --split test"
    )
    assert re.match(said, refused.err.splitlines()[-1])
    assert sorted((trained.run_folder() / "evaluations").iterdir()) == kept


@pytest.mark.parametrize("more", [("--split", "val"), ()])
def test_device_that_is_none_is_refused_in_one_line(trained: Genmed, more: tuple[str, ...]) -> None:
    refused = trained("evaluate", "latest", "--device", "foo", *more)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: --device must be auto, cpu, cuda or mps, got foo\n"


def test_report_shows_what_was_measured_on_other_images(trained: Genmed) -> None:
    found = trained("evaluate", "latest", "--split", "val", "--json").json
    text = trained("evaluate", "latest", "--split", "val").out
    assert text.startswith(f"warning\tthe run was trained or selected on {found['images']} images of these\n")
    assert trained("report", "latest").code == 0
    page = (trained.run_folder() / "report.html").read_text()
    macro = found["metrics"]["val_auroc_macro"]["value"]
    assert f"nih, val (the run was trained or selected on {found['images']} images of these)</th>" in page
    assert f"<td>{macro:.3f}</td>" in page
