"""What `genmed study` and `study show` tell, with the documented keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError
from genmed.parts.metrics.intervals import LEVEL, RESAMPLES
from genmed.records.config import suggest
from genmed.records.study_folder import StudyDocument, StudyFolder
from genmed.workflows.studies.found import Found, Place, find_runs
from genmed.workflows.studies.listing import count_runs, identify_study, summarise_status
from genmed.workflows.studies.plan import AT_OWN_THRESHOLD, check_metric
from genmed.workflows.studies.results import find_results


def describe_study(
    folder: StudyFolder,
    study: StudyDocument,
    root: Path,
    metric: str | None = None,
    failed: Mapping[Place, str] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The documented object, and its results as they are kept. metric: another than the study's own. failed: what
    could not begin just now, of which there is no record.

    Raises ConfigError for a metric that there is not or that cannot compare, RecordError where a run's tables
    are damaged.
    """
    found = find_runs(root, study)
    for place, error in (failed or {}).items():
        if found[place].status == "pending":
            found[place] = Found("failed", failure=error)
    check_metric(metric or study.metric)
    chosen = (metric or study.metric).removeprefix("test_")
    results = find_results(folder, study, found, chosen)
    for cell in results["cells"].values():
        if f"test_{chosen}" not in cell["metrics"]:
            names = [name.removeprefix("test_") for name in cell["metrics"]]
            known = [name for name in names if not name.startswith(AT_OWN_THRESHOLD)]
            raise ConfigError(f"{study.name} has no metric {chosen!r}", suggest(chosen, known))
    described = {
        **identify_study(study),
        **count_runs(found),
        "metric": f"test_{chosen}",
        "level": LEVEL,
        "resamples": RESAMPLES,
        "unit": results["unit"],
        "cells": [_describe_cell(study, number, found, results, f"val_{chosen}") for number in range(len(study.cells))],
        "comparisons": results["comparisons"],
        "flips": [{"cell": name, **cell["flips"]} for name, cell in results["cells"].items()],
        "notes": results["notes"],
    }
    return described, results


def _describe_cell(
    study: StudyDocument, number: int, found: Mapping[Place, Found], results: Mapping[str, Any], validated: str
) -> dict[str, Any]:
    cell = study.cells[number]
    of_seeds = {seed: found[number, seed] for seed in study.seeds}
    runs = [
        {
            "seed": seed,
            "status": entry.status,
            "id": entry.document.id if entry.document else None,
            "run": entry.folder.name if entry.folder else None,
            "epochs_done": entry.document.epochs_done if entry.document else 0,
            "trace_digest": entry.document.trace_digest if entry.document else None,
            "metrics": dict(entry.document.metrics) if entry.document else {},
            "error": entry.error,
        }
        for seed, entry in of_seeds.items()
    ]
    figures = [entry.document.metrics.get(validated) for entry in of_seeds.values() if entry.document]
    values = [value for value in figures if value is not None]
    return {
        "cell": cell.name,
        "settings": cell.settings,
        "status": summarise_status(list(of_seeds.values())),
        "runs": runs,
        "val_mean": sum(values) / len(values) if values else None,
        "metrics": results["cells"].get(cell.name, {}).get("metrics", {}),
    }
