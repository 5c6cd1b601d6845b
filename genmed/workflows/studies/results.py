"""What came of a study: each cell's metrics over seeds and patients, cells compared, predictions that flip.

All of it is of the test images. It is a function of the runs' own tables, kept in results.json for as long as these
are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from genmed.ground.errors import RecordError
from genmed.ground.fingerprints import digest_json
from genmed.ground.sealed import read_sealed, write_sealed
from genmed.ground.wording import name_some, say_count
from genmed.parts.metrics.comparison import (
    FEWEST_SEEDS,
    Difference,
    OverSeeds,
    compare,
    correct_for_many,
    draw_seed_weights,
    summarise,
)
from genmed.parts.metrics.flips import find_flips
from genmed.parts.metrics.intervals import LEAST_PATIENTS, LEVEL, RESAMPLES, find_sure, measure_in, resample
from genmed.parts.metrics.statistics import Floats, Resamples
from genmed.records.run_folder import RunFolder
from genmed.records.study_folder import StudyDocument, StudyFolder
from genmed.workflows.evaluation.measured import SEED, Thresholds, choose_by_validation
from genmed.workflows.evaluation.scored import Scored, read_scored
from genmed.workflows.studies.found import Found, Place

SCHEMA = 2


@dataclass(frozen=True)
class SeedRun:
    """A finished run as the study sees it."""

    judged: Scored
    thresholds: Thresholds
    values: Mapping[str, Floats]
    """Metric -> (1,) on all test patients; nan where undefined."""
    drawn: Mapping[str, Floats]
    """Metric -> (RESAMPLES,) in resamples of patients, those of which there are enough."""


@dataclass(frozen=True)
class CellRuns:
    """The finished runs of one cell, by seed."""

    runs: Mapping[int, SeedRun]

    @cached_property
    def first(self) -> Scored:
        return next(iter(self.runs.values())).judged

    def values(self, metric: str, seeds: list[int]) -> Floats:
        """(S,)"""
        return np.concatenate([self.runs[seed].values[metric] for seed in seeds])

    def drawn(self, metric: str, seeds: list[int]) -> Floats:
        """(S, R); nan where there are too few patients."""
        unsure = np.full(RESAMPLES, np.nan)
        return np.stack([self.runs[seed].drawn.get(metric, unsure) for seed in seeds])

    def sees_the_same(self, other: CellRuns) -> bool:
        """Whether both are measured on the same images of the same patients with the same labels."""
        one, two = self.first, other.first
        same = (one.classes, one.ids, one.units) == (two.classes, two.ids, two.units)
        return same and np.array_equal(one.truth, two.truth)


def find_results(
    folder: StudyFolder, study: StudyDocument, found: Mapping[Place, Found], metric: str
) -> dict[str, Any]:
    """The kept ones, if they are of these runs and this metric; else made anew. Nothing is written."""
    key = _identify(study, found, metric)
    try:
        kept = read_sealed(folder.results_path)
    except RecordError:  # missing, or damaged: it is made of the runs
        kept = {}
    return kept if kept.get("of") == key else {"schema": SCHEMA, "of": key, **make_results(study, found, metric)}


def keep_results(folder: StudyFolder, results: Mapping[str, Any]) -> None:
    """Writes them down."""
    write_sealed(folder.results_path, results)


def make_results(study: StudyDocument, found: Mapping[Place, Found], metric: str) -> dict[str, Any]:
    """cells: by name, metrics and flips; comparisons of all pairs; notes on how to read them. metric: without `test_`.

    Raises RecordError where a run's tables are damaged.
    """
    cells: dict[str, CellRuns] = {}
    for number, cell in enumerate(study.cells):
        done = {seed: found[number, seed] for seed in study.seeds if found[number, seed].status == "completed"}
        runs = {seed: _read_run(entry.folder) for seed, entry in done.items() if entry.folder}
        if runs:
            cells[cell.name] = CellRuns(runs)
    comparisons = _compare_all(cells, metric)
    return {
        "unit": next((cell.first.unit for cell in cells.values()), None),
        "cells": {name: {"metrics": _measure(cell), "flips": _count_flips(cell)} for name, cell in cells.items()},
        "comparisons": comparisons,
        "notes": [*_note_few(cells, comparisons), *_note(study, cells), *_note_unsure(cells, metric)],
    }


def _read_run(folder: RunFolder) -> SeedRun:
    thresholds = choose_by_validation(read_scored(folder, "val"))
    judged = read_scored(folder, "test").pool()
    sample = judged.to_sample(thresholds)
    once = Resamples(np.ones((sample.unit_count, 1), np.uint8))
    sure = find_sure(sample)
    drawn = resample(sample, SEED, RESAMPLES) if sure else {}
    return SeedRun(judged, thresholds, measure_in(sample, once), {name: drawn[name] for name in drawn if name in sure})


def _measure(cell: CellRuns) -> dict[str, Any]:
    seeds = list(cell.runs)
    weights = draw_seed_weights(SEED, RESAMPLES, len(seeds))
    found: dict[str, OverSeeds] = {}
    for metric in cell.runs[seeds[0]].values:
        found[metric] = summarise(cell.values(metric, seeds), cell.drawn(metric, seeds), weights)
    return {f"test_{metric}": {**asdict(entry), "seeds": len(seeds)} for metric, entry in found.items()}


def _compare_all(cells: Mapping[str, CellRuns], metric: str) -> list[dict[str, Any]]:
    """Each pair that was measured on the same patients, over the seeds that both have."""
    compared = []
    for (a, one), (b, two) in itertools.combinations(cells.items(), 2):
        seeds = [seed for seed in one.runs if seed in two.runs]
        if seeds and one.sees_the_same(two) and all(metric in cell.runs[seeds[0]].values for cell in (one, two)):
            compared.append((a, b, len(seeds), _compare(one, two, metric, seeds)))
    corrected = correct_for_many([entry.p for *_, entry in compared])
    return [
        {"a": a, "b": b, "metric": f"test_{metric}", **asdict(entry), "p_holm": p_holm, "seeds": seeds}
        for (a, b, seeds, entry), p_holm in zip(compared, corrected, strict=True)
    ]


def _compare(one: CellRuns, two: CellRuns, metric: str, seeds: list[int]) -> Difference:
    values = one.values(metric, seeds), two.values(metric, seeds)
    drawn = one.drawn(metric, seeds), two.drawn(metric, seeds)
    return compare(values, drawn, draw_seed_weights(SEED, RESAMPLES, len(seeds)))


def _count_flips(cell: CellRuns) -> dict[str, Any]:
    runs = list(cell.runs.values())
    flips = find_flips([run.judged.scores for run in runs], [run.thresholds for run in runs], cell.first.classes)
    unit = "study" if cell.first.studies else "image"
    return {"seeds": len(runs), "of": unit, **asdict(flips)}


def _note_few(cells: Mapping[str, CellRuns], comparisons: list[dict[str, Any]]) -> list[str]:
    """Where a cell has few seeds, or two that are compared have fewer in common."""
    own = [len(cell.runs) for cell in cells.values()]
    shared = {f"{entry['a']} - {entry['b']}": entry["seeds"] for entry in comparisons}
    fewest = min([*own, *shared.values()], default=FEWEST_SEEDS)
    if fewest >= FEWEST_SEEDS:
        return []
    seeds = say_count(fewest, "seed")
    if fewest not in own:
        seeds += f" in common ({name_some([pair for pair, count in shared.items() if count == fewest])})"
    if fewest == 1:
        return [f"{seeds}: nothing is known of the spread over seeds; intervals are of patients alone, no p-values"]
    wide = "the spread over seeds is poorly known, which makes intervals wide and p-values large"
    return [f"{seeds}: {wide}; take {FEWEST_SEEDS} or more"]


def _note(study: StudyDocument, cells: Mapping[str, CellRuns]) -> list[str]:
    """What else a reader has to know before believing."""
    notes = []
    if any(not one.runs.keys() & two.runs.keys() for one, two in itertools.combinations(cells.values(), 2)):
        notes.append("cells without a seed in common are not compared")
    first = next(iter(cells.values()), None)
    if first and not all(first.sees_the_same(cell) for cell in cells.values()):
        notes.append("cells with other test images are not compared")
    if len(study.cells) > 1 and cells:
        notes.append("all figures are of the test: the best of several cells looks better than it is; choose by val")
    return notes


def _note_unsure(cells: Mapping[str, CellRuns], metric: str) -> list[str]:
    """Where too few patients have, or lack, a class of which the metric is."""
    runs = [run for cell in cells.values() for run in cell.runs.values()]
    if not runs or all(metric in run.drawn for run in runs):
        return []
    enough = {name for name in cells[next(iter(cells))].first.classes if all(f"auroc_{name}" in r.drawn for r in runs)}
    few = [name for run in runs for name in run.judged.classes if name not in enough]
    named = name_some(list(dict.fromkeys(few)), most=5)
    least = f"{LEAST_PATIENTS} patients of the test that have it and {LEAST_PATIENTS} that have not"
    return [f"no interval and no p-value of {metric}: not each class has {least} ({named})"]


def _identify(study: StudyDocument, found: Mapping[Place, Found], metric: str) -> str:
    """Of all that results are made of."""
    runs = [
        [study.cells[number].name, seed, entry.document.files if entry.document else {}]
        for (number, seed), entry in found.items()
        if entry.status == "completed"
    ]
    return digest_json({"schema": SCHEMA, "level": LEVEL, "resamples": RESAMPLES, "metric": metric, "runs": runs})
