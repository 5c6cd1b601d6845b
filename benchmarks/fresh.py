"""Fresh processes, each measured: how long it took, the most memory that it held, and what it imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GENMED = [sys.executable, "-m", "genmed"]
LAUNCHER = """
import json, os, sys, time
report = int(sys.argv[1])
start = time.perf_counter()
child = os.fork()
if not child:
    os.close(report)
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - start
os.write(report, json.dumps([seconds, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]).encode())
"""
"""Linux counts what a process held before its `exec`, the memory of who forked it: so a small interpreter forks it."""
PROBE = """
import atexit, json, os, runpy, sys
before = len(sys.modules)
@atexit.register
def tell():
    with open(os.environ["PROBED"], "w") as file:
        json.dump([len(sys.modules) - before, "torch" in sys.modules], file)
name, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Measured:
    """One process: from `fork` to its end, all processes that it waited for included."""

    seconds: float
    peak: float
    """ru_maxrss in MiB: pages of the libraries' files that it touched are part of it."""
    output: str


def run_fresh(command: Sequence[str], environ: Mapping[str, str] | None = None) -> Measured:
    """Raises RuntimeError, with what it said, where the process fails."""
    reading, writing = os.pipe()
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(writing), *command]
    done = subprocess.run(
        launch, env=make_environment(environ), pass_fds=[writing], capture_output=True, text=True, check=False
    )
    os.close(writing)
    with open(reading, encoding="utf-8") as file:
        seconds, peak, code = json.loads(file.read())
    if code:
        raise RuntimeError(f"exit code {code}: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return Measured(seconds, peak / 1024, done.stdout)


def count_modules(command: Sequence[str], environ: Mapping[str, str] | None = None) -> tuple[int, bool]:
    """Of `python -m MODULE ARGUMENTS`: how many modules it imported beyond the interpreter's, and whether torch."""
    assert command[1] == "-m", command
    with tempfile.TemporaryDirectory() as name:
        probed = Path(name) / "probed.json"
        probe = [sys.executable, "-c", PROBE, *command[2:]]
        probing = {**make_environment(environ), "PROBED": str(probed)}
        subprocess.run(probe, env=probing, capture_output=True, check=True)
        count, with_torch = json.loads(probed.read_text())
        return count, with_torch


def make_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without what a shell may have set for genmed."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("GENMED_")}, **(more or {})}
