"""Verdicts of `genmed verify`, by the table of the contract."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.harness import Genmed
from tests.test_whole_way import wait_for

Arguments = Callable[..., list[object]]
KEYS = "schema verdict run steps_compared steps_total first_divergence cause metrics problems".split()

NOISY_MODEL = """
import time
import torch
from torch import nn

class Clock(nn.Module):
    def forward(self, values):
        return values * (1 + (time.time_ns() % 1000) * 1e-6)

def build(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), Clock(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


@pytest.fixture
def copied(genmed: Genmed, trained: Genmed, nih: Path, tmp_path: Path) -> tuple[Genmed, Path]:
    """A finished run and its data, both to be spoiled."""
    shutil.copytree(trained.root, genmed.root, dirs_exist_ok=True)
    return genmed, Path(shutil.copytree(nih, tmp_path / "nih"))


def edit_seed(folder: Path, data: Path) -> None:
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("seed: 42", "seed: 43", 1))


def edit_trace(folder: Path, data: Path) -> None:
    trace = folder / "trace.jsonl"
    lines = trace.read_text().splitlines(keepends=True)
    lines[5] = lines[5].replace('"grad":"xxh3-128:', '"grad":"xxh3-128:0', 1)
    trace.write_text("".join(lines))


def remove_trace(folder: Path, data: Path) -> None:
    (folder / "trace.jsonl").unlink()


def change_pixel(folder: Path, data: Path) -> None:
    path = data / "images" / "00000007_001.png"
    image = Image.open(path)
    image.putpixel((3, 3), image.getpixel((3, 3)) ^ 1)
    image.save(path)


def change_label(folder: Path, data: Path) -> None:
    table = data / "Data_Entry_2017_v2020.csv"
    lines = table.read_text().splitlines()
    lines = [line.replace("No Finding", "Edema") if line.startswith("00000007_000") else line for line in lines]
    assert any("Edema" in line for line in lines)
    table.write_text("\n".join(lines) + "\n")


def remove_data(folder: Path, data: Path) -> None:
    shutil.rmtree(data)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (edit_seed, "config.yaml was edited"),
        (edit_trace, "trace.jsonl was edited"),
        (remove_trace, "no trace"),
        (change_pixel, "pixels of 00000007_001.png"),
        (change_label, "labels of 00000007_000.png"),
        (remove_data, "no data folder"),
    ],
)
def test_spoiled_record_or_data_are_not_comparable_and_named(
    copied: tuple[Genmed, Path], spoil: Callable[[Path, Path], None], told: str
) -> None:
    genmed, data = copied
    folder = genmed.run_folder()
    spoil(folder, data)
    result = genmed("verify", "latest", "--data-root", data, "--json")
    assert result.code == 2, result.err
    report = result.json
    assert list(report) == KEYS
    assert (report["verdict"], report["steps_compared"]) == ("not comparable", 0)
    assert told in report["problems"][0]
    recorded = json.loads((folder / "verifications.jsonl").read_text().splitlines()[-1])
    assert recorded["verdict"] == "not comparable"


def test_computation_that_draws_from_the_clock_has_diverged_and_stops_at_once(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY_MODEL)
    assert genmed(*tiny("--model", f"{tmp_path / 'noisy.py'}:build")).code == 0
    result = genmed("verify", "latest", "--json")
    report = result.json
    assert (result.code, report["verdict"], report["cause"]) == (1, "diverged", [])
    assert report["first_divergence"] == {"step": 1, "epoch": 1, "field": "loss", "module": None}
    assert report["steps_compared"] == 1 < report["steps_total"]
    assert {entry["found"] for entry in report["metrics"]} == {None}
    full = genmed("verify", "latest", "--full", "--json").json
    assert full["first_divergence"] == report["first_divergence"]
    assert full["steps_compared"] == full["steps_total"]
    assert any(entry["difference"] for entry in full["metrics"])


def test_other_version_that_changes_no_bit_is_listed_beside_identical(copied: tuple[Genmed, Path]) -> None:
    genmed, data = copied
    path = genmed.run_folder() / "environment.json"
    environment = json.loads(path.read_text())
    environment["packages"]["torch"] = "2.0.0"
    path.write_text(json.dumps(environment))
    result = genmed("verify", "latest", "--data-root", data, "--json")
    assert (result.code, result.json["verdict"]) == (0, "identical")
    (cause,) = result.json["cause"]
    assert (cause["what"], cause["recorded"], cause["changes_bits"]) == ("packages.torch", "2.0.0", True)


def test_changed_code_of_the_user_is_named_beside_the_divergence(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    model = tmp_path / "mine.py"
    model.write_text(NOISY_MODEL.replace("(time.time_ns() % 1000) * 1e-6", "0"))
    assert genmed(*tiny("--model", f"{model}:build")).code == 0
    model.write_text(model.read_text().replace("(1 + 0)", "(1 + 1e-3)"))
    result = genmed("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (1, "diverged")
    assert [entry["what"] for entry in result.json["cause"]] == ["code"]
    assert result.json["steps_compared"] == result.json["steps_total"]


def test_edited_metric_is_no_identical_result(copied: tuple[Genmed, Path]) -> None:
    genmed, data = copied
    path = genmed.run_folder() / "run.json"
    document = json.loads(path.read_text())
    document["metrics"]["test_auroc_macro"] += 0.01
    path.write_text(json.dumps(document))
    result = genmed("verify", "latest", "--data-root", data, "--json")
    assert (result.code, result.json["verdict"]) == (1, "diverged")
    assert result.json["first_divergence"]["field"] == "metrics"


def test_interrupted_run_is_compared_as_far_as_it_came(genmed: Genmed, tiny: Arguments) -> None:
    command = genmed.start(*tiny("--epochs", 50))
    wait_for(lambda: any(genmed.root.glob("runs/*/checkpoints/*-epoch-0002-end")))
    command.send(signal.SIGKILL)
    command.wait()
    result = genmed("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (0, "identical"), result.err
    lines = (genmed.run_folder() / "trace.jsonl").read_bytes().count(b"\n") - 1
    assert result.json["steps_compared"] == result.json["steps_total"] == lines


def test_run_whose_root_moved_is_verified_from_another_folder(trained: Genmed, genmed: Genmed, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(trained.root, tmp_path / "moved"))
    result = genmed("verify", "latest", "--root", moved, "--json", cwd=moved)
    assert (result.code, result.json["verdict"]) == (0, "identical"), result.err
    assert genmed("list", "--root", moved, "--json").json[0]["id"] in result.json["run"]
