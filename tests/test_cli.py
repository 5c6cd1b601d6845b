"""The command line as users and scripts rely on it: JSON keys, references to runs, exit codes, signals, terminals."""

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

import genmed.seed
from tests.harness import TINY_MODEL, Command, Genmed, Result, _run_command, edit_document, forge_trace, own_environment

Arguments = Callable[..., list[object]]
RUN = (
    "schema id name status path seed dataset model device epochs_done steps_done metrics fingerprint trace_digest"
    " checkpoints parent accepted tags note hidden benchmark host stopped_early stopped_because verification"
).split()
VERIFY = "schema verdict run steps_compared steps_total first_divergence cause metrics".split()
LIST = "id name status path seed dataset model device epochs_done steps_done fingerprint trace_digest".split()
ENVIRONMENT = "schema python packages cpu gpus determinism git".split()
DIGEST = re.compile("sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def three(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Genmed:
    """genmed with the finished runs alpha, alpha and beta, in this order; read only."""
    prepared = Genmed(server, tmp_path_factory.mktemp("three"), image_cache)
    for name in ("alpha", "alpha", "beta"):
        result = prepared(*tiny("--name", name, "--epochs", 1, "--tag", "a b", "--tag", name, "--note", "é"))
        assert result.code == 0, result.err
    return prepared


# JSON


def test_train_and_show_give_the_documented_object_and_nothing_else(genmed: Genmed, tiny: Arguments) -> None:
    result = genmed(*tiny("--epochs", 1))
    found = result.json
    assert list(found) == RUN
    assert (found["schema"], found["status"], found["seed"], found["dataset"]) == (1, "completed", 42, "nih")
    assert (found["device"], found["epochs_done"], found["model"]) == ("cpu", 1, TINY_MODEL)
    assert re.fullmatch("[0-9a-f]{8}", found["id"])
    assert found["name"] == f"nih-tiny-build-s42-{found['id']}"
    assert found["path"] == f"runs/{found['name']}"
    assert DIGEST.fullmatch(found["fingerprint"])
    assert DIGEST.fullmatch(found["trace_digest"])
    (checkpoint,) = found["checkpoints"]
    assert list(checkpoint) == ["path", "epoch", "step", "sha256"]
    assert (genmed.root / found["path"] / checkpoint["path"]).is_dir()
    assert genmed("show", "latest", "--json").json == found
    finished = genmed("resume", "latest", "--json")
    assert (finished.code, finished.json) == (0, found)
    assert f"{found['name']} is already complete" in finished.err


def test_metrics_are_named_by_split_metric_and_class(trained: Genmed) -> None:
    found = trained("show", "latest", "--json").json["metrics"]
    pattern = re.compile(r"(val|test)_(loss|(auroc|average_precision)_(macro|[A-Z][A-Za-z_]+))")
    assert all(pattern.fullmatch(name) for name in found)
    assert {"test_auroc_macro", "test_auroc_Effusion", "val_auroc_macro", "test_loss"} <= found.keys()
    assert found["test_auroc_Edema"] is None
    assert all(value is None or isinstance(value, float) for value in found.values())


def test_verify_gives_the_documented_object(finished: Genmed) -> None:
    good = finished("verify", "latest", "--json")
    assert (good.code, list(good.json)[: len(VERIFY)]) == (0, VERIFY)
    assert good.json["schema"] == 1
    assert good.json["run"] == finished.run_folder().name
    assert list(good.json["metrics"][0]) == ["name", "recorded", "found", "difference"]
    forge_trace(finished.run_folder(), lambda lines: lines[10].update(grad="xxh3-128:" + 32 * "0"))
    bad = finished("verify", "latest", "--json")
    assert (bad.code, bad.json["verdict"]) == (1, "diverged")
    assert bad.json["first_divergence"] == {"step": 10, "epoch": 2, "field": "grad", "module": None}
    assert (bad.json["steps_compared"], bad.json["steps_total"]) == (10, 28)


def test_env_of_a_run_adds_how_it_differs(finished: Genmed) -> None:
    alone = finished("env", "--json")
    assert (alone.code, alone.err) == (0, "")
    assert set(ENVIRONMENT) <= alone.json.keys()
    assert "differences" not in alone.json
    assert alone.json["schema"] == 1
    assert alone.json["packages"]["torch"]
    same = finished("env", "latest", "--json")
    assert same.json["differences"] == []
    assert same.json["determinism"]["PYTHONHASHSEED"] == "42"
    edit_document(finished.run_folder() / "environment.json", lambda document: document["packages"].update(torch="1.0"))
    other = finished("env", "latest", "--json").json["differences"]
    assert other == [
        {
            "field": "packages.torch",
            "recorded": "1.0",
            "found": alone.json["packages"]["torch"],
            "changes_bits": True,
        }
    ]
    table = finished("env", "latest")
    assert table.out.splitlines()[0] == "field\trecorded\tfound\tcan change bits\twhy"
    found = alone.json["packages"]["torch"]
    why = "its kernels and random generators change between versions"
    assert table.out.splitlines()[1:] == [f"packages.torch\t1.0\t{found}\tyes\t{why}"]


def test_list_gives_an_array_newest_first(three: Genmed) -> None:
    found = three("list", "--json").json
    assert [run["name"].rpartition("-")[0] for run in found] == ["beta", "alpha", "alpha"]
    assert set(LIST) <= found[0].keys()
    assert (found[0]["tags"], found[0]["note"]) == (["a b", "beta"], "é")
    shown = three("show", "latest", "--json").json
    assert {key: found[0][key] for key in LIST} == {key: shown[key] for key in LIST}


def test_list_carries_its_schema(three: Genmed) -> None:
    assert {run.get("schema") for run in three("list", "--json").json} == {1}


def test_lost_registry_is_rebuilt_to_the_same_list(three: Genmed, tmp_path: Path) -> None:
    copy = three.copied_to(tmp_path)
    before = copy("list", "--json").json
    for path in copy.root.glob("registry.db*"):
        path.unlink()
    assert copy("list", "--json").json == before  # the folders are there, and are taken in
    for path in copy.root.glob("registry.db*"):
        path.unlink()
    rebuilt = copy("list", "--rebuild", "--json")
    assert rebuilt.json == before
    assert "registry rebuilt: 3 runs" in rebuilt.err
    assert copy("list", "--json").json == before


# Without torch, without traces


def run_without_torch(code: str, cwd: Path, **environ: str) -> str:
    """What a fresh interpreter prints for the code; fails where it has imported torch."""
    watched = f"import sys\n{code}\nassert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", watched],
        cwd=cwd,
        env={**own_environment(), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_list_and_help_never_import_torch(three: Genmed, tmp_path: Path) -> None:
    code = "from genmed.cli.app import run\nfor line in {!r}: assert run(line.split()) == 0"
    lines = ["--help", "--version", "train --help", "verify -h", "list", "list --json --all"]
    printed = run_without_torch(code.format(lines), tmp_path, GENMED_ROOT=str(three.root))
    assert "Usage: genmed train" in printed
    assert "beta-" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_runs_without_torch(three: Genmed, tmp_path: Path, shell: str) -> None:
    code = """
from genmed.cli import main
sys.argv = ["genmed"]
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    environ = {
        "_GENMED_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "genmed show alp",
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": "genmed show alp",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    printed = run_without_torch(code, tmp_path, GENMED_ROOT=str(three.root), **environ)
    names = [run["name"] for run in three("list", "--json").json if run["name"].startswith("alpha")]
    assert all(name in printed for name in names)
    assert "beta" not in printed


@pytest.mark.parametrize(
    ("arguments", "code", "out"),
    [
        ("list", 0, ""),
        ("list --json", 0, "[]\n"),
        ("list --all", 0, ""),
        ("list --root absent", 0, ""),
        ("show latest", 2, ""),
        ("resume x", 2, ""),
        ("verify latest", 2, ""),
        ("env x", 2, ""),
        ("compare x y", 2, ""),
        ("env", 0, None),
        ("env --json", 0, None),
    ],
)
def test_reading_where_there_is_nothing_creates_nothing(
    genmed: Genmed, tmp_path: Path, arguments: str, code: int, out: str | None
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"GENMED_ROOT": "", "GENMED_CACHE": str(empty / "cache")}
    result = genmed(*arguments.split(), cwd=empty, **places)
    assert result.code == code, result.err
    assert out in (None, result.out)
    assert len(result.err.splitlines()) <= 1
    assert list(empty.iterdir()) == []


# For people and scripts


@pytest.mark.parametrize("command", ["list", "show latest", "env", "env latest", "compare latest~1 latest"])
def test_output_off_a_terminal_is_tabs_without_colour_or_wrapping(three: Genmed, command: str) -> None:
    result = three(*command.split(), FORCE_COLOR="", COLUMNS="20", TERM="xterm-256color")
    assert result.code == 0
    assert "\x1b" not in result.out + result.err
    assert all("\t" in line for line in result.out.splitlines())
    if command == "list":
        rows = [line.split("\t") for line in result.out.splitlines()]
        assert rows[0] == [
            "name",
            "status",
            "epochs",
            "test AUROC",
            "95% interval",
            "verified",
            "device",
            "created",
            "tags",
        ]
        assert [row[1:3] for row in rows[1:]] == [["completed", "1/1"]] * 3
        assert rows[1][-1] == "a b beta"


def test_show_lists_results_checkpoints_and_the_checklist(trained: Genmed) -> None:
    lines = [line.split("\t") for line in trained("show", "latest").out.splitlines()]
    found = {line[0]: line[1:] for line in lines}
    shown = trained("show", "latest", "--json").json
    assert found["Effusion"][0] == f"{shown['metrics']['test_auroc_Effusion']:.4f}"
    assert found["Edema"] == ["-", "-", "-"]
    assert found["class"] == ["test AUROC", "test AP", "val AUROC (used for selection)"]
    assert found["fingerprint"] == [shown["fingerprint"]]
    assert found["trace"] == [shown["trace_digest"]]
    ticked = {line[1]: line[0] for line in lines if line[0] in ("✓", "✗")}
    assert set(ticked.values()) == {"✓"}
    assert len(ticked) == 7


def test_training_off_a_terminal_says_one_plain_line_an_epoch(genmed: Genmed, tiny: Arguments) -> None:
    result = genmed(*[part for part in tiny("--epochs", 2) if part != "--json"])
    epochs = [line for line in result.err.splitlines() if line.startswith("Epoch ")]
    pattern = r"Epoch \d/2, train loss \d\.\d{4}, val loss \d\.\d{4}, val AUROC \d\.\d{4}, \d+ images/s( \(best\))?"
    assert len(epochs) == 2
    assert all(re.fullmatch(pattern, line) for line in epochs)
    assert "\x1b" not in result.err + result.out
    assert "\r" not in result.err
    assert result.out.startswith("class\ttest AUROC\t")
    name = genmed.run_folder().name
    run_id = name.rpartition("-")[2]
    assert result.err.splitlines()[-3:] == [
        f"report: genmed report {run_id}",  # the tests' runs write none
        f"results with intervals: genmed evaluate {run_id}",
        f"to verify it: genmed verify {run_id}",
    ]
    log = (genmed.run_folder() / "train.log").read_text().splitlines()
    assert all(re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \S", line) for line in log)
    assert [line[22:] for line in log if "Epoch" in line] == epochs
    assert log[1].endswith("Seed: 42")


def test_no_arguments_show_the_help_and_version_the_version(genmed: Genmed) -> None:
    shown = genmed()
    assert (shown.code, shown.err) == (0, "")
    assert all(command in shown.out for command in ("train", "resume", "verify", "compare", "list", "show", "env"))
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", genmed("--version").out)


def test_debug_shows_where_an_error_arose(genmed: Genmed) -> None:
    result = genmed("show", "x", "--debug")
    assert result.code == 2
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("error: no run 'x'")


def test_names_that_scripts_import_stay() -> None:
    names = {name for name, value in vars(genmed.seed).items() if callable(value) and not name.startswith("_")}
    assert {"set_seed", "get_generator", "worker_init_fn"} <= names


# Which run


@pytest.mark.parametrize(
    ("reference", "position"),
    [
        ("latest", 0),
        ("latest~1", 1),
        ("latest~2", 2),
        ("{0[name]}", 0),
        ("{1[id]}", 1),
        ("beta", 0),
        ("{2[name]}", 2),
        ("{2[id]:.7}", 2),
    ],
)
def test_run_is_found_by_name_id_prefix_or_age(three: Genmed, reference: str, position: int) -> None:
    runs = three("list", "--json").json
    shown = three("show", reference.format(*runs), "--json")
    assert shown.code == 0, shown.err
    assert shown.json["id"] == runs[position]["id"]


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("alpha", ("'alpha' fits 2 runs", "which one: {1[name]}, {2[name]}?")),
        ("alhpa", ("no run goes by 'alhpa'", "did you mean {1[name]}")),
        ("latest~3", ("there is no run latest~3", "3 runs")),
        ("latest~-1", ("no run goes by 'latest~-1'",)),
        ("LATEST", ("no run goes by 'LATEST'",)),
        ("../three", ("no run goes by '../three'",)),
    ],
)
def test_reference_that_fits_none_or_several_is_refused(three: Genmed, reference: str, told: tuple[str, ...]) -> None:
    runs = three("list", "--json").json
    for command in ("show", "resume", "verify"):
        result = three(command, reference)
        assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
        assert all(part.format(*runs) in result.err for part in told)


# Exit codes and signals


def test_run_that_fails_ends_with_1_and_says_so_in_its_record(genmed: Genmed, tiny: Arguments) -> None:
    result = genmed(*tiny("--lr", "1e30"))
    assert result.code == 1
    assert result.json["error"]["kind"] == "RunError"
    assert re.match("the loss is (nan|inf) at step", result.json["error"]["message"])
    (listed,) = genmed("list", "--json").json
    assert listed["status"] == "failed"
    assert "Failed: the loss is" in (genmed.run_folder() / "train.log").read_text()


STOPPING = f"""
import os
import runpy
import signal


def build(num_classes):
    model = runpy.run_path({TINY_MODEL.rpartition(":")[0]!r})["build"](num_classes)
    passes = 0

    def count(module, inputs):
        nonlocal passes
        passes += module.training
        if passes == 1 + int(os.environ.get("GENMED_TEST_STEP", -1)):  # one pass is the trial before step 1
            for name in os.environ["GENMED_TEST_SIGNALS"].split():
                if os.environ.get("GENMED_TEST_GROUP"):
                    os.killpg(0, getattr(signal, name))
                else:
                    os.kill(os.getpid(), getattr(signal, name))

    model.register_forward_pre_hook(count)
    return model
"""
"""The tiny network, whose process gets signals at a certain step."""


@pytest.fixture
def stopping(tmp_path: Path) -> str:
    (tmp_path / "stopping.py").write_text(STOPPING)
    return f"{tmp_path / 'stopping.py'}:build"


def check_resumed_by_the_printed_command(genmed: Genmed, trained: Genmed, err: str, cwd: Path | None = None) -> None:
    """The last line of `err` names a command that brings the run to the bits of one left alone."""
    printed = re.search(r"go on .*with: (genmed resume .*)\)$", err.splitlines()[-1])
    assert printed, err
    (listed,) = genmed("list", "--json").json
    assert listed["status"] == "interrupted"
    resumed = genmed(*shlex.split(printed[1])[1:], "--json", cwd=cwd, GENMED_ROOT="")
    assert resumed.code == 0, resumed.err
    expected = trained("show", "latest", "--json").json
    for key in ("status", "trace_digest", "fingerprint", "metrics", "steps_done"):
        assert resumed.json[key] == expected[key]


@pytest.mark.parametrize(
    ("name", "step", "place"),
    [
        ("SIGINT", 3, "epoch 1, step 3"),
        ("SIGTERM", 7, "epoch 1, step 7"),
        ("SIGUSR1", 10, "epoch 2, step 3"),
        ("SIGINT", 28, "epoch 4, step 7"),
    ],
)
def test_signal_ends_a_training_when_its_state_is_safe_and_the_printed_command_goes_on(
    genmed: Genmed, trained: Genmed, tiny: Arguments, stopping: str, name: str, step: int, place: str
) -> None:
    arguments = [part for part in tiny("--model", stopping) if part != "--json"]
    result = genmed(*arguments, GENMED_TEST_STEP=str(step), GENMED_TEST_SIGNALS=name)
    assert (result.code, result.out) == (130, "")
    last = result.err.splitlines()[-1]
    assert f"interrupted: {name} at {place} (the state is safe; go on with: genmed resume " in last
    assert f"step-{step:07d}" in "".join(path.name for path in (genmed.run_folder() / "checkpoints").iterdir())
    check_resumed_by_the_printed_command(genmed, trained, result.err)


def test_resume_command_printed_in_the_root_needs_no_root(
    genmed: Genmed, trained: Genmed, tiny: Arguments, stopping: str
) -> None:
    environ = {"GENMED_TEST_STEP": "1", "GENMED_TEST_SIGNALS": "SIGINT", "GENMED_ROOT": ""}
    result = genmed(*tiny("--model", stopping), cwd=genmed.root, **environ)
    assert (result.code, result.json["error"]["kind"]) == (130, "Interrupted")
    assert result.json["error"]["hint"].endswith(f"go on with: genmed resume {genmed.run_folder().name}")
    check_resumed_by_the_printed_command(genmed, trained, f"({result.json['error']['hint']})", genmed.root)


def test_second_interrupt_breaks_off_at_once_and_the_run_goes_on_from_its_checkpoint(
    genmed: Genmed, trained: Genmed, tiny: Arguments, stopping: str
) -> None:
    arguments = [part for part in tiny("--model", stopping) if part != "--json"]
    result = genmed(*arguments, GENMED_TEST_STEP="10", GENMED_TEST_SIGNALS="SIGINT SIGINT")
    assert (result.code, result.out) == (130, "")
    assert "Traceback" not in result.err
    assert [path.name for path in (genmed.run_folder() / "checkpoints").iterdir()] == ["step-0000007-epoch-0001-end"]
    check_resumed_by_the_printed_command(genmed, trained, result.err)


def run_apart(*rest: Any) -> None:
    """In the forked process: a session of its own, so that a signal to the group reaches this run alone."""
    os.setsid()
    _run_command(*rest)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_signal_to_the_loader_processes_too_stops_as_safely(
    server: ForkServerContext,
    genmed: Genmed,
    trained: Genmed,
    tiny: Arguments,
    stopping: str,
    name: str,
    tmp_path: Path,
) -> None:
    """As a terminal and a batch system send it: to all processes of the job."""
    files = tmp_path / "out", tmp_path / "err"
    given = {"GENMED_TEST_STEP": "10", "GENMED_TEST_SIGNALS": name, "GENMED_TEST_GROUP": "yes"}
    arguments = [str(part) for part in tiny("--model", stopping, "--num-workers", 2) if part != "--json"]
    process = server.Process(target=run_apart, args=(arguments, str(tmp_path), {**genmed.environ, **given}, files))
    process.start()
    process.join()
    err = files[1].read_text()
    assert process.exitcode == 130, err
    assert "Traceback" not in err
    check_resumed_by_the_printed_command(genmed, trained, err)


def run_as_a_script_does_behind_an_ampersand(*rest: Any) -> None:
    """In the forked process: it has inherited that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _run_command(*rest)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_a_training_began_leaves_nothing(
    server: ForkServerContext, genmed: Genmed, heavy: Path, tiny: Arguments, tmp_path: Path, number: signal.Signals
) -> None:
    cache = tmp_path / "own"  # what others left half made in theirs would be taken for this one's
    arguments = [str(part) for part in tiny("--data-root", heavy) if part != "--json"]
    files, environ = (tmp_path / "out", tmp_path / "err"), {**genmed.environ, "GENMED_CACHE": str(cache)}
    process = server.Process(
        target=run_as_a_script_does_behind_an_ampersand, args=(arguments, str(tmp_path), environ, files)
    )
    process.start()
    command = Command(process, files)
    end = time.monotonic() + 60
    while not list(cache.glob("images/.tmp-*/pixels.u8")):
        assert time.monotonic() < end
        time.sleep(0.005)
    before = sorted(cache.glob("images/*/*"))
    command.send(number)
    result = command.wait()
    assert (result.code, result.out) == (130, ""), result.err
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("interrupted")
    assert result.err.endswith("before anything was begun\n")
    assert list(genmed.root.iterdir()) == []
    assert before
    assert list(cache.glob("images/.tmp-*")) == []


# Terminals and pipes


class Terminal:
    """A genmed command on a terminal of 120 columns."""

    def __init__(self, server: ForkServerContext, genmed: Genmed, *arguments: object, **environ: str) -> None:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        given = {**genmed.environ, "TERM": "xterm-256color", "COLORTERM": "", **environ}
        texts = [str(argument) for argument in arguments]
        self._process = server.Process(
            target=run_on_terminal, args=(os.ttyname(self._slave), texts, str(genmed.root.parent), given)
        )
        self._process.start()
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> None:
        while not re.search(pattern, self.shown):
            assert self._process.is_alive(), self.shown
            self._read()

    def end(self) -> int:
        """The exit code, after all that is shown was read."""
        while self._process.is_alive() or select.select([self._master], [], [], 0)[0]:
            self._read()
        os.close(self._master)
        os.close(self._slave)
        assert self._process.exitcode is not None
        return self._process.exitcode

    def _read(self) -> None:
        if select.select([self._master], [], [], 0.02)[0]:
            self.shown += os.read(self._master, 65536).decode(errors="replace")


def run_on_terminal(name: str, arguments: list[str], cwd: str, environ: dict[str, str]) -> None:
    """In the forked process: becomes `python -m genmed ARGUMENTS` on the terminal."""
    os.login_tty(os.open(name, os.O_RDWR))
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        os.environ.pop(variable, None)
    os.chdir(cwd)
    os.environ.update(environ)
    sys.argv = ["genmed", *arguments]
    sys.orig_argv = [sys.executable, "-m", "genmed", *arguments]

    from genmed.cli import main

    main()


BAR = r"epoch \d+ [^\r\n]* ?\d+/28\S* \d+ images/s loss \d\.\d{4} \S*-?\d"
COLOUR = r"\x1b\[[0-9;]*3[0-9](;[0-9;]+)?m"


def test_terminal_shows_one_bar_with_speed_and_ends_with_a_table(
    server: ForkServerContext, genmed: Genmed, tiny: Arguments
) -> None:
    terminal = Terminal(server, genmed, *[part for part in tiny() if part != "--json"])
    assert terminal.end() == 0, terminal.shown
    assert re.search(BAR, terminal.shown)
    assert re.search(COLOUR, terminal.shown)
    last = terminal.shown.rpartition("images/s loss")[2]
    assert re.search(r"class .*test AUROC.*test AP.*\r\n ─+ ?\r\n", last)
    assert re.search(r" Effusion +\d\.\d{4} +\d\.\d{4} +\d\.\d{4}", last)
    assert "\t" not in last
    assert "\x1b[?25h" in last  # the cursor is back


def test_no_color_is_obeyed_on_a_terminal(
    server: ForkServerContext, genmed: Genmed, three: Genmed, tiny: Arguments
) -> None:
    terminal = Terminal(server, genmed, *[part for part in tiny() if part != "--json"], NO_COLOR="1")
    assert terminal.end() == 0
    assert re.search(BAR, terminal.shown)
    assert not re.search(COLOUR, terminal.shown)
    listing = Terminal(server, three, "list", NO_COLOR="1")
    assert listing.end() == 0
    assert "completed" in listing.shown
    assert not re.search(COLOUR, listing.shown)


def test_interrupt_typed_on_a_terminal_leaves_it_clean_and_tells_how_to_go_on(
    server: ForkServerContext, genmed: Genmed, tiny: Arguments
) -> None:
    arguments = tiny("--epochs", 400, "--num-workers", 1)
    terminal = Terminal(server, genmed, *[part for part in arguments if part != "--json"])
    terminal.wait_for(r"Epoch 1/400")
    terminal.type("\x03")
    assert terminal.end() == 130, terminal.shown
    assert "Traceback" not in terminal.shown
    last = terminal.shown.rpartition("images/s loss")[2]
    assert "\x1b[?25h" in last
    assert f"go on with: genmed resume {genmed.run_folder().name}" in last.replace("\r\n", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_goes_away_is_no_error(three: Genmed, unbuffered: str) -> None:
    environ = {**own_environment(), **three.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(
        [sys.executable, "-m", "genmed", "list", "--json"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, "")


def run_without_reader(*rest: Any) -> None:
    """In the forked process: its stderr is a pipe that nobody reads."""
    arguments, cwd, environ, files = rest
    reader, writer = os.pipe()
    os.close(reader)
    try:
        _run_command(arguments, cwd, environ, (files[0], Path(f"/dev/fd/{writer}")))
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(int(end.code or 0))  # multiprocessing would stumble over the pipe itself


def test_training_whose_messages_nobody_reads_any_more_goes_on(
    server: ForkServerContext, genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    arguments = [str(part) for part in tiny("--epochs", 1)]
    files = tmp_path / "out", tmp_path / "none"
    process = server.Process(target=run_without_reader, args=(arguments, str(tmp_path), genmed.environ, files))
    process.start()
    process.join()
    (listed,) = genmed("list", "--json").json
    assert listed["status"] == "completed"
    assert process.exitcode == 0
    assert Result(0, files[0].read_text(), "").json["status"] == "completed"
