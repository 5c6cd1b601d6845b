"""Each item of the state that a resume restores is needed: left out, the training ends otherwise, or is refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from genmed.engine.checkpoint import Checkpoint
from genmed.engine.checkpoint_store import CheckpointStore, Retention
from genmed.engine.evaluation import Evaluation
from genmed.engine.learner import Learner, build_learner, fingerprint_learner
from genmed.engine.progress import Progress
from genmed.engine.task import Task
from tests.test_step import make_task, train

IDENTITY = {"config": "sha256:c", "data": "sha256:d", "code": "sha256:e"}
FIGURES = [0.5, 0.9, 0.3, 0.4, 0.2]
"""Of the validations: with a patience of 2 the training of 5 epochs of 4 steps ends after the fourth."""

Outcome = tuple[Any, ...]


@pytest.fixture(autouse=True)
def _figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(learner: Learner, task: Task, loader: object, split: str, stop_asked: object) -> Evaluation:
        return Evaluation(np.zeros((0, 0), np.float32), {"val_auroc_macro": FIGURES[evaluate.epoch - 1]})  # type: ignore

    def note_epoch(training: Any, *arguments: Any) -> Any:
        evaluate.epoch = training.progress.epoch  # type: ignore[attr-defined]
        return end_epoch(training, *arguments)

    from genmed.engine.loop import Training

    end_epoch = Training._end_epoch
    monkeypatch.setattr("genmed.engine.loop.evaluate", evaluate)
    monkeypatch.setattr(Training, "_end_epoch", note_epoch)


class Saved(NamedTuple):
    task: Task
    store: CheckpointStore
    whole: Outcome


def go_on(saved: Saved | Task, store: CheckpointStore, learner: Learner, progress: Progress) -> Outcome:
    """Trains to the end: the steps, the epochs' metrics, the final state and position."""
    task = saved if isinstance(saved, Task) else saved.task
    lines = train(task, store, learner, progress)
    metrics = [report.metrics for report in lines.reports]
    return lines.records, metrics, fingerprint_learner(learner, progress), progress


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """An fp16 training, of which all checkpoints are kept."""
    keys = {"training.epochs": 5, "training.patience": 2, "checkpoints.every_steps": 1, "compute.precision": "fp16"}
    task = make_task(tmp_path, keys)
    folder = tmp_path / "checkpoints"
    whole = go_on(task, CheckpointStore(folder, IDENTITY, Retention(99)), build_learner(task), Progress())
    assert whole[3].epoch == 4
    return Saved(task, CheckpointStore(folder, IDENTITY, Retention(99)), whole)


def forget_parameters(learner: Learner, fresh: Learner, progress: Progress) -> None:
    _copy(dict(fresh.model.named_parameters()), dict(learner.model.named_parameters()))


def forget_one_parameter(learner: Learner, fresh: Learner, progress: Progress) -> None:
    name, value = next(iter(fresh.model.named_parameters()))
    _copy({name: value}, dict(learner.model.named_parameters()))


def forget_buffers(learner: Learner, fresh: Learner, progress: Progress) -> None:
    _copy(dict(fresh.model.named_buffers()), dict(learner.model.named_buffers()))


def forget_in_optimizer(key: str) -> Callable[[Learner, Learner, Progress], None]:
    def forget(learner: Learner, fresh: Learner, progress: Progress) -> None:
        for state in learner.optimizer.state.values():
            state[key].zero_()

    return forget


def forget_scaler(learner: Learner, fresh: Learner, progress: Progress) -> None:
    assert learner.scaler is not None
    assert fresh.scaler is not None
    learner.scaler.load_state_dict({**fresh.scaler.state_dict(), "scale": 2.0})


def forget_in_progress(field: str) -> Callable[[Learner, Learner, Progress], None]:
    def forget(learner: Learner, fresh: Learner, progress: Progress) -> None:
        assert getattr(progress, field) != getattr(Progress(), field), "nothing would be left out"
        setattr(progress, field, getattr(Progress(), field))

    return forget


def _copy(source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in source.items():
            target[name].copy_(value)


WITHIN, AT_AN_END, AT_THE_END = "step-0000014-epoch-0004", "step-0000008-epoch-0002-end", "step-0000016-epoch-0004-end"
WHERE = {"epoch_over": AT_AN_END, "finished": AT_THE_END, "lr": AT_THE_END}
ITEMS = {
    "parameters": (WITHIN, forget_parameters),
    "one parameter": (WITHIN, forget_one_parameter),
    "buffers": (WITHIN, forget_buffers),
    "exp_avg": (WITHIN, forget_in_optimizer("exp_avg")),
    "exp_avg_sq": (WITHIN, forget_in_optimizer("exp_avg_sq")),
    "optimizer's step": (WITHIN, forget_in_optimizer("step")),
    "scaler": (WITHIN, forget_scaler),
    **{
        field.name: (WHERE.get(field.name, WITHIN), forget_in_progress(field.name))
        for field in dataclasses.fields(Progress)
    },
}
"""From which checkpoint on an item shows, and how it is left out."""


def restore(saved: Saved, name: str) -> tuple[Learner, Progress]:
    whole, broken = saved.store.list_whole()
    assert broken == {}
    [checkpoint] = [entry for entry in whole if entry.folder.name == name]
    assert isinstance(checkpoint, Checkpoint)
    learner = build_learner(saved.task)
    return learner, saved.store.restore(checkpoint, learner)


@pytest.mark.parametrize("name", [WITHIN, AT_AN_END, AT_THE_END])
def test_restored_training_ends_as_the_one_left_alone(saved: Saved, tmp_path: Path, name: str) -> None:
    learner, progress = restore(saved, name)
    done = progress.step
    epochs = progress.epoch if progress.epoch_over else progress.epoch - 1
    records, metrics, fingerprint, end = go_on(saved, CheckpointStore(tmp_path / "other", IDENTITY), learner, progress)
    assert (records, metrics) == (saved.whole[0][done:], saved.whole[1][epochs:])
    assert (fingerprint, end) == saved.whole[2:]


@pytest.mark.parametrize(("name", "forget"), ITEMS.values(), ids=ITEMS)
def test_training_ends_otherwise_without_this_item_of_the_state(
    saved: Saved, tmp_path: Path, name: str, forget: Callable[[Learner, Learner, Progress], None]
) -> None:
    learner, progress = restore(saved, name)
    done, epochs = progress.step, progress.epoch if progress.epoch_over else progress.epoch - 1
    forget(learner, build_learner(saved.task), progress)
    found = go_on(saved, CheckpointStore(tmp_path / "other", IDENTITY), learner, progress)
    assert found != (saved.whole[0][done:], saved.whole[1][epochs:], *saved.whole[2:])


def test_items_are_all_that_a_checkpoint_holds(saved: Saved) -> None:
    """So that a new part of the state cannot be forgotten here."""
    learner, progress = restore(saved, WITHIN)
    assert set(progress.to_json()) == {field.name for field in dataclasses.fields(Progress)} <= set(ITEMS)
    keys = {name.rpartition("/")[2] for name in learner.optimizer_tensors()}
    assert keys == {"exp_avg", "exp_avg_sq", "step"}
    assert set(learner.weights()) == {*dict(learner.model.named_parameters()), *dict(learner.model.named_buffers())}
