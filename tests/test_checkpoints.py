"""Checkpoints: whole or refused; a run that was killed anywhere ends with the bits of one left alone."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genmed.engine import checkpoint_store
from genmed.engine.checkpoint import (
    Checkpoint,
    check_checkpoint,
    describe_checkpoint,
    list_checkpoints,
    restore_checkpoint,
)
from genmed.engine.checkpoint_store import CheckpointStore, Retention
from genmed.engine.evaluation import Evaluation
from genmed.engine.learner import Learner, build_learner, fingerprint_learner
from genmed.engine.loop import Training
from genmed.engine.progress import Progress
from genmed.engine.step import StepRecord
from genmed.engine.task import Task
from genmed.ground.errors import RecordError, StorageError, TraceError
from genmed.ground.files import temporary_beside
from genmed.ground.fingerprints import digest_file
from genmed.parts.data.loader import BatchLoader
from tests.harness import edit_document
from tests.test_step import Lines, make_task, train

Arguments = Callable[..., list[object]]
IDENTITY = {"config": "sha256:c", "data": "sha256:d", "code": "sha256:e"}
STEPS_PER_EPOCH = 7  # of `tiny`


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Saved(NamedTuple):
    """A checkpoint within epoch 2 of an fp16 training, which has all that a state can have."""

    task: Task
    folder: Path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("saved")
    task = make_task(folder, {"compute.precision": "fp16"})
    store = CheckpointStore(folder / "checkpoints", IDENTITY)
    train(task, store, build_learner(task), Progress(), stop_after=6)
    return Saved(task, list_checkpoints(folder / "checkpoints")[-1])


@pytest.fixture
def damaged(saved: Saved, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be damaged."""
    return Path(shutil.copytree(saved.folder, tmp_path / saved.folder.name))


def restore(task: Task, folder: Path) -> tuple[Learner, Progress]:
    learner = build_learner(task)
    return learner, restore_checkpoint(describe_checkpoint(folder), learner, IDENTITY)


def sign_anew(folder: Path) -> None:
    """Makes the manifest's digests those of the files, so that nothing but the content is wrong."""

    def digest_again(manifest: dict[str, Any]) -> None:
        manifest["files"] = {name: digest_file(folder / name) for name in manifest["files"]}

    edit_document(folder / "manifest.json", digest_again)
    assert check_checkpoint(folder) == []


def edit_tensors(folder: Path, file: str, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)
    sign_anew(folder)


def edit_state(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "state.json").read_text())
    change(document)
    (folder / "state.json").write_text(json.dumps(document))
    sign_anew(folder)


def test_checkpoint_is_a_folder_of_safetensors_and_json_under_a_manifest(saved: Saved) -> None:
    assert saved.folder.name == "step-0000006-epoch-0002"
    names = {path.name for path in saved.folder.iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}
    manifest = json.loads((saved.folder / "manifest.json").read_text())
    assert list(manifest) == ["schema", "state", "files", "seal"]
    assert manifest["schema"] == 1
    assert manifest["files"] == {name: digest_file(saved.folder / name) for name in names - {"manifest.json"}}
    assert check_checkpoint(saved.folder) == []
    assert not [path for path in saved.folder.parent.iterdir() if path.name.startswith(".tmp")]


def test_checkpoint_holds_no_pickle(saved: Saved) -> None:
    for path in saved.folder.iterdir():
        content = path.read_bytes()
        header = content if path.suffix == ".json" else content[8 : 8 + int.from_bytes(content[:8], "little")]
        json.loads(header)
        assert not content.startswith((b"\x80", b"PK"))


def test_checkpoint_holds_all_of_the_state(saved: Saved) -> None:
    learner, progress = restore(saved.task, saved.folder)
    model = load_file(saved.folder / "model.safetensors")
    assert model.keys() == learner.model.state_dict().keys()
    optimizer = load_file(saved.folder / "optimizer.safetensors")
    assert optimizer.keys() == {
        f"{name}/{key}" for name, _ in learner.model.named_parameters() for key in ("exp_avg", "exp_avg_sq", "step")
    }
    state = json.loads((saved.folder / "state.json").read_text())
    assert list(state) == ["progress", "scaler", "identity", "trace"]
    assert state["progress"].keys() == Progress.__dataclass_fields__.keys()
    assert state["scaler"].keys() == learner.scaler_state().keys() == torch.amp.GradScaler("cpu").state_dict().keys()
    assert state["identity"] == IDENTITY
    assert state["trace"] == {"step": 6, "chain": None}
    assert (progress.step, progress.epoch, progress.step_in_epoch, progress.epoch_over) == (6, 2, 2, False)
    assert progress.best_epoch == 1
    assert fingerprint_learner(learner, progress) == describe_checkpoint(saved.folder).state


def test_checkpoint_is_described_by_its_manifest(saved: Saved) -> None:
    described = describe_checkpoint(saved.folder)
    state = json.loads((saved.folder / "manifest.json").read_text())["state"]
    assert described == Checkpoint(saved.folder, 2, 6, state, digest_file(saved.folder / "manifest.json"))
    assert described.path == "checkpoints/step-0000006-epoch-0002"


LEFT_OUT: dict[str, tuple[str, Callable[[str], bool]]] = {
    "a weight": ("model", lambda name: name == "0.weight"),
    "a bias": ("model", lambda name: name == "9.bias"),
    "a running mean": ("model", lambda name: name == "1.running_mean"),
    "a running variance": ("model", lambda name: name == "4.running_var"),
    "a count of batches": ("model", lambda name: name == "1.num_batches_tracked"),
    "all buffers": ("model", lambda name: "running" in name or "num_" in name),
    "everything of the model": ("model", lambda name: True),
    "a first moment": ("optimizer", lambda name: name == "0.weight/exp_avg"),
    "a second moment": ("optimizer", lambda name: name == "0.weight/exp_avg_sq"),
    "a count of steps": ("optimizer", lambda name: name == "0.weight/step"),
    "all first moments": ("optimizer", lambda name: name.endswith("/exp_avg")),
    "all second moments": ("optimizer", lambda name: name.endswith("/exp_avg_sq")),
    "all counts of steps": ("optimizer", lambda name: name.endswith("/step")),
    "a parameter of the optimizer": ("optimizer", lambda name: name.startswith("1.weight/")),
    "everything of the optimizer": ("optimizer", lambda name: True),
}


@pytest.mark.parametrize(("file", "which"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_tensor_left_out_stops_the_restore(
    saved: Saved, damaged: Path, file: str, which: Callable[[str], bool]
) -> None:
    def leave_out(tensors: dict[str, torch.Tensor]) -> None:
        chosen = [name for name in tensors if which(name)]
        assert chosen
        for name in chosen:
            del tensors[name]

    edit_tensors(damaged, f"{file}.safetensors", leave_out)
    with pytest.raises(RecordError, match=re.escape(str(damaged))):
        restore(saved.task, damaged)


@pytest.mark.parametrize("file", ["model", "optimizer"])
@pytest.mark.parametrize("change", ["bit", "shape", "dtype", "more", "name"])
def test_tensor_that_is_not_the_states_own_stops_the_restore(
    saved: Saved, damaged: Path, file: str, change: str
) -> None:
    names = sorted(load_file(damaged / f"{file}.safetensors"))
    for name in names:
        folder = Path(shutil.copytree(damaged, damaged.with_name(f"{damaged.name}-{name.replace('/', '-')}")))

        def edit(tensors: dict[str, torch.Tensor], name: str = name) -> None:
            tensor = tensors[name]
            if change == "bit":
                tensors[name].view(-1).view(torch.uint8)[0] ^= 1
            elif change == "shape":
                tensors[name] = torch.cat([tensor.reshape(-1), tensor.reshape(-1)])
            elif change == "dtype":
                tensors[name] = tensor.double()
            elif change == "more":
                tensors[f"{name}.more"] = tensor.clone()
            else:
                tensors[f"other.{name}"] = tensors.pop(name)

        edit_tensors(folder, f"{file}.safetensors", edit)
        with pytest.raises(RecordError, match=re.escape(str(folder))):
            restore(saved.task, folder)


def test_shapes_and_dtypes_that_differ_are_both_named(saved: Saved, damaged: Path) -> None:
    edit_tensors(damaged, "model.safetensors", lambda t: t.update({"0.weight": t["0.weight"].double()[:4]}))
    with pytest.raises(RecordError) as caught:
        restore(saved.task, damaged)
    assert "0.weight is (4, 3, 3, 3) torch.float64, the model has (8, 3, 3, 3) torch.float32" in caught.value.message


@pytest.mark.parametrize("field", Progress.__dataclass_fields__)
def test_progress_with_a_field_left_out_or_renamed_stops_the_restore(saved: Saved, damaged: Path, field: str) -> None:
    edit_state(damaged, lambda document: document["progress"].pop(field))
    with pytest.raises(RecordError, match=rf"state.json is damaged: unknown or missing: {field}"):
        restore(saved.task, damaged)
    edit_state(damaged, lambda document: document["progress"].update({f"{field}s": 1}))
    with pytest.raises(RecordError, match=rf"unknown or missing: {field}, {field}s"):
        restore(saved.task, damaged)


@pytest.mark.parametrize("field", ["step", "epoch", "lr"])
def test_position_that_is_not_the_states_own_stops_the_restore(saved: Saved, damaged: Path, field: str) -> None:
    value = (0.5).hex() if field == "lr" else 4
    edit_state(damaged, lambda document: document["progress"].update({field: value}))
    with pytest.raises(RecordError, match=r"was not restored whole: its state is sha256:.*, restored is sha256:"):
        restore(saved.task, damaged)


@pytest.mark.parametrize("key", ["scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"])
def test_scaler_with_a_figure_left_out_or_changed_stops_the_restore(saved: Saved, damaged: Path, key: str) -> None:
    changed = Path(shutil.copytree(damaged, damaged.with_name("changed")))
    edit_state(damaged, lambda document: document["scaler"].pop(key))
    with pytest.raises(RecordError, match=f"does not fit the scaler: {key} only in the scaler"):
        restore(saved.task, damaged)
    edit_state(changed, lambda document: document["scaler"].update({key: document["scaler"][key] + 1}))
    with pytest.raises(RecordError, match="was not restored whole"):
        restore(saved.task, changed)


def test_scaler_left_out_or_not_wanted_stops_the_restore(saved: Saved, damaged: Path, tmp_path: Path) -> None:
    plain = make_task(tmp_path)
    with pytest.raises(RecordError, match=r"does not fit the scaler: .* only in the checkpoint"):
        restore(plain, damaged)
    edit_state(damaged, lambda document: document.update({"scaler": {}}))
    with pytest.raises(RecordError, match=r"does not fit the scaler: .* only in the scaler"):
        restore(saved.task, damaged)


@pytest.mark.parametrize("part", IDENTITY)
def test_checkpoint_of_another_config_data_or_code_is_refused_with_both_values(
    saved: Saved, damaged: Path, part: str
) -> None:
    edit_state(damaged, lambda document: document["identity"].update({part: "sha256:other"}))
    with pytest.raises(RecordError, match=f"belongs to another {part}: sha256:other, here {IDENTITY[part]}"):
        restore(saved.task, damaged)
    edit_state(damaged, lambda document: document["identity"].pop(part))
    with pytest.raises(RecordError, match=f"belongs to another {part}: None"):
        restore(saved.task, damaged)


def test_failed_restore_does_not_pass_for_a_fresh_start(saved: Saved, damaged: Path) -> None:
    """An optimizer without a past is a whole one, before the first step only."""
    edit_tensors(damaged, "optimizer.safetensors", lambda tensors: tensors.clear())
    with pytest.raises(RecordError, match="was not restored whole"):
        restore(saved.task, damaged)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_flipped_bit_and_missing_file_are_named(damaged: Path, name: str) -> None:
    whole = (damaged / name).read_bytes()
    for position in np.linspace(0, len(whole) - 1, 7, dtype=int):
        for bit in (0, 7):
            content = bytearray(whole)
            content[position] ^= 1 << bit
            (damaged / name).write_bytes(content)
            assert check_checkpoint(damaged) == [f"{damaged / name} fails its digest"]
    with pytest.raises(RecordError, match=f"{name} fails its digest"):
        describe_checkpoint(damaged)
    (damaged / name).write_bytes(whole[:-1])
    assert check_checkpoint(damaged) == [f"{damaged / name} fails its digest"]
    (damaged / name).unlink()
    assert check_checkpoint(damaged) == [f"{damaged / name} is missing"]


def test_any_flipped_bit_and_any_cut_of_the_manifest_is_found(damaged: Path) -> None:
    path = damaged / "manifest.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        for broken in (content, whole[:position]):
            path.write_bytes(broken)
            assert check_checkpoint(damaged) == [f"{path} is damaged: it fails its seal"]
    path.unlink()
    assert check_checkpoint(damaged) == [f"{path} is missing"]


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def run_epochs(
    folder: Path, figures: list[float], monkeypatch: pytest.MonkeyPatch, retention: Retention, **kept: Any
) -> list[str]:
    """The checkpoints left by a training of 4 steps an epoch whose validations give these figures."""
    coming = iter(figures)
    monkeypatch.setattr(
        "genmed.engine.loop.evaluate",
        lambda *_: Evaluation(np.zeros((0, 0), np.float32), {"val_auroc_macro": next(coming)}),
    )
    settings = {f"checkpoints.{name}": value for name, value in kept.items()}
    task = make_task(folder, {"training.epochs": len(figures), **settings})
    store = CheckpointStore(folder / "checkpoints", IDENTITY, retention)
    train(task, store, build_learner(task), Progress())
    return names(folder / "checkpoints")


def ends(*epochs: int) -> list[str]:
    return [f"step-{4 * epoch:07d}-epoch-{epoch:04d}-end" for epoch in epochs]


def within(epoch: int, step: int) -> str:
    return f"step-{step:07d}-epoch-{epoch:04d}"


RISING, EARLY = [0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.9, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(
    ("retention", "written", "figures", "expected"),
    [
        (Retention(), {}, RISING, ends(5)),
        (Retention(), {}, EARLY, ends(2, 5)),
        (Retention(2), {}, EARLY, ends(2, 4, 5)),
        (Retention(9), {}, EARLY, ends(1, 2, 3, 4, 5)),
        (Retention(every_epochs=2), {}, [0.9, 0.2, 0.3, 0.4, 0.5], ends(1, 2, 4, 5)),
        (Retention(every_epochs=2), {"every_steps": 3}, [0.9, 0.2, 0.3, 0.4, 0.5], ends(1, 2, 4, 5)),
        (Retention(), {"every_steps": 3}, EARLY, ends(2, 5)),
        (Retention(2), {"every_steps": 3}, EARLY, [*ends(2), within(5, 18), *ends(5)]),
        (Retention(3), {"every_steps": 3}, EARLY, [*ends(2, 4), within(5, 18), *ends(5)]),
        (
            Retention(every_steps=6),
            {"keep_every_steps": 6},
            EARLY,
            [within(2, 6), *ends(2, 3), within(5, 18), *ends(5)],
        ),
        (Retention(first_step=4), {}, RISING, ends(1, 5)),
        (Retention(), {"every_minutes": 1e-9}, RISING, ends(5)),
        (Retention(99), {"every_minutes": 1e9}, RISING, ends(1, 2, 3, 4, 5)),
    ],
    ids=str,
)
def test_best_and_newest_and_chosen_checkpoints_are_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    retention: Retention,
    written: dict[str, Any],
    figures: list[float],
    expected: list[str],
) -> None:
    assert run_epochs(tmp_path, figures, monkeypatch, retention, **written) == expected


def test_checkpoint_is_written_when_the_last_is_old_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless one is being written, so some may be left out."""
    found = run_epochs(tmp_path, RISING, monkeypatch, Retention(99), every_minutes=1e-9)
    assert set(ends(1, 2, 3, 4, 5)) < set(found)


def test_trace_is_on_the_disk_before_a_checkpoint_counts_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    write = checkpoint_store.write_checkpoint

    def watched(*arguments: Any) -> Checkpoint:
        calls.append("write")
        return write(*arguments)

    monkeypatch.setattr(checkpoint_store, "write_checkpoint", watched)
    monkeypatch.setattr(Lines, "sync", lambda lines: calls.append("sync"))
    task = make_task(tmp_path, {"checkpoints.every_steps": 3, "training.epochs": 2})
    train(task, CheckpointStore(tmp_path / "checkpoints", IDENTITY), build_learner(task), Progress())
    assert calls == ["sync", "write"] * 4


class Held:
    """Holds the writing of checkpoints up until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let_go = threading.Event()
        write = checkpoint_store.write_checkpoint

        def held(*arguments: Any) -> Checkpoint:
            assert self.let_go.wait(60)
            return write(*arguments)

        monkeypatch.setattr(checkpoint_store, "write_checkpoint", held)


def test_state_is_that_of_the_save_though_the_learner_went_on_while_it_was_written(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    learner, progress = restore(saved.task, saved.folder)
    state = describe_checkpoint(saved.folder).state
    with CheckpointStore(tmp_path / "checkpoints", IDENTITY) as store:
        store.save(learner, progress, state)
        assert store.busy
        progress.step += 1
        with torch.no_grad():
            for tensor in [*learner.weights().values(), *learner.optimizer_tensors().values()]:
                tensor.add_(1)
        held.let_go.set()
    folder = tmp_path / "checkpoints" / saved.folder.name
    for name in ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"):
        assert (folder / name).read_bytes() == (saved.folder / name).read_bytes()


def test_save_waits_for_the_one_before(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    learner, progress = restore(saved.task, saved.folder)
    store = CheckpointStore(tmp_path / "checkpoints", IDENTITY, Retention(newest=2))
    with store:
        store.save(learner, progress, "first")
        threading.Timer(0.2, held.let_go.set).start()
        progress.step += 1
        store.save(learner, progress, "second")
        assert held.let_go.is_set()
        assert names(tmp_path / "checkpoints")[0] == within(2, 6)
    assert names(tmp_path / "checkpoints") == [within(2, 6), within(2, 7)]


@pytest.mark.parametrize("asked", ["check", "wait", "save", "exit"])
def test_writing_that_failed_is_told_at_the_next_chance(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise StorageError("no disk space")

    monkeypatch.setattr(checkpoint_store, "write_checkpoint", fail)
    learner, progress = restore(saved.task, saved.folder)
    store = CheckpointStore(tmp_path / "checkpoints", IDENTITY)
    store.save(learner, progress, "state")
    while store.busy:
        time.sleep(0.001)
    ask = {
        "check": store.check,
        "wait": store.wait,
        "save": lambda: store.save(learner, progress, "state"),
        "exit": lambda: store.__exit__(None, None, None),
    }
    with pytest.raises(StorageError, match="no disk space"):
        ask[asked]()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint can be written."""

    def fail(*arguments: Any) -> None:
        raise StorageError("no disk space")

    monkeypatch.setattr(checkpoint_store, "write_checkpoint", fail)


@pytest.mark.usefixtures("full")
def test_training_stops_at_the_step_after_a_writing_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def on_step(lines: Lines, record: StepRecord, images: int) -> None:
        steps.append(record.step)
        while store.busy:
            time.sleep(0.001)

    monkeypatch.setattr(Lines, "on_step", on_step)
    monkeypatch.setattr(Training, "_is_due", lambda training, step: step == 1)
    task = make_task(tmp_path, {})
    store = CheckpointStore(tmp_path / "checkpoints", IDENTITY)
    with pytest.raises(StorageError, match="no disk space"):
        train(task, store, build_learner(task), Progress())
    assert steps == [1, 2]


@pytest.mark.usefixtures("full")
def test_training_that_is_asked_to_stop_does_not_call_a_state_safe_that_was_not_written(tmp_path: Path) -> None:
    task, lines = make_task(tmp_path, {}), Lines(stop_after=3)
    loader = BatchLoader(task.images, task.targets, workers=0, prefetch=2, persistent=False, pin=False)
    store = CheckpointStore(tmp_path / "checkpoints", IDENTITY)
    training = Training(task, build_learner(task), Progress(), loader, lines, store, lines)
    with pytest.raises(StorageError, match="no disk space"), store:
        training.run()


def test_whole_checkpoints_are_listed_newest_first_and_what_is_broken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_epochs(tmp_path, [0.1, 0.2, 0.3], monkeypatch, Retention(3))
    folder = tmp_path / "checkpoints"
    store = CheckpointStore(folder, IDENTITY, Retention(3))
    for count, epoch in enumerate((3, 2, 1)):
        whole, broken = store.list_whole()
        assert ([checkpoint.epoch for checkpoint in whole], len(broken)) == ([*range(epoch, 0, -1)], count)
        path = folder / ends(epoch)[0] / "state.json"
        path.write_bytes(path.read_bytes() + b" ")
    whole, broken = store.list_whole()
    assert whole == []
    paths = [folder / ends(epoch)[0] for epoch in (3, 2, 1)]
    assert broken == {path: [f"{path / 'state.json'} fails its digest"] for path in paths}


def test_broken_checkpoints_are_removed_when_a_whole_one_is_safe(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_epochs(tmp_path, [0.1, 0.2, 0.3], monkeypatch, Retention(3))
    folder = tmp_path / "checkpoints"
    (folder / ends(2)[0] / "model.safetensors").write_bytes(b"half")
    learner, progress = restore(saved.task, saved.folder)
    progress.step = 13
    with CheckpointStore(folder, IDENTITY, Retention(3)) as store:
        store.save(learner, progress, "state")
    assert names(folder) == [*ends(1, 3), within(2, 13)]


def test_checkpoints_of_later_steps_stay_until_they_are_reached(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_epochs(tmp_path, [0.1, 0.2, 0.3], monkeypatch, Retention(3))
    folder = tmp_path / "checkpoints"
    learner, progress = restore(saved.task, saved.folder)
    with CheckpointStore(folder, IDENTITY) as store:
        store.save(learner, progress, "state")
    assert names(folder) == [*ends(1), within(2, 6), *ends(2, 3)]  # the best is of epoch 1


def test_what_a_killed_writer_left_is_swept(saved: Saved, tmp_path: Path) -> None:
    own = temporary_beside(tmp_path / "step-0000001-epoch-0001").name
    left = tmp_path / re.sub(r"-\d+-step", "-4194305-step", own)
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    CheckpointStore(tmp_path, IDENTITY)
    assert list(tmp_path.iterdir()) == []


def test_broken_checkpoint_of_the_same_step_is_replaced(saved: Saved, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved.folder, tmp_path / "checkpoints" / saved.folder.name))
    (folder / "model.safetensors").write_bytes(b"half")
    learner, progress = restore(saved.task, saved.folder)
    with CheckpointStore(tmp_path / "checkpoints", IDENTITY) as store:
        store.save(learner, progress, describe_checkpoint(saved.folder).state)
    assert (folder / "manifest.json").read_bytes() == (saved.folder / "manifest.json").read_bytes()
    assert check_checkpoint(folder) == []


def test_other_state_than_the_one_already_saved_for_this_step_is_not_passed_over(saved: Saved, tmp_path: Path) -> None:
    """Without a trace nothing else would tell that a step computed again has another result."""
    shutil.copytree(saved.folder, tmp_path / "checkpoints" / saved.folder.name)
    learner, progress = restore(saved.task, saved.folder)
    with torch.no_grad():
        next(iter(learner.trained.values())).add_(1)
    store = CheckpointStore(tmp_path / "checkpoints", IDENTITY)
    store.save(learner, progress, fingerprint_learner(learner, progress))
    with pytest.raises(TraceError, match=r"step 6 \(epoch 2\), computed again, has another state than .*step-0000006"):
        store.wait()
    assert check_checkpoint(tmp_path / "checkpoints" / saved.folder.name) == []


def test_progress_is_written_and_read_exactly(tmp_path: Path) -> None:
    progress = Progress(7, 2, 3, 0.1 + 0.2, 1e-300, 1 / 3, 1, 4, True, False)
    assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress
    assert Progress.from_json(Progress().to_json()) == Progress()
    for value in (None, 0.0, -0.0, 1.0):
        one = Progress(best_value=value)
        assert Progress.from_json(one.to_json()) == one
