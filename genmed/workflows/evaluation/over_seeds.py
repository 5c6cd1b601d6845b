"""How far results lie apart from seed to seed. Never kept: it changes as runs come and go."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from genmed.ground.errors import RecordError
from genmed.records.run_folder import RunFolder
from genmed.workflows.evaluation.kept import OWN, read_evaluation
from genmed.workflows.siblings import Sibling, list_siblings

SAME = ("data_fingerprint", "split", "classes", "matched")
"""Keys that evaluations of several runs share where they speak of one thing."""


def add_seeds(folder: RunFolder, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The run's evaluation with `seeds`: the runs that differ from it in the seed alone and were measured on the same
    images, a run a seed, its own included; each metric's mean, standard deviation and ends over them. None where there
    is no other."""
    document = folder.read()
    measured: dict[int, tuple[str, Mapping[str, Any]]] = {}
    for sibling in list_siblings(folder.path.absolute().parent.parent, document):  # of one seed the newest counts
        metrics = _read_metrics(sibling, evaluation)
        if metrics is not None:
            measured[sibling.document.seed] = sibling.document.name, metrics
    measured[document.seed] = document.name, evaluation["metrics"]
    if len(measured) < 2:
        return {**evaluation, "seeds": None}
    runs = [measured[seed] for seed in sorted(measured)]
    spread = {
        "runs": [name for name, _ in runs],
        "seeds": sorted(measured),
        "metrics": {
            name: summarise([metrics.get(name, {}).get("value") for _, metrics in runs])
            for name in evaluation["metrics"]
        },
    }
    return {**evaluation, "seeds": spread}


def summarise(values: Sequence[float | None]) -> dict[str, float | None]:
    """values: of two seeds or more. All None where it is undefined for one of them."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return dict.fromkeys(("mean", "sd", "lowest", "highest"))
    return {
        "mean": statistics.fmean(known),
        "sd": statistics.stdev(known),
        "lowest": min(known),
        "highest": max(known),
    }


def _read_metrics(sibling: Sibling, evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """None where it was not measured on these images, or what it came to is damaged or of another state."""
    wanted = [evaluation.get(key) for key in SAME]
    for name in dict.fromkeys((evaluation["name"], OWN)):
        try:
            found = read_evaluation(sibling.folder, name)
        except RecordError:
            continue
        same = [found.get(key) for key in SAME] == wanted
        if same and found["fingerprint"] == sibling.document.fingerprint:
            return dict(found["metrics"])
    return None
