"""Figures in words, and scales with round numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from genmed.parts.report.figures import Axis

MISSING = "–"
RANKING = ("auroc", "average_precision")
"""What is told with its interval wherever there is room for two metrics."""
Document = Mapping[str, Any]
"""A JSON document as a run keeps it."""


def show(value: float | None, digits: int = 3, *, plain: bool = False) -> str:
    """`0.914`; a dash for what is undefined. plain: dash and minus are hyphens."""
    dash, minus = ("-", "-") if plain else (MISSING, "−")
    return dash if value is None else f"{value:.{digits}f}".replace("-", minus)


def show_interval(estimate: Document, digits: int = 3, *, between: str = " to ", plain: bool = False) -> str:
    """`0.889 to 0.937`; '' where there is none."""
    if estimate["low"] is None or estimate["high"] is None:
        return ""
    return between.join(show(estimate[end], digits, plain=plain) for end in ("low", "high"))


def show_estimate(estimate: Document, digits: int = 3, *, between: str = " to ", plain: bool = False) -> str:
    """`0.914 (0.889 to 0.937)`."""
    interval = show_interval(estimate, digits, between=between, plain=plain)
    return show(estimate["value"], digits, plain=plain) + (f" ({interval})" if interval else "")


def show_plainly(estimate: Document) -> str:
    """`0.914 (0.889, 0.937)`: an estimate on a terminal and in Markdown."""
    return show_estimate(estimate, between=", ", plain=True)


def find_estimate(evaluation: Document, metric: str, name: str = "", *, of: Document | None = None) -> Document:
    """Of a class, of `macro`, or of all classes where there is no name. of: a group of the evaluation's, or its last
    epoch; None: all of it."""
    missing = {"value": None, "low": None, "high": None}
    return dict((of or evaluation)["metrics"].get(name_metric(evaluation["split"], metric, name), missing))


def name_metric(side: str, metric: str, name: str = "") -> str:
    """`test_auroc_macro`, `test_accuracy`: its key in JSON."""
    return "_".join(filter(None, (side, metric, name)))


def count(number: int, one: str, many: str = "") -> str:
    """`1 image`, `1,200 images`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def shorten(label: str, most: int = 20) -> str:
    """With dots in the middle: names of runs differ at both ends."""
    if len(label) <= most:
        return label
    tail = most // 2
    return f"{label[: most - 1 - tail]}…{label[-tail:]}"


def make_axis(label: str, values: Sequence[float], *, from_zero: bool = False, most: int = 5) -> Axis:
    """A scale that holds all values, with at most about `most` round ticks."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(low, 0.0) if from_zero else low
    if high - low < 1e-9:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    step = _round_step((high - low) / most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += round(step * 10**digits * 10) % 10 != 0  # 2.5 has a digit more than its size tells
    return Axis(label, first * step, last * step, [number * step for number in range(first, last + 1)], digits)


def make_epoch_axis(last: int) -> Axis:
    """Whole numbers from the first epoch on."""
    step = max(1, int(_round_step(last / 5)))
    ticks = sorted({1, *range(step, last + 1, step)}) if last > 1 else [1]
    return Axis("epoch", 1 if last > 1 else 0.5, last if last > 1 else 1.5, ticks, digits=0)


def _round_step(step: float) -> float:
    size: float = 10.0 ** math.floor(math.log10(step))
    return next(size * times for times in (1, 2, 2.5, 5, 10) if size * times >= step * (1 - 1e-9))
