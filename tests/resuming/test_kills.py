"""A run that is killed at any moment, and again, ends with the bits of one left alone."""

import random
import shlex
import shutil
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from genmed.engine.checkpoint import check_checkpoint, list_checkpoints
from tests.harness import Genmed, Result
from tests.resuming.runs import FRAGILE, Arguments, Pair, assert_same_run, names


@pytest.fixture(scope="module")
def momentum(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Genmed, list[object]]:
    """A run left alone, with dropout, augmentation, momentum, a schedule and many checkpoints; and its command."""
    folder = tmp_path_factory.mktemp("momentum")
    (folder / "fragile.py").write_text(FRAGILE)
    how = ("--optimizer", "sgd", "--lr", "0.05", "--schedule", "multistep", "--augmentation", "standard")
    often = ("--set", "checkpoints.every_steps=1", "--set", "checkpoints.keep=2")
    command = tiny("--model", f"{folder / 'fragile.py'}:build", "--epochs", 3, *how, *often)
    whole = Genmed(server, folder, image_cache)
    result = whole(*command)
    assert result.code == 0, result.err
    return whole, command


@pytest.mark.parametrize("workers", [0, 2])
def test_run_killed_seven_times_at_random_moments_ends_with_the_bits_of_one_left_alone(
    momentum: tuple[Genmed, list[object]], genmed: Genmed, workers: int
) -> None:
    """In a step, in a validation, while a checkpoint, the log or run.json is written, between these."""
    whole, command = momentum
    draw = random.Random(workers).randint
    result = genmed(*command, "--num-workers", workers, GENMED_TEST_EVENTS=str(draw(2, 60)))
    for _ in range(6):
        assert result.code == -signal.SIGKILL, result.err
        assert genmed("list", "--json").json[0]["status"] == "interrupted"
        assert all(check_checkpoint(path) == [] for path in list_checkpoints(genmed.run_folder() / "checkpoints"))
        result = genmed("resume", "latest", "--json", GENMED_TEST_EVENTS=str(draw(2, 60)))
    assert result.code == -signal.SIGKILL, result.err
    assert_goes_on(genmed, whole)


def assert_goes_on(genmed: Genmed, whole: Genmed) -> Result:
    result = genmed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert_same_run(genmed, whole)
    assert [path.name for path in genmed.run_folder().rglob(".tmp-*")] == []
    return result


@pytest.mark.parametrize(
    "file",
    ["state.json", "model.safetensors", "optimizer.safetensors", "manifest.json", "metrics.csv", "predictions.csv"],
)
def test_run_killed_as_it_touches_a_file_ends_with_the_bits_of_one_left_alone(
    pair: Pair, killed: Genmed, file: str
) -> None:
    result = killed("resume", "latest", "--json", GENMED_TEST_FILE=file)
    assert result.code == -signal.SIGKILL
    if file.endswith((".safetensors", "manifest.json", "state.json")):
        left = [path.name for path in (killed.run_folder() / "checkpoints").iterdir() if path.name.startswith(".tmp")]
        assert len(left) == 1, "it was killed while it wrote a checkpoint"
    assert_goes_on(killed, pair.whole)


def test_checkpoint_that_was_half_removed_when_the_run_was_killed_is_gone_after_resume(
    pair: Pair, killed: Genmed
) -> None:
    folder = killed.run_folder() / "checkpoints"
    assert killed("resume", "latest", "--json", GENMED_TEST_REMOVING="-old", GENMED_TEST_REMOVED="2").code == -9
    [half] = [path for path in folder.iterdir() if path.name.endswith("-old")]
    assert 0 < len(list(half.iterdir())) < 7
    assert all(check_checkpoint(path) == [] for path in list_checkpoints(folder))
    assert_goes_on(killed, pair.whole)


SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    ("counted", "number", "place"),
    [("PASSES", 3, "step-0000011-epoch-0002"), ("RESTS", 2, "step-0000014-epoch-0002")],
    ids=["step", "validation"],
)
def test_signal_saves_at_once_and_the_printed_command_goes_on(
    pair: Pair, killed: Genmed, name: str, counted: str, number: int, place: str
) -> None:
    """Of the run killed in step 12 with a checkpoint of step 9. A validation is left in the middle."""
    chosen = {f"GENMED_TEST_{counted}": str(number), "GENMED_TEST_SIGNAL": str(int(signal.Signals[name]))}
    result = killed("resume", "latest", cwd=killed.root, **chosen)
    assert result.code == 130, result.err
    last = result.err.splitlines()[-1]
    assert last.startswith(f"interrupted: {name} at epoch 2, step ")
    assert names(killed.run_folder() / "checkpoints")[-1] == place
    assert killed("list", "--json").json[0]["status"] == "interrupted"
    words = shlex.split(last[last.index("genmed resume") : -1])
    again = killed(*words[1:], cwd=killed.root)
    assert again.code == 0, again.err
    expected = "epoch 2/3, validation" if counted == "RESTS" else "epoch 2/3, step 5/7"
    assert expected in again.err
    assert_same_run(killed, pair.whole)


@pytest.mark.parametrize("rests", [9, 10], ids=["last validation's end", "final evaluation"])
def test_signal_after_the_last_step_loses_nothing(pair: Pair, killed: Genmed, rests: int) -> None:
    chosen = {"GENMED_TEST_RESTS": str(rests), "GENMED_TEST_SIGNAL": str(int(signal.SIGTERM))}
    result = killed("resume", "latest", "--json", **chosen)
    assert result.code == 130, result.err
    assert result.json["error"]["message"] == "SIGTERM in the final evaluation"
    assert result.json["error"]["hint"].startswith("the state is safe; go on with: genmed resume ")
    assert "at the final evaluation" in assert_goes_on(killed, pair.whole).err


def test_run_of_a_root_that_was_copied_to_another_place_resumes_there(
    pair: Pair, killed: Genmed, tmp_path: Path
) -> None:
    shutil.move(killed.root, tmp_path / "elsewhere")
    result = killed("resume", "latest", "--json", "--root", tmp_path / "elsewhere", GENMED_ROOT="")
    assert result.code == 0, result.err
    shutil.move(tmp_path / "elsewhere", killed.root)
    assert_same_run(killed, pair.whole)
