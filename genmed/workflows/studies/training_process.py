"""One training of a study in a fresh process: `python -m genmed.workflows.studies.training_process`.

It reads its order as one line of JSON on stdin, and tells what happens line by line on stdout. The other end of stdin
is held by the study's process alone: when that dies, however it dies, this one hears the end of the file, makes its
state safe and ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from genmed.ground.errors import GenmedError

if TYPE_CHECKING:
    from genmed.engine.loop import EpochReport

GRACE_SECONDS = 60.0
"""For a step that is under way and the state after it, once the study's process is dead."""
EACH_SECONDS = 0.5
"""Steps are told of so often at most."""


class Telling:
    """The training's reporter: each line a JSON object. A training goes on though nobody reads it."""

    def __init__(self, channel: TextIO) -> None:
        self._channel, self._told = channel, 0.0

    def tell(self, **event: Any) -> None:
        try:
            self._channel.write(json.dumps(event) + "\n")
            self._channel.flush()
        except OSError:
            pass

    def message(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...

    def begin_steps(self, done: int, total: int, images_a_step: int, what: str = "training") -> None:
        self.tell(event="begun", step=done, steps=total)

    def step(self, step: int, epoch: int, loss: float) -> None:
        if time.monotonic() - self._told > EACH_SECONDS:
            self._told = time.monotonic()
            self.tell(event="step", step=step, epoch=epoch)

    def epoch(self, report: EpochReport, epochs: int) -> None:
        from genmed.workflows.recording import describe_epoch

        value = report.metrics.get("val_auroc_macro")
        line = describe_epoch(report, epochs)
        self.tell(event="epoch", epoch=report.epoch, epochs=epochs, step=report.step, val_auroc=value, line=line)

    def end_steps(self) -> None: ...


def main() -> int:
    """Trains or resumes as ordered, and returns the exit code of the documented ones."""
    telling = Telling(_take_stdout())
    lifeline = _take_stdin()
    order = json.loads(lifeline.readline())
    threading.Thread(target=_end_with_the_study, args=(lifeline.fileno(),), daemon=True).start()
    try:
        telling.tell(event="ended", status="completed", run=_train(order, telling))
        return 0
    except GenmedError as error:
        status = "interrupted" if error.exit_code == 130 else "failed"
        telling.tell(event="ended", status=status, error=error.say())
        return error.exit_code
    except Exception as error:  # a fault: the traceback is in the run's log, and on stderr
        traceback.print_exc()
        telling.tell(event="ended", status="failed", error=f"{type(error).__name__}: {error}")
        return 1


def _train(order: dict[str, Any], telling: Telling) -> str:
    """The name of the run, which is complete."""
    from genmed.records.config import Config, ResolvedConfig
    from genmed.records.config.sections import unflatten
    from genmed.records.run_folder import RUNS, RunFolder
    from genmed.workflows.resume import resume
    from genmed.workflows.train import train

    root = Path(order["root"])
    config = Config.model_validate(unflatten(order["values"]))
    if order["resume"]:
        data_root = Path(config.data.root) if config.data.root else None
        return resume(RunFolder(root / RUNS / order["resume"]), root, telling, data_root=data_root).name
    return train(ResolvedConfig(config, order["origins"]), root, telling).name


def _take_stdout() -> TextIO:
    """What a user's model prints goes to stderr: stdout is for what is told."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _take_stdin() -> BinaryIO:
    """Processes that are forked from this one close sys.stdin, and would wait for ever for a thread that reads it."""
    lifeline = os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return lifeline


def _end_with_the_study(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
