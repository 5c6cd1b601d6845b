"""resume RUN --epochs N: a new run that continues a finished one from where it ended, and is linked to it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from genmed.engine.checkpoint import Checkpoint, read_chain, read_progress
from genmed.engine.checkpoint_store import CheckpointStore
from genmed.engine.learner import fingerprint_learner
from genmed.engine.progress import Progress
from genmed.ground.errors import ConfigError, RecordError
from genmed.ground.team import TookPart
from genmed.records.config import Config, ResolvedConfig, flatten
from genmed.records.registry import open_registry
from genmed.records.run_folder import RunDocument, RunFolder, Start, check_root, new_run_folder
from genmed.workflows.acceptance import find_differences, note_accepted, refuse_changed_code, take_accepted
from genmed.workflows.assemble import Session, assemble
from genmed.workflows.execute import execute
from genmed.workflows.finished import check_complete
from genmed.workflows.identity import list_former, read_config
from genmed.workflows.index import Index, record_of
from genmed.workflows.known import open_for_writing
from genmed.workflows.reporting import Reporter
from genmed.workflows.team import agree, assist, hand_over, joined
from genmed.workflows.tensorboard import check_package
from genmed.workflows.train import introduce, open_store, run_prefix, write_record


def extended_config(folder: RunFolder, document: RunDocument, epochs: int, data_root: Path | None = None) -> Config:
    """The finished run's config with more epochs. Raises RequestError where it cannot be continued so."""
    check_complete(document)
    if epochs <= document.epochs_done:
        raise ConfigError(f"--epochs must be more than the {document.epochs_done} of {document.name}, got {epochs}")
    config = read_config(folder, document, data_root)
    return config.replace(**{"training.epochs": epochs, "training.max_steps": None})


def extend(
    folder: RunFolder,
    root: Path,
    reporter: Reporter,
    epochs: int,
    *,
    data_root: Path | None = None,
    accept: Collection[str] = (),
    tensorboard: bool = False,
) -> RunFolder:
    """Trains a new run from the last state of a finished one up to `epochs` in all; the finished one stays as it is.

    The learning rate follows the schedule of a run of `epochs`; early stopping counts anew; the best epoch so far is
    still a candidate. Raises as `resume` does.
    """
    check_root(root)
    parent = folder.read()
    config = extended_config(folder, parent, epochs, data_root)
    if tensorboard:
        config = config.replace(**{"run.tensorboard": True})
    if config.run.tensorboard:
        check_package()
    open_registry(root, create=False)
    with joined(config) as team:
        if team.leads:
            refuse_changed_code(folder, parent, config, accept, reporter)
        session = assemble(config, reporter, trust_stamps=False, team=team)
        agree(session)
        if team.leads:
            return _lead(session, folder, root, reporter, epochs, accept)
        assist(session, hand_over(session, None))
        raise TookPart


def _lead(
    session: Session, folder: RunFolder, root: Path, reporter: Reporter, epochs: int, accept: Collection[str]
) -> RunFolder:
    """Goes on and keeps the record."""
    parent, config = folder.read(), session.task.config
    changes = take_accepted(parent, find_differences(folder, parent, session, accept), accept)
    identity = {**session.identity, "config": parent.config_fingerprint}
    ended = CheckpointStore(folder.checkpoints_path, identity, former=list_former(parent))
    last, best = _find_states(folder, parent, session, ended)
    registry = open_for_writing(root)
    origins = {**dict.fromkeys(flatten(config), f"run {parent.id}"), "training.epochs": f"resume {parent.id} --epochs"}
    with new_run_folder(root, run_prefix(session)) as (run_id, building, child):
        building.write_metrics(folder.read_metrics())
        progress = _copy_states(ended, building, session, last, best)
        start = Start(step=last.step, epoch=last.epoch, state=_state(session, progress), chain=read_chain(last.folder))
        write_record(
            building,
            run_id,
            child.name,
            session,
            ResolvedConfig(config, origins),
            parent=parent.id,
            start=start,
            epochs_done=progress.epoch,
            steps_done=progress.step,
            best_epoch=progress.best_epoch,
            checkpoint_step=progress.step,
        )
        note_accepted(building, changes, progress.step)
    index, record = Index(registry, reporter), record_of(child)
    index.attempt(lambda registry: registry.replace_run(record))
    lines = introduce(session, child)
    lines.append(f"Continues: {parent.name}, from epoch {last.epoch}, step {last.step}")
    for line in lines:
        child.log(line)
        reporter.message(line)
    hand_over(session, progress)
    execute(session, child, index, reporter, open_store(child, child.read(), session), progress)
    return child


def _find_states(
    folder: RunFolder, parent: RunDocument, session: Session, ended: CheckpointStore
) -> tuple[Checkpoint, Checkpoint]:
    """The checkpoints of the last and of the best epoch. Raises RecordError, ConfigError."""
    whole, broken = ended.list_whole()
    last = next((checkpoint for checkpoint in whole if checkpoint.step == parent.steps_done), None)
    best = next((checkpoint for checkpoint in whole if checkpoint.is_end_of(parent.best_epoch)), None)
    if last is None or best is None:
        problems = [problem for found in broken.values() for problem in found]
        raise RecordError(
            "; ".join(problems) or f"{folder.checkpoints_path} has no checkpoint of the last or best epoch",
            "train a new run with --config",
        )
    if read_progress(last.folder).step_in_epoch != session.task.steps_per_epoch:
        raise ConfigError(
            f"{parent.name} ended within epoch {last.epoch}, by training.max_steps: it cannot be continued by epochs",
            "train a new run with --config",
        )
    return last, best


def _copy_states(
    ended: CheckpointStore, child: RunFolder, session: Session, last: Checkpoint, best: Checkpoint
) -> Progress:
    """Writes both states as the child's own and leaves the learner in the last one, with epochs to come."""
    progress = Progress()
    with CheckpointStore(child.checkpoints_path, session.identity, companions=(child.metrics_path,)) as own:
        for checkpoint in dict.fromkeys((best, last)):
            progress = ended.restore(checkpoint, session.learner)
            if checkpoint == last:
                progress.finished, progress.epochs_without_better = False, 0
            own.save(session.learner, progress, _state(session, progress), read_chain(checkpoint.folder))
    return progress


def _state(session: Session, progress: Progress) -> str:
    return fingerprint_learner(session.learner, progress)
