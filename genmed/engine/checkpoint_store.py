"""The checkpoints of one run: written beside the training, old ones removed after the new one is safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from genmed.engine.checkpoint import (
    END,
    Checkpoint,
    Identity,
    Memory,
    Snapshot,
    check_checkpoint,
    describe_checkpoint,
    describe_whole,
    list_checkpoints,
    restore_checkpoint,
    write_checkpoint,
)
from genmed.engine.learner import Learner
from genmed.engine.progress import Progress
from genmed.ground.errors import RecordError
from genmed.ground.files import remove_folder, sweep_temporaries


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay beside the best."""

    newest: int = 1
    """So many of the newest."""
    every_epochs: int | None = None
    """The end of each so-many-th epoch."""
    every_steps: int | None = None
    """Each whose step is a multiple of it."""
    first_step: int = 0
    """The state that the run began from, where another run ended; 0: it began from its own initial weights."""


class CheckpointStore:
    """A context: on leaving it, all that was begun is on the disk.

    Fork no process while it writes: `wait` first.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        retention: Retention | None = None,
        former: Mapping[str, Collection[str]] | None = None,
        companions: Sequence[Path] = (),
    ) -> None:
        """Sweeps what killed writers left. former: see `restore_checkpoint`; companions: see `write_checkpoint`."""
        self.replace = False
        """Whether a checkpoint of the same step that an attempt before left may be another one."""
        self._folder, self._identity, self._former = folder, identity, former or {}
        self._retention = retention or Retention()
        self._companions = companions
        self._memory = Memory()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._saved = time.monotonic()
        self._described: dict[Path, Checkpoint] = {}
        if folder.is_dir():
            sweep_temporaries(folder)

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._executor.shutdown(wait=True)
        if error is None:  # else that one is what the user has to hear of; the checkpoints before are whole
            self.wait()

    def save(
        self,
        learner: Learner,
        progress: Progress,
        state: str,
        chain: str | None = None,
        *,
        before: Callable[[], None] = lambda: None,
        after: Callable[[Sequence[Checkpoint]], None] = lambda kept: None,
    ) -> None:
        """Copies the state to memory; hashing, writing and removing what need not be kept go on beside the training.

        before, after: called there, before anything is written, and with all that is kept. If the disk has not yet
        taken the checkpoint before, this waits for it: memory holds one. Raises what the one before raised.
        """
        self.wait()
        snapshot = self._memory.take(learner, progress, state, chain)
        self._saved = time.monotonic()
        self._writing = self._executor.submit(self._write, snapshot, before, after)

    @property
    def seconds_since_save(self) -> float:
        return time.monotonic() - self._saved

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writing is not None and not self._writing.done()

    def check(self) -> None:
        """Raises what the last writing raised, if it has ended."""
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Returns when all is on the disk. Raises what the writing raised: StorageError, TraceError."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(
        self, snapshot: Snapshot, before: Callable[[], None], after: Callable[[Sequence[Checkpoint]], None]
    ) -> None:
        before()
        saved = write_checkpoint(self._folder, snapshot, self._identity, self._companions, self.replace)
        self._described[saved.folder] = saved
        self._look_at_others()
        self._remove_old(snapshot.progress)
        after([self._described[folder] for folder in list_checkpoints(self._folder)])

    def _look_at_others(self) -> None:
        """Digests each once; a broken one, which a whole one has now made up for, goes."""
        for folder in list_checkpoints(self._folder):
            if folder not in self._described:
                if check_checkpoint(folder):
                    remove_folder(folder)
                else:
                    self._described[folder] = describe_whole(folder)

    def _remove_old(self, progress: Progress) -> None:
        """Later ones, which are there where steps are computed again, stay until they are reached."""
        retention = self._retention
        folders = [path for path in list_checkpoints(self._folder) if _position_of(path)[0] <= progress.step]
        best = find_epoch_end(folders, progress.best_epoch)
        for folder in folders[: -retention.newest]:
            step, epoch = _position_of(folder)
            chosen = step == retention.first_step or _is_multiple(step, retention.every_steps)
            if folder.name.endswith(END):
                chosen = chosen or folder == best or _is_multiple(epoch, retention.every_epochs)
            if not chosen:
                remove_folder(folder)

    def restore(self, checkpoint: Checkpoint, learner: Learner) -> Progress:
        """Raises RecordError."""
        return restore_checkpoint(checkpoint, learner, self._identity, self._former)

    def list_whole(self) -> tuple[list[Checkpoint], dict[Path, list[str]]]:
        """Those that pass their digests, newest first, and by folder what is broken in the others."""
        whole: list[Checkpoint] = []
        broken: dict[Path, list[str]] = {}
        for folder in reversed(list_checkpoints(self._folder)):
            if problems := check_checkpoint(folder):
                broken[folder] = problems
            else:
                whole.append(describe_whole(folder))
        return whole, broken

    def best(self, progress: Progress) -> Checkpoint:
        """Raises RecordError where it is missing or broken."""
        self.wait()
        folder = find_epoch_end(list_checkpoints(self._folder), progress.best_epoch)
        if folder is None:
            raise RecordError(f"{self._folder} has no checkpoint of the best epoch, {progress.best_epoch}")
        return describe_checkpoint(folder)


class NoStore:
    """Of the processes of a team that keep no record."""

    busy = False
    seconds_since_save = 0.0

    def __enter__(self) -> NoStore:
        return self

    def __exit__(self, *_: object) -> None: ...

    def save(self, *_: object, **__: object) -> None: ...

    def check(self) -> None: ...

    def wait(self) -> None: ...


def _position_of(folder: Path) -> tuple[int, int]:
    """(step, epoch), from the name."""
    _, step, _, epoch = folder.name.removesuffix(END).split("-")
    return int(step), int(epoch)


def find_epoch_end(folders: Iterable[Path], epoch: int) -> Path | None:
    return next((path for path in folders if path.name.endswith(END) and _position_of(path)[1] == epoch), None)


def _is_multiple(number: int, of: int | None) -> bool:
    return of is not None and number % of == 0
