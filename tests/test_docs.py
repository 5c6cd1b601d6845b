"""The guide's code blocks run as they stand; only made small by GENMED_* variables."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genmed.cli.app import run
from tests.harness import TINY_MODEL, Genmed

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "REPRODUCIBILITY.md"
GUIDES = (GUIDE, *(ROOT / "docs" / f"{name}.md" for name in ("VERIFICATION", "DATA", "RESULTS", "STUDIES")))
HEADINGS = [
    "Quick start",
    "Seed system",
    "What gets seeded",
    "Deterministic mode",
    "DataLoader reproducibility",
    "Experiment tracking",
    "Resume",
    "Checklist",
    "Known non-deterministic operations",
    "Environment logging",
    "Recommendations",
]
SMALL = {
    "GENMED_MODEL__NAME": TINY_MODEL,
    "GENMED_DATA__IMAGE_SIZE": "16",
    "GENMED_TRAINING__MAX_STEPS": "3",
}


def read_blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def test_guide_has_its_headings_in_order() -> None:
    assert re.findall(r"^## (.*)$", GUIDE.read_text(), re.MULTILINE) == HEADINGS


def test_commands_of_the_guides_run_one_after_the_other(genmed: Genmed) -> None:
    commands = [line for guide in GUIDES for block in read_blocks(guide, "bash") for line in block.splitlines()]
    assert len(commands) > 20
    del genmed.environ["GENMED_ROOT"]
    digests = {}
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "genmed"
        if "runs/*/config.yaml" in arguments:
            found = sorted(genmed.root.glob("runs/*/config.yaml"))
            arguments[arguments.index("runs/*/config.yaml")] = str(found[0])
        result = genmed(*arguments, cwd=genmed.root, **SMALL)
        assert result.code == 0, f"{command}\n{result.err}"
        if match := re.search(r"^trace\t(.*)$", result.out, re.MULTILINE):
            digests[command] = match[1]
        if "verify" in command:
            audit = re.search(r"--segments? (\d)", command)
            checked = {"--segment": "1", "--segments": audit[1]}[audit[0].split()[0]] if audit else ""
            verdict = f"{checked} of 3 segments identical" if checked else "identical"
            assert result.out.endswith(f"verdict\t{verdict}\n"), command
        if "compare" in command:
            assert "traces\tidentical: all 3 steps are equal\n" in result.out
    assert digests["genmed train --seed 42 --num-workers 0"] == digests["genmed train --seed 42 --num-workers 2"]
    assert digests["genmed train --seed 42"] == digests["genmed train --seed 42 --num-workers 0"]


def test_python_of_the_guide_runs(tmp_path: Path) -> None:
    blocks = read_blocks(GUIDE, "python")
    assert blocks
    script = tmp_path / "guide.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme_names_only_options_that_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(path.read_text() for path in (ROOT / "README.md", *GUIDES))
    commands = ("train", "resume", "verify", "compare", "evaluate", "report", "card", "predict", "export")
    commands += ("list", "show", "env", "tag", "note", "rm")
    of_data = ("data list", "data check", "data show", "data cache")
    of_registries = ("registry copy",)
    of_studies = ("study", "study resume", "study show", "study list")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    for command in (*commands, *of_data, *of_registries, *of_studies):
        assert run([*command.split(), "--help"]) == 0
    known = capsys.readouterr().out
    used = {option for line in re.findall(r"genmed [a-z]+ [^`\n]*", text) for option in re.findall(r"--[a-z-]+", line)}
    assert used
    assert {option for option in used if option not in known} == set()


def make_bones(root: Path) -> Path:
    """Data in the layout of the contributing page's dataset."""
    (root / "images").mkdir(parents=True)
    lines = ["file,findings,person"]
    random = np.random.Generator(np.random.Philox(3))
    for number in range(40):
        findings = ("none", "fracture", "effusion", "fracture;effusion")[number % 4]
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(root / "images" / f"{number}.png")
        lines.append(f"images/{number}.png,{findings},p{number // 2}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def test_thirty_lines_of_the_contributing_page_are_a_dataset(genmed: Genmed, tmp_path: Path) -> None:
    (code,) = read_blocks(ROOT / "CONTRIBUTING.md", "python")
    assert len(code.splitlines()) <= 32
    assert len([line for line in code.splitlines() if line]) <= 30
    (tmp_path / "bones.py").write_text(code)
    data = make_bones(tmp_path / "data")
    small = ["--model", TINY_MODEL, "--image-size", "16", "--epochs", "1", "--batch-size", "8", "--json"]
    own = genmed("train", "--dataset", tmp_path / "bones.py:FACTS", "--data-root", data, *small)
    assert own.code == 0, own.err
    assert own.json["dataset"] == "bones"
    assert (genmed.run_folder() / "code" / "bones.py").read_text() == code
    assert genmed("verify", own.json["id"], "--json").json["verdict"] == "identical"
    with open(tmp_path / "bones.py", "a") as file:
        file.write("# edited\n")
    verdict = genmed("verify", own.json["id"], "--json").json
    assert (verdict["verdict"], verdict["cause"][0]["what"]) == ("identical", "code")

    package = tmp_path / "package"
    shutil.copytree(ROOT / "genmed", package / "genmed", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "genmed" / "parts" / "data" / "datasets" / "bones.py").write_text(code)
    built = genmed.fresh("train", "--dataset", "bones", "--data-root", data, "--dry-run", PYTHONPATH=str(package))
    assert built.code == 0, built.err
    assert "dataset: bones " in built.out
