"""Checkpoints: whole or refused; a run that was killed anywhere ends with the bits of one left alone."""

import contextlib
import csv
import json
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from genmed.engine.checkpoint import (
    Checkpoint,
    CheckpointStore,
    check_checkpoint,
    describe_checkpoint,
    list_checkpoints,
    read_progress,
    restore_checkpoint,
)
from genmed.engine.evaluation import Evaluation
from genmed.engine.learner import Learner, build_learner, fingerprint_learner
from genmed.engine.progress import Progress
from genmed.engine.task import Task
from genmed.ground.errors import RecordError
from genmed.ground.files import temporary_beside
from genmed.ground.fingerprints import digest_file, digest_json
from tests.harness import Genmed
from tests.test_step import Lines, make_task, train

Arguments = Callable[..., list[object]]
IDENTITY = {"config": "sha256:c", "data": "sha256:d", "code": "sha256:e"}
STEPS_PER_EPOCH = 7  # of `tiny`

FRAGILE = """
import os
import signal
import sys
from torch import nn

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def build(num_classes):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )
    counted = {"passes": 0, "events": 0}

    def count(what):
        counted[what] += 1
        if counted[what] == int(os.environ.get(f"GENMED_TEST_{what.upper()}", -1)):
            os.kill(os.getpid(), signal.SIGKILL)

    def before_pass(module, inputs):
        if module.training:
            count("passes")
        if counted["events"]:
            count("events")

    def before_file(event, arguments):
        if event not in EVENTS:
            return
        if file and any(file in str(argument) for argument in arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        if counted["events"] or str(arguments[0]).endswith("trace.jsonl"):
            count("events")

    model.register_forward_pre_hook(before_pass)
    file = os.environ.get("GENMED_TEST_FILE")
    if file or "GENMED_TEST_EVENTS" in os.environ:
        sys.addaudithook(before_file)
    return model
"""


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
    store = CheckpointStore(folder / "checkpoints", IDENTITY, keep=1, every_epochs=None)
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
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: digest_file(folder / name) for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
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
    assert list(manifest) == ["schema", "state", "files"]
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
    assert list(state) == ["progress", "scaler", "identity"]
    assert state["progress"].keys() == Progress.__dataclass_fields__.keys()
    assert state["scaler"].keys() == learner.scaler_state().keys() == torch.amp.GradScaler("cpu").state_dict().keys()
    assert state["identity"] == IDENTITY
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


def test_any_flipped_bit_of_the_manifest_is_found_or_harmless(saved: Saved, damaged: Path) -> None:
    """It is found by itself, or by the restore; spaces between its words may be others."""
    whole = (damaged / "manifest.json").read_bytes()
    states = {fingerprint_learner(*restore(saved.task, damaged))}
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        (damaged / "manifest.json").write_bytes(content)
        with contextlib.suppress(RecordError):
            states.add(fingerprint_learner(*restore(saved.task, damaged)))
    assert len(states) == 1
    (damaged / "manifest.json").unlink()
    assert check_checkpoint(damaged) == [f"{damaged / 'manifest.json'} is missing"]


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def run_epochs(
    folder: Path, epochs: int, figures: list[float], monkeypatch: pytest.MonkeyPatch, **kept: Any
) -> list[str]:
    """The checkpoints left by a training whose validations give these figures."""
    coming = iter(figures)
    monkeypatch.setattr(
        "genmed.engine.loop.evaluate",
        lambda *_: Evaluation(np.zeros((0, 0), np.float32), {"val_auroc_macro": next(coming)}),
    )
    steps = {"checkpoints.every_steps": kept.pop("every_steps")} if "every_steps" in kept else {}
    task = make_task(folder, {"training.epochs": epochs, **steps})
    store = CheckpointStore(folder / "checkpoints", IDENTITY, **{"keep": 1, "every_epochs": None, **kept})
    train(task, store, build_learner(task), Progress())
    return names(folder / "checkpoints")


def ends(*epochs: int) -> list[str]:
    return [f"step-{4 * epoch:07d}-epoch-{epoch:04d}-end" for epoch in epochs]


@pytest.mark.parametrize(
    ("kept", "figures", "expected"),
    [
        ({"keep": 1}, [0.1, 0.2, 0.3, 0.4, 0.5], ends(5)),
        ({"keep": 1}, [0.5, 0.9, 0.3, 0.4, 0.5], ends(2, 5)),
        ({"keep": 2}, [0.5, 0.9, 0.3, 0.4, 0.5], ends(2, 4, 5)),
        ({"keep": 9}, [0.5, 0.9, 0.3, 0.4, 0.5], ends(1, 2, 3, 4, 5)),
        ({"keep": 1, "every_epochs": 2}, [0.9, 0.2, 0.3, 0.4, 0.5], ends(1, 2, 4, 5)),
        ({"keep": 1, "every_epochs": 2, "every_steps": 3}, [0.9, 0.2, 0.3, 0.4, 0.5], ends(1, 2, 4, 5)),
        ({"keep": 1, "every_steps": 3}, [0.5, 0.9, 0.3, 0.4, 0.5], ends(2, 5)),
        ({"keep": 2, "every_steps": 3}, [0.5, 0.9, 0.3, 0.4, 0.5], [*ends(2), "step-0000018-epoch-0005", *ends(5)]),
        ({"keep": 3, "every_steps": 3}, [0.5, 0.9, 0.3, 0.4, 0.5], [*ends(2, 4), "step-0000018-epoch-0005", *ends(5)]),
    ],
    ids=str,
)
def test_best_and_newest_and_chosen_checkpoints_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any], figures: list[float], expected: list[str]
) -> None:
    assert run_epochs(tmp_path, 5, figures, monkeypatch, **kept) == expected


def test_trace_is_on_the_disk_before_a_checkpoint_counts_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    save = CheckpointStore.save

    def watched(store: CheckpointStore, *arguments: Any) -> Checkpoint:
        calls.append("save")
        return save(store, *arguments)

    monkeypatch.setattr(CheckpointStore, "save", watched)
    monkeypatch.setattr(Lines, "sync", lambda lines: calls.append("sync"))
    task = make_task(tmp_path, {"checkpoints.every_steps": 3, "training.epochs": 2})
    store = CheckpointStore(tmp_path / "checkpoints", IDENTITY, keep=1, every_epochs=None)
    train(task, store, build_learner(task), Progress())
    assert calls == ["sync", "save"] * 4


def test_newest_whole_names_what_is_broken_in_newer_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_epochs(tmp_path, 3, [0.1, 0.2, 0.3], monkeypatch, keep=3)
    folder = tmp_path / "checkpoints"
    store = CheckpointStore(folder, IDENTITY, keep=3, every_epochs=None)
    for count, epoch in enumerate((3, 2, 1)):
        newest, broken = store.newest_whole()
        assert newest is not None
        assert (newest.epoch, len(broken)) == (epoch, count)
        path = folder / ends(epoch)[0] / "state.json"
        path.write_bytes(path.read_bytes() + b" ")
    newest, broken = store.newest_whole()
    assert newest is None
    assert broken == [f"{folder / ends(epoch)[0] / 'state.json'} fails its digest" for epoch in (3, 2, 1)]


def test_what_a_killed_writer_left_is_swept(saved: Saved, tmp_path: Path) -> None:
    own = temporary_beside(tmp_path / "step-0000001-epoch-0001").name
    left = tmp_path / re.sub(r"-\d+-step", "-4194305-step", own)
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    CheckpointStore(tmp_path, IDENTITY, keep=1, every_epochs=None)
    assert list(tmp_path.iterdir()) == []


def test_broken_checkpoint_of_the_same_step_is_replaced(saved: Saved, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved.folder, tmp_path / "checkpoints" / saved.folder.name))
    (folder / "model.safetensors").write_bytes(b"half")
    learner, progress = restore(saved.task, saved.folder)
    store = CheckpointStore(tmp_path / "checkpoints", IDENTITY, keep=1, every_epochs=None)
    state = describe_checkpoint(saved.folder).state
    assert store.save(learner, progress, state).sha256 == digest_file(saved.folder / "manifest.json")
    assert check_checkpoint(folder) == []


def test_progress_is_written_and_read_exactly(tmp_path: Path) -> None:
    progress = Progress(7, 2, 3, 0.1 + 0.2, 1e-300, 1 / 3, 1, 4, True, False)
    assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress
    assert Progress.from_json(Progress().to_json()) == Progress()
    for value in (None, 0.0, -0.0, 1.0):
        one = Progress(best_value=value)
        assert Progress.from_json(one.to_json()) == one


class Pair(NamedTuple):
    """The same training left alone, and killed in step 12 with checkpoints of steps 7 and 9."""

    whole: Genmed
    killed: Genmed
    command: list[object]


@pytest.fixture(scope="module")
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
    assert found[1](*command, GENMED_TEST_PASSES="13").code == -signal.SIGKILL
    assert names(found[1].run_folder() / "checkpoints") == ["step-0000007-epoch-0001-end", "step-0000009-epoch-0002"]
    return Pair(found[0], found[1], command)


@pytest.fixture
def killed(pair: Pair, genmed: Genmed) -> Genmed:
    """A copy of the killed run."""
    shutil.copytree(pair.killed.root, genmed.root, dirs_exist_ok=True)
    return genmed


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """Without what a machine's speed and memory make of it."""
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("images_per_second", "peak_memory_mib")} for row in rows]


def assert_same_run(found: Genmed, expected: Genmed) -> None:
    one, other = found.run_folder(), expected.run_folder()
    for name in ("trace.jsonl", "predictions.csv", "data-images.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert read_metrics(one) == read_metrics(other)
    documents = [json.loads((folder / "run.json").read_text()) for folder in (one, other)]
    for key in ("status", "fingerprint", "trace_digest", "metrics", "best_epoch", "epochs_done", "steps_done", "error"):
        assert documents[0][key] == documents[1][key], key
    kept = [
        {
            path.name: (digest_file(path / "model.safetensors"), read_progress(path))
            for path in list_checkpoints(folder / "checkpoints")
        }
        for folder in (one, other)
    ]
    assert kept[0] == kept[1]


def snapshot(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def test_killed_run_resumes_from_its_newest_checkpoint(pair: Pair, killed: Genmed) -> None:
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert "resuming" in result.err
    assert "epoch 2/3, step 3/7" in result.err
    assert_same_run(killed, pair.whole)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_taken(pair: Pair, killed: Genmed, name: str) -> None:
    newest = list_checkpoints(killed.run_folder() / "checkpoints")[-1]
    if name == "manifest.json":
        (newest / name).write_text("{")
    else:
        flip(newest / name)
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert f"{newest / name}" in result.err
    assert "an earlier checkpoint is taken" in result.err
    assert "epoch 2/3, step 1/7" in result.err
    assert_same_run(killed, pair.whole)


def test_no_whole_checkpoint_left_is_an_error_and_no_fresh_start(killed: Genmed) -> None:
    for folder in list_checkpoints(killed.run_folder() / "checkpoints"):
        flip(folder / "model.safetensors")
    before = snapshot(killed.run_folder())
    result = killed("resume", "latest", "--json")
    assert result.code == 2
    assert result.json["error"]["kind"] == "RecordError"
    assert "has no whole checkpoint left" in result.json["error"]["message"]
    assert result.err.count("fails its digest") == 2
    assert snapshot(killed.run_folder()) == before
    assert killed("list", "--json").json[0]["status"] == "interrupted"


def test_checkpoints_that_were_removed_are_an_error_and_no_fresh_start(killed: Genmed) -> None:
    document = killed.run_folder() / "run.json"
    assert json.loads(document.read_text())["epochs_done"] == 1
    document.write_text(document.read_text().replace('"epochs_done": 1', '"epochs_done": 2'))
    shutil.rmtree(killed.run_folder() / "checkpoints")
    assert killed("resume", "latest", "--json").code == 2


def test_run_killed_before_its_first_checkpoint_starts_from_the_beginning(pair: Pair, genmed: Genmed) -> None:
    assert genmed(*pair.command, GENMED_TEST_PASSES="4").code == -signal.SIGKILL
    assert names(genmed.run_folder() / "checkpoints") == []
    result = genmed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert "epoch 1/3, step 1/7" in result.err
    assert_same_run(genmed, pair.whole)


def test_run_killed_five_times_anywhere_ends_with_the_bits_of_one_left_alone(pair: Pair, genmed: Genmed) -> None:
    """Moments are counted in passes and in files touched since the trace was opened: in a step, in a save, between."""
    draw = random.Random(5).randint
    result = genmed(*pair.command, GENMED_TEST_EVENTS=str(draw(2, 100)))
    for _ in range(4):
        assert result.code == -signal.SIGKILL, result.err
        assert genmed("list", "--json").json[0]["status"] == "interrupted"
        result = genmed("resume", "latest", "--json", GENMED_TEST_EVENTS=str(draw(2, 100)))
    assert result.code == -signal.SIGKILL, result.err
    result = genmed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert_same_run(genmed, pair.whole)


@pytest.mark.parametrize("file", ["step-0000014-epoch-0002-end", "metrics.csv", "predictions.csv"])
def test_run_killed_as_it_touches_a_file_ends_with_the_bits_of_one_left_alone(
    pair: Pair, killed: Genmed, file: str
) -> None:
    assert killed("resume", "latest", "--json", GENMED_TEST_FILE=file).code == -signal.SIGKILL
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert_same_run(killed, pair.whole)


def test_resumed_run_leaves_no_temporaries_of_the_killed_one(killed: Genmed) -> None:
    folder = killed.run_folder()
    for pattern in ("{}-run.json", "{}-metrics.csv"):
        name = temporary_name(folder, pattern)
        (folder / name).write_text("half")
    assert killed("resume", "latest", "--json").code == 0
    assert [path.name for path in folder.rglob(".tmp-*")] == []


def temporary_name(folder: Path, pattern: str) -> str:
    """As a writer that is dead by now would have named it."""
    prefix = temporary_beside(folder / "x").name.rpartition("-")[0].rpartition("-")[0]
    return pattern.format(f"{prefix}-4194305")


def test_step_computed_again_must_be_the_recorded_one(killed: Genmed) -> None:
    folder = killed.run_folder()
    lines = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    lines[10]["param"] = lines[9]["param"]
    chain = digest_json(lines[0])
    for line in lines[1:]:
        del line["chain"]
        chain = digest_json([chain, line])
        line["chain"] = chain
    (folder / "trace.jsonl").write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    before = snapshot(folder)
    result = killed("resume", "latest", "--json")
    assert result.code == 1
    assert result.json["error"]["kind"] == "TraceError"
    message = "step 10 (epoch 2), computed again, has another param than recorded"
    assert result.json["error"]["message"] == message
    assert killed("list", "--json").json[0]["status"] == "failed"
    changed = {name for name, digest in snapshot(folder).items() if digest != before.get(name)}
    assert changed <= {"run.json", "train.log", "metrics.csv"}


def test_run_that_lives_is_not_resumed(pair: Pair, genmed: Genmed) -> None:
    command = genmed.start(*pair.command, "--epochs", 5000)
    try:
        wait_for(lambda: any(genmed.root.glob("runs/*/checkpoints/*/manifest.json")))
        result = genmed("resume", "latest", "--json")
        assert result.code == 2
        assert result.json["error"]["kind"] == "RequestError"
        assert f"is running now, as process {command.pid}" in result.json["error"]["message"]
        assert genmed("list", "--json").json[0]["status"] == "running"
        assert command.running
    finally:
        command.send(signal.SIGKILL)
        command.wait()
    assert genmed("list", "--json").json[0]["status"] == "interrupted"


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def edit_seed(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    path = genmed.run_folder() / "config.yaml"
    path.write_text(re.sub(r"^seed: 42", "seed: 43", path.read_text(), flags=re.M))
    return ()


def edit_pixel(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    config = yaml.safe_load((genmed.run_folder() / "config.yaml").read_text())
    shutil.copytree(config["data"]["root"], tmp_path / "data")
    path = tmp_path / "data" / "images" / "00000001_000.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[3, 4] ^= 1
    Image.fromarray(pixels).save(path)
    return "--data-root", tmp_path / "data"


def edit_package(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    path = genmed.run_folder() / "environment.json"
    document = json.loads(path.read_text())
    document["packages"]["torchvision"] = "0.1.2"
    path.write_text(json.dumps(document))
    return ()


def edit_model(genmed: Genmed, tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "fragile.py").write_text(FRAGILE + "# changed\n")
    path = genmed.run_folder() / "config.yaml"
    path.write_text(re.sub(r"name: \S+fragile.py:build", f"name: {tmp_path}/fragile.py:build", path.read_text()))
    return ()


CHANGED: dict[str, tuple[Callable[[Genmed, Path], tuple[object, ...]], str, str]] = {
    "seed": (
        edit_seed,
        "RecordError",
        r"config.yaml was edited: its fingerprint is sha256:\w+, recorded is sha256:\w+",
    ),
    "pixel": (edit_pixel, "EnvironmentMismatch", r"pixels of 00000001_000.png was xxh3-128:\w+, is xxh3-128:\w+"),
    "package": (edit_package, "EnvironmentMismatch", r"packages.torchvision was 0.1.2, is \d+\.\d+"),
    "code": (edit_model, "EnvironmentMismatch", r"code was sha256:\w+, is sha256:\w+"),
}


@pytest.mark.parametrize(("edit", "kind", "message"), CHANGED.values(), ids=CHANGED)
def test_run_whose_surroundings_changed_is_not_resumed(
    killed: Genmed,
    tmp_path: Path,
    edit: Callable[[Genmed, Path], tuple[object, ...]],
    kind: str,
    message: str,
) -> None:
    more = edit(killed, tmp_path)
    before = snapshot(killed.run_folder())
    result = killed("resume", "latest", "--json", *more)
    assert result.code == 2, result.err
    assert result.json["error"]["kind"] == kind
    assert re.search(message, result.json["error"]["message"]), result.json["error"]["message"]
    assert snapshot(killed.run_folder()) == before
