"""genmed predict: scores of images that no dataset lists."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.harness import Genmed


def image_of(nih: Path, number: int = 1) -> Path:
    return sorted((nih / "images").iterdir())[number]


def test_scores_are_those_of_the_run_s_own_evaluation(trained: Genmed, nih: Path, tmp_path: Path) -> None:
    with open(trained.run_folder() / "predictions.csv", newline="") as file:
        own = {row["id"]: row for row in csv.DictReader(file)}
    result = trained("predict", "latest", nih / "images")
    assert result.code == 0, result.err
    found = {Path(row["image"]).name: row for row in csv.DictReader(io.StringIO(result.out))}
    assert len(found) == 100
    for name, row in own.items():
        for column in (column for column in row if column.startswith("score_")):
            assert float(found[name][column]) == pytest.approx(float(row[column]), abs=1e-6)
    out = tmp_path / "scores.csv"
    assert trained("predict", "latest", nih / "images", "--out", out).out == ""
    assert out.read_text() == result.out
    again = trained("predict", "latest", nih / "images", "--out", out)
    assert (again.code, "nothing is overwritten" in again.err, out.read_text()) == (2, True, result.out)


def test_images_are_named_once_in_the_order_given_and_whole_as_json(trained: Genmed, nih: Path) -> None:
    first, second = image_of(nih, 5), image_of(nih, 2)
    found = trained("predict", "latest", first, second, first, "--json").json
    assert [entry["image"] for entry in found["images"]] == [str(first), str(second)]
    assert found["schema"] == 1
    assert set(found["images"][0]["scores"]) == set(found["classes"])


def test_image_of_a_kind_that_the_run_has_not_seen_is_refused_with_what_it_has_seen(
    trained: Genmed, nih: Path, tmp_path: Path
) -> None:
    grey = np.asarray(Image.open(image_of(nih)))
    Image.fromarray(grey).resize((25, 24)).save(tmp_path / "wide.png")
    Image.fromarray(grey).resize((23, 23)).save(tmp_path / "small.png")
    colours = np.stack([grey, grey // 2, grey // 3], axis=2)
    Image.fromarray(colours).save(tmp_path / "colour.png")
    for name, why in (
        ("wide", "25 x 24 px, and the run has seen 24 px"),
        ("small", "23 x 23 px, and the run has seen 24 px"),
        ("colour", "in colour, and the run has seen grey images alone"),
    ):
        path = tmp_path / f"{name}.png"
        result = trained("predict", "latest", path)
        assert (result.code, result.out) == (2, "")
        assert f"1 image of a kind that the run has not seen: {path} is {why}" in result.err
        assert len(trained("predict", "latest", path, "--any-kind").out.splitlines()) == 2


def test_what_is_no_image_is_named(trained: Genmed, tmp_path: Path, nih: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    for path, told in (
        ("nowhere.png", "no image nowhere.png"),
        (tmp_path / "empty", "no images in"),
        (tmp_path / "text.png", "text.png is not an image"),
    ):
        result = trained("predict", "latest", image_of(nih), path)
        assert (result.code, result.out) == (2, "")
        assert told in result.err
        assert "Traceback" not in result.err


def test_run_made_before_kinds_were_recorded_scores_any(trained: Genmed, nih: Path, tmp_path: Path) -> None:
    from tests.harness import edit_document

    root = Path(shutil.copytree(trained.root, tmp_path / "old"))
    folder = root / "runs" / trained.run_folder().name
    edit_document(folder / "data.json", lambda document: document.pop("seen"))
    Image.open(image_of(nih)).resize((60, 60)).save(tmp_path / "large.png")
    result = trained("predict", "latest", tmp_path / "large.png", "--root", root)
    assert result.code == 0, result.err
    assert json.loads((folder / "data.json").read_text())["channels"] == 1
