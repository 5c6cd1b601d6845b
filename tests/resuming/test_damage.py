"""One flipped bit or a cut anywhere is found and named, and costs no bit where a whole state remains.

The registry's own tests are in tests/registries; 200 places with a real resume for each:
`uv run python benchmarks/damage_storm.py`.
"""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from genmed.ground.errors import RecordError
from genmed.records.run_folder import RunFolder
from genmed.workflows.integrity import find_damage
from tests.harness import Genmed, edit_document
from tests.resuming.damage import spoil
from tests.resuming.runs import FRAGILE, Arguments, Pair, assert_same_run, flip, snapshot


@pytest.fixture(scope="module")
def verified(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Genmed:
    """The finished run, with a verification on its record."""
    copy = pair.whole.copied_to(tmp_path_factory.mktemp("verified"))
    assert copy("verify", "latest", "--json").code == 0
    return copy


def test_damage_at_any_of_200_random_places_of_a_finished_run_is_named(verified: Genmed, tmp_path: Path) -> None:
    assert find_damage(RunFolder(verified.run_folder()), RunFolder(verified.run_folder()).read()) == []
    draw = random.Random(0)
    for number in range(200):
        root = Path(shutil.copytree(verified.root, tmp_path / str(number)))
        path, what = spoil(root, root, draw.choice(["checkpoint", "index", "JSON", "trace"]), draw)
        folder = RunFolder(next((root / "runs").iterdir()))
        try:
            found = find_damage(folder, folder.read())
        except RecordError as error:
            found = [error.message]
        assert any(str(path) in problem for problem in found), (path.name, what, found)
        shutil.rmtree(root)


def test_damaged_verification_is_named_and_torn_one_is_replaced(verified: Genmed, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(verified.run_folder(), tmp_path / "run")))
    path = folder.verifications_path
    whole = path.read_bytes()
    flip(path)
    with pytest.raises(RecordError, match=r"verifications.jsonl, line 1 is damaged: it fails its seal"):
        folder.read_verifications()
    path.write_bytes(whole + whole[:100])
    before = folder.read_verifications()
    assert len(before) == 1
    folder.add_verification({"verdict": "identical"})
    assert folder.read_verifications() == [*before, {"verdict": "identical"}]


def flip_at(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_damaged_trace_is_computed_again_from_a_checkpoint_before_the_damage(pair: Pair, killed: Genmed) -> None:
    """Checkpoints of steps 7 and 9; the line of step 9 is damaged."""
    path = killed.run_folder() / "trace.jsonl"
    flip_at(path, sum(len(line) for line in path.read_bytes().splitlines(keepends=True)[:9]) + 20)
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert f"{path} is damaged: line 10 does not follow from the lines before it" in result.err
    assert "epoch 2/3, step 1/7" in result.err
    assert_same_run(killed, pair.whole)


@pytest.mark.parametrize("damage", ["first step", "header", "value in the header", "gone"])
def test_trace_damaged_before_all_checkpoints_is_computed_again_from_the_beginning(
    pair: Pair, killed: Genmed, damage: str
) -> None:
    path = killed.run_folder() / "trace.jsonl"
    if damage == "gone":
        path.unlink()
    else:
        places = {
            "first step": path.read_bytes().index(b"\n") + 30,
            "header": 5,
            "value in the header": path.read_bytes().index(b'"initial":"sha256:') + 30,
        }
        flip_at(path, places[damage])
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert f"{path} is damaged: " in result.err
    assert "epoch 1/3, step 1/7" in result.err
    assert_same_run(killed, pair.whole)


def test_damaged_record_of_the_data_is_written_anew(pair: Pair, killed: Genmed) -> None:
    folder = killed.run_folder()
    for name in ("data.json", "data-images.csv"):
        flip(folder / name)
        assert killed("show", "latest", "--json").code == 0
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert f"{folder / 'data.json'} is damaged: it fails its seal; the data are those of the run" in result.err
    assert_same_run(killed, pair.whole)


@pytest.mark.parametrize("name", ["run.json", "environment.json"])
def test_damaged_document_is_taken_from_the_newest_whole_checkpoint(pair: Pair, killed: Genmed, name: str) -> None:
    folder = killed.run_folder()
    flip(folder / name)
    flip(folder / "checkpoints" / "step-0000009-epoch-0002" / "model.safetensors")
    copy = folder / "checkpoints" / "step-0000007-epoch-0001-end" / name
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert f"{folder / name} is damaged: it fails its seal; it is taken from {copy}" in result.err
    assert_same_run(killed, pair.whole)
    assert result.json["accepted"] == []


def test_what_was_accepted_is_kept_though_the_document_is_taken_from_before(pair: Pair, killed: Genmed) -> None:
    folder = killed.run_folder()
    edit_document(folder / "environment.json", lambda document: document["packages"].update(torchvision="0.1.2"))
    command = ("resume", "latest", "--json", "--accept", "environment")
    assert killed(*command, GENMED_TEST_PASSES="2").code == -signal.SIGKILL
    flip(folder / "run.json")
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert [entry["what"] for entry in result.json["accepted"]] == ["environment"]


def leave_no_copy(folder: Path, name: str) -> Path:
    """Damages a file of a run that has no checkpoint yet."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    if name != "run.json":
        edit_document(folder / "run.json", lambda document: document.update(checkpoint_step=0))
    flip(folder / name)
    return folder / name


def test_damaged_environment_without_a_copy_is_an_error_or_accepted(pair: Pair, killed: Genmed) -> None:
    path = leave_no_copy(killed.run_folder(), "environment.json")
    before = snapshot(killed.run_folder())
    result = killed("resume", "latest", "--json")
    assert result.code == 2
    assert result.json["error"]["message"] == f"{path} is damaged: it fails its seal"
    assert "--accept environment, which takes the present one and marks the run" in result.json["error"]["hint"]
    assert snapshot(killed.run_folder()) == before
    accepted = killed("resume", "latest", "--json", "--accept", "environment")
    assert accepted.code == 0, accepted.err
    assert accepted.json["accepted"][0]["changes"][0]["what"] == "environment.json"
    assert_same_run(killed, pair.whole)


def test_damaged_run_document_without_a_copy_is_named(killed: Genmed) -> None:
    path = leave_no_copy(killed.run_folder(), "run.json")
    for command in ("resume", "verify", "show"):
        result = killed(command, "latest", "--json")
        assert (result.code, result.json["error"]["message"]) == (2, f"{path} is damaged: it fails its seal")


def best_first(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> tuple[Genmed, list[object]]:
    """A run whose first epoch is the best, killed in the third, and its command."""
    (tmp_path / "fragile.py").write_text(FRAGILE)
    command = tiny("--model", f"{tmp_path / 'fragile.py'}:build", "--lr", "1e-9", "--set", "training.monitor=loss")
    assert genmed(*command, GENMED_TEST_PASSES="17", GENMED_TEST_AWAIT="14").code == -signal.SIGKILL
    return genmed, command


def test_damaged_best_checkpoint_is_computed_again_and_not_missed_at_the_end(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    killed, command = best_first(genmed, tiny, tmp_path)
    folder = killed.run_folder()
    best = json.loads((folder / "run.json").read_text())["best_epoch"]
    [path] = (folder / "checkpoints").glob(f"*-epoch-{best:04d}-end")
    flip(path / "model.safetensors")
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert f"{path / 'model.safetensors'} fails its digest; taken is the beginning" in result.err
    whole = killed(*command)
    assert whole.json["fingerprint"] == result.json["fingerprint"]
    assert whole.json["metrics"] == result.json["metrics"]


@pytest.mark.parametrize("damage", ["gone", "cut", "no header", "digit"])
def test_damaged_metrics_are_those_of_the_checkpoint(pair: Pair, killed: Genmed, damage: str) -> None:
    path = killed.run_folder() / "metrics.csv"
    content = path.read_text()
    match damage:
        case "gone":
            path.unlink()
        case "cut":
            path.write_text(content[: len(content) - 9])
        case "no header":
            path.write_text(content.replace("epoch", "e\u0000och", 1))
        case "digit":
            path.write_text(content.replace("0.", "1.", 1))
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert_same_run(killed, pair.whole)


def test_file_that_the_disk_cannot_read_is_named(pair: Pair, killed: Genmed) -> None:
    """As a bad sector would be: here a folder in its place."""
    path = killed.run_folder() / "checkpoints" / "step-0000009-epoch-0002" / "manifest.json"
    path.unlink()
    path.mkdir()
    result = killed("resume", "latest", "--json")
    assert result.code == 0, result.err
    assert f"{path} cannot be read: Is a directory; taken is the checkpoint of step 7" in result.err
    assert_same_run(killed, pair.whole)


def test_damaged_registry_is_named_and_made_anew_and_the_run_goes_on(pair: Pair, killed: Genmed) -> None:
    path = killed.root / "registry.db"
    flip_at(path, 100)
    result = killed("resume", "latest", "--json")
    assert result.code == 2
    assert str(path) in result.json["error"]["message"]
    assert "genmed list --rebuild" in result.json["error"]["hint"]
    rebuilt = killed("list", "--rebuild", "--json")
    assert rebuilt.code == 0, rebuilt.err
    assert f"the damaged registry is kept as {path}.damaged-" in rebuilt.err
    assert killed("resume", "latest", "--json").code == 0
    assert_same_run(killed, pair.whole)


@pytest.mark.parametrize("kind", ["cached pixels", "cached digests", "stamps"])
def test_damaged_image_cache_is_named_and_made_anew(pair: Pair, killed: Genmed, tmp_path: Path, kind: str) -> None:
    cache, expected = tmp_path / "own-cache", pair.whole("show", "latest", "--json").json
    command = ("train", "--config", killed.run_folder() / "config.yaml", "--json")
    assert killed(*command, GENMED_CACHE=str(cache)).code == 0
    for cut in (False, True):
        path, what = spoil(killed.root, cache, kind, random.Random(0), cut)
        result = killed(*command, GENMED_CACHE=str(cache))
        assert result.code == 0, result.err
        assert str(path) in result.err, (what, result.err)
        assert result.json["fingerprint"] == expected["fingerprint"]
