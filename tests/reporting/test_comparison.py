"""Several runs on one page in a real browser, and their figures for a paper."""

import json
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from genmed.workflows.report.comparison import drop_shared_words
from tests.harness import Genmed
from tests.reporting.opened import DESKTOP, PHONE, Opened

Arguments = Callable[..., list[object]]
REFUSED = 2


@pytest.fixture(scope="module")
def three(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Genmed:
    """genmed with three finished runs, two of which differ in the seed alone; and their comparison."""
    folder = tmp_path_factory.mktemp("three")
    prepared = Genmed(server, folder, image_cache)
    for more in ((), ("--seed", 2), ("--lr", 0.02)):
        result = prepared(*tiny("--epochs", 1, *more))
        assert result.code == 0, result.err
    result = prepared("report", "latest", "latest~1", "latest~2", "--out", folder / "three.html", "--plots", "--json")
    assert result.code == 0, result.err
    (folder / "told.json").write_text(result.out)
    return prepared


@pytest.fixture
def page_path(three: Genmed) -> Path:
    return three.root.parent / "three.html"


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def opened(browser: Browser, page_path: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    page = browser.new_page(viewport=request.param)
    yield Opened(page, page_path)
    page.close()


@pytest.fixture
def desktop(browser: Browser, page_path: Path) -> Iterator[Page]:
    page = browser.new_page(viewport=DESKTOP)
    page.goto(page_path.as_uri())
    yield page
    page.close()


def read_evaluations(genmed: Genmed) -> dict[str, dict[str, Any]]:
    """By the run's name, the newest first: as they were asked for."""
    listed = [run["name"] for run in genmed("list", "--json").json]
    return {name: json.loads((genmed.root / f"runs/{name}/evaluations/test.json").read_text()) for name in listed}


def test_comparison_opens_without_complaint_or_request_and_is_no_wider_than_the_window(opened: Opened) -> None:
    assert opened.complaints == []
    assert opened.requests_elsewhere == []
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_names_of_runs_are_whole_on_every_window(opened: Opened, three: Genmed) -> None:
    heads = opened.page.locator("table.runs tbody th")
    assert heads.all_inner_texts() == list(read_evaluations(three))
    assert opened.page.evaluate(
        "[...document.querySelectorAll('table.runs tbody th')].every(head => head.scrollWidth <= head.clientWidth)"
    )


def test_table_has_the_figures_of_each_run_and_the_spread_of_those_that_have_one(desktop: Page, three: Genmed) -> None:
    rows = desktop.locator("table.runs tbody tr").all()
    seeds = three("evaluate", "latest~1", "--json").json["seeds"]
    macro = seeds["metrics"]["test_auroc_macro"]
    for row, (name, evaluation) in zip(rows, read_evaluations(three).items(), strict=True):
        value, *below = row.locator("td").first.inner_text().split("\n")
        assert value == f"{evaluation['metrics']['test_auroc_macro']['value']:.3f}"
        assert (f"{macro['mean']:.3f}±{macro['sd']:.3f}" in below) == (name in seeds["runs"])


def test_table_of_runs_sorts_by_the_clicked_column(desktop: Page, three: Genmed) -> None:
    values = {
        name: evaluation["metrics"]["test_auroc_macro"]["value"] for name, evaluation in read_evaluations(three).items()
    }
    names = desktop.locator("table.runs tbody th")
    desktop.get_by_role("button", name="AUROC").click()
    assert names.all_inner_texts() == sorted(values, key=lambda name: -values[name])
    desktop.get_by_role("button", name="AUROC").click()
    assert names.all_inner_texts() == sorted(values, key=lambda name: values[name])
    desktop.get_by_role("button", name="run").click()
    assert names.all_inner_texts() == sorted(values)


def test_plots_lie_beside_the_page_and_overwrite_nothing(three: Genmed, page_path: Path, tmp_path: Path) -> None:
    told = json.loads((page_path.parent / "told.json").read_text())
    folder = page_path.parent / "three-plots"
    names = {f"{name}.{kind}" for name in ("means", "classes") for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == names
    assert {Path(path) for path in told["plots"]} == set(folder.iterdir())
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert 600 < image.width <= 2100, "a page is 7 inches wide"
    (tmp_path / "again-plots").mkdir()
    result = three("report", "latest", "latest~1", "--out", tmp_path / "again.html", "--plots")
    assert result.code == REFUSED
    assert "again-plots exists, and nothing is overwritten" in result.err
    assert not (tmp_path / "again.html").exists()
    assert three("report", "latest", "latest~1", "--out", tmp_path / "again.html", "--json").json["plots"] == []
    assert list((tmp_path / "again-plots").iterdir()) == []


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["nih-a-s1-11", "nih-a-s2-22"], ["s1-11", "s2-22"]),
        (["nih-a-s1-11", "nih-b-s1-22"], ["a-s1-11", "b-s1-22"]),
        (["nih-a", "nih-a-s1"], ["a", "a-s1"]),
        (["mine", "yours"], ["mine", "yours"]),
    ],
)
def test_labels_of_runs_are_what_tells_them_apart(names: list[str], labels: list[str]) -> None:
    assert drop_shared_words(names) == labels
