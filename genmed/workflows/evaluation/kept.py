"""`evaluations/` in a run's folder: one sealed document for each set of images that the run was evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmed.ground.errors import RecordError
from genmed.ground.files import storage_errors
from genmed.ground.fingerprints import digest_file
from genmed.ground.sealed import read_sealed, write_sealed
from genmed.records.run_folder import RunFolder, now
from genmed.workflows.evaluation.benchmark import compare_with_published
from genmed.workflows.evaluation.measured import Results, choose_by_validation, measure_results
from genmed.workflows.evaluation.scored import read_scored
from genmed.workflows.finished import check_complete
from genmed.workflows.identity import read_config
from genmed.workflows.index import note_evaluation
from genmed.workflows.reporting import Reporter, Silent

OWN = "test"
"""The evaluation on the run's own test images."""
SILENT = Silent()


def evaluate_own(folder: RunFolder, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Results on the run's own test images, from its own tables; kept, and returned.

    Raises RequestError where the run is not complete, RecordError where its tables are damaged.
    """
    check_complete(folder.read())
    results = _measure_table(folder, folder.predictions_path)
    described = read_sealed(folder.data_path)
    known = {
        "dataset": described["dataset"],
        "title": described["title"],
        "own": True,
        "data_fingerprint": described["fingerprint"],
        "split": "test",
        "split_source": described["split"]["source"],
        "thresholds_from": "val",
        "predictions": {"file": folder.predictions_path.name, "sha256": digest_file(folder.predictions_path)},
        "last": _describe_last(folder),
    }
    return write_evaluation(folder, OWN, known, results, reporter)


def _measure_table(folder: RunFolder, path: Path) -> Results:
    """The test, with thresholds of the same table's validation."""
    return measure_results(read_scored(folder, "test", path), choose_by_validation(read_scored(folder, "val", path)))


def _describe_last(folder: RunFolder) -> dict[str, Any] | None:
    """The last epoch's state, where the run was told to measure it beside the best one's."""
    path = folder.last_predictions_path
    if not path.exists():
        return None
    return {
        "epoch": folder.read().epochs_done,
        "metrics": _measure_table(folder, path).to_json("test")["metrics"],
        "predictions": {"file": path.name, "sha256": digest_file(path)},
    }


def write_evaluation(
    folder: RunFolder, name: str, known: Mapping[str, Any], results: Results, reporter: Reporter = SILENT
) -> dict[str, Any]:
    """known: what the images are, by the document's keys. Its headline goes into the registry, if that can be."""
    document = folder.read()
    evaluation = {
        "schema": 1,
        "name": name,
        "run": document.name,
        "fingerprint": document.fingerprint,
        "created": now().isoformat(),
        **known,
        **results.to_json(str(known["split"])),
    }
    evaluation["benchmark"] = compare_with_published(
        document, read_config(folder, document), read_sealed(folder.data_path), evaluation
    )
    with storage_errors(folder.evaluations_path):
        folder.evaluations_path.mkdir(exist_ok=True)
    write_sealed(folder.evaluations_path / f"{name}.json", evaluation)
    note_evaluation(folder, evaluation, reporter)
    return evaluation


def read_evaluations(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """By name, the run's own test first. Raises RecordError where one is damaged."""
    names = sorted(path.stem for path in folder.evaluations_path.glob("*.json"))
    return {name: read_evaluation(folder, name) for name in sorted(names, key=lambda name: (name != OWN, name))}


def read_evaluation(folder: RunFolder, name: str) -> dict[str, Any]:
    """Raises RecordError where it is missing or damaged."""
    path = folder.evaluations_path / f"{name}.json"
    document = read_sealed(path)
    if document.get("schema") != 1:
        raise RecordError(f"{path} is of schema {document.get('schema')}, which this genmed does not read")
    return document


def own_results(folder: RunFolder) -> dict[str, Any]:
    """The evaluation on the run's own test: the one kept if it is of the predictions that are there, else anew."""
    try:
        kept = read_evaluation(folder, OWN)
        if kept["predictions"]["sha256"] == digest_file(folder.predictions_path):
            return kept
    except (RecordError, FileNotFoundError):
        pass
    return evaluate_own(folder)
