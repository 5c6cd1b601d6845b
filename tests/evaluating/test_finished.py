"""The state that a run's results are of is found among its checkpoints, or it is said which one is missing."""

import shutil
from pathlib import Path

import pytest

from genmed.engine.checkpoint import list_checkpoints
from genmed.ground.errors import RecordError, RequestError
from genmed.records.run_folder import RunDocument, RunFolder, this_process
from genmed.workflows.finished import check_complete, find_selected
from tests.harness import Genmed


@pytest.fixture
def run(trained: Genmed, tmp_path: Path) -> RunFolder:
    """A copy of a finished run, to be spoilt."""
    return RunFolder(Path(shutil.copytree(trained.run_folder(), tmp_path / "run")))


def tell(run: RunFolder, **fields: object) -> RunDocument:
    """The run's document with other fields."""
    document = run.read()
    config = {**document.config, "training.select": fields.pop("select", "best")}
    return document.model_copy(update={"config": config, **fields})


def spoil(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")


def test_selected_state_is_the_best_epoch_s_or_the_last_step_s(run: RunFolder) -> None:
    document = run.read()
    assert find_selected(run, tell(run)).is_end_of(document.best_epoch)
    assert find_selected(run, tell(run, select="last")).step == document.steps_done


def test_state_that_is_damaged_or_gone_is_named(run: RunFolder) -> None:
    newest = list_checkpoints(run.checkpoints_path)[-1]
    document = run.read()
    with pytest.raises(RecordError, match="the checkpoint of epoch 9, the best, is gone from"):
        find_selected(run, tell(run, best_epoch=9))
    with pytest.raises(RecordError, match="the checkpoint of step 99, the last, is gone from"):
        find_selected(run, tell(run, select="last", steps_done=99))
    spoil(newest)
    told = rf"of step {document.steps_done}, the last, is damaged: .*model\.safetensors fails its digest"
    with pytest.raises(RecordError, match=told):
        find_selected(run, tell(run, select="last"))
    shutil.rmtree(run.checkpoints_path)
    with pytest.raises(RecordError, match=f"the checkpoint of epoch {document.best_epoch}, the best, is gone from"):
        find_selected(run, tell(run))


def test_damage_of_another_state_is_no_matter(run: RunFolder) -> None:
    best = find_selected(run, tell(run))
    other = best.folder.with_name("step-0000001-epoch-0001")
    shutil.copytree(best.folder, other)
    spoil(other)
    assert find_selected(run, tell(run)) == best


@pytest.mark.parametrize(
    ("status", "hint"), [("interrupted", "finish it with: genmed resume "), ("running", "wait for its end")]
)
def test_run_that_is_not_complete_is_refused_with_the_way_on(run: RunFolder, status: str, hint: str) -> None:
    check_complete(run.read())
    with pytest.raises(RequestError, match=f" is {status}, and this needs a finished run") as caught:
        check_complete(tell(run, status=status, process=this_process()))
    assert caught.value.hint.startswith(hint)
