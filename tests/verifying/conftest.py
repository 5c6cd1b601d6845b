"""Runs with many kept states, and a model that is sabotaged on demand."""

import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.harness import Genmed
from tests.verifying.faults import OFTEN, SABOTAGED, Arguments


@pytest.fixture(scope="session")
def recorded(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Genmed:
    """A finished run of the sabotaged model that was left alone: 28 steps, states kept after 4, 7, 8, 12, 14, ..."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "sabotaged.py").write_text(SABOTAGED)
    prepared = Genmed(server, folder, image_cache)
    result = prepared(*tiny("--model", f"{folder / 'sabotaged.py'}:build", "--trace-modules", *OFTEN))
    assert result.code == 0, result.err
    return prepared


@pytest.fixture
def finished(recorded: Genmed, tmp_path: Path) -> Genmed:
    """A copy of it, to be spoilt."""
    return recorded.copied_to(tmp_path)


@pytest.fixture
def data(nih: Path, tmp_path: Path) -> Path:
    """A copy of its data, to be spoilt."""
    return Path(shutil.copytree(nih, tmp_path / "data"))
