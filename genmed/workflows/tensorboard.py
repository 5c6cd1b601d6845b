"""Event files for TensorBoard, in a run's folder `tensorboard/`: scalars by step, beside the record, no part of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from genmed.ground.errors import ConfigError
from genmed.ground.files import storage_errors

PACKAGE = "tensorboardX"
FOLDER = "tensorboard"


def check_package() -> None:
    """Raises ConfigError where the package that writes event files is missing."""
    if find_spec(PACKAGE) is None:
        raise ConfigError(
            f"run.tensorboard (--tensorboard) needs the package {PACKAGE}, which is not here",
            "pip install 'genmed[tensorboard]'",
        )


class EventFile:
    """One event file, for a training from a step to its end or to where it breaks off.

    Each scalar is in the file before the next step, so that a kill loses none; and no thread writes it: the loader may
    fork this process.
    """

    def __init__(self, run: Path, first_step: int) -> None:
        """first_step: what earlier files have of this step and later ones counts no more."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder = run / FOLDER
        with storage_errors(self._folder):
            self._folder.mkdir(exist_ok=True)
            # By name TensorBoard reads them in the order of their times; two of one second would be one file.
            self._writer = EventsWriter(str(self._folder / "events"), f".{first_step:07d}-{os.getpid()}")
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(wall_time=time.time(), step=first_step, session_log=start))
            self._writer.flush()

    def write(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """What is None is undefined, and left out. Raises StorageError."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with storage_errors(self._folder):
            for name, value in scalars.items():
                if value is not None:
                    self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            self._writer.flush()

    def close(self) -> None:
        with storage_errors(self._folder):
            self._writer.close()
