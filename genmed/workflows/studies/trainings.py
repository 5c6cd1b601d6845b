"""The processes of a study's trainings, as its own process sees them: started, listened to, asked to stop."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from genmed.ground.interpreter import prepare_environment
from genmed.records.config import Config, flatten
from genmed.workflows.configure import interpreter_variables

MODULE = "genmed.workflows.studies.training_process"


@dataclass(frozen=True)
class Order:
    """What a process is to do."""

    root: Path
    config: Config
    origins: dict[str, str]
    resume: str | None
    """The folder's name of a run that was broken off."""

    def to_json(self) -> dict[str, Any]:
        root = str(self.root.absolute())
        return {"root": root, "values": flatten(self.config), "origins": self.origins, "resume": self.resume}


class Training:
    """A process under way. What it tells goes into the queue; last {"event": "ended"}, whatever became of it."""

    def __init__(
        self, order: Order, heard: queue.SimpleQueue[tuple[Training, dict[str, Any]]], *, beside: bool = False
    ) -> None:
        """beside: others are under way at the same time."""
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=prepare_environment(interpreter_variables(order.config), beside=beside),
            process_group=0,  # Ctrl-C on the terminal goes to the study alone, which asks its trainings to stop
        )
        self._heard = heard
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order.to_json()).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it is dead, which is heard as its end
            with suppress(BrokenPipeError):  # said again of what was not written
                self._process.stdin.close()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks for an end as soon as the state is safe."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()
        self._thread.join()

    def _listen(self) -> None:
        ended = None
        with self._process, self._errors:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                event = json.loads(line)
                if event["event"] == "ended":
                    ended = event
                else:
                    self._heard.put((self, event))
            code = self._process.wait()
            self._heard.put((self, ended or self._explain(code)))

    def _explain(self, code: int) -> dict[str, Any]:
        """Of a process that died before it could tell."""
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        if code == -signal.SIGTERM:
            return {"event": "ended", "status": "interrupted", "error": "SIGTERM"}
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        told = f": {last[0]}" if last else ""
        return {"event": "ended", "status": "interrupted" if code < 0 else "failed", "error": f"killed by {how}{told}"}
