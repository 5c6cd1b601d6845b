"""A run on grades from end to end: trained, evaluated, reported, carded, and asked for scores."""

import csv
import io
import json
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser
from sklearn.metrics import accuracy_score, cohen_kappa_score

from tests.datasets.making import draw_image, make_medmnist
from tests.harness import TINY_MODEL, Genmed
from tests.reporting.conftest import WITH_REPORT
from tests.reporting.opened import PHONE, Opened

GRADES = ["0", "1", "2", "3", "4"]


@pytest.fixture(scope="module")
def graded(server: ForkServerContext, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Genmed:
    """genmed with one finished run on five grades of colour images; only read."""
    folder = tmp_path_factory.mktemp("graded")
    data = make_medmnist(folder / "data", "retinamnist", counts=(160, 60, 75))
    prepared = Genmed(server, folder, image_cache)
    flags = ["--dataset", "medmnist:retinamnist", "--data-root", data, "--image-size", "28", "--model", TINY_MODEL]
    result = prepared("train", *flags, "--epochs", "4", "--batch-size", "16", "--lr", "0.02", "--json", *WITH_REPORT)
    assert result.code == 0, result.err
    return prepared


def read_calls(genmed: Genmed) -> tuple[list[int], list[int]]:
    """Truth and highest score of each test image, counted from 0."""
    with open(genmed.run_folder() / "predictions.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    truth = [[int(row[f"truth_{name}"]) for name in GRADES] for row in rows]
    scores = [[float(row[f"score_{name}"]) for name in GRADES] for row in rows]
    return np.argmax(truth, 1).tolist(), np.argmax(scores, 1).tolist()


def read_evaluation(genmed: Genmed) -> dict[str, Any]:
    return json.loads((genmed.run_folder() / "evaluations" / "test.json").read_text())


def test_evaluation_has_accuracy_and_kappa_of_the_run_s_own_calls(graded: Genmed) -> None:
    truth, called = read_calls(graded)
    found = graded("evaluate", "latest", "--json").json
    assert (found["task"], found["classes"], found["unit"]) == ("ordinal", GRADES, "image")
    kappa = found["metrics"]["test_quadratic_kappa"]
    assert kappa["value"] == pytest.approx(cohen_kappa_score(truth, called, weights="quadratic"))
    recorded = graded("show", "latest", "--json").json["metrics"]
    for name in ("test_quadratic_kappa", "test_accuracy", "test_auroc_macro", "test_average_precision_macro"):
        assert found["metrics"][name]["value"] == recorded[name], name
    assert kappa["low"] < kappa["value"] < kappa["high"]
    assert kappa["value"] > 0.3, "it learned"
    assert found["metrics"]["test_accuracy"]["value"] == pytest.approx(accuracy_score(truth, called))
    shown = f"{kappa['value']:.3f} ({kappa['low']:.3f}, {kappa['high']:.3f})"
    assert f"\nquadratic kappa\t{shown}\n" in graded("evaluate", "latest").out
    assert f"test quadratic kappa\t{kappa['value']:.4f}\n" in graded("show", "latest").out


def test_report_shows_kappa_and_the_confusion_matrix(browser: Browser, graded: Genmed) -> None:
    metrics = read_evaluation(graded)["metrics"]
    page = browser.new_page(viewport=PHONE)
    opened = Opened(page, graded.run_folder() / "report.html")
    assert (opened.complaints, opened.requests_elsewhere) == ([], [])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    names = ("auroc_macro", "accuracy", "quadratic_kappa")
    assert page.locator(".figure").all_inner_texts() == [f"{metrics[f'test_{name}']['value']:.3f}" for name in names]
    assert page.locator(".hero").get_by_text("test quadratic kappa").count() == 1
    rows = page.locator("table.confusion tbody tr").all()
    counts = [[int(text.split("\n")[0]) for text in row.locator("td").all_inner_texts()] for row in rows]
    truth, called = read_calls(graded)
    assert counts == [[list(zip(truth, called, strict=True)).count((t, c)) for c in range(5)] for t in range(5)]
    assert "highest score is another class's than the true one" in page.locator("#errors .caption").inner_text()
    assert page.locator("#training h3").all_inner_texts()[-1] == "Validation quadratic kappa"
    page.close()


def test_plots_for_a_paper_have_the_confusion_matrix(graded: Genmed) -> None:
    assert graded("report", "latest").code == 0
    with Image.open(graded.run_folder() / "plots" / "confusion.png") as image:
        assert image.width > 600


def test_card_has_kappa_with_its_interval(graded: Genmed) -> None:
    kappa = read_evaluation(graded)["metrics"]["test_quadratic_kappa"]
    card = graded("card", "latest").out
    assert f"- **Quadratic kappa:** {kappa['value']:.3f} ({kappa['low']:.3f}, {kappa['high']:.3f})\n" in card
    assert "ordinal: a probability for each of 0, 1, 2, 3, 4" in card
    assert "one RGB image, 28 x 28 px" in card


def test_scores_of_an_image_are_probabilities_of_the_grades(graded: Genmed, tmp_path: Path) -> None:
    for grade in (0, 4):
        Image.fromarray(draw_image(grade, 7, 28, colour=True)).save(tmp_path / f"{grade}.png")
    result = graded("predict", "latest", tmp_path / "0.png", tmp_path / "4.png")
    assert result.code == 0, result.err
    rows = list(csv.DictReader(io.StringIO(result.out)))
    scores = np.array([[float(row[f"score_{name}"]) for name in GRADES] for row in rows])
    assert scores.sum(1) == pytest.approx([1, 1], abs=1e-5)
    assert scores[1] @ np.arange(5) > scores[0] @ np.arange(5)
