"""The code and the packages that a run of the user's model really used are recorded, and found again or named."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from genmed.ground.fingerprints import digest_file, digest_json
from genmed.records.config.sections import flatten
from genmed.records.run_folder import RunFolder
from genmed.records.study_folder import StudyCell, StudyDocument
from genmed.workflows.code import name_code
from genmed.workflows.identity import read_config
from genmed.workflows.siblings import list_siblings
from genmed.workflows.studies.found import find_imported, find_runs
from tests.harness import Genmed, edit_document
from tests.user_code import NETWORK, RECORDED, SOURCES, Desk, copy_desk, extend_path, put

Arguments = Callable[..., list[object]]


@pytest.fixture(scope="module")
def prepared(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Desk:
    """Two runs of the model, both after its late import: one killed, one finished."""
    folder = tmp_path_factory.mktemp("desk")
    put(folder, SOURCES)
    desk = Desk(Genmed(server, folder, image_cache), folder)
    command = tiny("--model", "net.py:build", "--set", "run.code_files=size.txt")
    killed = desk(*command, GENMED_TEST_AT="16", GENMED_TEST_SIGNAL=str(int(signal.SIGKILL)))
    assert killed.code == -signal.SIGKILL, killed.err
    desk.run.rename(folder / "killed")
    finished = desk(*command)
    assert finished.code == 0, finished.err
    return desk


@pytest.fixture
def killed(prepared: Desk, tmp_path: Path) -> Desk:
    return copy_desk(prepared, tmp_path / "killed", killed=True)


@pytest.fixture
def finished(prepared: Desk, tmp_path: Path) -> Desk:
    return copy_desk(prepared, tmp_path / "finished", killed=False)


def edit(desk: Desk, name: str) -> str:
    """Changes a file of code in what it computes; its name in the record."""
    path = desk.folder / name
    text = path.read_text()
    for old, new in (
        ("ReLU", "SiLU"),
        ("* 1.5", "* 2.5"),
        ("* 0.5", "* 0.7"),
        ("SIDE = 3", "SIDE = 5"),
        ("4\n", "2\n"),
    ):
        text = text.replace(old, new)
    path.write_text(text if text != path.read_text() else f"{text}# edited\n")
    os.utime(path, (2_000_000_000, 2_000_000_000))  # Python tells its compiled copy by size and time
    return name.partition("/")[2]


def test_run_records_all_code_with_copies(prepared: Desk) -> None:
    code = prepared.code()
    brought = {name for name in code["files"] | code["later"] if not name.startswith("genmed/")}
    assert brought == RECORDED
    assert set(code["later"]) == {"late.py"}
    copies = {path.relative_to(prepared.run / "code").as_posix() for path in (prepared.run / "code").rglob("*.*")}
    assert copies == RECORDED
    for name in RECORDED - {"lab/__init__.py", "lab/units.py"}:
        assert (prepared.run / "code" / name).read_text() == SOURCES[f"work/{name}"]
    assert "Imported after the start: late.py" in (prepared.run / "train.log").read_text()


def test_run_records_imported_packages_with_source(prepared: Desk) -> None:
    found = json.loads((prepared.run / "environment.json").read_text())
    assert (found["packages"]["timmy"], found["package_sources"]["timmy"]) == ("1.0.31", "index")
    assert found["package_sources"]["torch"] == "index"
    assert "hypothesis" in found["installed"]
    assert not found["installed"].keys() & found["packages"].keys()


def test_killed_run_has_its_late_import_on_record(prepared: Desk) -> None:
    code = json.loads((prepared.folder / "killed" / "environment.json").read_text())["code"]
    assert set(code["later"]) == {"late.py"}
    assert (prepared.folder / "killed" / "code" / "late.py").is_file()


@pytest.mark.parametrize(
    "name",
    ["work/blocks.py", "work/shapes.py", "work/late.py", "work/size.txt", "work/net.py", "path/lab/units.py"],
)
def test_edited_file_is_named_by_every_command(killed: Desk, name: str) -> None:
    name = edit(killed, name)
    before = (killed.run / "trace.jsonl").read_bytes()
    refused = killed("resume", "latest", "--json")
    assert refused.code == 2
    assert name in refused.json["error"]["message"]
    assert "--accept code" in refused.json["error"]["hint"]
    assert f"--- {name} (recorded)" in refused.err
    assert (killed.run / "trace.jsonl").read_bytes() == before
    found = killed("env", "latest", "--json").json
    assert f"code.files.{name}" in [entry["field"] for entry in found["differences"]]
    assert f"--- {name} (recorded)" in found["code_diff"]
    assert f"not as recorded: {name}" in killed("show", "latest").out
    verdict = killed("verify", "latest", "--json").json
    assert f"code.files.{name}" in [entry["what"] for entry in verdict["cause"]]
    assert f"--- {name} (recorded)" in verdict["code_diff"]


def test_accepted_code_is_resumed_and_kept(killed: Desk) -> None:
    edit(killed, "work/late.py")
    edit(killed, "path/lab/units.py")
    step = max(int(path.name.split("-")[1]) for path in (killed.run / "checkpoints").glob("step-*"))
    again = {"GENMED_TEST_AT": str(step + 1), "GENMED_TEST_SIGNAL": str(int(signal.SIGKILL))}
    assert killed("resume", "latest", "--json", "--accept", "code", **again).code == -signal.SIGKILL
    assert set(killed.code()["later"]) == {"late.py"}
    resumed = killed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    (accepted,) = resumed.json["accepted"]
    assert [change["what"] for change in accepted["changes"]] == [
        "code",
        "code.files.lab/units.py",
        "code.files.late.py",
    ]
    assert "2.5" in (killed.run / "code" / "late.py").read_text()
    (former,) = (killed.run / "code").glob("late-until-step-*.py")
    assert "1.5" in former.read_text()
    again = killed("verify", "latest", "--json").json
    assert again["problems"] == []
    assert killed("env", "latest", "--json").json["differences"] == []


def test_untouched_code_raises_no_alarm(prepared: Desk, killed: Desk) -> None:
    assert killed("env", "latest", "--json").json["differences"] == []
    resumed = killed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["accepted"] == []
    whole = json.loads((prepared.run / "run.json").read_text())
    assert resumed.json["trace_digest"] == whole["trace_digest"]
    verified = killed("verify", "latest", "--json")
    assert (verified.json["verdict"], verified.json["cause"]) == ("identical", [])


def test_interrupted_run_is_protected_like_a_killed_one(prepared: Desk, tiny: Arguments, tmp_path: Path) -> None:
    put(tmp_path, SOURCES)
    desk = Desk(Genmed(prepared.genmed._context, tmp_path, prepared.genmed.cache), tmp_path)
    stopped = desk(*tiny("--model", "net.py:build"), GENMED_TEST_AT="3", GENMED_TEST_SIGNAL=str(int(signal.SIGINT)))
    assert stopped.code == 130, stopped.err
    assert not desk.code()["later"]
    edit(desk, "work/shapes.py")
    refused = desk("resume", "latest", "--json")
    assert (refused.code, "shapes.py" in refused.json["error"]["message"]) == (2, True)


def test_module_that_takes_another_ones_place_is_named(killed: Desk) -> None:
    """A new file beside the model hides an installed package of its name; no recorded file has changed."""
    put(killed.folder, {"work/timmy.py": "def scale(scores):\n    return scores * 3.0\n"})
    refused = killed("resume", "latest", "--json")
    assert (refused.code, "timmy.py" in refused.json["error"]["message"]) == (2, True)
    verdict = killed("verify", "latest", "--json")
    assert (verdict.code, verdict.json["verdict"]) == (1, "diverged")
    assert "code.files.timmy.py" in [entry["what"] for entry in verdict.json["cause"]]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.effect_noise((32, 32), 60).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_predict_takes_the_runs_own_copies(finished: Desk, image: Path) -> None:
    command = ("predict", "latest", image, "--any-kind", "--json")
    expected = finished(*command)
    assert (expected.code, expected.err) == (0, ""), expected.err
    for name in ("work/blocks.py", "work/late.py", "path/lab/units.py"):
        edit(finished, name)
    found = finished(*command)
    assert found.json == expected.json
    told = "not as recorded: blocks.py, lab/units.py, late.py; the scores are by the run's own copies of its code"
    assert told in found.err
    assert "+++ blocks.py (here)" in found.err
    shutil.rmtree(finished.folder / "work")
    (finished.folder / "work").mkdir()
    assert finished(*command).json == expected.json


def change_metadata(desk: Desk, old: str, new: str) -> None:
    path = desk.folder / "site" / "timmy-1.0.31.dist-info" / "METADATA"
    path.write_text(path.read_text().replace(old, new))


def test_other_version_of_a_package_is_named(killed: Desk, finished: Desk, image: Path) -> None:
    for desk in (killed, finished):
        change_metadata(desk, "1.0.31", "1.0.9")
    refused = killed("resume", "latest", "--json")
    assert refused.code == 2
    assert "packages.timmy was 1.0.31, is 1.0.9" in refused.json["error"]["message"]
    difference = {"field": "packages.timmy", "recorded": "1.0.31", "found": "1.0.9", "changes_bits": True}
    assert killed("env", "latest", "--json").json["differences"] == [difference]
    verdict = killed("verify", "latest", "--json")
    assert (verdict.code, [entry["what"] for entry in verdict.json["cause"]]) == (0, ["packages.timmy"])
    assert "✗\tversions as recorded\tpackages.timmy was 1.0.31, is 1.0.9" in killed("show", "latest").out
    scored = finished("predict", "latest", image, "--any-kind", "--json")
    assert scored.code == 0, scored.err
    assert "not as recorded: packages.timmy was 1.0.31, is 1.0.9 (can change the scores" in scored.err


def test_package_of_another_commit_is_named(killed: Desk) -> None:
    path = killed.folder / "site" / "timmy-1.0.31.dist-info" / "direct_url.json"
    path.write_text('{"url": "https://example.org/timmy.git", "vcs_info": {"vcs": "git", "commit_id": "3f2a"}}')
    differences = killed("env", "latest", "--json").json["differences"]
    assert [(entry["field"], entry["found"], entry["changes_bits"]) for entry in differences] == [
        ("package_sources.timmy", "git 3f2a", True)
    ]


def test_package_installed_from_a_folder_is_code(prepared: Desk, tiny: Arguments, tmp_path: Path) -> None:
    put(tmp_path, SOURCES)
    direct_url = {"url": f"file://{tmp_path}/path", "dir_info": {"editable": True}}
    put(tmp_path, {"site/lab_nets-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lab-nets\nVersion: 2.0\n"})
    put(tmp_path, {"site/lab_nets-2.0.dist-info/RECORD": "__editable__.lab_nets-2.0.pth,,\n"})
    put(tmp_path, {"site/lab_nets-2.0.dist-info/direct_url.json": json.dumps(direct_url)})
    put(tmp_path, {"site/timmy-1.0.31.dist-info/direct_url.json": '{"url": "file:///gone", "dir_info": {}}'})
    desk = Desk(Genmed(prepared.genmed._context, tmp_path, prepared.genmed.cache), tmp_path)
    command = tiny("--model", "net.py:build", "--epochs", 1)
    assert desk(*command).code == 0
    found = json.loads((desk.run / "environment.json").read_text())
    assert {"lab/units.py", "timmy/__init__.py"} <= found["code"]["files"].keys()
    assert (found["packages"]["lab-nets"], found["package_sources"]["lab-nets"]) == ("2.0", "folder")
    assert found["package_sources"]["timmy"] == "folder"
    put(tmp_path, {"site/timmy/__init__.py": "def scale(scores):\n    return 1.25 * scores\n"})
    verdict = desk("verify", "latest", "--json")
    assert verdict.json["verdict"] == "diverged"
    assert [entry["what"] for entry in verdict.json["cause"]] == ["code", "code.files.timmy/__init__.py"]


def test_run_of_before_imports_were_recorded_raises_no_alarm(killed: Desk) -> None:
    def forget(document: dict[str, Any]) -> None:
        kept = ("net.py", "size.txt")
        code = document["code"]
        code["files"] = {
            name: code["files"][name] for name in code["files"] if name.startswith("genmed/") or name in kept
        }
        del code["later"], code["without_copy"], document["where"]["code"]
        del document["package_sources"], document["installed"], document["packages"]["timmy"]
        code["digest"] = digest_json(code["files"])

    edit_document(killed.run / "environment.json", forget)
    digest = json.loads((killed.run / "environment.json").read_text())["code"]["digest"]
    edit_document(killed.run / "run.json", lambda document: document.update(code_digest=digest))
    for path in (killed.run / "checkpoints").glob("step-*/state.json"):
        state = json.loads(path.read_text())
        state["identity"]["code"] = digest
        path.write_text(json.dumps(state))
        digests = {"state.json": digest_file(path)}
        edit_document(
            path.parent / "manifest.json", lambda manifest, digests=digests: manifest["files"].update(digests)
        )
    shutil.rmtree(killed.run / "code" / "lab")
    assert killed("env", "latest", "--json").json["differences"] == []
    assert killed("verify", "latest", "--json").json["verdict"] == "identical"
    resumed = killed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["accepted"] == []


def test_bundle_asks_for_imported_code_by_name(finished: Desk, nih: Path) -> None:
    assert finished("export", "latest", "--out", finished.folder / "run.zip").code == 0
    reviewer = finished.folder / "reviewer"
    reviewer.mkdir()
    shutil.copy(finished.run / "code" / "net.py", reviewer)
    shutil.copy(finished.run / "code" / "size.txt", reviewer)
    command = ("verify", finished.folder / "run.zip", "--data-root", nih, "--model-file", reviewer / "net.py", "--json")
    asked = finished(*command, path=("site",))
    assert asked.code == 2
    told = "the run also imported blocks.py, lab/__init__.py, lab/units.py and 2 more, and code of a bundle is never"
    assert told in asked.json["error"]["message"]
    shutil.copytree(finished.run / "code", reviewer, dirs_exist_ok=True)
    verified = finished(*command, path=("site",))
    assert (verified.code, verified.json["verdict"], verified.json["cause"]) == (0, "identical", [])
    (reviewer / "shapes.py").write_text("SIDE = 9\n")
    other = finished(*command, path=("site",)).json
    assert [entry["what"] for entry in other["cause"]] == ["code", "code.files.shapes.py"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import nowhere\n", r"nowhere is neither in .*work, nor on PYTHONPATH, nor installed in this environment"),
        ("from . import blocks\n", "the file is loaded as a script is: import what lies beside it without a dot"),
        (
            "import statistics\nstatistics.own()\n",
            r"statistics.py in .*work has the name of a module that was imported",
        ),
    ],
    ids=["missing", "relative", "shadowed"],
)
def test_failed_import_says_where_was_looked(
    prepared: Desk, tiny: Arguments, tmp_path: Path, source: str, told: str
) -> None:
    put(tmp_path, {"work/net.py": source, "work/statistics.py": "def own():\n    pass\n"})
    desk = Desk(Genmed(prepared.genmed._context, tmp_path, prepared.genmed.cache), tmp_path)
    result = desk(*tiny("--model", "net.py:build"), path=())
    assert result.code == 2
    assert re.search(told, result.json["error"]["hint"]), result.json


def test_two_files_imported_under_one_name_are_refused(
    prepared: Desk, tiny: Arguments, nih: Path, tmp_path: Path
) -> None:
    facts = "import utils\nfrom genmed.parts.data.datasets.nih import FACTS as NIH\nFACTS = utils.rename(NIH)\n"
    rename = "from dataclasses import replace\n\n\ndef rename(facts):\n    return replace(facts, name='own')\n"
    put(tmp_path, {"data/own.py": facts, "data/utils.py": rename})
    put(tmp_path, {"work/net.py": "import utils\n\nbuild = utils.build\n", "work/utils.py": NETWORK})
    put(tmp_path, {name: text for name, text in SOURCES.items() if name != "work/net.py"})
    desk = Desk(Genmed(prepared.genmed._context, tmp_path, prepared.genmed.cache), tmp_path)
    command = tiny("--model", "net.py:build", "--dataset", "../data/own.py:FACTS")
    result = desk(*command)
    assert result.code == 2
    assert re.search(
        r"two files are imported as utils: .*data/utils\.py and .*work/utils\.py", result.json["error"]["message"]
    )


def test_pattern_of_code_files_that_fits_nothing_is_refused(prepared: Desk, tiny: Arguments) -> None:
    result = prepared(*tiny("--model", "net.py:build", "--set", "run.code_files=none/*.yaml"))
    assert result.code == 2
    assert "run.code_files: no file fits" in result.json["error"]["message"]


def test_study_counts_runs_by_what_they_imported(finished: Desk) -> None:
    finished("list", "--rebuild")
    folder = RunFolder(finished.run)
    document, config = folder.read(), read_config(folder, folder.read())

    def find_status() -> str:
        code = name_code(config)
        imported = find_imported(finished.genmed.root, config, [42], tuple(code.paths))
        cell = StudyCell(
            name="net", settings={}, values=flatten(config), origins={}, data_fingerprint=document.data_fingerprint,
            code_digest=code.digest, code_files=tuple(code.paths), imported=imported,
        )  # fmt: skip
        study = StudyDocument(
            id="0", name="s", created=document.created, metric="auroc_macro", seeds=(42,), cells=(cell,)
        )
        return find_runs(finished.genmed.root, study)[0, 42].status

    extend_path([str(finished.folder / name) for name in ("path", "site")])
    try:
        assert find_status() == "completed"
        edit(finished, "work/shapes.py")
        assert find_status() == "pending"
    finally:
        del sys.path[-2:]


def test_sibling_of_other_late_code_does_not_count(finished: Desk) -> None:
    folder = RunFolder(finished.run)
    other = finished.run.with_name("other")
    shutil.copytree(finished.run, other)
    edit_document(other / "run.json", lambda document: document.update(id="00000000", name="other"))
    root = finished.genmed.root
    assert len(list_siblings(root, folder.read())) == 2
    edit_document(
        other / "environment.json", lambda document: document["code"]["later"].update({"late.py": "sha256:0"})
    )
    assert [sibling.folder.name for sibling in list_siblings(root, folder.read())] == [folder.name]


def test_code_file_outside_the_models_folder_goes_by_name(prepared: Desk, tiny: Arguments, tmp_path: Path) -> None:
    put(tmp_path, SOURCES | {"other/deep/units.yaml": "a: 1\n"})
    desk = Desk(Genmed(prepared.genmed._context, tmp_path, prepared.genmed.cache), tmp_path)
    pattern = "run.code_files=['../other/**/*.yaml', size.txt]"
    assert desk(*tiny("--model", "net.py:build", "--epochs", 1, "--set", pattern)).code == 0
    assert (desk.run / "code" / "units.yaml").read_text() == "a: 1\n"
    assert desk("env", "latest", "--json").json["differences"] == []
    (tmp_path / "other" / "deep" / "units.yaml").write_text("a: 2\n")
    assert desk("resume", "latest").code == 0  # complete
    assert "code.files.units.yaml" in [entry["what"] for entry in desk("verify", "latest", "--json").json["cause"]]


GENERATING = """
import importlib.util
import sys
from pathlib import Path
import nest
import own
from torch import nn

place = Path(__file__).parent / "torchinductor_me" / "ab" / "cabc.py"
spec = importlib.util.spec_from_file_location("cabc", place)
sys.modules["cabc"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["cabc"])


def build(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))
"""


def test_what_libraries_carry_or_generate_is_not_the_users(prepared: Desk, tiny: Arguments, tmp_path: Path) -> None:
    site = "site-packages"
    described = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n"
    put(tmp_path, {
        "work/net.py": GENERATING, "work/own.py": "", "work/torchinductor_me/ab/cabc.py": "",
        f"{site}/nest/__init__.py": "import sys\nsys.path.append(__path__[0] + '/_vendor')\nimport carried\n",
        f"{site}/nest-1.0.dist-info/METADATA": described.format("nest"),
        f"{site}/nest-1.0.dist-info/RECORD": "nest/__init__.py,,\nnest/_vendor/carried.py,,\n",
        f"{site}/nest/_vendor/carried.py": "",
        f"{site}/nest/_vendor/carried-3.0.dist-info/METADATA": described.format("carried"),
        f"{site}/nest/_vendor/carried-3.0.dist-info/RECORD": "carried.py,,\n",
    })  # fmt: skip
    desk = Desk(Genmed(prepared.genmed._context, tmp_path, prepared.genmed.cache), tmp_path)
    result = desk(*tiny("--model", "net.py:build", "--epochs", 1), path=(site,))
    assert result.code == 0, result.err
    found = json.loads((desk.run / "environment.json").read_text())
    assert {name for name in found["code"]["files"] if not name.startswith("genmed/")} == {"net.py", "own.py"}
    assert found["packages"]["nest"] == "1.0"
    assert "carried" not in {**found["packages"], **found["installed"]}
