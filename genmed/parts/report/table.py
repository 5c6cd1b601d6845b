"""The table of metrics by class: every number with its interval, and what it is sorted by."""

from __future__ import annotations

from dataclasses import dataclass

from genmed.parts.report.numbers import Document, find_estimate, show, show_interval

COLUMNS = {
    "auroc": ("AUROC", "how well positives are ranked above negatives"),
    "average_precision": ("AP", "average precision"),
    "sensitivity": ("Sens.", "sensitivity at the threshold"),
    "specificity": ("Spec.", "specificity at the threshold"),
    "f1": ("F1", "at the threshold"),
    "brier": ("Brier", "mean squared difference of score and truth; lower is better"),
    "calibration_slope": ("Slope", "of calibration: 1 is right, below 1 too extreme"),
    "ece": ("ECE", "expected calibration error; lower is better"),
    "net_benefit": ("Net ben.", "net benefit at the threshold"),
}
"""Metric -> heading, and what it is."""


@dataclass(frozen=True)
class Cell:
    """A figure, its interval below it, and a number to sort by."""

    text: str
    below: str = ""
    order: float | None = None


def list_rows(evaluation: Document) -> list[tuple[str, list[Cell]]]:
    """(class, cells) of each class: COLUMNS, then threshold and positives."""
    return [(name, _list_cells(evaluation, name)) for name in evaluation["classes"]]


def list_means(evaluation: Document) -> list[Cell]:
    """The cells of the mean over classes."""
    return [*(_measure(evaluation, metric, "macro") for metric in COLUMNS), Cell(""), Cell("")]


def _list_cells(evaluation: Document, name: str) -> list[Cell]:
    positives, negatives = evaluation["positives"][name], evaluation["negatives"][name]
    threshold = evaluation["thresholds"].get(name)
    return [
        *(_measure(evaluation, metric, name) for metric in COLUMNS),
        Cell(show(threshold), "", threshold),
        Cell(f"{positives:,}", f"of {positives + negatives:,}", positives),
    ]


def _measure(evaluation: Document, metric: str, name: str) -> Cell:
    estimate = find_estimate(evaluation, metric, name)
    return Cell(show(estimate["value"]), show_interval(estimate).replace(" to ", "–"), estimate["value"])
