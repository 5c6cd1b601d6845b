"""What `genmed report` writes, when it refuses, and what it leaves alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from genmed.ground.fingerprints import digest_file
from tests.harness import TINY_MODEL, Genmed, edit_document
from tests.reporting.conftest import WITH_REPORT

Arguments = Callable[..., list[object]]
REFUSED = 2


@pytest.fixture
def copied(reported: Genmed, tmp_path: Path) -> Genmed:
    """genmed with a copy of the finished run, to be spoilt."""
    return reported.copied_to(tmp_path)


def digest_files(run: Path) -> dict[str, str]:
    return {path.relative_to(run).as_posix(): digest_file(path) for path in sorted(run.rglob("*")) if path.is_file()}


def test_report_made_later_has_the_bytes_of_that_of_the_runs_end(copied: Genmed) -> None:
    page = copied.run_folder() / "report.html"
    at_the_end = page.read_bytes()
    page.unlink()
    for _ in range(2):
        result = copied("report", "latest")
        assert result.code == 0, result.err
        assert page.read_bytes() == at_the_end


def test_model_of_a_users_file_is_called_by_the_files_name(reported: Genmed) -> None:
    path, _, function = TINY_MODEL.rpartition(":")
    text = (reported.run_folder() / "report.html").read_text()
    assert f"<dt>Model</dt><dd>{Path(path).name}:{function}, random weights</dd>" in text


def test_report_changes_nothing_else_of_the_run(copied: Genmed) -> None:
    run = copied.run_folder()
    before = digest_files(run)
    assert copied("report", "latest").code == 0
    after = digest_files(run)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"plots"}


def test_run_with_a_report_has_the_bits_of_one_without(reported: Genmed, trained: Genmed) -> None:
    documents = [json.loads((one.run_folder() / "run.json").read_text()) for one in (reported, trained)]
    for key in ("trace_digest", "fingerprint", "metrics", "config_fingerprint"):
        assert documents[0][key] == documents[1][key]
    assert not (trained.run_folder() / "report.html").exists()


def test_plots_are_png_of_300_dpi_and_svg_of_paths_and_equal_each_time(copied: Genmed) -> None:
    plots = copied.run_folder() / "plots"
    described = copied("report", "latest", "--json").json
    assert described["runs"] == [copied.run_folder().name]
    names = {"training", "roc", "precision-recall", "reliability", "decision", "scores", "forest"}
    assert {path.name for path in plots.iterdir()} == {f"{name}{end}" for name in names for end in (".png", ".svg")}
    assert {Path(path).name for path in described["plots"]} == {path.name for path in plots.iterdir()}
    for path in plots.glob("*.png"):
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert 600 < image.width < 2300
    for path in plots.glob("*.svg"):
        text = path.read_text()
        assert "<text" not in text
        assert "<dc:date>" not in text
    before = digest_files(plots)
    assert copied("report", "latest").code == 0
    assert digest_files(plots) == before


def test_confusion_matrix_is_a_plot_where_classes_exclude_each_other(hostile: Genmed) -> None:
    assert hostile("report", "latest").code == 0
    assert (hostile.run_folder() / "plots" / "confusion.png").is_file()


def test_data_that_are_gone_cost_the_pictures_alone(copied: Genmed, tmp_path: Path) -> None:
    result = copied("report", "latest", "--data-root", tmp_path / "nowhere")
    assert result.code == 0, result.err
    text = (copied.run_folder() / "report.html").read_text()
    assert "Without pictures: " in text
    assert str(tmp_path / "nowhere") in text
    assert "<img " not in text
    assert text.count("<figcaption>") > 5


def test_other_data_cost_the_pictures_alone(copied: Genmed, nih: Path, tmp_path: Path) -> None:
    shutil.copytree(nih, tmp_path / "other")
    first = sorted((tmp_path / "other" / "images").iterdir())[0]
    with Image.open(first) as image:
        image.point(lambda value: value // 2).save(first)
    assert copied("report", "latest", "--data-root", tmp_path / "other").code == 0
    text = (copied.run_folder() / "report.html").read_text()
    assert "the data are not those that the run was trained on" in text
    assert "<img " not in text


def test_checkpoint_that_is_gone_costs_the_pictures_alone(copied: Genmed) -> None:
    shutil.rmtree(copied.run_folder() / "checkpoints")
    assert copied("report", "latest").code == 0
    text = (copied.run_folder() / "report.html").read_text()
    assert "is gone" in text
    assert "<img " not in text


def test_verdict_is_that_of_the_last_verification(copied: Genmed) -> None:
    page = copied.run_folder() / "report.html"
    assert "No verification was made yet" in page.read_text()
    assert copied("verify", "latest").code == 0
    assert copied("report", "latest").code == 0
    text = page.read_text()
    steps = json.loads((copied.run_folder() / "run.json").read_text())["steps_done"]
    assert '<span class="badge good">identical</span>' in text
    assert f"{steps} of {steps} steps compared" in text


def test_report_of_a_run_that_is_not_finished_is_refused(copied: Genmed) -> None:
    edit_document(copied.run_folder() / "run.json", lambda document: document.update(status="interrupted"))
    result = copied("report", "latest")
    assert result.code == REFUSED
    assert "is interrupted, and this needs a finished run (finish it with: genmed resume" in result.err


def test_report_that_fails_at_the_end_fails_no_run(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    model = tmp_path / "blocking.py"
    model.write_text(BLOCKING)
    arguments = [f"{model}:build" if word == tiny()[tiny().index("--model") + 1] else word for word in tiny()]
    result = genmed(*arguments, *WITH_REPORT)
    assert result.code == 0, result.err
    assert result.json["status"] == "completed"
    assert "No report: " in result.err
    assert f"genmed report {result.json['name']}" in result.err


BLOCKING = """
from pathlib import Path
from torch import nn
from tests.models import tiny


class Blocking(nn.Sequential):
    def forward(self, images):
        if not self.training:  # a folder lies where the report is to be written
            for run in Path.cwd().glob("root/runs/*"):
                (run / "report.html").mkdir(exist_ok=True)
        return super().forward(images)


def build(num_classes):
    return Blocking(tiny.build(num_classes))
"""


TOKENS = """
from torch import nn
from torchvision.models import VisionTransformer


def build(num_classes):
    return VisionTransformer(16, 8, 1, 1, 8, 16, num_classes=num_classes)
"""


def test_network_of_tokens_has_pictures_without_saliency(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    (tmp_path / "tokens.py").write_text(TOKENS)
    model = ["--model", tmp_path / "tokens.py:build"]
    result = genmed(*tiny(*model, "--epochs", 1, "--set", "training.max_steps=1", *WITH_REPORT))
    assert result.code == 0, result.err
    text = (genmed.run_folder() / "report.html").read_text()
    assert "tokens.py:build has no map of convolutional features" in text
    assert "data:image/png" in text
    assert "data:image/jpeg" not in text


def test_help_and_refusals_import_neither_torch_nor_matplotlib(reported: Genmed) -> None:
    for arguments in (["report", "--help"], ["report", "nobody"]):
        code = (
            "import sys; from genmed.cli.app import run; run(sys.argv[1:]);"
            "print([name for name in ('torch', 'matplotlib', 'jinja2') if name in sys.modules], file=sys.stderr)"
        )
        command = [sys.executable, "-c", code, *arguments]
        environ = {**os.environ, **reported.environ}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert done.stderr.endswith("[]\n"), arguments


# Several runs


@pytest.fixture
def two(copied: Genmed, tiny: Arguments) -> Genmed:
    result = copied(*tiny("--lr", "0.01", "--epochs", "1"))
    assert result.code == 0, result.err
    return copied


def test_comparison_has_the_figures_and_what_differs(two: Genmed, tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    result = two("report", "latest", "latest~1", "--out", out, "--json")
    assert result.code == 0, result.err
    assert result.json["report"] == str(out)
    text = out.read_text()
    for run in (two.root / "runs").iterdir():
        metrics = json.loads((run / "evaluations" / "test.json").read_text())["metrics"]
        assert run.name in text
        assert f"{metrics['test_auroc_macro']['value']:.3f}" in text
    settings = text[text.index('id="settings"') :]
    assert [key for key in ("optimizer.lr", "training.epochs", "run.report", "seed") if f">{key}<" in settings] == [
        "optimizer.lr",
        "training.epochs",
    ]


def test_comparison_overwrites_nothing(two: Genmed, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    result = two("report", "latest", "latest~1", cwd=tmp_path)
    assert result.code == REFUSED
    assert "report.html exists, and nothing is overwritten" in result.err
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["latest", "latest"], "the same run is named twice"),
        (["latest", "--out", "x.html"], "--out is for several runs"),
        (["latest", "latest~1", "--out", "x.pdf"], "--out must end in .html"),
        (["latest", "latest~1", "--data-root", "."], "--data-root is for one run"),
        (["latest", "nobody"], "no run goes by 'nobody'"),
    ],
)
def test_wrong_request_is_one_line(two: Genmed, arguments: list[str], told: str) -> None:
    result = two("report", *arguments)
    assert result.code == REFUSED
    assert told in result.err
    assert result.err.count("\n") == 1
