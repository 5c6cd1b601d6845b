"""Trainings that take turns: one runs, the others are stopped wholly, with their workers and threads.

Each is a process group of its own. A turn begins with SIGCONT and a token over a pipe, ends with a report over another,
and SIGSTOP to the group. They stay in the benchmark's session: the kernel ends those that it leaves behind.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

END = 1
"""Exit code of a contestant whose benchmark is gone."""


class Contestant:
    """A training in a process of its own, seen from the benchmark."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Returns when it is ready for its first step, and stopped."""
        self.name, self._log = name, log
        token, self._token = os.pipe()
        self._report, report = os.pipe()
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *command, str(token), str(report)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=(token, report),
                process_group=0,
            )
        os.close(token)
        os.close(report)
        self._lines = os.fdopen(self._report)
        self._read()
        self._stop()

    def take_turn(self) -> tuple[float, dict[str, Any]]:
        """Seconds from SIGCONT to the report; and the report."""
        os.sync()  # what others left for the disk is no business of this one
        start = time.perf_counter()
        os.killpg(self._process.pid, signal.SIGCONT)
        os.write(self._token, b"+")
        report = self._read()
        seconds = time.perf_counter() - start
        self._stop()
        return seconds, report

    def end(self) -> None:
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._lines.close()
        os.close(self._token)

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            self._process.wait()
            raise SystemExit(f"{self.name} ended:\n{self._log.read_text(errors='replace')[-3000:]}")
        report: dict[str, Any] = json.loads(line)
        return report

    def _stop(self) -> None:
        """Returns when all its threads stand still."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)


class Turns:
    """The other side: a training calls `begin` before its first step and `step` after each; both wait for the token."""

    def __init__(self, token: int, report: int, steps: int) -> None:
        self._token, self._report, self._steps = token, report, steps
        self._images = 0
        self._losses: list[Any] = []
        self._spent = 0.0

    def begin(self) -> None:
        self._spent = sum(os.times()[:4])  # of this process and of those of its workers that have ended
        self._say({})

    def step(self, images: int, loss: Any) -> None:
        """loss: a number, or a tensor that holds one."""
        self._images += images
        self._losses.append(loss)
        if len(self._losses) == self._steps:
            losses = [float(loss) for loss in self._losses]
            assert all(map(math.isfinite, losses)), losses
            spent = sum(os.times()[:4])
            report = {"images": self._images, "loss": sum(losses) / len(losses), "processor": spent - self._spent}
            self._images, self._losses, self._spent = 0, [], spent
            self._say(report)

    def _say(self, report: dict[str, Any]) -> None:
        os.write(self._report, json.dumps(report).encode() + b"\n")
        if not os.read(self._token, 1):
            os._exit(END)
