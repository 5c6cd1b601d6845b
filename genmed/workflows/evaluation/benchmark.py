"""A run's figures beside those that were published for its dataset, and in what it was made otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genmed.parts.data.datasets import find_dataset
from genmed.parts.data.records import SPLITS
from genmed.parts.metrics.medmnist import METHOD, PUBLISHED, SOURCE
from genmed.records.config import Config, affects_bits, flatten, layer_of_file
from genmed.records.run_folder import RunDocument

PROTOCOL = "medmnist"
"""The config that comes with genmed and trains as the authors did."""
FREE = ("seed", "compute.device", "compute.determinism", "compute.threads", "compute.cpu_isa", "compute.memory_format")
"""Keys that affect bits, and of which a protocol says nothing."""


def compare_with_published(
    document: RunDocument, config: Config, data: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Of a document of `evaluations/`; None where nothing is published, or of other images or classes.

    data: data.json.
    """
    published = PUBLISHED.get(evaluation["dataset"])
    if published is None or evaluation["split"] != "test":
        return None
    if tuple(evaluation["classes"]) != find_dataset(evaluation["dataset"]).classes:
        return None
    best = config.training.select == "best"
    epoch = document.best_epoch if best else document.epochs_done
    rows = [_make_row("best" if best else "last", epoch, evaluation["metrics"])]
    if last := evaluation.get("last"):
        rows.append(_make_row("last", last["epoch"], last["metrics"]))
    return {
        "source": SOURCE,
        "method": METHOD,
        "published": published._asdict(),
        "rows": rows,
        "protocol": PROTOCOL,
        "departures": [*_list_departures(config, evaluation["dataset"]), *_list_other_counts(data, evaluation)],
    }


def _make_row(state: str, epoch: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {"state": state, "epoch": epoch, "auc": metrics["test_auroc_macro"], "acc": metrics["test_accuracy"]}


def _list_departures(config: Config, dataset: str) -> list[dict[str, Any]]:
    """Keys that affect bits and that the run has otherwise than the protocol."""
    protocol, own = flatten(Config().replace(**layer_of_file(PROTOCOL).values)), flatten(config)
    split = "official" if own["data.split"] == "patient" else own["data.split"]  # these sets come with one
    wanted = protocol | {"data.dataset": dataset, "data.split": split}
    return [
        {"key": key, "protocol": value, "run": own[key]}
        for key, value in wanted.items()
        if affects_bits(key) and key not in FREE and own[key] != value
    ]


def _list_other_counts(data: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Images that the published set has and these data have not, or the other way round."""
    official = find_dataset(evaluation["dataset"]).counts
    found = {"test": evaluation["images"]}
    if data["dataset"] == evaluation["dataset"]:
        found |= {side: data["split"]["sides"][side]["images"] for side in ("train", "val")}
    return [
        {"key": f"images of {side}", "protocol": official[side], "run": found[side]}
        for side in SPLITS
        if side in found and found[side] != official[side]
    ]
