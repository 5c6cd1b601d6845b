"""verify: each verdict of the contract with its exit code, what it names, and what it leaves behind."""

import json
import os
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmed.ground.sealed import open_line
from tests.harness import Genmed, Result, digest_again, edit_document, forge_trace
from tests.test_step import NETWORK

Arguments = Callable[..., list[object]]
STEPS = 28  # of `tiny`
KEYS = (
    "schema verdict run steps_compared steps_total first_divergence cause metrics problems localisation segments"
    " status judged_by code_diff data_differences next_step"
).split()

NOISY = """
import time
from torch import nn


class Noise(nn.Module):
    def forward(self, x):
        return x * (1 + time.time_ns() % 1_000_003 * 1e-6)


def build(num_classes):
    return nn.Sequential(Noise(), nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(392, num_classes))
"""


@pytest.fixture
def data(nih: Path, tmp_path: Path) -> Path:
    """A copy of its data, to be spoilt."""
    return Path(shutil.copytree(nih, tmp_path / "data"))


def assert_kept(genmed: Genmed, result: Result) -> None:
    """The report stands in the run's folder and in the registry, with its time."""
    line = open_line((genmed.run_folder() / "verifications.jsonl").read_bytes().splitlines(keepends=True)[-1], "last")
    created = line.pop("created")
    assert line == result.json
    with sqlite3.connect(genmed.root / "registry.db") as connection:
        rows = connection.execute(
            "SELECT run_id, verdict, steps_compared, steps_total, created, report FROM verifications ORDER BY number"
        ).fetchall()
    run_id = json.loads((genmed.run_folder() / "run.json").read_text())["id"]
    found = result.json
    assert rows[-1][:4] == (run_id, found["verdict"], found["steps_compared"], found["steps_total"])
    assert json.loads(rows[-1][5]) == {"created": created, **line}
    assert created[:19] == rows[-1][4].replace(" ", "T")[:19]


def assert_not_comparable(genmed: Genmed, result: Result, problem: str) -> dict[str, Any]:
    assert result.code == 2, result.err
    found: dict[str, Any] = result.json
    assert list(found) == KEYS
    assert (found["verdict"], found["steps_compared"], found["first_divergence"]) == ("not comparable", 0, None)
    assert found["steps_total"] == json.loads((genmed.run_folder() / "run.json").read_text())["steps_done"]
    assert len(found["problems"]) == 1
    assert re.search(problem, found["problems"][0]), found["problems"][0]
    assert "Traceback" not in result.err
    assert_kept(genmed, result)
    return found


def test_report_of_an_identical_run_has_the_documented_keys(finished: Genmed) -> None:
    result = finished("verify", "latest", "--json")
    assert result.code == 0, result.err
    report = result.json
    assert list(report) == KEYS
    assert report["schema"] == 1
    assert (report["verdict"], report["run"]) == ("identical", finished.run_folder().name)
    assert (report["steps_compared"], report["steps_total"]) == (STEPS, STEPS)
    assert (report["first_divergence"], report["cause"], report["problems"]) == (None, [], [])
    recorded = json.loads((finished.run_folder() / "run.json").read_text())["metrics"]
    assert [entry["name"] for entry in report["metrics"]] == list(recorded)
    for entry in report["metrics"]:
        assert list(entry) == ["name", "recorded", "found", "difference"]
        assert entry["recorded"] == entry["found"] == recorded[entry["name"]]
        assert entry["difference"] == (None if entry["recorded"] is None else 0)
    assert_kept(finished, result)
    again = finished("verify", "latest", "--json", "--full")
    assert (again.code, again.json) == (0, report)
    assert len((finished.run_folder() / "verifications.jsonl").read_text().splitlines()) == 2
    for path in finished.root.glob("registry.db*"):
        path.unlink()
    assert finished("list", "--rebuild", "--json").code == 0
    assert_kept(finished, again)


def test_report_for_people_ends_with_the_verdict(finished: Genmed) -> None:
    result = finished("verify", "latest")
    assert result.code == 0, result.err
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert rows[0] == ["metric", "recorded", "found", "difference"]
    macro = next(row for row in rows if row[0] == "test_auroc_macro")
    assert macro[1] == macro[2]
    assert macro[3] == "0"
    assert ["steps compared", f"{STEPS} of {STEPS}"] in rows
    assert rows[-1] == ["verdict", "identical"]


def test_forward_pass_that_reads_the_clock_diverges_stops_at_once_and_is_named(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    trained = genmed(*tiny("--model", f"{tmp_path / 'noisy.py'}:build", "--epochs", 2))
    assert trained.code == 0, trained.err
    result = genmed("verify", "latest", "--json")
    assert result.code == 1, result.err
    report = result.json
    assert report["verdict"] == "diverged"
    assert report["first_divergence"] == {"step": 1, "epoch": 1, "field": "loss", "module": "0"}
    assert (report["steps_compared"], report["steps_total"]) == (1, 14)
    located = report["localisation"]
    assert (located["module"], located["kind"], located["phase"]) == ("0", "Noise", "forward")
    assert (located["operation"], located["repeats"]) == ("aten::mul", False)
    assert len(set(located["digests"])) == 2
    [cause] = report["cause"]
    assert cause["what"] == "aten::mul in 0 (Noise), step 1, computed twice"
    assert [cause["recorded"], cause["found"]] == located["digests"]
    assert report["problems"] == []
    assert {(entry["found"], entry["difference"]) for entry in report["metrics"]} == {(None, None)}
    assert_kept(genmed, result)

    full = genmed("verify", "latest", "--json", "--full")
    assert full.code == 1
    assert full.json["verdict"] == "diverged"
    assert full.json["first_divergence"] == report["first_divergence"]
    assert (full.json["steps_compared"], full.json["steps_total"]) == (14, 14)
    assert any(entry["difference"] for entry in full.json["metrics"])
    assert [e["found"] is None for e in full.json["metrics"]] == [e["recorded"] is None for e in full.json["metrics"]]

    edit_document(genmed.run_folder() / "environment.json", lambda document: document["packages"].update(torch="1.0"))
    elsewhere = genmed("verify", "latest", "--json")
    assert elsewhere.code == 1
    assert (elsewhere.json["verdict"], elsewhere.json["steps_compared"]) == ("diverged", 14)
    assert [entry["what"] for entry in elsewhere.json["cause"]] == [cause["what"], "packages.torch"]


def test_forger_who_puts_all_digests_right_is_found_by_computing_again(finished: Genmed) -> None:
    def forge(lines: list[dict[str, Any]]) -> None:
        lines[10]["grad"] = lines[1]["grad"]
        lines[12]["loss"] = lines[1]["loss"]

    forge_trace(finished.run_folder(), forge)
    result = finished("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (1, "diverged"), result.json["problems"]
    assert result.json["first_divergence"] == {"step": 10, "epoch": 2, "field": "grad", "module": None}
    assert result.json["steps_compared"] == 10
    located = result.json["localisation"]
    assert (located["step"], located["repeats"], located["agrees_with_record"]) == (10, True, False)
    assert "--trace-modules" in located["says"]


def test_edited_trace_that_is_chained_anew_is_not_that_of_the_checkpoints(finished: Genmed) -> None:
    kept = {folder: (folder / "state.json").read_bytes() for folder in finished.run_folder().glob("checkpoints/*")}
    manifests = {folder: (folder / "manifest.json").read_bytes() for folder in kept}
    forge_trace(finished.run_folder(), lambda lines: lines[12].update(loss=lines[1]["loss"]))
    for folder, content in kept.items():
        (folder / "state.json").write_bytes(content)
        (folder / "manifest.json").write_bytes(manifests[folder])
    digest_again(finished.run_folder())
    result = finished("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (2, "not comparable")
    assert result.json["problems"] == [
        f"{folder} is not the state to which the trace comes at step {int(folder.name[5:12])}"
        for folder in sorted(kept)
    ]


def test_recorded_metric_that_does_not_come_again_is_a_divergence(finished: Genmed) -> None:
    edit_document(
        finished.run_folder() / "run.json",
        lambda document: document["metrics"].update(test_loss=document["metrics"]["test_loss"] + 0.25),
    )
    result = finished("verify", "latest", "--json")
    assert result.code == 1
    report = result.json
    assert (report["verdict"], report["steps_compared"]) == ("diverged", STEPS)
    assert report["first_divergence"]["field"] == "metrics"
    differences = {entry["name"]: entry["difference"] for entry in report["metrics"] if entry["difference"]}
    assert differences == {"test_loss": pytest.approx(-0.25)}


def edit_config(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(re.sub(r"batch_size: 8", "batch_size: 16", path.read_text()))


def edit_trace(folder: Path) -> None:
    path = folder / "trace.jsonl"
    path.write_text(path.read_text().replace('"step":9,', '"step":9, ', 1).replace("0x1", "0x2", 1))


def respace_trace(folder: Path) -> None:
    path = folder / "trace.jsonl"
    path.write_text(path.read_text().replace('"step":9,', '"step": 9,', 1))


def shorten_trace(folder: Path) -> None:
    path = folder / "trace.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def tear_trace(folder: Path) -> None:
    path = folder / "trace.jsonl"
    path.write_bytes(path.read_bytes()[:-5])


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "config edited": (edit_config, r"config.yaml was edited: training.batch_size was 8, is 16"),
    "config no config": (lambda folder: (folder / "config.yaml").write_text("seed: [1"), "config.yaml is not YAML"),
    "config missing": (lambda folder: (folder / "config.yaml").unlink(), "config.yaml is missing"),
    "trace edited": (edit_trace, r"trace.jsonl is damaged or was edited: line 2 does not follow"),
    "trace spaced": (respace_trace, r"trace.jsonl was edited: it is sha256:\w+, recorded is sha256:\w+"),
    "trace shortened": (shorten_trace, r"trace.jsonl was edited: it is sha256:\w+, recorded is sha256:\w+"),
    "trace torn": (tear_trace, r"trace.jsonl was edited: it is sha256:\w+, recorded is sha256:\w+"),
    "trace missing": (lambda folder: (folder / "trace.jsonl").unlink(), "no trace .*trace.jsonl"),
    "environment missing": (lambda folder: (folder / "environment.json").unlink(), "environment.json is missing"),
}


@pytest.mark.parametrize(("spoil", "problem"), SPOILT.values(), ids=SPOILT)
def test_record_that_is_missing_or_edited_is_not_comparable(
    finished: Genmed, spoil: Callable[[Path], object], problem: str
) -> None:
    spoil(finished.run_folder())
    assert_not_comparable(finished, finished("verify", "latest", "--json"), problem)


def test_checkpoint_that_fails_its_digest_is_not_comparable(finished: Genmed) -> None:
    path = next((finished.run_folder() / "checkpoints").glob("*/model.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert_not_comparable(finished, finished("verify", "latest", "--json"), "model.safetensors fails its digest")


def test_record_of_the_images_that_was_edited_is_not_comparable(finished: Genmed) -> None:
    path = finished.run_folder() / "data-images.csv"
    path.write_text(path.read_text().replace(",train,", ",test,", 1))
    assert_not_comparable(finished, finished("verify", "latest", "--json"), "data-images.csv")


def test_final_state_that_was_edited_is_not_comparable(finished: Genmed) -> None:
    edit_document(
        finished.run_folder() / "run.json", lambda document: document.update(fingerprint="sha256:" + "0" * 64)
    )
    assert_not_comparable(finished, finished("verify", "latest", "--json"), "run.json")


def change_pixel(data: Path) -> None:
    path = data / "images" / "00000003_001.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[5, 7] ^= 1
    Image.fromarray(pixels).save(path)


def edit_table(data: Path, image: str, column: str, value: str) -> None:
    path = data / "Data_Entry_2017_v2020.csv"
    header, *rows = path.read_text().splitlines()
    position = header.split(",").index(column)
    changed = [row.split(",") for row in rows]
    for row in changed:
        if row[0] == image:
            assert row[position] != value
            row[position] = value
    path.write_text("\n".join([header, *(",".join(row) for row in changed)]) + "\n")


def remove_image(data: Path) -> None:
    (data / "images" / "00000003_001.png").unlink()
    path = data / "Data_Entry_2017_v2020.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "00000003_001" not in line))


def add_image(data: Path) -> None:
    shutil.copyfile(data / "images" / "00000003_001.png", data / "images" / "00000003_009.png")
    path = data / "Data_Entry_2017_v2020.csv"
    path.write_text(path.read_text() + "00000003_009.png,No Finding,9,3,58,M,PA,24,24,0.143,0.143\n")


OTHER_DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "pixel": (change_pixel, "pixels of 00000003_001.png"),
    "label": (
        lambda data: edit_table(data, "00000005_001.png", "Finding Labels", "Hernia|Mass"),
        "labels of 00000005_001.png",
    ),
    "patient": (
        lambda data: edit_table(data, "00000003_000.png", "Patient ID", "1003"),
        "patient of 00000003_000.png",
    ),
    "image less": (remove_image, "image 00000003_001.png"),
    "image more": (add_image, "image 00000003_009.png"),
}


@pytest.mark.parametrize(("change", "item"), OTHER_DATA.values(), ids=OTHER_DATA)
def test_other_data_are_not_comparable_and_the_image_is_named(
    finished: Genmed, data: Path, change: Callable[[Path], object], item: str
) -> None:
    change(data)
    result = finished("verify", "latest", "--json", "--data-root", data)
    report = assert_not_comparable(finished, result, f"the data are not those of the run: {item}")
    assert report["cause"][0]["what"] == item
    if item.startswith("labels"):
        assert (report["cause"][0]["recorded"], report["cause"][0]["found"]) == ("Effusion|Mass", "Hernia|Mass")
    for cause in report["cause"]:
        assert list(cause) == ["what", "recorded", "found", "changes_bits"]
        assert cause["recorded"] != cause["found"]
        assert cause["changes_bits"] is True


def test_other_data_are_told_once_with_what_to_do(finished: Genmed, data: Path) -> None:
    OTHER_DATA["label"][0](data)
    lines = [line.split("\t") for line in finished("verify", "latest", "--data-root", data).out.splitlines()]
    assert [name for name, _ in lines] == ["run", "steps compared", "not as recorded", "next step", "verdict"]
    assert lines[2][1] == "labels of 00000005_001.png was Effusion|Mass, is Hernia|Mass"
    assert "--data-root" in lines[3][1]


def test_of_many_images_that_differ_the_first_are_named(finished: Genmed, data: Path) -> None:
    path = data / "Data_Entry_2017_v2020.csv"
    path.write_text(re.sub("(?m)^([^,]+_000.png),[^,]+", r"\1,Edema", path.read_text()))
    result = finished("verify", "latest", "--data-root", data)
    told = [line for line in result.out.splitlines() if line.startswith("not as recorded")]
    many = finished("verify", "latest", "--data-root", data, "--json").json["data_differences"]
    assert many > 6
    assert len(told) == 6
    assert told[-1] == f"not as recorded\tand {many - 5} more"


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (shutil.rmtree, "no data folder .*data"),
    "with a broken image": (
        lambda data: (data / "images" / "00000003_001.png").write_bytes(b"\x89PNG\r\n\x1a\n"),
        "00000003_001.png",
    ),
}


@pytest.mark.parametrize(("spoil", "problem"), UNREADABLE.values(), ids=UNREADABLE)
def test_data_that_cannot_be_read_are_not_comparable(
    finished: Genmed, data: Path, spoil: Callable[[Path], object], problem: str
) -> None:
    spoil(data)
    assert_not_comparable(finished, finished("verify", "latest", "--json", "--data-root", data), problem)


def test_rotten_image_cache_is_made_anew_and_hides_nothing(finished: Genmed, data: Path, tmp_path: Path) -> None:
    finished.environ["GENMED_CACHE"] = str(tmp_path / "cache")
    first = finished("verify", "latest", "--json", "--data-root", data)
    assert first.code == 0, first.err
    path = next((tmp_path / "cache" / "images").glob("*/pixels.u8"))
    content = bytearray(path.read_bytes())
    content[1000] ^= 255
    path.write_bytes(content)
    result = finished("verify", "latest", "--json", "--data-root", data)
    assert result.code == 0, result.err
    assert result.json["verdict"] == "identical"
    assert "image cache is damaged" in result.err


def test_file_that_changed_behind_its_stamp_is_found(finished: Genmed, data: Path, tmp_path: Path) -> None:
    """Size, time and inode are as they were: training may trust them, verify reads the bytes."""
    finished.environ["GENMED_CACHE"] = str(tmp_path / "cache")
    assert finished("verify", "latest", "--json", "--data-root", data).code == 0
    path = data / "images" / "00000003_001.png"
    status, before = path.stat(), path.read_bytes()
    with Image.open(path) as image:
        pixels = np.array(image)
    for shade in set(range(256)) - {int(pixels[5, 7])}:
        pixels[5, 7] = shade
        Image.fromarray(pixels).save(tmp_path / "image.png")
        if (tmp_path / "image.png").stat().st_size == status.st_size:
            break
    path.write_bytes((tmp_path / "image.png").read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (status.st_size, status.st_mtime_ns, status.st_ino)
    assert path.read_bytes() != before
    result = finished("verify", "latest", "--json", "--data-root", data)
    assert_not_comparable(finished, result, "pixels of 00000003_001.png")


@pytest.mark.parametrize(("package", "changes_bits"), [("numpy", True), ("rich", False)])
def test_other_package_is_listed_and_the_run_compared_to_its_end(
    finished: Genmed, package: str, changes_bits: bool
) -> None:
    path = finished.run_folder() / "environment.json"
    version = json.loads(path.read_text())["packages"][package]
    edit_document(path, lambda document: document["packages"].update({package: "0.1.2"}))
    result = finished("verify", "latest", "--json")
    assert result.code == 0, result.err
    report = result.json
    assert (report["verdict"], report["first_divergence"]) == ("identical", None)
    assert (report["steps_compared"], report["steps_total"]) == (STEPS, STEPS)
    expected = {"what": f"packages.{package}", "recorded": "0.1.2", "found": version, "changes_bits": changes_bits}
    assert report["cause"] == [expected]
    assert_kept(finished, result)


def test_other_code_is_listed(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    path = tmp_path / "network.py"
    path.write_text(NETWORK)
    trained = genmed(*tiny("--model", f"{path}:build", "--epochs", 1))
    assert trained.code == 0, trained.err
    path.write_text(NETWORK + "# the same in other words\n")
    result = genmed("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (0, "identical")
    assert [(entry["what"], entry["changes_bits"]) for entry in result.json["cause"]] == [
        ("code", True),
        ("code.files.network.py", True),
    ]
    path.write_text(NETWORK.replace("stride=2", "stride=1"))
    result = genmed("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (1, "diverged")
    assert [entry["what"] for entry in result.json["cause"]] == ["code", "code.files.network.py"]


def test_code_that_does_not_run_any_more_is_shown_with_what_changed(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    path = tmp_path / "network.py"
    path.write_text(NETWORK)
    assert genmed(*tiny("--model", f"{path}:build", "--epochs", 1)).code == 0
    path.write_text(NETWORK.replace("stride=2", "stride="))
    result = genmed("verify", "latest", "--json")
    assert (result.code, result.json["verdict"]) == (2, "not comparable")
    assert "cannot be imported" in result.json["problems"][0]
    assert [entry["what"] for entry in result.json["cause"]] == ["code", "code.files.network.py"]
    changed = [line for line in result.json["code_diff"].splitlines() if line.startswith(("-", "+"))]
    assert changed[:2] == ["--- network.py (recorded)", "+++ network.py (here)"]
    assert "stride=2" in changed[2]
    assert "changed: network.py" in result.err
    path.unlink()
    gone = genmed("verify", "latest", "--json").json
    copy = genmed.run_folder() / "code" / "network.py"
    assert gone["problems"] == [f"no file {path} (put the run's copy there: {copy})"]
    shutil.copyfile(copy, path)
    assert genmed("verify", "latest", "--json").code == 0


@pytest.fixture
def network(tmp_path: Path) -> str:
    (tmp_path / "network.py").write_text(NETWORK)
    return f"{tmp_path / 'network.py'}:build"


def test_interrupted_run_is_compared_as_far_as_it_came(genmed: Genmed, tiny: Arguments, network: str) -> None:
    assert genmed(*tiny("--model", network), GENMED_TEST_KILL_AT="12").code == -signal.SIGKILL
    with open(genmed.run_folder() / "trace.jsonl", "a") as file:
        file.write('{"step":11,"epo')
    before = (genmed.run_folder() / "trace.jsonl").read_bytes()
    result = genmed("verify", "latest", "--json")
    assert result.code == 0, result.err
    report = result.json
    assert (report["verdict"], report["steps_compared"], report["steps_total"]) == ("identical", 10, 10)
    assert report["status"] == "interrupted"
    assert "status\tinterrupted: compared as far as it was recorded" in genmed("verify", "latest").out
    assert report["metrics"] == []
    assert_kept(genmed, result)
    assert (genmed.run_folder() / "trace.jsonl").read_bytes() == before


def test_run_that_recorded_no_step_is_not_comparable(genmed: Genmed, tiny: Arguments, network: str) -> None:
    assert genmed(*tiny("--model", network), GENMED_TEST_KILL_AT="2").code == -signal.SIGKILL
    assert_not_comparable(genmed, genmed("verify", "latest", "--json"), "no step")


def test_run_that_failed_is_compared_as_far_as_it_came(genmed: Genmed, tiny: Arguments) -> None:
    assert genmed(*tiny("--lr", 1e30)).code == 1
    steps = len((genmed.run_folder() / "trace.jsonl").read_text().splitlines()) - 1
    assert steps > 0
    result = genmed("verify", "latest", "--json")
    assert result.code == 0
    assert (result.json["verdict"], result.json["steps_compared"]) == ("identical", steps)


def test_run_that_is_going_on_is_not_verified(genmed: Genmed, tiny: Arguments) -> None:
    command = genmed.start(*tiny("--epochs", 5000))
    try:
        end = time.monotonic() + 60
        while not any(genmed.root.glob("runs/*/checkpoints/*/manifest.json")):
            assert time.monotonic() < end
            time.sleep(0.005)
        result = genmed("verify", "latest", "--json")
        assert result.code == 2
        assert f"is running now, as process {command.pid}" in result.json["error"]["message"]
    finally:
        command.send(signal.SIGKILL)
        command.wait()


SPOILING = """
import os
import signal
from torch import nn


def build(num_classes):
    pool = nn.AdaptiveAvgPool2d(1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), pool, nn.Flatten(), nn.Linear(8, num_classes))
    passes = []

    def spoil(module, inputs, output):
        passes.extend([None] * module.training)
        if len(passes) == int(os.environ.get("GENMED_TEST_NAN_AT", -1)):
            return output * float("nan")
        if len(passes) == int(os.environ.get("GENMED_TEST_SIGNAL_AT", -1)):
            os.kill(os.getpid(), signal.SIGTERM)

    model.register_forward_hook(spoil)
    return model
"""


@pytest.fixture
def spoiling(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> Genmed:
    """A finished run of a model that is spoilt at a pass on demand; the first is the dry step's."""
    (tmp_path / "spoiling.py").write_text(SPOILING)
    assert genmed(*tiny("--model", f"{tmp_path / 'spoiling.py'}:build", "--epochs", 1)).code == 0
    return genmed


def test_loss_that_is_no_number_the_second_time_is_a_divergence_at_its_step(spoiling: Genmed) -> None:
    result = spoiling("verify", "latest", "--json", GENMED_TEST_NAN_AT="5")
    assert (result.code, result.json["verdict"]) == (1, "diverged")
    assert result.json["first_divergence"] == {"step": 4, "epoch": 1, "field": "loss", "module": None}


def test_interrupted_verification_has_no_verdict(spoiling: Genmed) -> None:
    result = spoiling("verify", "latest", "--json", GENMED_TEST_SIGNAL_AT="5")
    assert result.code == 130, result.err
    assert result.json["error"]["kind"] == "Interrupted"
    assert re.match(r"verify was stopped by SIGTERM .*: no verdict$", result.json["error"]["message"])
    assert not (spoiling.run_folder() / "verifications.jsonl").exists()


def test_run_is_verified_from_another_folder_after_its_root_was_moved(finished: Genmed, tmp_path: Path) -> None:
    moved = tmp_path / "archive" / "2026"
    moved.parent.mkdir()
    finished.root.rename(moved)
    (tmp_path / "elsewhere").mkdir()
    result = finished("verify", "latest", "--json", "--root", "../archive/2026", cwd=tmp_path / "elsewhere")
    assert result.code == 0, result.err
    assert (result.json["verdict"], result.json["steps_compared"]) == ("identical", STEPS)
    assert len(next(moved.glob("runs/*/verifications.jsonl")).read_text().splitlines()) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_run_that_was_started_with_relative_paths_is_verified_from_another_folder(
    genmed: Genmed, tiny: Arguments, nih: Path, tmp_path: Path
) -> None:
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "data").symlink_to(nih)
    trained = genmed(*tiny("--model", "network.py:build", "--data-root", "data", "--epochs", 1), cwd=tmp_path)
    assert trained.code == 0, trained.err
    (tmp_path / "elsewhere").mkdir()
    result = genmed("verify", "latest", "--json", cwd=tmp_path / "elsewhere")
    assert result.code == 0, result.out + result.err
    assert result.json["verdict"] == "identical"
