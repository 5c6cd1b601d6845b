"""What a person says of a run afterwards: tags, a note, that it be hidden. In run.json first, then in the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from genmed.ground.errors import RequestError
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.claim import alone_with, refuse_running
from genmed.workflows.index import write_now
from genmed.workflows.reporting import Reporter

Change = Callable[[RunDocument], dict[str, Any]]
"""From a document to the fields of it that are to be others."""


def add_tags(folder: RunFolder, root: Path, tags: Sequence[str], reporter: Reporter) -> RunDocument:
    """Those that the run has already stay where they are. Raises RequestError."""
    _check_tags(tags)
    return mark(folder, root, lambda run: {"tags": tuple(dict.fromkeys([*run.tags, *tags]))}, reporter)


def remove_tags(folder: RunFolder, root: Path, tags: Sequence[str], reporter: Reporter) -> RunDocument:
    """Raises RequestError where the run lacks one; then it keeps all."""

    def remove(run: RunDocument) -> dict[str, Any]:
        if missing := [tag for tag in tags if tag not in run.tags]:
            has = f"it has {', '.join(map(repr, run.tags))}" if run.tags else "it has none"
            raise RequestError(f"{run.name} has no tag {missing[0]!r}", has)
        return {"tags": tuple(tag for tag in run.tags if tag not in tags)}

    return mark(folder, root, remove, reporter)


def set_note(folder: RunFolder, root: Path, text: str, append: bool, reporter: Reporter) -> RunDocument:
    """append: as a new line of the note that is there."""

    def note(run: RunDocument) -> dict[str, Any]:
        return {"note": "\n".join(filter(None, [run.note, text])) if append else text}

    return mark(folder, root, note, reporter)


def set_hidden(folder: RunFolder, root: Path, hidden: bool, reporter: Reporter) -> RunDocument:
    """A hidden run is on no list, and is found by its name or id alone."""
    return mark(folder, root, lambda run: {"hidden": hidden}, reporter)


def mark(folder: RunFolder, root: Path, change: Change, reporter: Reporter) -> RunDocument:
    """Changes the run's document, then its row, which is written even where the document was as wanted: a crash
    between the two is mended by doing it again.

    Raises RequestError where a process works on the run, for it writes the document too; RecordError.
    """
    with alone_with(folder):
        document = folder.read()
        refuse_running(folder, document, root)
        fields = change(document)
        if any(getattr(document, name) != value for name, value in fields.items()):
            document = folder.update(**fields)
        _write_row(document, root, fields, reporter)
    return document


def _write_row(document: RunDocument, root: Path, fields: dict[str, Any], reporter: Reporter) -> None:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    write_now(root, reporter.message, lambda registry: registry.update_run(document.id, **plain))


def _check_tags(tags: Sequence[str]) -> None:
    for tag in tags:
        if not tag.strip() or not tag.isprintable():
            raise RequestError(f"a tag must be a word or several, got {tag!r}", "for example: genmed tag latest paper")
