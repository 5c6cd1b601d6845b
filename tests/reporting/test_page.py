"""A run's page in a real browser, from its file, without a network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from genmed.parts.report.figures import Axis, Forest, Row
from genmed.parts.report.page import TEMPLATES
from genmed.parts.report.svg import draw_forest
from tests.harness import Genmed
from tests.reporting.conftest import HOSTILE
from tests.reporting.opened import DESKTOP, PHONE, Opened


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def opened(browser: Browser, reported: Genmed, request: pytest.FixtureRequest) -> Iterator[Opened]:
    page = browser.new_page(viewport=request.param)
    yield Opened(page, reported.run_folder() / "report.html")
    page.close()


@pytest.fixture
def desktop(browser: Browser, reported: Genmed) -> Iterator[Page]:
    page = browser.new_page(viewport=DESKTOP)
    page.goto((reported.run_folder() / "report.html").as_uri())
    yield page
    page.close()


def read_evaluation(genmed: Genmed) -> dict[str, Any]:
    return json.loads((genmed.run_folder() / "evaluations" / "test.json").read_text())


def test_page_opens_without_complaint_or_request(opened: Opened) -> None:
    assert opened.complaints == []
    assert opened.requests_elsewhere == []


def test_page_does_not_scroll_sideways(opened: Opened) -> None:
    widths = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]


def test_images_and_plots_are_all_there(opened: Opened) -> None:
    sizes = opened.page.evaluate("[...document.images].map(image => image.naturalWidth)")
    errors = opened.page.locator("#errors figure").count()
    assert errors > 5
    assert len(sizes) == 2 * errors  # each with its saliency
    assert min(sizes) > 0
    plots = opened.page.evaluate(
        "[...document.querySelectorAll('svg')].map(plot => plot.getBoundingClientRect().width)"
    )
    assert len(plots) > 15
    assert min(plots) > 120


@pytest.mark.parametrize("width", [390, 1280])
def test_letters_of_a_forest_plot_stay_within_it(browser: Browser, width: int) -> None:
    rows = [Row("n" * 60, 0.512, 0.0, 0.789, strong=True), Row("Pleural_Thickening", 1.0, 1.0, 1.0)]
    plot = draw_forest(Forest("by class", Axis("AUROC", 0, 1, (0, 0.5, 1)), rows))
    style = (TEMPLATES / "style.css").read_text()
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_content(f'<style>{style}</style><main><div class="forests"><div>{plot}</div></div></main>')
    box = page.locator("svg").bounding_box()
    assert box
    for text in page.locator("svg text").all():
        found = text.bounding_box()
        assert found
        assert box["x"] - 1 <= found["x"]
        assert found["x"] + found["width"] <= box["x"] + box["width"] + 1
    labels = [text.bounding_box() for text in page.locator("svg text.name").all()]
    bars = [bar.bounding_box() for bar in page.locator("svg line.bar").all()]
    assert max(label["x"] + label["width"] for label in labels if label) <= min(bar["x"] for bar in bars if bar)
    page.close()


def test_letters_of_plots_are_text_and_large_enough_to_read(opened: Opened) -> None:
    script = "[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height)"
    heights = opened.page.evaluate(script)
    assert len(heights) > 100
    assert min(heights) > 8


def test_headline_and_table_show_the_figures_of_the_evaluation(desktop: Page, reported: Genmed) -> None:
    evaluation = read_evaluation(reported)
    metrics, split = evaluation["metrics"], evaluation["split"]
    assert desktop.locator(".figure").all_inner_texts() == [f"{metrics[f'{split}_auroc_macro']['value']:.3f}"]
    rows = desktop.locator("table.metrics tbody tr")
    assert rows.locator("th").all_inner_texts() == evaluation["classes"]
    names = ["auroc", "average_precision", "sensitivity", "specificity", "f1", "brier", "calibration_slope", "ece"]
    for row, name in zip(rows.all(), evaluation["classes"], strict=True):
        shown = [text.split("\n")[0].replace("−", "-") for text in row.locator("td").all_inner_texts()]
        found = [metrics[f"{split}_{metric}_{name}"]["value"] for metric in [*names, "net_benefit"]]
        assert shown[:9] == ["–" if value is None else f"{value:.3f}" for value in found]
        assert shown[10] == str(evaluation["positives"][name])


def test_table_sorts_by_the_clicked_column_and_back(desktop: Page, reported: Genmed) -> None:
    evaluation = read_evaluation(reported)
    values = {name: evaluation["metrics"][f"test_auroc_{name}"]["value"] for name in evaluation["classes"]}
    known = sorted((name for name in values if values[name] is not None), key=lambda name: values[name])
    unknown = [name for name in values if values[name] is None]
    head = desktop.get_by_role("button", name="AUROC")
    names = desktop.locator("table.metrics tbody th")
    head.click()
    assert names.all_inner_texts() == [*reversed(known), *unknown]
    assert desktop.locator("th[aria-sort=descending]").inner_text() == "AUROC"
    head.click()
    assert names.all_inner_texts() == [*known, *unknown]
    desktop.get_by_role("button", name="class").click()
    assert names.all_inner_texts() == sorted(values)


def test_table_is_whole_without_scripts(browser: Browser, reported: Genmed) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((reported.run_folder() / "report.html").as_uri())
    assert page.locator("table.metrics tbody tr").count() == len(read_evaluation(reported)["classes"])
    assert page.locator("button").count() == 0
    context.close()


def test_command_is_copied_whole(browser: Browser, reported: Genmed) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto((reported.run_folder() / "report.html").as_uri())
    command = page.locator(".command", has_text="genmed verify")
    command.get_by_role("button").click()
    page.wait_for_function("document.body.innerText.includes('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == f"genmed verify {reported.run_folder().name}"
    context.close()


def test_dark_scheme_is_dark_and_print_is_white(browser: Browser, reported: Genmed) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto((reported.run_folder() / "report.html").as_uri())
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    assert page.evaluate(colours) == ["rgb(20, 23, 26)", "rgb(232, 234, 236)"]
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(colours) == ["rgb(255, 255, 255)", "rgb(27, 31, 35)"]
    page.close()


def test_print_has_pages_without_buttons(desktop: Page) -> None:
    assert desktop.pdf(format="A4").startswith(b"%PDF")
    desktop.emulate_media(media="print")
    assert desktop.locator(".copy").first.is_visible() is False
    assert desktop.locator("nav").is_visible() is False


def test_hostile_names_are_shown_and_not_obeyed(browser: Browser, hostile: Genmed) -> None:
    page = browser.new_page(viewport=PHONE)
    opened = Opened(page, hostile.run_folder() / "report.html")
    assert opened.complaints == []
    assert opened.requests_elsewhere == []
    assert page.title() == hostile.run_folder().name
    assert sorted(page.locator("table.metrics tbody th").all_inner_texts()) == sorted(HOSTILE)
    assert page.locator("img:not([src^='data:'])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


def test_script_that_came_in_all_the_same_would_not_run(browser: Browser, reported: Genmed, tmp_path: Path) -> None:
    injected = (reported.run_folder() / "report.html").read_text().replace("</main>", "<script>x()</script></main>")
    (tmp_path / "injected.html").write_text(injected)
    page = browser.new_page()
    opened = Opened(page, tmp_path / "injected.html")
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)
    assert not any("x is not defined" in complaint for complaint in opened.complaints)
    page.close()


def test_classes_that_exclude_each_other_have_accuracy_and_a_confusion_matrix(
    browser: Browser, hostile: Genmed
) -> None:
    page = browser.new_page()
    page.goto((hostile.run_folder() / "report.html").as_uri())
    evaluation = read_evaluation(hostile)
    shown = [f"{evaluation['metrics'][f'test_{name}']['value']:.3f}" for name in ("auroc_macro", "accuracy")]
    assert page.locator(".figure").all_inner_texts() == shown
    rows = page.locator("table.confusion tbody tr").all()
    counts = [[int(text.split("\n")[0]) for text in row.locator("td").all_inner_texts()] for row in rows]
    assert [sum(row) for row in counts] == [evaluation["positives"][name] for name in evaluation["classes"]]
    right = sum(counts[at][at] for at in range(3)) / evaluation["images"]
    assert right == pytest.approx(evaluation["metrics"]["test_accuracy"]["value"])
    page.close()
