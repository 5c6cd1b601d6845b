"""A run by several processes: the leader keeps the record, the others compute their shards and keep none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint import Checkpoint
from genmed.engine.checkpoint_store import NoStore
from genmed.engine.loop import EpochReport, Training
from genmed.engine.progress import Progress
from genmed.engine.step import StepRecord
from genmed.engine.trace import NoTrace
from genmed.ground.errors import EnvironmentMismatch, GenmedError, RecordError, RunError
from genmed.ground.shared_memory import name_machine
from genmed.ground.team import ALONE, Team, TeamError, TookPart, is_member, join, leave
from genmed.records.config import Config
from genmed.records.environment import compare_environments
from genmed.records.run_folder import RunDocument, RunFolder, list_run_folders, now
from genmed.workflows.assemble import Session, choose_device
from genmed.workflows.execute import evaluate_final, make_loader
from genmed.workflows.recording import StopSignal


@contextmanager
def joined(config: Config) -> Iterator[Team]:
    """The team of this process, as torchrun started it. Raises TookPart in one that is not needed.

    A process that fails tells the others why, before it leaves them.
    """
    if not is_member():
        yield ALONE
        return
    compute = config.compute
    cuda = choose_device(compute.device) == "cuda"
    team = join(compute.shards, compute.patience_seconds, cuda=cuda, share_memory=compute.share_memory)
    try:
        yield team
    except (TeamError, TookPart):
        raise
    except BaseException as error:
        if team.link:
            known = error if isinstance(error, GenmedError) else RunError(repr(error))
            team.link.say_why({"message": known.message, "hint": known.hint, "code": known.exit_code})
        raise
    finally:
        leave()


def name_launch() -> str | None:
    """What torchrun calls the start of this process: the same after it has started its processes again.

    By `--rdzv-id` a batch system gives the same name to a job that is queued again. None where it was not torchrun.
    """
    if not is_member():
        return None
    name = os.environ["TORCHELASTIC_RUN_ID"]
    return name if name != "none" else f"process {os.getppid()} of {name_machine()}"  # torchrun itself


def find_begun(root: Path, config: Config) -> str | None:
    """The folder of the newest run of this config that was begun under this launch, whose processes are gone.

    None where there is none, or it is complete and torchrun has been started anew.
    """
    launch = name_launch()
    if launch is None:
        return None
    fingerprint = config.replace(**{"compute.device": choose_device(config.compute.device)}).fingerprint
    found: list[tuple[RunFolder, RunDocument]] = []
    for folder in list_run_folders(root):
        with suppress(RecordError):  # what is wrong with another run is no concern of this one
            document = folder.read()
            if (document.launch, document.config_fingerprint) == (launch, fingerprint):
                found.append((folder, document))
    if not found:
        return None
    folder, document = max(found, key=lambda entry: entry[1].created)
    if document.status == "completed" and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    if document.status == "running":  # by processes that torchrun has ended before it started these
        folder.update(status="interrupted", ended=now(), error="its processes were started again")
    return folder.name


def agree(session: Session) -> None:
    """Raises EnvironmentMismatch where a process has other data, code, initial weights or libraries than the leader.

    What can change bits, that is. Of the others TeamError, for it is the leader that speaks.
    """
    team, device = session.task.team, session.task.device
    own = {**session.identity, "initial state": session.initial}
    told = team.tell((socket.gethostname(), own, session.environment), patiently=True)
    _, identity, environment = told[0]
    for rank, (host, found, around) in enumerate(told):
        unlike = [f"another {name}" for name, value in identity.items() if found[name] != value]
        unlike += [
            f"{entry.field} {entry.found} instead of {entry.recorded}"
            for entry in compare_environments(environment, around, device)
            if entry.changes_bits
        ]
        if unlike:
            raise (EnvironmentMismatch if team.leads else TeamError)(
                f"rank {rank} on {host} has {', '.join(unlike)}", "give all processes the same data, code and packages"
            )


def hand_over(session: Session, progress: Progress | None) -> Progress:
    """The leader's progress, and its state in every learner."""
    team, learner = session.task.team, session.learner
    if team.size == 1:
        assert progress
        return progress
    parts: list[Any] = [learner.model, learner.optimizer, *([learner.scaler] if learner.scaler else [])]
    if progress:
        team.hear((progress.to_json(), [part.state_dict() for part in parts]), patiently=True)
        return progress
    nothing: tuple[dict[str, Any], list[Any]] = {}, []
    place, states = team.hear(nothing, patiently=True)
    for part, state in zip(parts, states, strict=True):
        part.load_state_dict(state)
    return Progress.from_json(place)


@dataclass(frozen=True)
class Assistant:
    """The engine's observer where no record is kept: it hears signals alone."""

    stop: StopSignal

    def on_step(self, record: StepRecord, images: int) -> None: ...

    def on_epoch(self, report: EpochReport) -> None: ...

    def on_checkpoint(self, kept: Sequence[Checkpoint], best_epoch: int) -> None: ...

    def stop_asked(self) -> str | None:
        return self.stop.name


def assist(session: Session, progress: Progress) -> None:
    """Computes this process's shards to the end of the training, and its part of the final evaluation."""
    stop = StopSignal()
    task, learner = session.task, session.learner
    training = Training(task, learner, progress, make_loader(task), NoTrace(), NoStore(), Assistant(stop))
    with stop.heard():
        training.run()
        evaluate_final(training)
