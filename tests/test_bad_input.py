"""Mistakes of a user: exit code 2, one line with what, where and how to mend it, and nothing left behind."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.harness import TINY_MODEL, Genmed, Result, _run_command, own_environment
from tests.make_nih import make_nih

Arguments = Callable[..., list[object]]
TABLE = "Data_Entry_2017_v2020.csv"
NEEDED = "looked for images/ or images_001/images/ to images_012/images/, and Data_Entry_2017_v2020.csv"


def check_refused(result: Result, root: Path, told: tuple[str, ...]) -> None:
    """One line that tells all this, exit code 2, no run and no registry."""
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("error: ")
    for part in told:
        assert part in result.err
    assert result.code == 2
    assert list(root.iterdir()) == []


@pytest.fixture
def copy(nih: Path, tmp_path: Path) -> Path:
    """A copy of the small dataset that a test may spoil."""
    return Path(shutil.copytree(nih, tmp_path / "copy"))


def images_of(root: Path) -> list[Path]:
    return sorted((root / "images").iterdir())


# Requests


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--dataset nihh", ("unknown dataset 'nihh'", "did you mean nih?")),
        ("--dataset mimic", ("unknown dataset 'mimic'", "known: chexpert, covidx")),
        ("--model resnet51", ("unknown model 'resnet51'", "did you mean resnet50 or", "file.py:function")),
        ("--set training.epcohs=3", ("unknown key training.epcohs", "did you mean training.epochs?")),
        ("--set seed", ("--set takes KEY=VALUE, got 'seed'",)),
        ("--config absent.yaml", ("no config file absent.yaml", "--config")),
        ("--dataset nih", ("no data folder data/nih for nih", "--data-root", TABLE)),
        ("--dataset nih --data-root /absent", ("no data folder /absent for nih", "--data-root", TABLE)),
        ("--val-ratio 1.5", ("data.val_ratio must be less than 1, got 1.5", "set by --val-ratio")),
        ("--test-ratio -0.1", ("data.test_ratio must be greater than or equal to 0, got -0.1", "set by --test-ratio")),
        ("--val-ratio 0.6 --test-ratio 0.5", ("must be below 1, got 0.6 + 0.5", "set by --test-ratio, --val-ratio")),
        ("--batch-size 1", ("training.batch_size must be greater than or equal to 2, got 1", "set by --batch-size")),
        ("--shards 32", ("training.batch_size must be at least 2 a shard, got 32 for 32 shards",)),
        ("--lr 0", ("optimizer.lr must be greater than 0, got 0", "set by --lr")),
        ("--lr inf", ("optimizer.lr must be a finite number, got inf", "set by --lr")),
        ("--epochs 0", ("training.epochs must be greater than or equal to 1, got 0", "set by --epochs")),
        ("--seed -1", ("seed must be greater than or equal to 0, got -1", "set by --seed")),
        ("--seed 4294967296", ("seed must be less than or equal to 4294967295, got 4294967296", "set by --seed")),
        ("--device tpu", ("compute.device must be 'auto', 'cpu', 'cuda' or 'mps', got tpu", "set by --device")),
        ("--seed x", ("--seed", "integer", "x")),
        ("--lr fast", ("--lr", "number", "got fast")),
        ("--model vit_b_16 --image-size 60", ("vit_b_16 needs an image size that 16 divides, got 60", "--image-size")),
        ("--model densenet121 --image-size 28", ("densenet121 needs images of at least 29 px, got 28", "--image-size")),
        ("--mode linear_probe", ("linear_probe needs trained weights", "set weights to torchvision or a file")),
        ("--mode linear_probe --weights random", ("linear_probe needs trained weights", "set by --mode, --weights")),
        ("--weights absent.pt", ("no weights file", "absent.pt", "--weights")),
        ("--model absent.py:build", ("no file absent.py for the model 'absent.py:build'", "file.py:function")),
        ("--epochs", ("--epochs", "--help")),
        ("--nonsense", ("--nonsense", "genmed train --help")),
    ],
)
def test_wrong_request_is_one_line(genmed: Genmed, arguments: str, told: tuple[str, ...]) -> None:
    check_refused(genmed("train", *arguments.split()), genmed.root, told)


def test_size_that_a_model_can_take_is_taken(genmed: Genmed) -> None:
    for arguments in ("--model resnet50 --image-size 32", "--model vit_b_16 --image-size 64"):
        assert genmed("train", "--dry-run", *arguments.split()).code == 0


def test_accelerator_that_is_not_here_is_refused(genmed: Genmed, tiny: Arguments) -> None:
    result = genmed(*tiny("--device", "cuda")[:-3], "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    check_refused(result, genmed.root, ("--device cuda was asked for, but torch finds none here", "here: cpu"))


@pytest.mark.parametrize("command", ["show", "resume", "verify", "env"])
def test_run_that_is_not_there_is_one_line(genmed: Genmed, command: str) -> None:
    check_refused(genmed(command, "nih-x"), genmed.root, ("no run 'nih-x'", str(genmed.root), "--root"))


@pytest.mark.parametrize("arguments", ["trian", "show", "show a b", "list --bogus", "verify x --seed 3"])
def test_wrong_usage_is_told_with_where_to_look(genmed: Genmed, arguments: str) -> None:
    check_refused(genmed(*arguments.split()), genmed.root, ("--help",))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ("train --dataset nihh", "ConfigError", "unknown dataset 'nihh'"),
        ("train --nonsense", "UsageError", "--nonsense"),
        ("show", "UsageError", "RUN"),
        ("trian", "UsageError", "trian"),
        ("show x", "RunNotFoundError", "no run 'x'"),
        ("train --dataset nih --data-root {empty}", "DataError", "is not in the layout of NIH ChestX-ray14"),
        ("list --root {file}", "StorageError", "is not a folder"),
    ],
)
def test_mistake_under_json_is_the_documented_object(
    genmed: Genmed, tmp_path: Path, arguments: str, kind: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    result = genmed(*arguments.format(empty=tmp_path / "empty", file=tmp_path / "file").split(), "--json")
    assert (result.code, result.err) == (2, "")
    assert list(result.json) == ["schema", "error"]
    assert list(result.json["error"]) == ["kind", "message", "hint"]
    assert result.json["error"]["kind"] == kind
    assert message in result.json["error"]["message"]
    assert result.json["error"]["hint"]
    assert list(genmed.root.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        "train --model resnet51",
        "train --dataset nih --data-root /absent",
        "train --config absent.yaml",
        "train --model densenet121 --image-size 28",
        "train --weights absent.pt",
    ],
)
def test_mistake_that_needs_no_torch_is_told_without_it(tmp_path: Path, arguments: str) -> None:
    code = "import sys; from genmed.cli.app import run; code = run(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()],
        cwd=tmp_path,
        env=own_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("option", ["-E", "-I"])
def test_python_that_ignores_its_environment_is_refused(tmp_path: Path, option: str) -> None:
    done = subprocess.run(
        [sys.executable, option, "-m", "genmed", "train"],
        cwd=tmp_path,
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    check_refused(
        Result(done.returncode, done.stdout, done.stderr), tmp_path, ("-E or -I", "PYTHONHASHSEED", "without -E and -I")
    )


# Data


def empty_images(root: Path) -> None:
    shutil.rmtree(root / "images")
    (root / "images").mkdir()


def other_layout(root: Path) -> None:
    empty_images(root)
    (root / TABLE).unlink()
    (root / "images").rename(root / "train")
    (root / "train" / "NORMAL").mkdir()


def without_images(root: Path) -> None:
    for path in images_of(root)[:5]:
        path.unlink()
    Image.new("L", (9, 9)).save(root / "images" / "99999999_000.png")


def broken_files(root: Path) -> None:
    """Empty, cut short, no image, a folder: one of each, and one more empty."""
    paths = images_of(root)
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    paths[2].write_text("hello")
    paths[3].unlink()
    paths[3].mkdir()


def broken_links(root: Path) -> None:
    for path in images_of(root)[:4]:
        path.unlink()
        path.symlink_to("/absent")


def rewrite(change: Callable[[str], str]) -> Callable[[Path], None]:
    """Changes the table's text."""

    def spoil(root: Path) -> None:
        (root / TABLE).write_text(change((root / TABLE).read_text()))

    return spoil


def other_encoding(root: Path) -> None:
    (root / TABLE).write_bytes((root / TABLE).read_text().encode("utf-16"))


def one_stray_byte(root: Path) -> None:
    (root / TABLE).write_bytes((root / TABLE).read_bytes() + b"caf\xe9.png,Mass,0,1,58,M,PA,9,9,1,1\n")


def list_in_other_encoding(root: Path) -> None:
    (root / "test_list.txt").write_bytes("\n".join(path.name for path in images_of(root)).encode("utf-16"))
    (root / "train_val_list.txt").write_text("")


FIRST = "00000001_000.png, 00000001_001.png, 00000001_002.png, ..."


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: [shutil.rmtree(root), root.mkdir()], ("is not in the layout of NIH", "found nothing", NEEDED)),
        (other_layout, ("is not in the layout of NIH", "found train/", NEEDED)),
        (lambda root: (root / TABLE).unlink(), ("is not in the layout of NIH", "found images/", NEEDED)),
        (
            lambda root: shutil.rmtree(root / "images"),
            ("is not in the layout of NIH", "found Data_Entry_2017_v2020.csv", NEEDED),
        ),
        (empty_images, ("is not in the layout of NIH", "images/", NEEDED)),
        (
            without_images,
            (
                f"{TABLE} and the images do not match: 5 rows without an image ({FIRST})",
                "1 image without a row (99999999_000.png)",
                "--set data.on_mismatch=skip",
            ),
        ),
        (
            broken_files,
            (
                "4 images cannot be read: ",
                "00000001_000.png is empty (0 bytes); ",
                "00000001_001.png is damaged: image file is truncated; ",
                "00000001_002.png is not an image that Pillow can read; and 1 more",
                "restore these files",
            ),
        ),
        (broken_links, ("4 images cannot be read: ", "00000001_000.png", "00000001_002.png", "and 1 more")),
        (rewrite(lambda text: ""), (f"{TABLE} is empty", "NIH's own table")),
        (rewrite(lambda text: text.replace(",", "\t")), ("lacks the column", "it seems to be separated by tabs")),
        (rewrite(lambda text: text.replace("Patient ID", "Patient")), ("lacks the column 'Patient ID'",)),
        (rewrite(lambda text: text.replace("Effusion", "Efusion")), ("line 3: unknown class 'Efusion'",)),
        (rewrite(lambda text: text + text.splitlines()[1]), ("is listed a second time", "line 102")),
        (rewrite(lambda text: text + "x.png\n"), ("line 102: 1 cells, where the header has 11",)),
        (rewrite(lambda text: text + "x.png,Mass,0,,58,M,PA,9,9,1,1\n"), ("line 102: no patient",)),
        (rewrite(lambda text: text.splitlines()[0]), ("do not match", "100 images without a row")),
        (other_encoding, (TABLE, "is not text in UTF-8")),
        (one_stray_byte, (TABLE, "is not text in UTF-8", "at byte 6047")),
        (list_in_other_encoding, ("test_list.txt", "is not text in UTF-8")),
        (lambda root: (root / "test_list.txt").touch(), ("one official list but not train_val_list.txt", "both lists")),
    ],
    ids=[
        "empty folder",
        "another layout",
        "no table",
        "no image folder",
        "no image",
        "no match",
        "broken images",
        "broken links",
        "empty table",
        "tabs",
        "another column",
        "unknown finding",
        "row twice",
        "short row",
        "no patient",
        "header alone",
        "table in UTF-16",
        "stray byte in the table",
        "list in UTF-16",
        "one list",
    ],
)
def test_data_that_cannot_be_used_are_told_by_name_and_reason(
    genmed: Genmed, tiny: Arguments, copy: Path, spoil: Callable[[Path], Any], told: tuple[str, ...]
) -> None:
    spoil(copy)
    before = {path: path.stat().st_mtime_ns for path in genmed.cache.glob("images/*/*")}
    result = genmed(*[part for part in tiny("--data-root", copy) if part != "--json"])
    check_refused(result, genmed.root, told)
    after = {path: path.stat().st_mtime_ns for path in genmed.cache.glob("images/*/*")}
    assert before.items() <= after.items()
    assert not [path for path in after if ".tmp-" in str(path)]


def test_rows_and_images_without_the_other_are_left_out_where_one_says_so(
    genmed: Genmed, tiny: Arguments, copy: Path
) -> None:
    without_images(copy)
    result = genmed(*tiny("--data-root", copy, "--epochs", 1, "--set", "data.on_mismatch=skip"))
    assert result.code == 0, result.err
    assert f"Left out: 5 rows without an image ({FIRST})" in result.err
    assert "Left out: 1 image without a row (99999999_000.png)" in result.err
    assert json.loads((genmed.run_folder() / "data.json").read_text())["notes"] == [
        line for line in result.err.splitlines() if line.startswith("Left out")
    ]


def test_images_that_broke_since_they_were_read_are_told_in_one_line_too(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    root = make_nih(tmp_path / "many", patients=70)  # enough that loader processes digest them
    assert genmed(*tiny("--data-root", root, "--epochs", 1)).code == 0
    for path in images_of(root)[:2]:
        path.unlink()
        path.mkdir()
    result = genmed("verify", "latest", "--json")
    assert result.code == 2
    (problem,) = result.json["problems"]
    assert "00000001_000.png" in problem
    assert "Traceback" not in problem + result.err
    for path in images_of(root)[2:]:
        os.utime(path, (1, 1))
    result = genmed(*tiny("--data-root", root, "--epochs", 1))
    assert result.code == 2
    assert "00000001_000.png" in result.json["error"]["message"]
    assert "Traceback" not in result.json["error"]["message"]


def test_class_without_an_example_is_a_warning_and_the_run_goes_on(genmed: Genmed, tiny: Arguments, copy: Path) -> None:
    rewrite(lambda text: text.replace("|Hernia", "").replace("Hernia", "No Finding"))(copy)
    result = genmed(*tiny("--data-root", copy, "--epochs", 1))
    assert result.code == 0, result.err
    (warning,) = [line for line in result.err.splitlines() if line.startswith("Warning")]
    assert warning.endswith("and 9 more: nothing can be learned of it")
    found = [value for name, value in result.json["metrics"].items() if name.startswith("test_auroc_")]
    assert f" and {sum(value is not None for value in found) - 1} of 14 classes on test: of the others" in result.err
    assert result.json["metrics"]["test_auroc_Hernia"] is None
    assert result.json["metrics"]["test_auroc_Effusion"] is not None
    assert warning in (genmed.run_folder() / "train.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--val-ratio 0", ("the val side of the split has no images (40 patients in all)", "--val-ratio")),
        ("--set data.split=official", ("the data have no official split lists", "data.split=patient")),
        ("--shards 64 --batch-size 128", ("training images are too few for 64 shards",)),
    ],
)
def test_what_the_data_do_not_allow_is_one_line(
    genmed: Genmed, tiny: Arguments, arguments: str, told: tuple[str, ...]
) -> None:
    result = genmed(*[part for part in tiny(*arguments.split()) if part != "--json"])
    check_refused(result, genmed.root, told)


# Places


def text_as_registry(root: Path) -> None:
    (root / "registry.db").write_text("this is no database\n" * 100)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            text_as_registry,
            ("registry.db is damaged or no registry", "file is not a database", "genmed list --rebuild"),
        ),
        (lambda root: (root / "registry.db").mkdir(), ("registry.db is a folder", "move")),
        (lambda root: (root / "runs").touch(), ("runs", "--root")),
        (lambda root: [root.rmdir(), root.touch()], ("root is", "not a folder", "--root")),
    ],
    ids=["text", "folder", "runs is a file", "root is a file"],
)
def test_root_that_cannot_hold_runs_is_told_and_left_as_it_is(
    genmed: Genmed, tiny: Arguments, spoil: Callable[[Path], Any], told: tuple[str, ...]
) -> None:
    spoil(genmed.root)
    before = {path: path.is_file() and path.read_bytes() for path in genmed.root.parent.glob("root/**")}
    result = genmed(*[part for part in tiny() if part != "--json"])
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1), result.err
    assert all(part in result.err for part in told), result.err
    assert {path: path.is_file() and path.read_bytes() for path in genmed.root.parent.glob("root/**")} == before


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"GENMED_REGISTRY": "nonsense"}, ("GENMED_REGISTRY is not a database URL", "sqlite:////data/registry.db")),
        ({"GENMED_REGISTRY": "sqlite://"}, ("in memory, which would be lost",)),
        (
            {"GENMED_REGISTRY": "postgresql://me:secret@nowhere.invalid/runs"},
            ("postgresql://me:***@nowhere.invalid/runs", "failed to resolve host 'nowhere.invalid'"),
        ),
        ({"GENMED_ROOT": "/proc/genmed"}, ("/proc/genmed", "--root")),
        ({"GENMED_CACHE": "/proc/genmed"}, ("/proc/genmed", "GENMED_CACHE")),
        ({"GENMED_CACHE": __file__}, (__file__, "GENMED_CACHE")),
        ({"GENMED_CACHE": f"{__file__}/cache"}, (__file__, "GENMED_CACHE")),
    ],
)
def test_place_that_cannot_be_used_is_one_line(
    genmed: Genmed, tiny: Arguments, variables: dict[str, str], told: tuple[str, ...]
) -> None:
    check_refused(genmed(*[part for part in tiny() if part != "--json"], **variables), genmed.root, told)


@pytest.mark.parametrize(("variable", "way_out"), [("GENMED_ROOT", "--root"), ("GENMED_CACHE", "GENMED_CACHE")])
def test_folder_that_one_may_not_write_is_one_line(
    genmed: Genmed, tiny: Arguments, tmp_path: Path, variable: str, way_out: str
) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    if os.access(tmp_path / "theirs", os.W_OK):
        pytest.skip("this user may write everywhere")
    result = genmed(*[part for part in tiny() if part != "--json"], **{variable: str(tmp_path / "theirs")})
    check_refused(result, genmed.root, ("theirs", way_out))


# A full disk


def run_limited(limit: int, *rest: Any) -> None:
    """In the forked process: files cannot grow beyond `limit` bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _run_command(*rest)


def test_full_disk_while_images_are_decoded_leaves_nothing(
    server: ForkServerContext, genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    cache, files = tmp_path / "own", (tmp_path / "out", tmp_path / "err")
    environ = {**genmed.environ, "GENMED_CACHE": str(cache)}
    arguments = [str(part) for part in tiny() if part != "--json"]
    process = server.Process(target=run_limited, args=(10_000, arguments, str(tmp_path), environ, files))
    process.start()
    process.join()
    result = Result(process.exitcode or 0, files[0].read_text(), files[1].read_text())
    check_refused(result, genmed.root, ("no disk space to write", str(cache), "MiB free", "GENMED_CACHE"))
    left = [path for path in cache.rglob("*") if path.is_file() or path.name.startswith(".tmp")]
    assert [path for path in left if path.parent.name != "locks"] == []


FILLING = f"""
import os
import resource
import runpy


def build(num_classes):
    model = runpy.run_path({TINY_MODEL.rpartition(":")[0]!r})["build"](num_classes)
    passes = 0

    def count(module, inputs):
        nonlocal passes
        passes += module.training
        if passes == 1 + int(os.environ.get("GENMED_TEST_FULL_AT_STEP", -1)):  # one pass is the trial before step 1
            limit = int(os.environ["GENMED_TEST_BYTES_LEFT"])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    model.register_forward_pre_hook(count)
    return model
"""
"""The tiny network in a process whose files cannot grow from a certain step on."""


@pytest.fixture
def filling(tmp_path: Path) -> str:
    (tmp_path / "filling.py").write_text(FILLING)
    return f"{tmp_path / 'filling.py'}:build"


@pytest.mark.parametrize(("step", "place"), [(2, "epoch 1/4, step 1/"), (13, "epoch 2/4, step 1/")])
def test_run_on_a_full_disk_fails_with_the_way_on_and_resumes_to_the_same_bits(
    genmed: Genmed, trained: Genmed, tiny: Arguments, filling: str, step: int, place: str
) -> None:
    arguments = [part for part in tiny("--model", filling) if part != "--json"]
    full = {"GENMED_TEST_FULL_AT_STEP": str(step), "GENMED_TEST_BYTES_LEFT": "4000"}
    result = genmed(*arguments, **full)
    name = genmed.run_folder().name
    assert (result.code, result.out) == (1, "")
    last = result.err.splitlines()[-1]
    assert last.startswith("error: no disk space to write ")
    assert "make room" in last
    assert last.endswith(f"then go on with: genmed resume {name} --root {genmed.root})")
    assert "Traceback" not in result.err
    assert genmed("list", "--json").json[0]["status"] in ("failed", "interrupted")
    resumed = genmed("resume", name, "--json")
    assert resumed.code == 0, resumed.err
    assert f"at {place}" in resumed.err
    expected = trained("show", "latest", "--json").json
    for key in ("trace_digest", "fingerprint", "metrics", "status", "steps_done"):
        assert resumed.json[key] == expected[key]


def test_registry_on_a_full_disk_does_not_stop_a_run_and_is_rebuilt(
    genmed: Genmed, tiny: Arguments, filling: str
) -> None:
    full = {"GENMED_TEST_FULL_AT_STEP": "1", "GENMED_TEST_BYTES_LEFT": "60000"}
    result = genmed(*tiny("--model", filling), **full)
    assert result.code == 0, result.err
    (told,) = [line for line in result.err.splitlines() if "registry.db" in line]
    assert "going on, `genmed list --rebuild` will make up for it" in told
    assert genmed("list", "--rebuild").code == 0
    (listed,) = genmed("list", "--json").json
    assert listed["status"] == "completed"
    assert listed["trace_digest"] == result.json["trace_digest"]
