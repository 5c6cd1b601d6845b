"""Differences between a run's record and what is here: refused, or accepted on demand and noted for ever."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from genmed.ground.errors import EnvironmentMismatch, RecordError
from genmed.ground.files import write_bytes
from genmed.records.config import Config
from genmed.records.run_folder import AcceptedChange, RunDocument, RunFolder, now
from genmed.workflows.assemble import Session, write_data
from genmed.workflows.code import diff_code, find_code, read_code, write_copies, write_environment
from genmed.workflows.identity import (
    CODE_FILES,
    Mismatch,
    compare_code,
    compare_code_digest,
    compare_data,
    compare_session,
    shorten,
)
from genmed.workflows.reporting import Reporter

Part = Literal["code", "environment", "data"]
ACCEPTABLE: tuple[Part, ...] = get_args(Part)
MOST_KEPT = 100
UNTIL = "-until-step-"
"""In the name of a record that another took the place of."""


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
        return found + compare_code_digest(document, session.code)


def refuse_changed_code(
    folder: RunFolder, document: RunDocument, config: Config, accept: Collection[str], reporter: Reporter
) -> None:
    """Shows what changed in the user's files, and raises EnvironmentMismatch where that is not accepted.

    Nothing of the code is run before.
    """
    try:
        recorded, found = read_code(folder), find_code(folder, config)
    except RecordError:  # for `find_differences` to judge
        return
    if changed := compare_code(document, recorded, found):
        if diff := diff_code(folder, found, own=False):
            reporter.message(diff)
        take_accepted(document, changed, accept)


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
    harmless = [entry for entry in differences if not entry.changes_bits]
    if not harmless:
        return "code, data and environment are those recorded: this machine does not compute the same twice"
    return f"what differs from the record, none of it known to change bits: {_describe(harmless)}"


def note_accepted(folder: RunFolder, changes: Sequence[Change], step: int) -> None:
    """Marks the run in run.json and its log, for ever.

    What was accepted at a later step before counts from this step on: the steps between are computed again.
    """
    before = folder.read().accepted
    entries = [entry.model_copy(update={"step": min(entry.step, step)}) for entry in before]
    entries += [
        AcceptedChange(
            what=change.what,
            step=step,
            when=now(),
            changes=tuple(entry.to_json() for entry in change.mismatches[:MOST_KEPT]),
            count=len(change.mismatches),
        )
        for change in changes
    ]
    if tuple(entries) != before:
        folder.update(accepted=entries)
    for change in changes:
        folder.log(f"Accepted another {change.what} from step {step} on: {_describe(change.mismatches)}")


def replace_records(folder: RunFolder, session: Session, changes: Sequence[Change], step: int) -> None:
    """Makes what is here now the record that the next resume compares with; what was recorded stays beside it.

    run.json, which marks the run, was first: a crash in between asks for the same changes again.
    """
    parts = {change.what for change in changes}
    paths = [folder.environment_path] if parts & {"code", "environment"} else []
    paths += [folder.data_path, folder.images_path] if "data" in parts else []
    if "code" in parts and folder.code_path.is_dir():
        paths += sorted(path for path in folder.code_path.rglob("*") if path.is_file() and UNTIL not in path.name)
    for path in paths:
        until = path.with_name(f"{path.stem}{UNTIL}{step:07d}{path.suffix}")
        if path.is_file() and not until.exists():
            write_bytes(until, path.read_bytes())
    if parts:
        folder.update(code_digest=session.code.digest, data_fingerprint=session.data.fingerprint)
    if parts & {"code", "environment"}:
        renew_code(folder, session)
    if "data" in parts:
        write_data(folder, session)


def renew_code(folder: RunFolder, session: Session) -> None:
    """Writes environment.json and the copies of the user's files as they are here, also of what the run imported after
    it began."""
    try:
        later = read_code(folder).later
        found = find_code(folder, session.task.config, session.code).paths
    except RecordError:  # it is damaged, and another environment was accepted in its place
        later, found = {}, {}
    more = {name: found[name] for name in later if name in found and name not in session.code.files}
    code = session.code.with_files(more)
    write_copies(folder, code, code.paths)
    write_environment(folder, session.environment, code, more)


def _describe(mismatches: Sequence[Mismatch]) -> str:
    shown = []
    if any(entry.what == "code" and entry.why for entry in mismatches):  # which names the files
        mismatches = [entry for entry in mismatches if not entry.what.startswith(CODE_FILES)]
    for entry in mismatches[:3]:
        which = f" ({entry.why})" if entry.part == "code" and entry.why else ""
        shown.append(f"{entry.what} was {shorten(entry.recorded)}, is {shorten(entry.found)}{which}")
    more = f"; and {len(mismatches) - 3} more" if len(mismatches) > 3 else ""
    return "; ".join(shown) + more
