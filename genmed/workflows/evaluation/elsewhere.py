"""A trained run on images that are not its own test: another dataset, another split, another hospital."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genmed.ground.errors import DataError, RequestError
from genmed.ground.fingerprints import digest_file
from genmed.ground.wording import name_some
from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.datasets import find_dataset, is_related
from genmed.parts.data.records import EXCLUSIVE, SPLITS, Records
from genmed.parts.data.split import assign_sides
from genmed.parts.data.synonyms import match_classes
from genmed.parts.metrics import Scores
from genmed.records.config import Config
from genmed.records.config.sections import flatten
from genmed.records.predictions import Prediction, write_predictions
from genmed.records.run_folder import RunFolder
from genmed.workflows.assemble import fingerprint_data, load_images
from genmed.workflows.configure import configure
from genmed.workflows.evaluation.kept import write_evaluation
from genmed.workflows.evaluation.measured import choose_by_validation, measure_results
from genmed.workflows.evaluation.scored import Rows, Scored, read_scored
from genmed.workflows.evaluation.trained import Trained, load_trained, report_packages, score_images
from genmed.workflows.identity import read_images
from genmed.workflows.reporting import Reporter

ALL = "all"
SIDES = (*SPLITS, ALL)
SECTIONS = ("data.", "labels.", "manifest.")
"""What of a config is about data."""
ORIGINS = {"data.dataset": "--dataset", "data.root": "--data-root"}


@dataclass(frozen=True)
class Elsewhere:
    """Which images, and what to make of their labels."""

    dataset: str | None = None
    """None: the run's own."""
    root: Path | None = None
    """None: the dataset's own place; of the run's own dataset the run's."""
    side: str | None = None
    """train, val, test or all; None: the test where the data come with one, else all, if the run saw none of them."""
    match: Mapping[str, str] | None = None
    """The run's class -> the dataset's, where their names are not known to be one."""
    settings: Sequence[str] = ()
    """KEY=VALUE of the sections data, labels and manifest."""
    device: str = "auto"


def evaluate_elsewhere(folder: RunFolder, asked: Elsewhere, reporter: Reporter) -> dict[str, Any]:
    """Scores the images by the run's network and measures it; kept in the run's `evaluations/`, and returned.

    Thresholds are those that the run chose on its own validation. Raises RequestError, DataError, RecordError.
    """
    check_request(asked)
    trained = load_trained(folder, reporter, asked.device)
    config = choose_other_data(trained, asked)
    records, images = load_images(config, reporter, trust_stamps=True)
    matched = _match(trained, records, asked.match or {})
    split = assign_sides(records, config.data)
    side = asked.side or ("test" if split.official else ALL)
    rows = np.array([row for row, there in enumerate(split.sides) if side in (there, ALL)], dtype=np.int64)
    if not len(rows):
        raise DataError(f"the data have no image of {side}", "choose another --split")
    chosen = images.choose(rows.tolist())
    seen = count_seen(folder, chosen)
    if seen and not asked.side:
        raise RequestError(
            f"the run was trained or selected on {seen:,} of these {len(rows):,} images ({side})",
            "say which are meant: --split test, or --split all to measure all of them all the same",
        )
    scores = score_images(trained, chosen, side)
    report_packages(trained, folder, reporter)
    facts = find_dataset(config.data.dataset)
    scored = _join(trained, records, matched, rows, scores, facts.name)
    results = measure_results(scored, choose_by_validation(read_scored(folder, "val")))
    fingerprint = fingerprint_data(records, split, images)
    name = f"{facts.name.replace(':', '-')}-{side}-{fingerprint.removeprefix('sha256:')[:8]}"
    path = folder.evaluations_path / f"{name}.csv"
    folder.evaluations_path.mkdir(exist_ok=True)
    write_predictions(path, scored.classes, _list_predictions(records, scored, rows, side))
    known = {
        "dataset": facts.name,
        "title": facts.title,
        "own": False,
        "data_fingerprint": fingerprint,
        "split": side,
        "split_source": split.source if side != ALL else "all images, whatever their side",
        "thresholds_from": f"val of {folder.name}",
        "matched": matched,
        "without_match": [label for label in trained.classes if label not in matched],
        "related": is_related(trained.document.dataset, facts.name),
        "trained_on": seen,
        "predictions": {"file": path.name, "sha256": digest_file(path)},
    }
    return write_evaluation(folder, name, known, results, reporter)


def check_request(asked: Elsewhere) -> None:
    """Raises RequestError for what can be told before torch is imported and data are read."""
    if asked.side not in (None, *SIDES):
        raise RequestError(f"--split is {asked.side!r}", f"it must be one of {', '.join(SIDES)}")
    for setting in asked.settings:
        if not setting.startswith(SECTIONS):
            raise RequestError(f"--set {setting} is not about data", f"keys here begin {', '.join(SECTIONS)}")


def choose_other_data(trained: Trained, asked: Elsewhere) -> Config:
    """The config of the other data, prepared as the run's own were. Raises ConfigError."""
    own = trained.config
    dataset = asked.dataset or own.data.dataset
    flags: dict[str, Any] = {}
    if dataset == own.data.dataset:  # it is read as the run read it
        flags = {key: value for key, value in flatten(own).items() if key.startswith(SECTIONS)}
    flags |= {
        "data.dataset": dataset,
        "data.root": str(asked.root) if asked.root else flags.get("data.root"),
        "data.image_size": own.data.image_size,
        "data.colour": "rgb" if trained.channels == 3 else "grey",
    }
    origins = {key: ORIGINS.get(key, f"{key} of the run") for key in flags}
    return configure(flags, settings=asked.settings, origins=origins).config


def _match(trained: Trained, records: Records, chosen: Mapping[str, str]) -> dict[str, str]:
    """The run's class -> the dataset's. Raises RequestError where that leaves nothing to measure."""
    exclusive = [kind in EXCLUSIVE for kind in (trained.kind, records.task)]
    found = match_classes(trained.classes, records.classes, chosen)
    if exclusive[0] and exclusive[1] and len(found) == len(trained.classes) == len(records.classes):
        return found
    if exclusive[0] or not found:
        raise RequestError(
            f"the run knows {name_some(trained.classes)}, the data {name_some(records.classes)}:"
            f" {'all classes must match where they exclude each other' if exclusive[0] else 'nothing is the same'}",
            "say what is the same with --match 'RUN CLASS=DATA CLASS'",
        )
    return found


def _join(
    trained: Trained, records: Records, matched: Mapping[str, str], rows: Rows, scores: Scores, dataset: str
) -> Scored:
    """The chosen images with scores and truth of the classes that both know."""
    ours = [trained.classes.index(name) for name in matched]
    theirs = [records.classes.index(name) for name in matched.values()]
    nothing = np.zeros((len(records), len(matched)), np.float32)
    every = Scored(
        classes=tuple(matched),
        kind=trained.kind,
        ids=records.ids,
        scores=nothing,
        truth=records.labels[:, theirs],
        patients=records.patients,
        studies=records.studies,
        sites=records.sites,
        traits=records.traits,
        dataset=dataset,
    )
    return replace(every.choose(rows), scores=scores[:, ours])


def _list_predictions(records: Records, scored: Scored, rows: Rows, side: str) -> list[Prediction]:
    return [
        Prediction(*records.describe(row), side, truth, scores)
        for row, truth, scores in zip(rows, scored.truth.tolist(), scored.scores.tolist(), strict=True)
    ]


def count_seen(folder: RunFolder, images: ImageBytes) -> int:
    """How many of the images, by their decoded pixels, the run was trained or selected on."""
    used = {row["decoded"] for row in read_images(folder).values() if row["split"] in ("train", "val")}
    return sum(digest in used for digest in images.digests.decoded)
