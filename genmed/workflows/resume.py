"""resume: goes on with a run that was broken off, to the bit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from genmed.engine.checkpoint import Checkpoint, read_chain
from genmed.engine.checkpoint_store import CheckpointStore
from genmed.engine.progress import Progress
from genmed.engine.trace import read_whole_part
from genmed.ground.errors import EnvironmentMismatch, RecordError, TraceError
from genmed.ground.files import sweep_temporaries, write_bytes
from genmed.records.run_folder import AcceptedChange, RunDocument, RunFolder, now
from genmed.workflows.assemble import Session, assemble, write_data
from genmed.workflows.claim import claimed
from genmed.workflows.execute import execute
from genmed.workflows.identity import Mismatch, compare_code, compare_data, compare_session, read_config, read_images
from genmed.workflows.index import Index, open_for_writing, record_of
from genmed.workflows.reporting import Reporter
from genmed.workflows.train import open_store, write_environment

Part = Literal["code", "environment", "data"]
ACCEPTABLE: tuple[Part, ...] = get_args(Part)
MOST_KEPT = 100


def resume(
    folder: RunFolder,
    root: Path,
    reporter: Reporter,
    *,
    data_root: Path | None = None,
    accept: Collection[str] = (),
) -> RunFolder:
    """Continues the run from its newest whole checkpoint; steps recomputed on the way must equal the trace.

    data_root: where the data lie now, if not where they lay. accept: what may differ from the record, of ACCEPTABLE;
    the run is marked for it. A completed run is left as it is. Raises RequestError where another process works on the
    run, its record is broken, or config, data, code or environment differ in what can change bits; Interrupted,
    RunError.
    """
    document = folder.read()
    if document.status == "completed":
        reporter.message(f"{document.name} is already complete")
        return folder
    with claimed(folder, root) as document:
        for path in (folder.path, folder.checkpoints_path):
            if path.is_dir():
                sweep_temporaries(path, alone=True)
        session = assemble(read_config(folder, document, data_root), reporter, trust_stamps=False)
        mend_data_record(folder, document, session, reporter)
        differences = find_differences(folder, document, session, accept)
        changes = take_accepted(document, differences, accept)
        store = open_store(folder, document, session)
        checkpoint = choose_checkpoint(folder, document, store, reporter)
        progress = store.restore(checkpoint, session.learner) if checkpoint else Progress()
        note_accepted(folder, changes, progress.step)
        replace_records(folder, session, changes, progress.step)
        where = describe_position(session, progress)
        done = progress.epoch if progress.epoch_over else progress.epoch - 1
        folder.write_metrics([row for row in folder.read_metrics() if (row["epoch"] or 0) <= done])
        folder.update(epochs_done=done, steps_done=progress.step, best_epoch=progress.best_epoch)
        folder.log(f"Resuming at {where}")
        reporter.message(f"resuming {document.id} at {where}")
        registry = open_for_writing(root)
        registry.replace_run(record_of(folder))
    index = Index(registry, reporter)
    try:
        execute(session, folder, index, reporter, store, progress, data_root=data_root, replace_steps=bool(changes))
    except TraceError as error:
        raise TraceError(error.message, explain(differences)) from error
    return folder


def choose_checkpoint(
    folder: RunFolder, document: RunDocument, store: CheckpointStore, reporter: Reporter
) -> Checkpoint | None:
    """The newest whole checkpoint to which the trace leads; None: the run starts from its initial state.

    What is damaged is named, and costs the time of computing its steps again, but no bit. Raises RecordError where
    there were checkpoints and none is left.
    """
    whole, broken = store.list_whole()
    for problem in broken:
        reporter.message(f"{problem}; an earlier checkpoint is taken")
    if not whole and (broken or document.checkpoint_step):
        raise RecordError(f"{document.name} has no whole checkpoint left", "train it again with --config")
    usable = whole
    if any(read_chain(checkpoint.folder) for checkpoint in whole):
        trace = read_whole_part(folder.trace_path)
        usable = [entry for entry in whole if trace and trace.leads_to(entry.step, read_chain(entry.folder))]
        problem = (trace.problem or trace.torn) if trace else "it is missing or has no header"
        if trace and len(usable) < len(whole) and not problem:
            problem = f"it ends at step {trace.last}, or is not that of the checkpoint of step {whole[0].step}"
        if problem:
            reporter.message(f"{folder.trace_path} is damaged: {problem}; the steps from there are computed again")
    if not usable and document.start and whole:
        raise RecordError(f"{document.name} begins at step {document.start.step}, and that checkpoint is not whole")
    return usable[0] if usable else None


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


@dataclass(frozen=True)
class Change:
    """A part that is not as recorded, and was accepted."""

    what: Part
    mismatches: Sequence[Mismatch]


def find_differences(
    folder: RunFolder, document: RunDocument, session: Session, accept: Collection[str]
) -> list[Mismatch]:
    """All that is not as recorded. A damaged environment.json is one difference where that part is accepted.

    Raises RecordError.
    """
    found = compare_data(folder, document, session.data)
    if any(entry.part == "data" for entry in found):  # as one value too, which states belong to
        found.insert(0, Mismatch("data", "data", document.data_fingerprint, session.data.fingerprint, True))
    try:
        return found + compare_session(folder, document, session)
    except RecordError as error:
        if "environment" not in accept:
            hint = f"{error.hint}, or go on with --accept environment, which takes the present one and marks the run"
            raise RecordError(error.message, hint) from None
        name = folder.environment_path.name
        found.append(Mismatch("environment", name, error.message, "the present one", True))
        return found + compare_code(document, session, {})


def take_accepted(document: RunDocument, differences: Sequence[Mismatch], accept: Collection[str]) -> list[Change]:
    """What can change bits, by part. Raises EnvironmentMismatch where a part is not accepted."""
    changing = [entry for entry in differences if entry.changes_bits]
    refused = [entry for entry in changing if entry.part not in accept]
    if refused:
        parts = list(dict.fromkeys(entry.part for entry in refused))
        hint = "put it back as it was; `genmed env RUN` shows all differences"
        if all(part in ACCEPTABLE for part in parts):
            flags = " ".join(f"--accept {part}" for part in parts)
            hint += f"; or go on all the same with {flags}, which marks the run for ever"
        raise EnvironmentMismatch(f"{document.name} cannot be resumed to the bit: {_describe(refused)}", hint)
    by_part = {part: [entry for entry in changing if entry.part == part] for part in ACCEPTABLE}
    return [Change(part, entries) for part, entries in by_part.items() if entries]


def explain(differences: Sequence[Mismatch]) -> str:
    """Why steps computed again may have other results, as far as the record tells."""
    if not differences:
        return "code, data and environment are those recorded: this machine does not compute the same twice"
    return f"what differs from the record, none of it known to change bits: {_describe(differences)}"


def note_accepted(folder: RunFolder, changes: Sequence[Change], step: int) -> None:
    """Marks the run in run.json and its log, for ever."""
    entries = [
        AcceptedChange(
            what=change.what,
            step=step,
            when=now(),
            changes=tuple(entry.to_json() for entry in change.mismatches[:MOST_KEPT]),
            count=len(change.mismatches),
        )
        for change in changes
    ]
    if entries:
        folder.update(accepted=(*folder.read().accepted, *entries))
    for change in changes:
        folder.log(f"Accepted another {change.what} from step {step} on: {_describe(change.mismatches)}")


def replace_records(folder: RunFolder, session: Session, changes: Sequence[Change], step: int) -> None:
    """Makes what is here now the record that the next resume compares with; what was recorded stays beside it.

    run.json, which marks the run, was first: a crash in between asks for the same changes again.
    """
    parts = {change.what for change in changes}
    paths = [folder.environment_path] if parts & {"code", "environment"} else []
    paths += [folder.data_path, folder.images_path] if "data" in parts else []
    for path in paths:
        until = path.with_name(f"{path.stem}-until-step-{step:07d}{path.suffix}")
        if path.is_file() and not until.exists():
            write_bytes(until, path.read_bytes())
    if parts:
        folder.update(code_digest=session.code["digest"], data_fingerprint=session.data.fingerprint)
    if parts & {"code", "environment"}:
        write_environment(folder, session)
    if "data" in parts:
        write_data(folder, session)


def mend_data_record(folder: RunFolder, document: RunDocument, session: Session, reporter: Reporter) -> None:
    """Writes data.json and its table anew where they are damaged and the data are those of the run."""
    if session.data.fingerprint != document.data_fingerprint:
        return
    try:
        read_images(folder)
    except RecordError as error:
        write_data(folder, session)
        reporter.message(f"{error.message}; the data are those of the run, so it is written anew")


def _describe(mismatches: Sequence[Mismatch]) -> str:
    shown = []
    for entry in mismatches[:3]:
        which = f" ({entry.why})" if entry.part == "code" and entry.why else ""
        shown.append(f"{entry.what} was {entry.recorded}, is {entry.found}{which}")
    more = f"; and {len(mismatches) - 3} more" if len(mismatches) > 3 else ""
    return "; ".join(shown) + more
