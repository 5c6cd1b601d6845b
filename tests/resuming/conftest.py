"""A run that was killed, beside the same one left alone."""

import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.harness import Genmed
from tests.resuming.runs import FRAGILE, Arguments, Pair, names


@pytest.fixture(scope="session")
def pair(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "fragile.py").write_text(FRAGILE)
    keep = ("--set", "checkpoints.every_steps=3", "--set", "checkpoints.keep=2")
    command = tiny("--model", f"{folder / 'fragile.py'}:build", "--epochs", 3, *keep)
    found = []
    for name in ("whole", "killed"):
        (folder / name).mkdir()
        found.append(Genmed(server, folder / name, image_cache))
    whole = found[0](*command)
    assert whole.code == 0, whole.err
    assert found[1](*command, GENMED_TEST_PASSES="13", GENMED_TEST_AWAIT="9").code == -signal.SIGKILL
    assert names(found[1].run_folder() / "checkpoints") == ["step-0000007-epoch-0001-end", "step-0000009-epoch-0002"]
    return Pair(found[0], found[1], command)


@pytest.fixture
def killed(pair: Pair, tmp_path: Path) -> Genmed:
    """A copy of the killed run."""
    return pair.killed.copied_to(tmp_path)
