"""The table of metrics by class: every number with its interval, and what it is sorted by."""

from __future__ import annotations

from dataclasses import dataclass

from genmed.parts.metrics.names import METRIC_NAMES
from genmed.parts.report.numbers import Document, find_estimate, show, show_interval
from genmed.parts.report.seeds import find_spread, show_spread


@dataclass(frozen=True)
class Cell:
    """A figure, its interval and its spread over seeds below it, and a number to sort by."""

    text: str
    below: str = ""
    order: float | None = None
    seeds: str = ""


def list_rows(evaluation: Document) -> list[tuple[str, list[Cell]]]:
    """(class, cells) of each class: METRIC_NAMES, then threshold and positives."""
    return [(name, _list_cells(evaluation, name)) for name in evaluation["classes"]]


def list_means(evaluation: Document) -> list[Cell]:
    """The cells of the mean over classes."""
    return [*(measure_cell(evaluation, metric, "macro") for metric in METRIC_NAMES), Cell(""), Cell("")]


def _list_cells(evaluation: Document, name: str) -> list[Cell]:
    positives, negatives = evaluation["positives"][name], evaluation["negatives"][name]
    threshold = evaluation["thresholds"].get(name)
    return [
        *(measure_cell(evaluation, metric, name) for metric in METRIC_NAMES),
        Cell(show(threshold), "", threshold),
        Cell(f"{positives:,}", f"of {positives + negatives:,}", positives),
    ]


def measure_cell(evaluation: Document, metric: str, name: str = "") -> Cell:
    """Of a class, of `macro`, or of all classes where there is no name."""
    estimate = find_estimate(evaluation, metric, name)
    interval, spread = show_interval(estimate, between="–"), find_spread(evaluation, metric, name)
    return Cell(show(estimate["value"]), interval, estimate["value"], show_spread(spread, "±"))
