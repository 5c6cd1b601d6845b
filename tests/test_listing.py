"""genmed list: which runs, in which order, how many more; and completion, which must be quick."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from genmed.parts.data.datasets import DATASETS
from genmed.records.registry import FINAL, RunRecord
from genmed.workflows.listing import Choice, list_runs
from tests.harness import Genmed, own_environment
from tests.registries.making import START, make_evaluation, make_registry, make_run, watch_queries


@pytest.fixture
def listed(genmed: Genmed) -> Genmed:
    """genmed with a registry of 25 completed runs, `n` minutes after START, and three that stand out."""
    registry = make_registry(genmed.root)
    records = [
        RunRecord(make_run(f"{n:08x}", name=f"run{n:02}", status="completed", created=START + timedelta(minutes=n)))
        for n in range(25)
    ]
    headline = {"test_auroc_macro": {"value": 0.75, "low": 0.5, "high": 0.875}}
    later = START + timedelta(days=1)
    records += [
        RunRecord(
            make_run(
                "aaaaaaaa",
                name="good",
                status="failed",
                created=later,
                tags=["a b", "x"],
                dataset="phantom",
                seed=7,
                epochs_done=3,
                epochs_total=5,
            ),
            evaluations=[make_evaluation("aaaaaaaa", report={"metrics": headline})],
        ),
        RunRecord(
            make_run("bbbbbbbb", name="better", status="completed", tags=["x"], model="/home/me/net.py:build", seed=43),
            metrics={FINAL: {"test_auroc_macro": 0.875}},
        ),
        RunRecord(make_run("cccccccc", name="secret", status="completed", hidden=True, tags=["x"], created=later)),
    ]
    registry.rebuild(records)
    return genmed


def names(genmed: Genmed, *options: object) -> list[str]:
    result = genmed("list", "--json", *options)
    assert result.code == 0, result.err
    return [run["name"] for run in result.json]


def test_newest_twenty_are_listed_and_the_others_counted(listed: Genmed) -> None:
    result = listed("list")
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert [row[0] for row in rows[1:]] == ["good", *(f"run{n:02}" for n in range(24, 5, -1))]
    assert result.err == "7 more: --all shows them, -n N the first N\n"
    first = dict(zip(rows[0], rows[1], strict=True))
    assert (first["95% interval"], first["epochs"], first["tags"]) == ("0.500 to 0.875", "3/5", "a b x")
    assert listed("list", "--json").err == result.err
    assert len(names(listed, "-n", 3)) == 3
    whole = listed("list", "--all", "--json")
    assert (len(whole.json), whole.err) == (27, "")
    assert "secret" not in whole.out


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--tag", "x"], ["good", "better"]),
        (["--tag", "x", "--tag", "a b"], ["good"]),
        (["--tag", "a"], []),
        (["--status", "failed"], ["good"]),
        (["--dataset", "phantom"], ["good"]),
        (["--model", "net.py:build"], ["better"]),
        (["--model", "/home/me/net.py:build"], ["better"]),
        (["--hidden"], ["secret"]),
        (["--hidden", "--tag", "none"], []),
        (["--sort", "auroc", "-n", 3], ["better", "good", "run24"]),
        (["--sort", "auroc", "--reverse", "-n", 2], ["good", "better"]),
        (["--sort", "name", "-n", 3], ["better", "good", "run00"]),
        (["--sort", "seed", "-n", 2], ["good", "run24"]),
        (["--sort", "seed", "--reverse", "-n", 1], ["better"]),
        (["--sort", "dataset", "-n", 1], ["run24"]),
        (["--sort", "dataset", "--reverse", "-n", 1], ["good"]),
        (["--sort", "model", "-n", 1], ["better"]),
        (["--reverse", "-n", 2], ["run00", "better"]),
        (["--status", "running"], []),
    ],
)
def test_runs_are_chosen_and_sorted(listed: Genmed, options: list[object], found: list[str]) -> None:
    assert names(listed, *options) == found


def test_choice_that_no_run_fits_says_so(listed: Genmed) -> None:
    result = listed("list", "--tag", "none")
    assert (result.code, result.out, result.err) == (0, "", "no run fits\n")
    chosen = listed("list", "--tag", "x", "--json").json
    assert [(run["test_auroc_macro"], run["test_auroc_macro_low"]) for run in chosen] == [(0.75, 0.5), (0.875, None)]
    counted = listed("list", "--tag", "x", "-n", 1)
    assert counted.err == "1 more: --all shows them, -n N the first N\n"


@pytest.mark.parametrize("options", [["-n", 0], ["--status", "done"], ["--sort", "age"], ["--all", "-n", 2]])
def test_wrong_choice_is_refused_in_one_line(listed: Genmed, options: list[object]) -> None:
    result = listed("list", *options)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)


def test_run_whose_process_is_dead_is_chosen_as_interrupted(listed: Genmed) -> None:
    dead = make_run("dddddddd", name="dead", status="running", created=START + timedelta(days=3))
    stopped = make_run("eeeeeeee", name="stopped", status="interrupted", created=START + timedelta(days=2))
    make_registry(listed.root, dead, stopped)
    assert names(listed, "--status", "interrupted") == ["dead", "stopped"]
    assert names(listed, "--sort", "status", "--reverse", "-n", 3) == ["dead", "stopped", "good"]
    assert names(listed, "--sort", "status", "--all")[-2:] == ["dead", "stopped"]
    assert names(listed, "--status", "running") == []


def test_listing_more_runs_sends_no_more_queries(tmp_path: Path) -> None:
    """How long it takes with 10,000 runs is measured in benchmarks/commands.py."""
    counts = []
    for count in (30, 3000):
        root = tmp_path / str(count)
        root.mkdir()
        runs = [make_run(f"{n:08x}", status="completed", tags=[f"tag{n % 7}"]) for n in range(count)]
        make_registry(root).rebuild(RunRecord(run, metrics={FINAL: {"test_auroc_macro": 0.5}}) for run in runs)
        for choice in (Choice(), Choice(tags=["tag3"])):
            with watch_queries() as sent:
                assert len(list_runs(root, count // 10, choice).runs) > 2
            counts.append(len(sent))
    assert counts[:2] == counts[2:]
    assert max(counts) < 40


def ask(line: str) -> dict[str, str]:
    """The variables by which a bash asks for what may follow; a new line parts what it parts of itself."""
    words = re.split("[ \n]", line)
    return {"_GENMED_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}


def complete(genmed: Genmed, line: str) -> list[str]:
    """What a bash is offered."""
    done = genmed(**ask(line))
    assert done.err == ""
    return done.out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("genmed show go", ["good"]),
        ("genmed show la", ["latest"]),
        ("genmed show bbb", ["bbbbbbbb"]),
        ("genmed show sec", []),
        ("genmed verify be", ["better"]),
        ("genmed compare good be", ["better"]),
        ("genmed list --tag ", ["x"]),
        ("genmed list --dataset p", ["phantom"]),
        ("genmed list --model r", ["resnet50"]),
        ("genmed list --status c", ["completed"]),
        ("genmed list --sort a", ["auroc"]),
        ("genmed train --dataset vin", ["vinbigdata"]),
        ("genmed train --model densenet12", ["densenet121"]),
        ("genmed train --tag x", ["x"]),
        ("genmed rm --restore ", ["secret"]),
        ("genmed train --dataset\nmedmnist\n:\npneu", ["pneumoniamnist"]),
        ("genmed train --dataset\nmedmnist\n:", [flag.partition(":")[2] for flag in DATASETS if ":" in flag]),
        ("genmed train --dataset\nmedmnist\n:\npneumoniamnist\n--model\ndensenet12", ["densenet121"]),
        ("genmed list --root {elsewhere} --dataset p", []),
        ("genmed list --root {elsewhere} --model r", []),
        ("genmed list --root {elsewhere} --tag x", []),
        ("genmed show --root {elsewhere} go", []),
    ],
)
def test_tab_offers_runs_and_values(listed: Genmed, tmp_path: Path, line: str, offered: list[str]) -> None:
    assert complete(listed, line.format(elsewhere=tmp_path / "elsewhere")) == offered


def test_tab_offers_an_id_with_which_a_name_ends(listed: Genmed) -> None:
    make_registry(listed.root, make_run("dddddddd", name="nih-resnet50-dddddddd"))
    assert complete(listed, "genmed show ddd") == ["dddddddd"]


@pytest.mark.parametrize("line", ["genmed show nih-resnet50-s42-0000", "genmed list --tag t", "genmed train --model r"])
def test_tab_imports_nothing_heavy(listed: Genmed, line: str) -> None:
    """SQLAlchemy alone takes half a second."""
    code = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    code += "from genmed.cli import main; sys.argv = ['genmed']; main()"
    environ = {**own_environment(), **listed.environ, **ask(line)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    imported = {name.partition(".")[0] for name in done.stderr.split()}
    assert done.stdout
    assert "genmed" in imported
    assert not imported & {"sqlalchemy", "sqlmodel", "numpy", "torch", "rich"}


def test_tab_where_there_is_nothing_or_damage_offers_nothing(genmed: Genmed) -> None:
    assert complete(genmed, "genmed list --tag ") == []
    assert list(genmed.root.iterdir()) == []
    (genmed.root / "registry.db").write_bytes(b"no database\n" * 999)
    assert complete(genmed, "genmed show la") == ["latest"]
    assert complete(genmed, "genmed show go") == []


@pytest.fixture
def shell_home(listed: Genmed, tmp_path: Path) -> Path:
    """A home in which completion was installed from a bash, as a user does."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "genmed").write_text(f'#!/bin/sh\nexec {sys.executable} -m genmed "$@"\n')
    (home / "bin" / "genmed").chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", "genmed --install-completion; echo $?"],
        env=at_home(listed, home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("\n0\n"), done.stdout + done.stderr
    return home


def at_home(genmed: Genmed, home: Path) -> dict[str, str]:
    given = {"HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "> "}
    return {**own_environment(), **genmed.environ, **given}


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_tab_in_a_real_bash_completes_a_name_also_behind_a_colon(listed: Genmed, shell_home: Path) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        ["bash", "--rcfile", str(shell_home / ".bashrc"), "-i"],
        env=at_home(listed, shell_home),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as shell:
        try:
            os.write(master, b"genmed list --status compl\t--sort auroc --tag x | cat\n")
            shown = read_until(master, "\nbetter\t")
            os.write(master, b"genmed train --dataset medmnist:pn\t--dry-run | cat\n")
            read_until(master, "no data folder data/medmnist for medmnist:pneumoniamnist ")
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
    os.close(slave)
    os.close(master)
    assert "--status completed --sort auroc" in shown


def read_until(master: int, awaited: str) -> str:
    shown, end = "", time.monotonic() + 30
    while awaited not in shown:
        assert time.monotonic() < end, shown
        if select.select([master], [], [], 0.1)[0]:
            shown += os.read(master, 4096).decode()
    return shown
