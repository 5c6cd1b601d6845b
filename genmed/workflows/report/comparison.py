"""Several runs on one page: headline, AUROC side by side, what of their configs differs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from genmed.ground.errors import RequestError
from genmed.ground.files import write_text
from genmed.parts.metrics.names import METRIC_NAMES, WHOLE_NAMES
from genmed.parts.report.charts import make_forest_axis
from genmed.parts.report.figures import Figure, Forest, Row
from genmed.parts.report.numbers import find_estimate
from genmed.parts.report.page import ComparisonPage, render_comparison
from genmed.parts.report.seeds import NO_OTHER_SEED, say_seeds
from genmed.parts.report.table import Cell, measure_cell
from genmed.records.config import flatten
from genmed.records.config.sections import affects_bits
from genmed.records.run_folder import RunFolder
from genmed.workflows.places import check_place
from genmed.workflows.report.gathering import Gathered, gather
from genmed.workflows.report.plots import write_figures
from genmed.workflows.report.words import say_extent, say_value, say_verdict


def write_comparison(folders: Sequence[RunFolder], out: Path, *, plots: bool = False) -> list[Path]:
    """Writes one HTML file and returns its path; with plots then those of its figures as PNG and SVG, in a folder
    beside it. Nothing is overwritten. Raises RequestError, RecordError, StorageError.
    """
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise RequestError("the same run is named twice", "name each run once")
    check_place(out, "--out", ".html", ".htm")
    beside = out.with_name(f"{out.stem}-plots")
    if plots:
        check_place(beside, "--out")
    page = make_comparison([gather(folder) for folder in folders])
    write_text(out, render_comparison(page))
    return [out, *(write_figures(page.figures, beside) if plots else [])]


def make_comparison(runs: Sequence[Gathered]) -> ComparisonPage:
    """The runs in the order given, side by side."""
    names = [run.document.name for run in runs]
    labels = drop_shared_words(names)
    whole = [metric for metric in WHOLE_NAMES if any(_has(run, metric) for run in runs)]
    means = [_make_row(run, "macro", label) for run, label in zip(runs, labels, strict=True)]
    shared = [name for name in runs[0].evaluation["classes"] if all(name in run.evaluation["classes"] for run in runs)]
    by_class = [
        (name, [_make_row(run, name, label) for run, label in zip(runs, labels, strict=True)]) for name in shared
    ]
    axis = make_forest_axis([*means, *(row for _, rows in by_class for row in rows)])
    return ComparisonPage(
        title=f"{len(runs)} runs",
        kicker="Comparison of runs, each on its own test",
        columns=[_head(metric) for metric in ("auroc", *whole, *MEANS)],
        rows=[(run.document.name, _list_cells(run, whole)) for run in runs],
        table_caption=f"{TABLE} {_say_seeds(runs, labels)}",
        forest=Figure("means", "AUROC", "Mean of classes.", forests=[Forest("", axis, means)]),
        by_class=Figure(
            "classes",
            "AUROC by class",
            "Of the classes that all runs have.",
            forests=[Forest(name, axis, rows) for name, rows in by_class],
        )
        if len(shared) > 1
        else None,
        runs=list(zip(names, labels, strict=True)),
        settings=list_differences(runs),
        settings_caption="Keys of the config that affect bits and are not the same in all runs.",
        notes=_list_notes(runs),
        footer="Made by genmed from the records of the runs. Research use; not a medical device.",
    )


TABLE = "Means of classes, with intervals by resamples of each run's test patients."


def _head(metric: str) -> str:
    return METRIC_NAMES[metric].short if metric in METRIC_NAMES else WHOLE_NAMES[metric].long


MEANS = ("average_precision", "brier", "ece", "calibration_slope")


def list_differences(runs: Sequence[Gathered]) -> list[tuple[str, list[str]]]:
    """(key, its value in each run) where they differ in what affects bits."""
    configs = [flatten(run.config) for run in runs]
    keys = [key for key in configs[0] if affects_bits(key) and any(c[key] != configs[0][key] for c in configs)]
    return [(key, [say_value(config[key]) for config in configs]) for key in keys]


def _list_notes(runs: Sequence[Gathered]) -> list[str]:
    """What makes figures of two runs no fair match."""
    notes = []
    if len({run.document.data_fingerprint for run in runs}) > 1:
        notes.append("The runs have not the same data, labels or split: their figures are not of the same patients.")
    if len({run.document.code_digest for run in runs}) > 1:
        notes.append("The runs were made by different code.")
    if len({run.config.data.image_size for run in runs}) > 1:
        notes.append("The runs saw images of different sizes.")
    return notes


def drop_shared_words(names: Sequence[str]) -> list[str]:
    """`s1-70b4347e` and `s2-3fa9c2d1`: without the words that all begin with."""
    words = [name.split("-") for name in names]
    alike = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    shared = min(len(list(alike)), *(len(known) - 1 for known in words))
    return ["-".join(known[shared:]) for known in words]


def _say_seeds(runs: Sequence[Gathered], labels: Sequence[str]) -> str:
    """What stands in the third line of the table, and of which runs."""
    known: dict[str, list[str]] = {}
    for run, label in zip(runs, labels, strict=True):
        if seeds := run.evaluation["seeds"]:
            known.setdefault(say_seeds(seeds), []).append(label)
    if not known:
        return f"Of each run {NO_OTHER_SEED}: the runs may differ by the seed alone."
    said = "; ".join(f"{', '.join(some)}: {seeds}" for seeds, some in known.items())
    return f"Third line: mean ± standard deviation over seeds, which is in no interval. {said}."


def _has(run: Gathered, metric: str) -> bool:
    return find_estimate(run.evaluation, metric)["value"] is not None


def _list_cells(run: Gathered, whole: Sequence[str]) -> list[Cell]:
    verdict = say_verdict(run.verification, run.document.name)
    return [
        measure_cell(run.evaluation, "auroc", "macro"),
        *(measure_cell(run.evaluation, metric) for metric in whole),
        *(measure_cell(run.evaluation, metric, "macro") for metric in MEANS),
        Cell(say_extent(run).removeprefix("over "), "", run.evaluation["images"]),
        Cell(verdict.word, "", {"good": 2, "open": 1, "bad": 0}[verdict.tone]),
    ]


def _make_row(run: Gathered, name: str, label: str) -> Row:
    estimate = find_estimate(run.evaluation, "auroc", name)
    return Row(label, estimate["value"], estimate["low"], estimate["high"])
