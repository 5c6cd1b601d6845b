"""A registry of many runs: one that was trained, and copies of its record under other names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from fresh import GENMED, run_fresh

from genmed.ground.sealed import seal_document
from genmed.records.registry import RunRecord
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.index import record_of
from genmed.workflows.known import open_for_writing

TINY_MODEL = f"{Path(__file__).resolve().parents[1] / 'tests/models/tiny.py'}:build"
LINKED = ("config.yaml", "environment.json", "metrics.csv", "data.json")


def train_tiny(root: Path, cache: Path, *more: str) -> RunFolder:
    """A finished run of the built-in dataset at 16 px: an epoch of 42 steps unless `more` says otherwise."""
    how = ["--model", TINY_MODEL, "--image-size", "16", "--epochs", "1", "--threads", "1", "--set", "run.report=false"]
    run_fresh([*GENMED, "train", *how, *more], {"GENMED_ROOT": str(root), "GENMED_CACHE": str(cache)})
    [folder] = (root / "runs").iterdir()
    return RunFolder(folder)


def multiply(first: RunFolder, count: int) -> None:
    """Makes its root hold `count` runs: all rows, and folders with a sealed run.json; other files are hard links."""
    root = first.path.parent.parent
    record, document = record_of(first), first.read()
    copies = _copy_records(record, document, root, count - 1)
    open_for_writing(root).rebuild([record, *copies])


def _copy_records(record: RunRecord, document: RunDocument, root: Path, count: int) -> Iterator[RunRecord]:
    first = RunFolder(root / record.run.path)
    prefix = document.name.removesuffix(document.id)
    for number in range(1, count + 1):
        run_id = f"{number:08x}"
        name, created = f"{prefix}{run_id}", document.created - timedelta(minutes=number)
        folder = root / "runs" / name
        folder.mkdir()
        for linked in LINKED:
            (folder / linked).hardlink_to(first.path / linked)
        plain = document.model_copy(update={"id": run_id, "name": name, "created": created}).model_dump(mode="json")
        (folder / "run.json").write_text(seal_document({"schema": plain.pop("schema_"), **plain}))
        yield replace(
            record,
            run=record.run.model_copy(update={"id": run_id, "name": name, "path": f"runs/{name}", "created": created}),
            checkpoints=[row.model_copy(update={"run_id": run_id}) for row in record.checkpoints],
            evaluations=[row.model_copy(update={"run_id": run_id}) for row in record.evaluations],
        )
