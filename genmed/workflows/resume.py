"""resume: goes on with a run that was broken off, to the bit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from genmed.engine.checkpoint import Checkpoint, read_chain, read_progress
from genmed.engine.checkpoint_store import CheckpointStore
from genmed.engine.progress import Progress
from genmed.engine.trace import RecordedTrace, read_whole_part
from genmed.ground.errors import RecordError, TraceError
from genmed.ground.files import sweep_temporaries, write_bytes
from genmed.ground.team import Team, TookPart
from genmed.records.config import Config
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.acceptance import (
    explain,
    find_differences,
    note_accepted,
    refuse_changed_code,
    replace_records,
    take_accepted,
)
from genmed.workflows.assemble import Session, assemble
from genmed.workflows.claim import claimed
from genmed.workflows.execute import execute
from genmed.workflows.identity import read_config
from genmed.workflows.index import Index, record_of
from genmed.workflows.known import open_for_writing
from genmed.workflows.mending import mend_code_record, mend_data_record
from genmed.workflows.reporting import Reporter, Silent
from genmed.workflows.team import agree, assist, hand_over, joined
from genmed.workflows.tensorboard import check_package
from genmed.workflows.train import describe_processes, open_store


def resume(
    folder: RunFolder,
    root: Path,
    reporter: Reporter,
    *,
    data_root: Path | None = None,
    accept: Collection[str] = (),
    tensorboard: bool = False,
) -> RunFolder:
    """Continues the run from its newest whole checkpoint; steps recomputed on the way must equal the trace.

    data_root: where the data lie now, if not where they lay. accept: what may differ from the record, of
    `acceptance.ACCEPTABLE`; the run is marked for it. tensorboard: write event files from here on. A completed run is
    left as it is. Raises RequestError where another process works on the run, its record is broken, or config, data,
    code or environment differ in what can change bits; Interrupted, RunError.
    """
    if is_complete(folder.read(), reporter):
        return folder
    config = read_config(folder, folder.read(), data_root)
    if tensorboard or config.run.tensorboard:
        check_package()
    with joined(config) as team:
        if not team.leads:
            go_along(team, config)
        return go_on(team, folder, root, reporter, data_root=data_root, accept=accept, tensorboard=tensorboard)


def go_along(team: Team, config: Config) -> NoReturn:
    """Takes part in what the leader goes on with. Raises TookPart at its end."""
    if team.hear(False, patiently=True):
        session = assemble(config, Silent(), trust_stamps=False, team=team)
        agree(session)
        assist(session, hand_over(session, None))
    raise TookPart


def go_on(
    team: Team,
    folder: RunFolder,
    root: Path,
    reporter: Reporter,
    *,
    data_root: Path | None = None,
    accept: Collection[str] = (),
    tensorboard: bool = False,
) -> RunFolder:
    """The part of `resume` of the process that keeps the record."""
    with claimed(folder, root) as document:
        if is_complete(document, reporter):  # by another process meanwhile
            team.hear(False, patiently=True)
            return folder
        team.hear(True, patiently=True)
        for path in (folder.path, folder.checkpoints_path):
            if path.is_dir():
                sweep_temporaries(path, alone=True)
        config = read_config(folder, document, data_root)
        refuse_changed_code(folder, document, config, accept, reporter)
        session = assemble(config, reporter, trust_stamps=False, team=team)
        agree(session)
        mend_data_record(folder, document, session, reporter)
        differences = find_differences(folder, document, session, accept)
        changes = take_accepted(document, differences, accept)
        store = open_store(folder, document, session)
        need_best = session.task.config.training.select == "best"
        checkpoint = choose_checkpoint(folder, document, store, reporter, need_best)
        progress = store.restore(checkpoint, session.learner) if checkpoint else Progress()
        hand_over(session, progress)
        registry = open_for_writing(root)
    note_accepted(folder, changes, progress.step)
    replace_records(folder, session, changes, progress.step)
    mend_code_record(folder, session, reporter)
    replace = any(entry.step >= progress.step for entry in folder.read().accepted)
    restore_metrics(folder, checkpoint, progress)
    done = count_epochs(progress)
    where = describe_position(session, progress)
    folder.update(epochs_done=done, steps_done=progress.step, best_epoch=progress.best_epoch)
    folder.log(f"Resuming at {where}")
    for line in describe_processes(session):
        folder.log(line)
    reporter.message(f"resuming {document.id} at {where}")
    index, record = Index(registry, reporter), record_of(folder)
    index.attempt(lambda registry: registry.replace_run(record))
    try:
        more = {"replace_steps": replace, "tensorboard": tensorboard}
        execute(session, folder, index, reporter, store, progress, data_root=data_root, **more)
    except TraceError as error:
        raise TraceError(error.message, explain(differences)) from error
    return folder


def is_complete(document: RunDocument, reporter: Reporter) -> bool:
    """Says so if it is."""
    if document.status == "completed":
        reporter.message(f"{document.name} is already complete")
    return document.status == "completed"


def choose_checkpoint(
    folder: RunFolder, document: RunDocument, store: CheckpointStore, reporter: Reporter, need_best: bool
) -> Checkpoint | None:
    """The newest whole checkpoint to which the trace leads; None: the run starts from its initial state.

    What is damaged is named, and costs the time of computing its steps again, but no bit. need_best: the best state so
    far has to be there as well. Raises RecordError where there were checkpoints and none is left.
    """
    whole, broken = store.list_whole()
    problems = [problem for found in broken.values() for problem in found]
    if not whole and (broken or document.checkpoint_step):
        what = "; ".join(problems) or f"{folder.checkpoints_path} is empty"
        raise RecordError(f"{document.name} has no whole checkpoint left: {what}", "train it again with --config")
    first_step = document.start.step if document.start else 0  # the best of the run before may be of an earlier one
    usable = [entry for entry in whole if entry.step >= first_step and (not need_best or _has_best(entry, whole))]
    if any(read_chain(checkpoint.folder) for checkpoint in whole):
        trace = read_whole_part(folder.trace_path)
        reached = [entry for entry in usable if _is_reached(entry, document, trace)]
        problem = (trace.problem or trace.torn) if trace else "it is missing or has no header"
        if trace and len(reached) < len(usable) and not problem:
            problem = f"it ends at step {trace.last}, or is not that of the checkpoint of step {usable[0].step}"
        if problem:
            reporter.message(f"{folder.trace_path} is damaged: {problem}; the steps from there are computed again")
        usable = reached
    chosen = usable[0] if usable else None
    taken = f"the checkpoint of step {chosen.step}" if chosen else "the beginning"
    for problem in problems:
        reporter.message(f"{problem}; taken is {taken}")
    if chosen is None and document.start and whole:
        raise RecordError(
            f"{document.name} begins at step {document.start.step}; that state, or the best one before it, is not whole"
        )
    return chosen


def _has_best(checkpoint: Checkpoint, whole: Sequence[Checkpoint]) -> bool:
    """Whether the best epoch so far, of which the final metrics may be, is among the whole ones, or a better one came
    later, which took its place and is computed again.
    """
    epoch = read_progress(checkpoint.folder).best_epoch
    later = [read_progress(entry.folder).best_epoch for entry in whole if entry.step > checkpoint.step]
    return epoch == 0 or any(entry.is_end_of(epoch) for entry in whole) or any(best > epoch for best in later)


def _is_reached(checkpoint: Checkpoint, document: RunDocument, trace: RecordedTrace | None) -> bool:
    """Whether the trace leads to the state, or the run begins with it."""
    if document.start and checkpoint.step == document.start.step:
        return checkpoint.state == document.start.state
    return trace is not None and trace.leads_to(checkpoint.step, read_chain(checkpoint.folder))


def count_epochs(progress: Progress) -> int:
    """Those that are over."""
    return progress.epoch if progress.epoch_over else progress.epoch - 1


def restore_metrics(folder: RunFolder, checkpoint: Checkpoint | None, progress: Progress) -> None:
    """metrics.csv as it was at the state: a state is written beside the training, which may have ended an epoch by the
    time that the table is copied, so that only the rows of epochs that were over count."""
    copy = checkpoint and checkpoint.folder / folder.metrics_path.name
    rows = []
    if copy and copy.is_file():
        write_bytes(folder.metrics_path, copy.read_bytes())
        rows = [row for row in folder.read_metrics() if (row["epoch"] or 0) <= count_epochs(progress)]
    if rows:
        folder.write_metrics(rows)
    else:
        folder.metrics_path.unlink(missing_ok=True)


def describe_position(session: Session, progress: Progress) -> str:
    """`epoch 7/20, step 113/450`: the next step."""
    task = session.task
    if progress.finished:
        return "the final evaluation"
    epoch, step = progress.epoch, progress.step_in_epoch + 1
    if progress.epoch_over:
        epoch, step = epoch + 1, 1
    if step > task.steps_per_epoch:
        return f"epoch {epoch}/{task.total_epochs}, validation"
    return f"epoch {epoch}/{task.total_epochs}, step {step}/{task.steps_per_epoch}"
