"""What the reading commands show: one run, all runs. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from genmed.engine.checkpoint import check_checkpoint, describe_whole, list_checkpoints
from genmed.ground.determinism import apply_settings
from genmed.ground.errors import GenmedError, RecordError
from genmed.ground.fingerprints import digest_file
from genmed.ground.sealed import read_sealed
from genmed.ground.wording import name_some, say_count
from genmed.parts.data.records import SPLITS
from genmed.records.config import Config
from genmed.records.environment import capture_environment, compare_environments
from genmed.records.environment.code import is_of_user
from genmed.records.run_folder import RUNS, RunDocument, RunFolder
from genmed.workflows.assemble import choose_device
from genmed.workflows.code import diff_code, find_code, list_changes, read_code
from genmed.workflows.early_stop import explain_early_stop, is_stopped_early
from genmed.workflows.identity import read_config
from genmed.workflows.known import find_run as find_run
from genmed.workflows.verification.last import read_last

SOFTWARE = ("python.", "packages.", "package_sources.", "libraries.")
HARDWARE = ("cpu.", "gpus", "cuda.")
Check = tuple[bool, str, str]
"""(ticked, item, reason)"""


def describe_run(folder: RunFolder) -> dict[str, Any]:
    """The documented object of train, resume and show. Raises RecordError."""
    document = folder.read()
    whole = [path for path in list_checkpoints(folder.checkpoints_path) if not check_checkpoint(path)]
    checkpoints = [describe_whole(path) for path in whole]
    stopped = is_stopped_early(document.status, document.epochs_done, document.epochs_total)
    return {
        "schema": 1,
        "id": document.id,
        "name": document.name,
        "status": document.true_status,
        "path": f"{RUNS}/{folder.name}",
        "seed": document.seed,
        "dataset": document.dataset,
        "model": document.model,
        "device": document.device,
        "epochs_done": document.epochs_done,
        "steps_done": document.steps_done,
        "metrics": document.metrics,
        "fingerprint": document.fingerprint,
        "trace_digest": document.trace_digest,
        "checkpoints": [
            {"path": entry.path, "epoch": entry.epoch, "step": entry.step, "sha256": entry.sha256}
            for entry in checkpoints
        ],
        "parent": document.parent,
        "accepted": [entry.model_dump(mode="json") for entry in document.accepted],
        "tags": list(document.tags),
        "note": document.note,
        "hidden": document.hidden,
        "benchmark": _find_benchmark(folder),
        "host": document.process["host"],
        "stopped_early": stopped,
        "stopped_because": explain_early_stop(document, _read_metrics(folder)) if stopped else None,
        "verification": read_last(folder, document.started),
    }


def _read_metrics(folder: RunFolder) -> list[dict[str, float | None]]:
    """Nothing where metrics.csv is damaged, which `resume` and `verify` say."""
    try:
        return folder.read_metrics()
    except RecordError:
        return []


def _find_benchmark(folder: RunFolder) -> dict[str, Any] | None:
    """The run's figures beside published ones, if there are such, as its own evaluation has them."""
    try:
        return read_sealed(folder.evaluations_path / "test.json").get("benchmark")
    except RecordError:
        return None


def check_off(folder: RunFolder, document: RunDocument) -> list[Check]:
    """The checklist of reproducibility for one run."""
    return [
        _check_seed(folder, document),
        _check_surroundings(folder, document, "versions as recorded", SOFTWARE),
        _check_surroundings(folder, document, "hardware as recorded", HARDWARE),
        _check_code(folder, document),
        *_check_config(folder, document),
        _check_split(folder),
    ]


def describe_environment(config: Config, folder: RunFolder | None) -> dict[str, Any]:
    """The environment here and now, set as for a run of the config; for a run, with how it differs from the recorded
    and why each difference can or cannot change bits.

    This process was started with the config's variables.
    """
    compute = config.compute
    apply_settings(strict=compute.determinism == "strict", tf32=compute.tf32, threads=compute.threads)
    if folder is None:
        return capture_environment(choose_device(compute.device))
    document = folder.read()
    recorded = read_sealed(folder.environment_path)
    found = capture_environment(document.device)
    code, known = find_code(folder, config), read_code(folder)
    recorded["code"] = {"digest": known.digest, "files": known.all_files}
    here = {"digest": code.without(known.later).digest, "files": dict(code.files)}
    differences = compare_environments(recorded, {**found, "code": here}, document.device)
    return {
        **found,
        "differences": [asdict(entry) for entry in differences],
        "code_diff": diff_code(folder, code),
    }


def _check_seed(folder: RunFolder, document: RunDocument) -> Check:
    item = "seed set"
    try:
        started_with = read_sealed(folder.environment_path)["determinism"]["PYTHONHASHSEED"]
    except RecordError as error:
        return False, item, error.message
    return started_with == str(document.seed), item, f"{document.seed}; PYTHONHASHSEED was {started_with}"


def _check_surroundings(folder: RunFolder, document: RunDocument, item: str, parts: Sequence[str]) -> Check:
    """Then against now, as far as it can change bits and can be told without torch."""
    try:
        recorded = read_sealed(folder.environment_path)
    except RecordError as error:
        return False, item, error.message
    found = capture_environment(document.device, with_torch=False)
    differences = [
        entry
        for entry in compare_environments(recorded, found, document.device)
        if entry.changes_bits and entry.found is not None and entry.field.startswith(tuple(parts))
    ]
    named = "; ".join(f"{entry.field} was {entry.recorded}, is {entry.found}" for entry in differences[:3])
    agreed = f"torch {recorded['packages']['torch']}" if parts is SOFTWARE else str(recorded["cpu"]["model"])
    return not differences, item, named or agreed


def _check_config(folder: RunFolder, document: RunDocument) -> list[Check]:
    try:
        config = read_config(folder, document)
    except GenmedError as error:
        return [(False, "workers recorded", "config.yaml cannot be read"), (False, "config saved", error.message)]
    workers = f"{config.compute.num_workers}; free to vary"
    return [(True, "workers recorded", workers), (True, "config saved", "config.yaml, fingerprint as recorded")]


def _check_code(folder: RunFolder, document: RunDocument) -> Check:
    """All files of code then against now, without running any of them."""
    item = "code as recorded"
    try:
        recorded = read_code(folder)
        changed = list_changes(recorded, find_code(folder, read_config(folder, document)))
    except GenmedError as error:
        return False, item, error.message
    if changed:
        return False, item, f"not as recorded: {name_some(changed)}; `genmed env {document.id}` shows the difference"
    count = sum(map(is_of_user, recorded.all_files))
    return True, item, f"genmed's own, and {say_count(count, 'file')} of yours" if count else "genmed's own"


def _check_split(folder: RunFolder) -> Check:
    item = "split recorded"
    try:
        described = read_sealed(folder.data_path)
    except RecordError as error:
        return False, item, error.message
    if not folder.images_path.is_file() or digest_file(folder.images_path) != described["images"]["sha256"]:
        return False, item, f"{folder.images_path.name} is missing or was edited"
    sides = described["split"]["sides"]
    unit = "images" if sides["train"]["patients"] is None else "patients"
    return True, item, f"{unit}: " + ", ".join(f"{sides[side][unit]} {side}" for side in SPLITS)
