"""resume: goes on with a run that was broken off, to the bit."""

from __future__ import annotations

from pathlib import Path

from genmed.engine.progress import Progress
from genmed.ground.errors import EnvironmentMismatch, RecordError, RequestError
from genmed.ground.files import sweep_temporaries
from genmed.records.environment import is_alive
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.assemble import Session, assemble
from genmed.workflows.execute import execute
from genmed.workflows.identity import Mismatch, compare_data, compare_session, read_config
from genmed.workflows.index import Index, open_for_writing, record_of
from genmed.workflows.reporting import Reporter
from genmed.workflows.train import open_store


def resume(folder: RunFolder, root: Path, reporter: Reporter, data_root: Path | None = None) -> RunFolder:
    """Continues the run from its newest whole checkpoint; steps recomputed on the way must equal the trace.

    data_root: where the data lie now, if not where they lay. A completed run is left as it is. Raises RequestError
    where the run lives, its record is broken, or config, data, code or environment differ in what can change bits;
    Interrupted, RunError.
    """
    document = folder.read()
    if document.status == "completed":
        reporter.message(f"{document.name} is already complete")
        return folder
    if document.status == "running" and is_alive(document.process):
        raise RequestError(f"{document.name} is running now, as process {document.process['pid']}", "wait for its end")
    config = read_config(folder, document, data_root)
    session = assemble(config, reporter, trust_stamps=False)
    _refuse_mismatch(folder, document, session)
    sweep_temporaries(folder.path)
    store = open_store(folder, session)
    checkpoint, broken = store.newest_whole()
    for problem in broken:
        reporter.message(f"{problem}; an earlier checkpoint is taken")
    if checkpoint is None and (broken or document.epochs_done > 1):
        raise RecordError(f"{document.name} has no whole checkpoint left", "train it again with --config")
    progress = store.restore(checkpoint, session.learner) if checkpoint else Progress()
    done = progress.epoch if progress.epoch_over else progress.epoch - 1
    folder.write_metrics([row for row in folder.read_metrics() if (row["epoch"] or 0) <= done])
    folder.update(epochs_done=done, steps_done=progress.step, best_epoch=progress.best_epoch)
    where = describe_position(session, progress)
    folder.log(f"Resuming at {where}")
    reporter.message(f"resuming {document.id} at {where}")
    registry = open_for_writing(root)
    registry.replace_run(record_of(folder))
    execute(session, folder, Index(registry, reporter), reporter, store, progress)
    return folder


def describe_position(session: Session, progress: Progress) -> str:
    """`epoch 7/20, step 113/450`: the next step."""
    task = session.task
    if progress.finished:
        return "the final evaluation"
    epoch, step = progress.epoch, progress.step_in_epoch + 1
    if progress.epoch_over or step > task.steps_per_epoch:
        epoch, step = epoch + 1, 1
    return f"epoch {epoch}/{task.total_epochs}, step {step}/{task.steps_per_epoch}"


def _refuse_mismatch(folder: RunFolder, document: RunDocument, session: Session) -> None:
    found = compare_data(folder, document, session.data) + compare_session(folder, document, session)
    changing = [entry for entry in found if entry.changes_bits]
    if changing:
        raise EnvironmentMismatch(
            f"{document.name} cannot be resumed to the bit: {_describe(changing)}",
            "put it back as it was; `genmed env RUN` shows all differences",
        )


def _describe(mismatches: list[Mismatch]) -> str:
    more = f"; and {len(mismatches) - 3} more" if len(mismatches) > 3 else ""
    shown = [f"{entry.what} was {entry.recorded}, is {entry.found}" for entry in mismatches[:3]]
    return "; ".join(shown) + more
