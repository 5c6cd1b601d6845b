"""A run keeps the files that its user brought: copied as it begins, checked, replaced where others are accepted."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import TINY_MODEL, Genmed, edit_document
from tests.test_step import NETWORK

Arguments = Callable[..., list[object]]
OTHER = NETWORK + "# the same in other words\n"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.py"
    path.write_text(NETWORK)
    return path


@pytest.fixture
def killed(genmed: Genmed, tiny: Arguments, network: Path) -> Genmed:
    """A run of the user's model, killed at step 12."""
    assert genmed(*tiny("--model", f"{network}:build"), GENMED_TEST_KILL_AT="12").code == -signal.SIGKILL
    return genmed


def copies(genmed: Genmed) -> dict[str, str]:
    return {path.name: path.read_text() for path in (genmed.run_folder() / "code").iterdir()}


def test_run_keeps_a_copy_of_its_model_file(trained: Genmed) -> None:
    path = Path(TINY_MODEL.rpartition(":")[0])
    assert copies(trained) == {"tiny.py": path.read_text()}
    assert json.loads((trained.run_folder() / "environment.json").read_text())["code"]["files"]["tiny.py"]


def test_run_of_a_model_of_ours_has_no_code_folder(genmed: Genmed, nih: Path) -> None:
    data = ["--dataset", "nih", "--data-root", nih, "--image-size", "16", "--batch-size", "8"]
    result = genmed("train", *data, "--model", "resnet18_small", "--set", "training.max_steps=1")
    assert result.code == 0, result.err
    assert not (genmed.run_folder() / "code").exists()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.unlink(), "code/network.py is missing"),
        (lambda path: path.write_text(OTHER), "code/network.py was edited: it fails its digest in environment.json"),
    ],
    ids=["missing", "edited"],
)
def test_copy_that_is_damaged_is_named_and_made_anew(
    killed: Genmed, spoil: Callable[[Path], object], problem: str
) -> None:
    spoil(killed.run_folder() / "code" / "network.py")
    result = killed("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (2, "not comparable")
    assert [entry.endswith(problem) for entry in result.json["problems"]] == [True]
    resumed = killed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    assert f"{problem}; the code is that of the run, so it is written anew" in resumed.err
    assert copies(killed) == {"network.py": NETWORK}
    assert killed("verify", "latest", "--json").json["verdict"] == "identical"


def test_code_that_was_accepted_is_kept_beside_the_former(killed: Genmed, network: Path) -> None:
    network.write_text(OTHER)
    refused = killed("resume", "latest", "--json")
    assert refused.code == 2
    assert copies(killed) == {"network.py": NETWORK}
    resumed = killed("resume", "latest", "--json", "--accept", "code")
    assert resumed.code == 0, resumed.err
    assert "written anew" not in resumed.err
    step = resumed.json["accepted"][0]["step"]
    assert copies(killed) == {"network.py": OTHER, f"network-until-step-{step:07d}.py": NETWORK}
    result = killed("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (0, "identical"), result.json


def test_acceptance_that_was_broken_off_before_the_code_is_made_up_for(killed: Genmed, network: Path) -> None:
    """run.json knows the other code already, environment.json and the copy do not."""
    before = (killed.run_folder() / "environment.json").read_bytes()
    network.write_text(OTHER)
    assert killed("resume", "latest", "--accept", "code", GENMED_TEST_KILL_AT="20").code == -signal.SIGKILL
    (killed.run_folder() / "environment.json").write_bytes(before)
    (killed.run_folder() / "code" / "network.py").write_text(NETWORK)
    resumed = killed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    assert copies(killed)["network.py"] == OTHER
    assert killed("verify", "latest", "--json").json["verdict"] == "identical"


def test_run_that_continues_another_has_a_copy_of_its_own(trained: Genmed, genmed: Genmed, tiny: Arguments) -> None:
    assert genmed(*tiny("--epochs", 1)).code == 0
    first = genmed.run_folder()
    assert genmed("resume", "latest", "--epochs", 2, "--json").code == 0
    (second,) = (path for path in (genmed.root / "runs").iterdir() if path != first and not path.name.startswith("."))
    assert (second / "code" / "tiny.py").read_bytes() == (first / "code" / "tiny.py").read_bytes()
    edit_document(
        second / "environment.json", lambda document: document["code"]["files"].update({"more.py": "sha256:0"})
    )
    result = genmed("verify", second.name, "--json")
    assert result.json["problems"][0].endswith("code/more.py is missing")
