"""Fixtures: finished runs with their reports, and a real browser that opens them."""

import shutil
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.harness import TINY_MODEL, Genmed

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = ("<img src=x onerror=document.title='pwned'>", "'\"><b>{{ 7*7 }}", "viral & others")
"""Names of classes: folders may be called so."""
WITH_REPORT = ("--set", "run.report=true")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium: reports are not opened in a browser")
    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        started = playwright.chromium.launch(executable_path=program, args=quiet)
        yield started
        started.close()


@pytest.fixture(scope="session")
def reported(
    server: ForkServerContext,
    image_cache: Path,
    tiny: Callable[..., list[object]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Genmed:
    """genmed with one finished run and the report of its end; only read."""
    prepared = Genmed(server, tmp_path_factory.mktemp("reported"), image_cache)
    result = prepared(*tiny(*WITH_REPORT))
    assert result.code == 0, result.err
    return prepared


@pytest.fixture(scope="session")
def hostile(server: ForkServerContext, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Genmed:
    """genmed with one finished run on three classes that exclude each other, whose names are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    make_images(folder / "data")
    prepared = Genmed(server, folder, image_cache)
    data = ["--dataset", "folder", "--data-root", folder / "data", "--image-size", "16", "--model", TINY_MODEL]
    result = prepared("train", *data, "--epochs", "2", "--batch-size", "8", "--json", *WITH_REPORT)
    assert result.code == 0, result.err
    return prepared


def make_images(root: Path) -> None:
    """30 noise images a class, with names that are no better."""
    random = np.random.Generator(np.random.Philox(3))
    for name in HOSTILE:
        (root / name).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(0, 255, (20, 20)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"<i>{HOSTILE.index(name)}-{number}'&.png")
