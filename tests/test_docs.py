"""The guide's code blocks run as they stand; only made small by GENMED_* variables."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.harness import TINY_MODEL, Genmed

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "REPRODUCIBILITY.md"
GUIDES = (GUIDE, ROOT / "docs" / "VERIFICATION.md")
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


def test_readme_names_only_options_that_exist(genmed: Genmed) -> None:
    text = "".join(path.read_text() for path in (ROOT / "README.md", *GUIDES))
    commands = ("train", "resume", "verify", "compare", "export", "list", "show", "env")
    known = "".join(genmed(command, "--help", COLUMNS="200", TERM="dumb").out for command in commands)
    used = {option for line in re.findall(r"genmed [a-z]+ [^`\n]*", text) for option in re.findall(r"--[a-z-]+", line)}
    assert used
    assert {option for option in used if option not in known} == set()
