"""From results to figures: training, each class's curves, estimates with their intervals, the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from genmed.parts.data.records import EXCLUSIVE
from genmed.parts.metrics import Scores, Truth
from genmed.parts.metrics.calibration import draw_reliability
from genmed.parts.metrics.curves import Curve, draw_net_benefit, draw_precision_recall, draw_roc
from genmed.parts.metrics.names import METRIC_NAMES, WHOLE_NAMES
from genmed.parts.metrics.statistics import Flags, Floats
from genmed.parts.report.figures import Axis, Dots, Figure, Forest, Line, Mark, Panel, Row, Steps, Table
from genmed.parts.report.numbers import (
    Document,
    count,
    find_estimate,
    make_axis,
    make_epoch_axis,
    show,
    show_estimate,
)

HISTOGRAM_BINS = 20
THRESHOLDS = 100
RANGES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Up to which scores are drawn: those of a rare finding stay small."""
QUARTERS = (0, 0.5, 1)
GROUPS = {"site": "site", "sex": "sex", "age": "age in years", "view": "view"}


@dataclass(frozen=True)
class OfClass:
    """Images of which a class is known, some with it and some without."""

    name: str
    scores: Floats
    """(N,) probabilities."""
    truth: Flags
    """(N,)"""
    threshold: float | None

    @property
    def highest(self) -> float:
        """The least of RANGES that holds all scores and the threshold."""
        most = max(float(self.scores.max()), self.threshold or 0.0)
        return next((end for end in RANGES if end >= most), 1.0)

    @property
    def axis(self) -> Axis:
        """Of scores."""
        digits = 3 if self.highest < 0.1 else 2 if self.highest < 1 else 1
        return Axis("score", 0, self.highest, [self.highest * share for share in QUARTERS], digits)


def list_classes(
    scores: Scores, truth: Truth, classes: Sequence[str], thresholds: Mapping[str, float | None]
) -> list[OfClass]:
    """Those that some images have and some have not. scores, truth: (N, L), -1 for unknown."""
    found = []
    for column, name in enumerate(classes):
        known = truth[:, column] >= 0
        there = truth[known, column] == 1
        if there.any() and not there.all():
            found.append(OfClass(name, scores[known, column].astype(np.float64), there, thresholds.get(name)))
    return found


def draw_training(rows: Sequence[Mapping[str, float | None]], selected: int) -> Figure:
    """rows: of metrics.csv. selected: the epoch whose state is tested."""
    last = int(rows[-1]["epoch"] or 0)
    epochs = make_epoch_axis(last)
    losses = [
        line for name, role in (("train", "first"), ("val", "second")) if (line := _trace(rows, f"{name}_loss", role))
    ]
    panels = [_draw_epochs("Loss", epochs, [Line(line.x, line.y, line.role, NAMES[line.role]) for line in losses])]
    for metric in VALIDATED:
        title = f"Validation {(METRIC_NAMES | WHOLE_NAMES)[metric].long}"
        mean = _trace(rows, f"val_{metric}_macro", "first") or _trace(rows, f"val_{metric}", "first")
        if mean:
            prefix = f"val_{metric}_"
            others = [name for name in rows[0] if name.startswith(prefix) and not name.endswith("_macro")]
            single = [line for name in others if (line := _trace(rows, name, "quiet"))]
            at = [epoch for epoch in mean.x if epoch == selected]
            dots = Dots(at, [mean.y[mean.x.index(epoch)] for epoch in at], "first", [f"selected: epoch {selected}"])
            panels.append(_draw_epochs(title, epochs, [*single, mean], [dots]))
    caption = "By epoch. Validation: the mean of classes, and in grey each class by itself" + (
        f"; the dot is epoch {selected}, whose weights are tested." if selected else "."
    )
    return Figure("training", "Training", caption, panels, classes_alike=False)


NAMES = {"first": "training", "second": "validation"}
VALIDATED = ("auroc", "average_precision", *WHOLE_NAMES)


def draw_curves(classes: Sequence[OfClass], evaluation: Document) -> list[Figure]:
    """Five figures with a panel a class."""
    unit = "studies" if evaluation["studies"] and evaluation["task"] not in EXCLUSIVE else "images"
    return [
        Figure(
            "roc",
            "ROC",
            "Sensitivity against the share of negatives that are called. The dot is the threshold that validation"
            " chose.",
            [_draw_roc(entry, evaluation) for entry in classes],
        ),
        Figure(
            "precision-recall",
            "Precision and recall",
            "The dashed line is the prevalence: what calling at random would have as precision.",
            [_draw_precision_recall(entry, evaluation) for entry in classes],
        ),
        Figure(
            "reliability",
            "Calibration",
            f"How often a finding is there, by what the network says of it, in 15 bins; the larger the dot, the more"
            f" {unit}. On the dashed line scores are probabilities.",
            [_draw_reliability(entry, evaluation, unit) for entry in classes],
            classes_alike=False,
        ),
        Figure(
            "decision",
            "Net benefit",
            "True positives an image, less false positives weighed by the odds of the threshold; in grey, calling all."
            " Worth using where it is above both the grey line and zero.",
            [_draw_decision(entry) for entry in classes],
            classes_alike=False,
        ),
        Figure(
            "scores",
            "Scores",
            "Share of the images with the finding and of those without, by score. The dashed line is the threshold.",
            [_draw_histogram(entry) for entry in classes],
            classes_alike=False,
        ),
    ]


def draw_forests(evaluation: Document) -> Figure:
    """AUROC with its interval: of each class, and the mean of classes in each group of images."""
    whole = find_estimate(evaluation, "auroc", "macro")
    positives, negatives = evaluation["positives"], evaluation["negatives"]
    rows = [
        _make_row(
            name, find_estimate(evaluation, "auroc", name), f"{positives[name]:,}/{positives[name] + negatives[name]:,}"
        )
        for name in evaluation["classes"]
    ]
    rows.append(_make_row("mean of classes", whole, "", strong=True))
    parts = [("by class", rows)]
    for by in dict.fromkeys(group["by"] for group in evaluation["groups"]):
        groups = [group for group in evaluation["groups"] if group["by"] == by]
        of_groups = [
            _make_row(
                group["value"],
                find_estimate(evaluation, "auroc", "macro", of=group),
                count(group["images"], "image"),
            )
            for group in groups
        ]
        parts.append((f"by {GROUPS.get(by, by)}", of_groups))
    axis = make_forest_axis([row for _, found in parts for row in found])
    forests = [Forest(title, axis, found, whole["value"]) for title, found in parts]
    drawn = f"{evaluation['level']:.0%} intervals by {evaluation['resamples']:,} resamples of {evaluation['unit']}s"
    caption = f"AUROC, {drawn}; the thin line is the mean of all. Groups: the mean of classes."
    return Figure("forest", "AUROC by class and group", caption, forests=forests)


def make_forest_axis(rows: Sequence[Row]) -> Axis:
    """From the lowest end of an interval, in tenths, to 1; never more than 0 to 1."""
    ends = [end for row in rows for end in (row.value, row.low) if end is not None]
    low = min(0.5, np.floor(min(ends, default=0.5) * 10 - 1e-9) / 10)
    ticks = [round(low + step / 10, 1) for step in range(round((1 - low) * 10) + 1)]
    return Axis("AUROC", float(low), 1.0, ticks[:: -1 if len(ticks) <= 6 else -2][::-1])


def draw_confusion(scores: Scores, truth: Truth, classes: Sequence[str]) -> Figure:
    """Of classes that exclude each other. scores, truth: (N, L)."""
    known = (truth >= 0).all(1)
    size = len(classes)
    cells = truth[known].argmax(1).astype(np.int64) * size + scores[known].argmax(1)
    counts = np.bincount(cells, minlength=size * size).reshape(size, size)
    caption = "Truth down, the highest score across; the darker, the larger the share of that truth."
    return Figure("confusion", "Confusion matrix", caption, table=Table(tuple(classes), counts.tolist()))


def _trace(rows: Sequence[Mapping[str, float | None]], column: str, role: str) -> Line | None:
    """By epoch, where it is defined."""
    points = [(row["epoch"], row.get(column)) for row in rows]
    found = [(float(x), float(y)) for x, y in points if x is not None and y is not None and np.isfinite(y)]
    return Line([x for x, _ in found], [y for _, y in found], role) if found else None  # type: ignore[arg-type]


def _draw_epochs(title: str, epochs: Axis, lines: Sequence[Line], dots: Sequence[Dots] = ()) -> Panel:
    y = make_axis("", [value for line in lines for value in line.y], most=4)
    alone = [Dots(line.x, line.y, line.role) for line in lines if len(line.x) == 1]
    note = "" if not lines or len(lines[-1].y) == 0 or title == "Loss" else f"{show(lines[-1].y[-1])} at the end"
    return Panel(title, epochs, y, [*lines, *alone, *dots], note, says=f"{title} by epoch")


def _draw_roc(of: OfClass, evaluation: Document) -> Panel:
    curve, estimate = draw_roc(of.scores, of.truth), find_estimate(evaluation, "auroc", of.name)
    marks: list[Mark] = [Line([0, 1], [0, 1], "guide"), Line(curve.x, curve.y)]
    if of.threshold is not None:
        called = of.scores >= of.threshold
        point = float(called[~of.truth].mean()), float(called[of.truth].mean())
        says = f"threshold {of.threshold:.3g}: sensitivity {point[1]:.3f}, specificity {1 - point[0]:.3f}"
        marks.append(Dots([point[0]], [point[1]], "second", [says]))
    note = show_estimate(estimate)
    x, y = Axis("1 − specificity", 0, 1, QUARTERS), Axis("sensitivity", 0, 1, QUARTERS)
    return Panel(of.name, x, y, marks, note, f"ROC of {of.name}: AUROC {note}")


def _draw_precision_recall(of: OfClass, evaluation: Document) -> Panel:
    curve, estimate = (
        draw_precision_recall(of.scores, of.truth),
        find_estimate(evaluation, "average_precision", of.name),
    )
    prevalence = float(of.truth.mean())
    marks: list[Mark] = [Line([0, 1], [prevalence, prevalence], "guide"), Line(curve.x, curve.y)]
    if of.threshold is not None and (called := of.scores >= of.threshold).any():
        recall, precision = float(called[of.truth].mean()), float(of.truth[called].mean())
        says = f"threshold {of.threshold:.3g}: recall {recall:.3f}, precision {precision:.3f}"
        marks.append(Dots([recall], [precision], "second", [says]))
    note = show_estimate(estimate)
    x, y = Axis("recall", 0, 1, QUARTERS), Axis("precision", 0, 1, QUARTERS)
    return Panel(of.name, x, y, marks, note, f"Precision and recall of {of.name}: average precision {note}")


def _draw_reliability(of: OfClass, evaluation: Document, unit: str) -> Panel:
    bins = draw_reliability(of.scores, of.truth)
    slope, error = (find_estimate(evaluation, metric, of.name)["value"] for metric in ("calibration_slope", "ece"))
    says = [
        f"says {said:.2f}, is {so:.2f}: {images:,} {unit}"
        for said, so, images in zip(bins.said, bins.so, bins.images, strict=True)
    ]
    dots = Dots(bins.said, bins.so, "first", says, weights=bins.images)
    note = f"ECE {show(error)}, slope {show(slope, 2)}"
    highest = next(end for end in RANGES if end >= max(of.highest, *bins.so))
    scale = replace(of, scores=np.array([highest])).axis
    marks: list[Mark] = [Line([0, highest], [0, highest], "guide"), Line(bins.said, bins.so, "quiet"), dots]
    return Panel(of.name, scale, replace(scale, label="frequency"), marks, note, f"Calibration of {of.name}: {note}")


def _draw_decision(of: OfClass) -> Panel:
    thresholds = np.linspace(0, min(of.highest, 0.99), THRESHOLDS)
    model = draw_net_benefit(of.scores, of.truth, thresholds)
    prevalence = float(of.truth.mean())
    lowest = -0.2 * prevalence
    call_all = prevalence - (1 - prevalence) * thresholds / (1 - thresholds)
    seen = [(x, y) for x, y in zip(thresholds.tolist(), call_all.tolist(), strict=True) if y >= lowest]
    marks: list[Mark] = [
        Line([0, of.highest], [0, 0], "guide"),
        Line([x for x, _ in seen], [y for _, y in seen], "quiet"),
        *_cut_off(model, lowest),
    ]
    if of.threshold is not None and of.threshold < 1:
        [benefit] = draw_net_benefit(of.scores, of.truth, np.array([of.threshold])).y
        says = [f"threshold {of.threshold:.3g}: net benefit {benefit:.3f}"]
        marks += [Dots([of.threshold], [benefit], "second", says)] if benefit >= lowest else []
    round_axis = make_axis("net benefit", [0, prevalence], most=3)
    y = Axis("net benefit", lowest, max(prevalence * 1.05, round_axis.ticks[-1]), round_axis.ticks, round_axis.digits)
    x = replace(of.axis, label="threshold")
    return Panel(of.name, x, y, marks, f"prevalence {show(prevalence)}", f"Net benefit of {of.name} by threshold")


def _cut_off(curve: Curve, lowest: float) -> list[Line]:
    """The stretches of a curve that are not below; harm beyond measure needs no room."""
    lines: list[Line] = []
    points: list[tuple[float, float]] = []
    for x, y in [*zip(curve.x, curve.y, strict=True), (np.nan, -np.inf)]:
        if y >= lowest:
            points.append((x, y))
        elif points:
            lines.append(Line([a for a, _ in points], [b for _, b in points]))
            points = []
    return lines


def _draw_histogram(of: OfClass) -> Panel:
    edges = np.linspace(0, of.highest, HISTOGRAM_BINS + 1)
    shares = [np.histogram(of.scores[kind], edges)[0] / kind.sum() for kind in (~of.truth, of.truth)]
    highest = float(max(share.max() for share in shares))
    y = make_axis("share", [0, highest], most=3)
    marks: list[Mark] = [
        Steps(edges.tolist(), shares[0].tolist(), "first", "without"),
        Steps(edges.tolist(), shares[1].tolist(), "second", "with"),
    ]
    if of.threshold is not None:
        marks = [*marks, Line([of.threshold, of.threshold], [0, y.high], "guide")]
    note = f"{int(of.truth.sum()):,} with, {int((~of.truth).sum()):,} without"
    return Panel(of.name, of.axis, y, marks, note, f"Scores of {of.name}: {note}")


def _make_row(label: str, estimate: Document, note: str, *, strong: bool = False) -> Row:
    return Row(label, estimate["value"], estimate["low"], estimate["high"], note, strong)
