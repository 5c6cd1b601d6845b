"""A run is exported, carried to another laboratory, and verified there on its own copy of the data."""

import json
import os
import shutil
import signal
import time
import zipfile
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmed.ground.errors import ConfigError
from genmed.ground.fingerprints import digest_file
from genmed.records.config import Config
from genmed.workflows.bundle import trusted_config
from tests.bundles.conftest import snapshot
from tests.bundles.making import take_apart
from tests.harness import TINY_MODEL, Genmed, Result
from tests.test_step import NETWORK

Arguments = Callable[..., list[object]]
MODEL_FILE = Path(TINY_MODEL.rpartition(":")[0])


def export(genmed: Genmed, out: Path, *more: object) -> dict[str, Any]:
    result = genmed("export", "latest", "--out", out, "--json", *more)
    assert result.code == 0, result.err
    described: dict[str, Any] = result.json
    return described


def verify(genmed: Genmed, bundle: Path, *more: object, **environ: str) -> Result:
    return genmed("verify", bundle, "--json", *more, **environ)


def names_in(bundle: Path) -> list[str]:
    with zipfile.ZipFile(bundle) as archive:
        return archive.namelist()


def test_run_is_verified_where_nothing_of_its_first_machine_is_left(
    genmed: Genmed, tiny: Arguments, nih: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "root").mkdir(parents=True)
    shutil.copytree(nih, first / "data")
    (first / "network.py").write_text(NETWORK)
    model = f"{first / 'network.py'}:build"
    begun = genmed(*tiny("--data-root", first / "data", "--model", model), GENMED_ROOT=str(first / "root"))
    assert begun.code == 0, begun.err
    written = genmed("export", "latest", "--root", first / "root", "--out", first / "run.zip", "--json")
    assert written.code == 0, written.err

    second.mkdir()
    (second / "place").mkdir()
    (second / "temporary").mkdir()
    shutil.move(first / "data", second / "data")
    shutil.move(first / "run.zip", second / "run.zip")
    shutil.rmtree(first)
    with zipfile.ZipFile(second / "run.zip") as archive:  # what a reviewer who trusts it does
        (second / "network.py").write_bytes(archive.read("code/network.py"))
    before = snapshot(second)
    environ = {
        "GENMED_ROOT": str(second / "place"),
        "GENMED_CACHE": str(tmp_path / "cache"),
        "TMPDIR": str(second / "temporary"),
    }
    arguments = ["verify", second / "run.zip", "--data-root", second / "data", "--model-file", second / "network.py"]
    result = genmed.fresh(*arguments, "--json", cwd=second / "place", **environ)
    assert result.code == 0, result.err
    report = result.json
    assert (report["verdict"], report["steps_compared"], report["steps_total"]) == ("identical", 28, 28)
    assert report["cause"] == report["problems"] == []
    assert report["run"] == begun.json["name"]
    after = {name: content for name, content in snapshot(second).items() if "torchinductor" not in name}
    assert after == before


OWN = """
from dataclasses import replace
from genmed.parts.data.datasets import nih

def load_records(root, config):
    records = nih.load_records(root, config)
    return replace(records, traits={**NAMES})

FACTS = replace(nih.FACTS, name="own", load_records=load_records)
"""


def test_dataset_of_ones_own_has_known_traits_in_any_order(
    genmed: Genmed, tiny: Arguments, nih: Path, tmp_path: Path
) -> None:
    own, bundle = tmp_path / "own.py", tmp_path / "run.zip"
    arguments = tiny("--dataset", f"{own}:FACTS", "--set", "training.max_steps=1")
    own.write_text(OWN.replace("NAMES", "records.traits, 'gender': records.traits['sex']"))
    refused = genmed(*[part for part in arguments if part != "--json"])
    assert (refused.code, len(refused.err.splitlines())) == (2, 1), refused.err
    assert "traits are sex, age, view, not 'gender' (mend the dataset's code)" in refused.err
    own.write_text(OWN.replace("NAMES", "dict(sorted(records.traits.items())), 'view': ()"))
    assert genmed(*arguments).code == 0
    header = (genmed.run_folder() / "data-images.csv").read_text().splitlines()[0]
    assert header.endswith(",prepared,sex,age")
    export(genmed, bundle)
    files = ["--data-root", nih, "--model-file", MODEL_FILE, "--dataset-file", own]
    assert verify(genmed, bundle, *files).json["verdict"] == "identical"


def test_export_tells_what_one_would_publish(trained: Genmed, tmp_path: Path) -> None:
    out = tmp_path / "run.zip"
    described = export(trained, out)
    shown = trained("show", "latest", "--json").json
    assert list(described) == ["schema", "run", "file", "bytes", "files", "sha256", "trace_digest", "checkpoints"]
    assert (described["schema"], described["run"], described["file"]) == (1, shown["name"], str(out))
    assert described["bytes"] == out.stat().st_size
    assert described["sha256"] == digest_file(out)
    assert described["trace_digest"] == shown["trace_digest"]
    assert described["files"] == len(names_in(out))
    assert described["checkpoints"] == [entry["path"] for entry in shown["checkpoints"]]
    for name, content in take_apart(out).items():
        assert content == (trained.run_folder() / name).read_bytes(), name
    told = trained("export", "latest", "--out", tmp_path / "again.zip")
    rows = dict(line.split("\t") for line in told.out.splitlines())
    assert list(rows) == ["run", "file", "size", "sha256", "trace"]
    assert (rows["sha256"], rows["trace"]) == (described["sha256"], described["trace_digest"])


def test_export_leaves_out_what_nobody_needs(finished: Genmed, tmp_path: Path) -> None:
    (finished.run_folder() / "notes.txt").write_text("mine")
    export(finished, tmp_path / "run.zip")
    names = names_in(tmp_path / "run.zip")
    assert names[0] == "bundle.json"
    assert names[1:] == sorted(names[1:])
    documents = ["config.yaml", "data-images.csv", "data.json", "environment.json", "metrics.csv", "run.json"]
    assert [name for name in names[1:] if "/" not in name] == [*documents, "trace.jsonl"]
    assert "code/tiny.py" in names


def test_export_gives_the_same_bytes_at_any_time_and_place(finished: Genmed, nih: Path, tmp_path: Path) -> None:
    first = export(finished, tmp_path / "first.zip")
    assert finished("verify", "latest", "--data-root", nih).code == 0  # it notes its verdict in the run's folder
    for path in finished.run_folder().rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o755 if path.is_dir() else 0o600)
    moved = tmp_path / "moved"
    finished.root.rename(moved)
    finished.environ["GENMED_ROOT"] = str(moved)
    second = export(finished, tmp_path / "second.zip")
    assert first["sha256"] == second["sha256"]
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


@pytest.fixture(scope="module")
def many(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Genmed:
    """A run that kept all its epochs."""
    genmed = Genmed(server, tmp_path_factory.mktemp("many"), image_cache)
    result = genmed(*tiny("--set", "checkpoints.keep_every_epochs=1", "--lr", "0.05"))
    assert result.code == 0, result.err
    return genmed


@pytest.mark.parametrize("chosen", ["all", "best", "last", "none"])
def test_export_packs_the_chosen_checkpoints_and_each_bundle_is_verified(
    many: Genmed, nih: Path, tmp_path: Path, chosen: str
) -> None:
    described = export(many, tmp_path / "run.zip", "--checkpoints", chosen)
    best = json.loads((many.run_folder() / "run.json").read_text())["best_epoch"]
    ends = [f"checkpoints/step-{7 * epoch:07d}-epoch-{epoch:04d}-end" for epoch in range(1, 5)]
    expected = {"all": ends, "best": [ends[best - 1]], "last": ends[-1:], "none": []}[chosen]
    assert described["checkpoints"] == expected
    packed = {name.rpartition("/")[0] for name in names_in(tmp_path / "run.zip") if name.startswith("checkpoints/")}
    assert packed == set(expected)
    result = verify(many, tmp_path / "run.zip", "--data-root", nih, "--model-file", MODEL_FILE)
    assert (result.code, result.json["verdict"]) == (0, "identical"), result.err


def test_run_that_continues_another_is_verified_from_its_bundle(finished: Genmed, nih: Path, tmp_path: Path) -> None:
    assert finished("resume", "latest", "--epochs", "6", "--json").code == 0
    described = export(finished, tmp_path / "run.zip", "--checkpoints", "none")
    assert "checkpoints/step-0000028-epoch-0004-end" in described["checkpoints"]
    result = verify(finished, tmp_path / "run.zip", "--data-root", nih, "--model-file", MODEL_FILE)
    assert (result.code, result.json["verdict"], result.json["steps_compared"]) == (0, "identical", 14), result.err


def test_killed_run_is_exported_as_interrupted_and_verified_as_far_as_it_came(
    genmed: Genmed, tiny: Arguments, nih: Path, tmp_path: Path
) -> None:
    (tmp_path / "network.py").write_text(NETWORK)
    killed = genmed(*tiny("--model", f"{tmp_path / 'network.py'}:build"), GENMED_TEST_KILL_AT="12")
    assert killed.code == -signal.SIGKILL
    export(genmed, tmp_path / "run.zip")
    assert json.loads(take_apart(tmp_path / "run.zip")["run.json"])["status"] == "interrupted"
    assert json.loads((genmed.run_folder() / "run.json").read_text())["status"] == "running"
    result = verify(genmed, tmp_path / "run.zip", "--data-root", nih, "--model-file", tmp_path / "network.py")
    assert (result.code, result.json["verdict"], result.json["steps_compared"]) == (0, "identical", 10), result.err


def test_running_run_is_not_exported(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    command = genmed.start(*tiny("--epochs", 5000))
    try:
        end = time.monotonic() + 60
        while not any(genmed.root.glob("runs/*/checkpoints/*/manifest.json")):
            assert time.monotonic() < end
            time.sleep(0.005)
        result = genmed("export", "latest", "--out", tmp_path / "run.zip")
        assert result.code == 2
        assert f"is running now, as process {command.pid}" in result.err
        assert not (tmp_path / "run.zip").exists()
    finally:
        command.send(signal.SIGKILL)
        command.wait()


DAMAGE = {
    "trace.jsonl": (b'"epoch":1', b'"epoch":2'),
    "code/tiny.py": (b"0.2", b"0.3"),
    "data-images.csv": (b"train", b"test"),
    "config.yaml": (b"seed: 42", b"seed: 43"),
    "run.json": (b'"seed": 42', b'"seed": 43'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_run_is_not_exported(finished: Genmed, tmp_path: Path, name: str) -> None:
    path = finished.run_folder() / name
    path.write_bytes(path.read_bytes().replace(*DAMAGE[name], 1))
    result = finished("export", "latest", "--out", tmp_path / "run.zip")
    assert (result.code, len(result.err.splitlines())) == (2, 1), result.err
    assert Path(name).name in result.err
    assert not list(tmp_path.glob("*.zip"))
    assert not list(tmp_path.glob(".tmp*"))


def test_export_overwrites_nothing_and_leaves_no_half(trained: Genmed, tmp_path: Path) -> None:
    (tmp_path / "run.zip").write_text("mine")
    result = trained("export", "latest", "--out", tmp_path / "run.zip")
    assert result.code == 2
    assert f"{tmp_path}/run.zip exists" in result.err
    assert (tmp_path / "run.zip").read_text() == "mine"
    result = trained("export", "latest", "--out", tmp_path / "none" / "run.zip")
    assert (result.code, "there is no folder" in result.err) == (2, True)
    result = trained("export", "latest", "--out", tmp_path / "run.zip", "--checkpoints", "some")
    assert result.code == 2
    assert os.listdir(tmp_path) == ["run.zip"]


def test_other_pixel_in_the_other_laboratory_is_named(trained: Genmed, nih: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "run.zip")
    data = Path(shutil.copytree(nih, tmp_path / "data"))
    path = data / "images" / "00000003_001.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[5, 7] ^= 1
    Image.fromarray(pixels).save(path)
    result = verify(trained, tmp_path / "run.zip", "--data-root", data, "--model-file", MODEL_FILE)
    assert (result.code, result.json["verdict"]) == (2, "not comparable"), result.err
    assert result.json["problems"] == ["the data are not those of the run: pixels of 00000003_001.png"]
    assert not (trained.run_folder() / "verifications.jsonl").exists()


def test_other_code_of_the_reviewer_is_listed(trained: Genmed, nih: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "run.zip")
    (tmp_path / "tiny.py").write_text(MODEL_FILE.read_text() + "# the same in other words\n")
    result = verify(trained, tmp_path / "run.zip", "--data-root", nih, "--model-file", tmp_path / "tiny.py")
    assert (result.code, result.json["verdict"]) == (0, "identical"), result.err
    assert [(entry["what"], entry["changes_bits"]) for entry in result.json["cause"]] == [
        ("code", True),
        ("code.files.tiny.py", True),
    ]


def test_what_a_bundle_says_of_this_machine_is_not_believed(trained: Genmed, nih: Path, tmp_path: Path) -> None:
    """The recorded folders are there and hold what it says, and all the same they have to be named."""
    bundle = tmp_path / "run.zip"
    export(trained, bundle)
    (tmp_path / "other.py").write_text(MODEL_FILE.read_text())
    told = {
        (): "--data-root",
        ("--data-root", nih): "code of a bundle is never executed",
        (
            "--data-root",
            nih,
            "--model-file",
            tmp_path / "other.py",
        ): "--model-file is other.py, the run's model is tiny.py",
        ("--data-root", nih, "--model-file", MODEL_FILE, "--weights", bundle): "leave out --weights",
        ("--data-root", tmp_path / "none", "--model-file", MODEL_FILE): "no data folder",
    }
    for arguments, words in told.items():
        result = trained("verify", bundle, *arguments)
        assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1), result.err
        assert words in result.err
        assert str(bundle) in result.err
    result = trained("verify", "latest", "--model-file", MODEL_FILE)
    assert (result.code, "go with a bundle" in result.err) == (2, True)
    result = trained("verify", tmp_path / "none.zip")
    assert (result.code, f"no bundle {tmp_path}/none.zip" in result.err) == (2, True)


def test_config_of_a_stranger_keeps_only_what_affects_bits(nih: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").touch()
    (tmp_path / "start.safetensors").touch()
    recorded = Config().replace(
        **{
            "data.dataset": "nih",
            "data.root": "/etc",
            "model.name": "/their/net.py:build",
            "model.weights": "/their/start.safetensors",
            "compute.num_workers": 500,
            "compute.prefetch": 10_000,
            "checkpoints.every_steps": 1,
            "run.note": "theirs",
            "seed": 7,
        }
    )
    found = trusted_config(recorded, nih, tmp_path / "net.py", tmp_path / "start.safetensors")
    assert found.fingerprint == recorded.fingerprint
    assert (found.data.root, found.model.name) == (str(nih), f"{tmp_path}/net.py:build")
    assert (found.model.weights, found.seed) == (f"{tmp_path}/start.safetensors", 7)
    assert (found.checkpoints, found.run) == (Config().checkpoints, Config().run)
    assert (found.compute.num_workers, found.compute.prefetch) == (0, 2)
    for key in ("compute.threads", "data.image_size", "training.batch_size", "training.epochs"):
        with pytest.raises(ConfigError, match=f"{key} is 1000000000, more than"):
            trusted_config(recorded.replace(**{key: 10**9}), nih, tmp_path / "net.py", tmp_path / "start.safetensors")
    with pytest.raises(ConfigError, match=r"began from the weights start\.safetensors"):
        trusted_config(recorded, nih, tmp_path / "net.py")
    with pytest.raises(ConfigError, match=r"is no file\.py:function"):
        trusted_config(recorded.replace(**{"model.name": "a.py:os/system"}), nih, tmp_path / "net.py")
    assert trusted_config(Config().replace(**{"data.root": "/etc"})).data.root == ""


CANARY = """
import pathlib

pathlib.Path({place!r}).touch()
"""


def test_code_of_a_bundle_is_never_executed(genmed: Genmed, tiny: Arguments, nih: Path, tmp_path: Path) -> None:
    """Not where it lies in the bundle, nor where the recorded path still leads to it."""
    path, canary = tmp_path / "network.py", tmp_path / "canary"
    path.write_text(NETWORK + CANARY.format(place=str(canary)))
    assert genmed(*tiny("--model", f"{path}:build", "--epochs", 1)).code == 0
    canary.unlink()
    export(genmed, tmp_path / "run.zip")
    assert b"canary" in take_apart(tmp_path / "run.zip")["code/network.py"]
    result = genmed("verify", tmp_path / "run.zip", "--data-root", nih)
    assert result.code == 2
    assert not canary.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "network.py").write_text(NETWORK)
    mine = ("--data-root", nih, "--model-file", tmp_path / "mine" / "network.py")
    result = verify(genmed, tmp_path / "run.zip", *mine)
    assert (result.code, result.json["verdict"]) == (0, "identical"), result.err
    assert not canary.exists()
