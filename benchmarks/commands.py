"""How long commands take from their start to their end, beside MLflow's: fresh processes, by turns.

    uv run --group bench python benchmarks/commands.py [--rounds 10] [--runs 10000] [--epochs 5]
                                                               [--limits 0.4 1.6]

A round runs each command once, in random order. The registries hold 10 and `--runs` runs: one that was trained, and
copies of its rows and its folder under other names; MLflow's store in SQLite holds one run made by its client, and
copies of its rows (a metric for each of genmed's final ones, as many parameters as genmed's config has keys that
change bits). All files are in the page cache. Peak memory is ru_maxrss; modules were counted in a run of their own. A
ratio is that of a command's seconds to those of MLflow's counterpart in the same round; `genmed list` shows the newest
20 runs, `mlflow runs list` the newest 1,000, with `--all` all are shown; `lines` is what was printed. `--limits` are
the targets, in seconds, for `genmed --help` and for `genmed list` among `--runs` runs. Without MLflow its rows are
skipped by name.
"""

import argparse
import importlib.util
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fresh import GENMED, Measured, count_modules, run_fresh
from many_runs import multiply, train_tiny
from printing import describe_machine, print_table

from genmed.records.run_folder import RunFolder

FEW = 10
MLFLOW = [sys.executable, "-m", "mlflow"]
HELP = "genmed --help"
MAKE_MLFLOW_RUN = """
import json, sys, mlflow
from mlflow.entities import Metric, Param
client = mlflow.MlflowClient()
run = client.create_run(client.create_experiment("all"), run_name="first").info.run_id
document = json.load(open(sys.argv[1]))
metrics = [Metric(name, value, 1, 0) for name, value in document["metrics"].items() if value is not None]
client.log_batch(run, metrics, [Param(name, str(value)) for name, value in document["config"].items()])
client.set_terminated(run)
print(run)
"""


@dataclass
class Command:
    """One row of the table."""

    words: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    beside: str = ""
    """Its counterpart's name."""
    measured: list[Measured] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [one.seconds for one in self.measured]

    def show_modules(self) -> list[str]:
        if self.words[1] == "-m":
            count, with_torch = count_modules(self.words, self.environ)
            return [f"{count:,}", "yes" if with_torch else "no"]
        return ["", "yes" if "torch" in self.words[-1] else "no"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=5, help="of each run: its metrics by epoch are in the registry")
    parser.add_argument("--limits", type=float, nargs=2, default=[0.4, 1.6])
    chosen = parser.parse_args()
    with_mlflow = importlib.util.find_spec("mlflow") is not None
    print(describe_machine(*(["mlflow"] if with_mlflow else [])))
    with tempfile.TemporaryDirectory() as name:
        commands = list_genmed(Path(name), chosen.runs, chosen.epochs)
        if with_mlflow:
            [trained] = (Path(name) / "root/runs").iterdir()
            commands |= list_mlflow(Path(name), RunFolder(trained), chosen.runs)
        else:
            print("MLflow is not installed: its rows are skipped")
        for command in commands.values():
            run_fresh(command.words, command.environ)  # reads its files once
        for _ in range(chosen.rounds):
            for command in random.sample(list(commands.values()), len(commands)):
                command.measured.append(run_fresh(command.words, command.environ))
        print(f"{chosen.rounds} rounds; each run has {chosen.epochs} epochs\n")
        print_table(HEADER, [describe(name, commands) for name in commands])
        targets = {HELP: chosen.limits[0], f"genmed list, {chosen.runs:,} runs": chosen.limits[1]}
        judge(commands, targets)


def list_genmed(folder: Path, many: int, epochs: int) -> dict[str, Command]:
    commands = {
        "python -c pass": Command([sys.executable, "-c", "pass"]),
        'python -c "import torch"': Command([sys.executable, "-c", "import torch"]),
        HELP: Command([*GENMED, "--help"], beside="mlflow --version"),
        "genmed verify --help": Command([*GENMED, "verify", "--help"], beside="mlflow --version"),
        "genmed env": Command([*GENMED, "env"]),
    }
    trained = train_tiny(folder / "root", folder / "cache", "--epochs", str(epochs))
    for count in (FEW, many):
        root = folder / f"root-{count}"
        shutil.copytree(folder / "root", root)
        first = RunFolder(root / "runs" / trained.name)
        multiply(first, count)
        where, held = {"GENMED_ROOT": str(root)}, f"{count:,} runs"
        ways = {"list": ["list"], "list --all": ["list", "--all"], "list --all --json": ["list", "--all", "--json"]}
        for name, words in ways.items():
            commands[f"genmed {name}, {held}"] = Command([*GENMED, *words], where, f"mlflow runs list, {held}")
        commands[f"genmed show, {held}"] = Command(
            [*GENMED, "show", first.name], where, f"mlflow runs describe, {held}"
        )
    return commands


def list_mlflow(folder: Path, like: RunFolder, many: int) -> dict[str, Command]:
    commands = {"mlflow --version": Command([*MLFLOW, "--version"])}
    for count in (FEW, many):
        file = folder / f"mlflow-{count}.db"
        where, held = {"MLFLOW_TRACKING_URI": f"sqlite:///{file}"}, f"{count:,} runs"
        made = run_fresh([sys.executable, "-c", MAKE_MLFLOW_RUN, str(like.document_path)], where)
        run_id = made.output.split()[-1]
        multiply_mlflow(file, run_id, count)
        experiment = ["--experiment-id", "1"]
        commands[f"mlflow runs list, {held}"] = Command([*MLFLOW, "runs", "list", *experiment], where)
        commands[f"mlflow runs describe, {held}"] = Command([*MLFLOW, "runs", "describe", "--run-id", run_id], where)
    return commands


def multiply_mlflow(file: Path, run_id: str, count: int) -> None:
    """All rows of the one run, `count` - 1 times under other ids."""
    connection = sqlite3.connect(file)
    with connection:
        for table in ("runs", "params", "tags", "metrics", "latest_metrics"):
            names = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
            owner, marks = names.index("run_uuid"), ", ".join("?" * len(names))
            quoted = ", ".join(f'"{column}"' for column in names)
            found = connection.execute(f"SELECT {quoted} FROM {table} WHERE run_uuid = ?", [run_id]).fetchall()
            copies = (
                (*row[:owner], f"{number:032x}", *row[owner + 1 :]) for number in range(1, count) for row in found
            )
            connection.executemany(f"INSERT INTO {table} ({quoted}) VALUES ({marks})", copies)
    connection.close()


HEADER = ["command", "median s", "least s", "peak MiB", "modules", "torch", "lines", "of MLflow's", "95% interval"]


def describe(name: str, commands: dict[str, Command]) -> list[str]:
    command = commands[name]
    seconds, peak = command.seconds, statistics.median(one.peak for one in command.measured)
    lines = len(command.measured[0].output.splitlines())
    row = [name, f"{statistics.median(seconds):.3f}", f"{min(seconds):.3f}", f"{peak:.0f}", *command.show_modules()]
    return [*row, f"{lines:,}", *show_ratio(seconds, commands.get(command.beside))]


def show_ratio(seconds: Sequence[float], beside: Command | None) -> list[str]:
    from steps import bootstrap_median

    if beside is None:
        return ["", ""]
    ratio, low, high = bootstrap_median([own / other for own, other in zip(seconds, beside.seconds, strict=True)])
    return [f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"]


def judge(commands: dict[str, Command], targets: dict[str, float]) -> None:
    for name, limit in targets.items():
        seconds = statistics.median(commands[name].seconds)
        _, torch = commands[name].show_modules()
        verdict = "met" if seconds < limit and torch == "no" else "missed"
        print(f"target for {name}: below {limit} s, no torch: {verdict} ({seconds:.3f} s, torch: {torch})")


if __name__ == "__main__":
    main()
