"""Faults of data, record, weights, arithmetic and surroundings: each is found, at its step or by its cause."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from genmed.engine.checkpoint import list_checkpoints
from genmed.ground.fingerprints import digest_file
from tests.harness import Genmed, digest_again, edit_document, forge_trace
from tests.verifying.faults import NOISY_BACKWARD, Arguments, change_label, change_pixel

STEPS = 28

DATA: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "one pixel of one image": (lambda data: change_pixel(data, "00000003_001.png"), ["pixels of 00000003_001.png"]),
    "one label": (lambda data: change_label(data, "00000005_001.png", "Hernia"), ["labels of 00000005_001.png"]),
    "one change applied to two images": (
        lambda data: change_pixel(data, "00000003_001.png", "00000005_001.png"),
        ["pixels of 00000003_001.png", "pixels of 00000005_001.png"],
    ),
    "a pixel, with size and modification time put back": (
        lambda data: change_pixel(data, "00000003_001.png", keep_stamp=True),
        ["pixels of 00000003_001.png"],
    ),
}


@pytest.mark.parametrize(("change", "images"), DATA.values(), ids=DATA)
def test_changed_data_are_not_comparable_and_the_images_are_named(
    finished: Genmed, data: Path, tmp_path: Path, change: Callable[[Path], object], images: list[str]
) -> None:
    finished.environ["GENMED_CACHE"] = str(tmp_path / "cache")
    verify = ("verify", "latest", "--json", "--data-root", data)
    assert finished(*verify).code == 0  # from here on size, time and inode of each file are known
    change(data)
    result = finished(*verify)
    assert (result.code, result.json["verdict"]) == (2, "not comparable")
    assert [entry["what"] for entry in result.json["cause"]] == images
    assert images[0] in result.json["problems"][0]


def edit_config(run: Path, key: str, value: str) -> None:
    path = run / "config.yaml"
    changed = re.sub(rf"^( *{key}:) \S+", rf"\1 {value}", path.read_text(), flags=re.MULTILINE)
    assert changed != path.read_text()
    path.write_text(changed)


def edit_text(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def swap_checkpoints(run: Path) -> None:
    first, second, *_ = list_checkpoints(run / "checkpoints")
    first.rename(run / "aside")
    second.rename(first)
    (run / "aside").rename(second)


def copy_checkpoint(run: Path) -> None:
    """The state of step 4 in the place of that of step 8, which is what it says that it is."""
    first, *others = list_checkpoints(run / "checkpoints")
    place = next(path for path in others if path.name == "step-0000008-epoch-0002")
    state = json.loads((place / "state.json").read_text())
    for name in ("model.safetensors", "optimizer.safetensors"):
        shutil.copyfile(first / name, place / name)
    digests = {path.name: digest_file(path) for path in place.iterdir() if path.name != "manifest.json"}
    edit_document(place / "manifest.json", lambda manifest: manifest.update(files=digests))
    assert state["progress"]["step"] == 8
    digest_again(run)


RECORD: dict[str, tuple[Callable[[Path], object], str]] = {
    "the seed in config.yaml": (
        lambda run: edit_config(run, "seed", "43"),
        "config.yaml was edited: seed was 42, is 43",
    ),
    "the number of threads in config.yaml": (
        lambda run: edit_config(run, "threads", "1"),
        "config.yaml was edited: compute.threads was 2, is 1",
    ),
    "an edited trace": (
        lambda run: (run / "trace.jsonl").write_text(
            (run / "trace.jsonl").read_text().replace('"step":9,"epoch":2', '"step":9,"epoch":3')
        ),
        "trace.jsonl is damaged or was edited: line 10 does not follow",
    ),
    "a figure in metrics.csv": (
        lambda run: edit_text(run / "metrics.csv", "\n1,7,", "\n1,8,"),
        "metrics.csv was edited: it fails its digest in run.json",
    ),
    "a score in predictions.csv": (
        lambda run: edit_text(run / "predictions.csv", ",0.", ",1."),
        "predictions.csv was edited: it fails its digest in run.json",
    ),
    "predictions that are gone": (lambda run: (run / "predictions.csv").unlink(), "predictions.csv is missing"),
    "a checkpoint that is gone": (
        lambda run: shutil.rmtree(run / "checkpoints" / "step-0000008-epoch-0002"),
        "step-0000008-epoch-0002/manifest.json is missing",
    ),
    "two checkpoints in each other's place": (swap_checkpoints, "step-0000004-epoch-0001 is not what it is called"),
}


@pytest.mark.parametrize(("change", "problem"), RECORD.values(), ids=RECORD)
def test_edited_record_is_not_comparable_and_the_item_is_named(
    finished: Genmed, change: Callable[[Path], object], problem: str
) -> None:
    change(finished.run_folder())
    result = finished("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (2, "not comparable")
    assert problem in result.json["problems"][0]


def test_checkpoint_of_another_step_with_all_its_digests_put_right_does_not_restore(finished: Genmed) -> None:
    copy_checkpoint(finished.run_folder())
    result = finished("verify", "latest", "--json", "--segment", 4)
    assert (result.code, result.json["verdict"]) == (2, "not comparable")
    assert "step-0000008-epoch-0002 was not restored whole" in result.json["problems"][0]


def test_checkpoint_of_another_run_in_its_place_is_not_comparable(finished: Genmed, tiny: Arguments) -> None:
    run = finished.run_folder()
    model = json.loads((run / "run.json").read_text())["model"]
    assert finished(*tiny("--model", model, "--lr", 0.02, "--epochs", 1)).code == 0
    other = next(path for path in (finished.root / "runs").iterdir() if path != run and not path.name.startswith("."))
    name = "step-0000007-epoch-0001-end"
    shutil.rmtree(run / "checkpoints" / name)
    shutil.copytree(other / "checkpoints" / name, run / "checkpoints" / name)
    result = finished("verify", "latest~1", "--json")
    assert (result.code, result.json["verdict"]) == (2, "not comparable")
    assert f"{name} belongs to another config" in result.json["problems"][0]


WEIGHTS = {
    "the lowest bit of one parameter": ("bit", "0.weight", "17"),
    "the same bit in two weights": ("bit", "0.weight", "3,11"),
    "two weights swapped": ("swap", "8.weight", "3,11"),
    "the lowest bit of a running mean": ("bit", "1.running_mean", "2"),
}


@pytest.mark.parametrize("step", [1, 10, 28])
@pytest.mark.parametrize(("fault", "tensor", "places"), WEIGHTS.values(), ids=WEIGHTS)
def test_fault_in_memory_is_found_at_its_step_and_told_from_a_difference_that_lasts(
    finished: Genmed, fault: str, tensor: str, places: str, step: int
) -> None:
    environ = {"GENMED_TEST_STEP": str(step), "GENMED_TEST_FAULT": fault}
    environ |= {"GENMED_TEST_TENSOR": tensor, "GENMED_TEST_PLACES": places}
    result = finished("verify", "latest", "--json", **environ)
    report = result.json
    assert (result.code, report["verdict"]) == (1, "diverged"), report["problems"]
    field = "buffer" if "running" in tensor else "param"
    found = report["first_divergence"]
    assert (found["step"], found["epoch"], found["field"]) == (step, (step - 1) // 7 + 1, field)
    assert report["steps_compared"] == step
    located = report["localisation"]
    assert located["step"] == step
    if step > 1:  # computed from a kept state by a model that counts anew, the fault does not come again
        assert (located["repeats"], located["agrees_with_record"]) == (True, True)
        assert "disturbed" in located["says"]
        assert found["module"] is None
    assert report["cause"] == []


def test_layer_that_reads_the_clock_is_the_first_differing_module(finished: Genmed) -> None:
    result = finished("verify", "latest", "--json", GENMED_TEST_FAULT="noise")
    assert (result.code, result.json["first_divergence"]["module"]) == (1, "3")
    located = result.json["localisation"]
    assert (located["kind"], located["phase"], located["operation"]) == ("Noise", "forward", "aten::mul")
    assert located["repeats"] is False


def test_backward_pass_that_reads_the_clock_is_put_to_its_module(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY_BACKWARD)
    assert genmed(*tiny("--model", f"{tmp_path / 'noisy.py'}:build", "--epochs", 1)).code == 0
    report = genmed("verify", "latest", "--json").json
    found, located = report["first_divergence"], report["localisation"]
    assert (found["step"], found["field"], found["module"]) == (1, "grad", "2")
    assert (located["kind"], located["phase"], located["operation"]) == ("Noise", "backward", "aten::mul")


def test_another_file_of_initial_weights_is_the_first_cause(finished: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    run = finished.run_folder()
    model = json.loads((run / "run.json").read_text())["model"]
    weights = tmp_path / "start.safetensors"
    states = [path / "model.safetensors" for path in list_checkpoints(run / "checkpoints")]
    shutil.copyfile(states[0], weights)
    assert finished(*tiny("--model", model, "--weights", weights, "--epochs", 1)).code == 0
    assert finished("verify", "latest", "--json").json["verdict"] == "identical"
    shutil.copyfile(states[1], weights)
    result = finished("verify", "latest", "--json")
    assert (result.code, result.json["first_divergence"]["field"]) == (1, "initial")
    cause = {"what": "initial weights", "recorded": digest_file(states[0]), "found": digest_file(states[1])}
    assert result.json["cause"] == [{**cause, "changes_bits": True}]


def test_arithmetic_that_is_another_each_time_the_same_is_put_to_its_module_by_the_recorded_digests(
    finished: Genmed,
) -> None:
    result = finished("verify", "latest", "--json", GENMED_TEST_FAULT="other arithmetic")
    assert (result.code, result.json["first_divergence"]["module"]) == (1, "4")
    located = result.json["localisation"]
    assert (located["kind"], located["phase"], located["operation"]) == ("Other", "forward", None)
    assert (located["repeats"], located["agrees_with_record"]) == (True, False)


def test_another_number_of_threads_is_the_first_cause(finished: Genmed) -> None:
    result = finished("verify", "latest", "--json", GENMED_TEST_THREADS="1")
    first = result.json["cause"][0]
    assert (first["what"], first["recorded"], first["found"], first["changes_bits"]) == ("threads.intra_op", 2, 1, True)
    assert "not as recorded: threads.intra_op was 2, is 1 (can change bits: sums are cut" in result.err
    assert (result.code, result.json["verdict"]) in {(0, "identical"), (1, "diverged")}
    assert result.json["steps_compared"] == STEPS


def test_another_instruction_set_is_the_first_cause(finished: Genmed) -> None:
    recorded = json.loads((finished.run_folder() / "environment.json").read_text())["cpu"]["onednn_isa_in_effect"]
    if recorded in (None, "AVX2", "SSE41"):
        pytest.skip(f"this processor has no instruction set below which to go: {recorded}")
    result = finished("verify", "latest", "--json", GENMED_TEST_ISA="SSE41")
    first = result.json["cause"][0]
    assert (first["what"], first["recorded"], first["found"]) == ("cpu.onednn_isa_in_effect", recorded, "SSE41")
    assert first["changes_bits"] is True
    assert (result.code, result.json["verdict"]) in {(0, "identical"), (1, "diverged")}


def test_package_version_in_the_record_is_listed_with_both_values(finished: Genmed) -> None:
    path = finished.run_folder() / "environment.json"
    version = json.loads(path.read_text())["packages"]["torch"]
    edit_document(path, lambda document: document["packages"].update(torch="2.0.1"))
    result = finished("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (0, "identical")
    assert result.json["cause"] == [
        {"what": "packages.torch", "recorded": "2.0.1", "found": version, "changes_bits": True}
    ]


@pytest.mark.parametrize("field", ["samples", "input", "loss", "grad", "param", "buffer", "optim"])
def test_each_field_of_the_trace_is_compared(finished: Genmed, field: str) -> None:
    """A record that was forged throughout, so that only computing it again tells."""

    def forge(lines: list[dict[str, object]]) -> None:
        lines[6][field] = lines[5][field]

    forge_trace(finished.run_folder(), forge)
    result = finished("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (1, "diverged"), result.json["problems"]
    found = result.json["first_divergence"]
    assert (found["step"], found["field"]) == (6, field)


def test_forged_position_of_a_kept_state_is_found_where_it_was_kept(finished: Genmed) -> None:
    """The best figure so far decides which weights the final metrics are of; no line of the trace has it."""
    run = finished.run_folder()
    place = run / "checkpoints" / "step-0000014-epoch-0002-end"
    state = json.loads((place / "state.json").read_text())
    state["progress"]["best_value"] = (0.875).hex()
    (place / "state.json").write_text(json.dumps(state))
    digest = {"state.json": digest_file(place / "state.json")}
    edit_document(place / "manifest.json", lambda manifest: manifest["files"].update(digest))
    digest_again(run)
    result = finished("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (1, "diverged"), result.json["problems"]
    found = result.json["first_divergence"]
    assert (found["step"], found["epoch"], found["field"]) == (14, 2, "metrics")
