"""Which studies there are, which one a person means, and how far each is; without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genmed.ground.errors import RecordError, RunNotFoundError
from genmed.records.config import suggest
from genmed.records.run_folder import RUNS
from genmed.records.study_folder import STUDIES, StudyDocument, StudyFolder, list_study_folders
from genmed.workflows.studies.found import Found, Place, find_runs

ORDER = ("failed", "running", "interrupted")
"""The status of many runs is the first of theirs in this order; of some done and some not begun it is interrupted."""


def find_study(reference: str | None, root: Path) -> tuple[StudyFolder, StudyDocument]:
    """By its name, a unique beginning of it, its id, or `latest`; the latest where none is named.

    Raises RunNotFoundError, RecordError.
    """
    studies = _newest_first(root)
    if reference in (None, "latest"):
        if not studies:
            raise RunNotFoundError(f"there are no studies below {root}", "`genmed study --seeds 5` makes one")
        return studies[0]
    assert reference is not None
    fitting = [entry for entry in studies if reference in (entry[1].name, entry[1].id)]
    fitting = fitting or [entry for entry in studies if reference and entry[1].name.startswith(reference)]
    names = [study.name for _, study in fitting]
    if len(fitting) > 1:
        raise RunNotFoundError(f"{reference!r} fits {len(fitting)} studies", f"which one: {', '.join(names)}?")
    if not fitting:
        known = [study.name for _, study in studies]
        raise RunNotFoundError(
            f"no study goes by {reference!r}", suggest(reference, known) if known else "there are no studies here"
        )
    return fitting[0]


def list_studies(root: Path) -> list[dict[str, Any]]:
    """Newest first; empty where there are none. One whose study.json is damaged has its name and the error."""
    described = []
    for folder in list_study_folders(root):
        try:
            study = folder.read()
        except RecordError as error:
            described.append({"schema": 1, "study": folder.name, "status": "damaged", "error": error.message})
            continue
        found = find_runs(root, study)
        described.append(
            {**identify_study(study), **count_runs(found), "cells": [c.name for c in study.cells], "error": None}
        )
    return sorted(described, key=lambda entry: str(entry.get("created", "")), reverse=True)


def identify_study(study: StudyDocument) -> dict[str, Any]:
    """The keys that name it."""
    return {
        "schema": 1,
        "study": study.name,
        "id": study.id,
        "path": f"{RUNS}/{STUDIES}/{study.name}",
        "created": study.created.isoformat(),
        "metric": f"test_{study.metric}",
        "seeds": list(study.seeds),
    }


def count_runs(found: Mapping[Place, Found]) -> dict[str, Any]:
    """How far it is."""
    done = sum(entry.status == "completed" for entry in found.values())
    return {"status": summarise_status(list(found.values())), "runs_done": done, "runs_total": len(found)}


def summarise_status(found: Sequence[Found]) -> str:
    """Of many runs."""
    statuses = {entry.status for entry in found}
    if len(statuses) == 1:
        return statuses.pop()
    return next((status for status in ORDER if status in statuses), "interrupted")


def _newest_first(root: Path) -> list[tuple[StudyFolder, StudyDocument]]:
    studies = []
    for folder in list_study_folders(root):
        try:
            studies.append((folder, folder.read()))
        except RecordError:  # `genmed study list` names it
            continue
    return sorted(studies, key=lambda entry: entry[1].created, reverse=True)
