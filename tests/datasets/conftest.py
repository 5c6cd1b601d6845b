"""Fixtures: a dataset that a test may change, an image cache of its own."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(nih: Path, tmp_path: Path) -> Path:
    """A copy of the small dataset in NIH's layout."""
    return Path(shutil.copytree(nih, tmp_path / "copy"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty image cache for this process."""
    monkeypatch.setenv("GENMED_CACHE", str(tmp_path / "images-cache"))
    return tmp_path / "images-cache"
