"""Figures as SVG for the page: text stays text, and colours are the page's, light, dark or printed.

Written by hand and not by matplotlib, whose import alone takes longer than all of a report: one is made at each run's
end. Sizes are in units of the picture, of which a panel is as many wide as the page shows it
in pixels, about.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from genmed.parts.report.figures import Axis, Dots, Forest, Line, Panel, Row, Steps
from genmed.parts.report.numbers import shorten, show

WIDTH, WIDE, HEIGHT = 190, 300, 150
"""Of a panel by class, of one of the training; height of both."""
LEFT, RIGHT, TOP, BOTTOM = 36, 6, 6, 28
LETTER = 6
FOREST_WIDTH, FOREST_ROW, LABELS, NUMBERS = 440, 21, 150, 142
MOST_LETTERS = 18
"""Of a label: so many have room in LABELS; of a bold one two less."""
MARGIN = 8


def draw_panel(panel: Panel, width: int = WIDTH) -> Markup:
    """Axes and marks; title, note and legend are the page's text."""
    left = LEFT + LETTER * max(0, panel.y.digits - 2)
    x, y = _Scale(panel.x, left, width - RIGHT), _Scale(panel.y, HEIGHT - BOTTOM, TOP)
    parts = [_draw_axes(panel, x, y), *(_draw_mark(mark, x, y) for mark in panel.marks)]
    return _wrap(width, HEIGHT, panel.says, parts)


def draw_forest(forest: Forest) -> Markup:
    """A row an estimate: label, interval, number."""
    x = _Scale(forest.x, LABELS, FOREST_WIDTH - NUMBERS)
    bottom = FOREST_ROW * len(forest.rows) + 4
    parts = [_draw_forest_axis(x, bottom)]
    if forest.line is not None:
        at = x(forest.line)
        parts.append(_tag('<line class="guide" x1="{}" x2="{}" y1="0" y2="{}"/>', at, at, bottom))
    for number, row in enumerate(forest.rows):
        parts.append(_draw_row(row, x, FOREST_ROW * (number + 0.5)))
    return _wrap(FOREST_WIDTH, bottom + 30, f"{forest.x.label} {forest.title}", parts)


class _Scale:
    """From a value to a place."""

    def __init__(self, axis: Axis, start: float, end: float) -> None:
        self.axis, self.start, self.end = axis, start, end

    def __call__(self, value: float) -> str:
        low, high = self.axis.low, self.axis.high
        share = (min(max(value, low), high) - low) / (high - low)
        return _short(self.start + share * (self.end - self.start))


def _short(value: float) -> str:
    """At most one digit: a tenth of a unit is not seen."""
    return f"{value:.1f}".removesuffix(".0")


def _tag(text: str, *values: object) -> Markup:
    return Markup(text).format(*values)


def _wrap(width: float, height: float, says: str, parts: Sequence[Markup]) -> Markup:
    head = _tag('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">', _short(width), _short(height), says)
    return head + Markup("").join(parts) + Markup("</svg>")


def _draw_axes(panel: Panel, x: _Scale, y: _Scale) -> Markup:
    parts = []
    for tick in panel.y.ticks:
        if panel.y.low - 1e-9 <= tick <= panel.y.high + 1e-9:
            at = y(tick)
            parts.append(_tag('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>', x.start, _short(x.end), at, at))
            place = _short(float(at) + 3.2)
            parts.append(_tag('<text class="tick end" x="{}" y="{}">{}</text>', x.start - 4, place, panel.y.say(tick)))
    for tick in panel.x.ticks:
        text = panel.x.say(tick)
        parts.append(_tag('<text class="tick" x="{}" y="{}">{}</text>', x(tick), HEIGHT - BOTTOM + 12, text))
    middle, centre = _short((x.start + x.end) / 2), _short((TOP + HEIGHT - BOTTOM) / 2)
    parts.append(_tag('<text class="label" x="{}" y="{}">{}</text>', middle, HEIGHT - 4, panel.x.label))
    if panel.y.label:
        turned = '<text class="label" transform="translate(7 {}) rotate(-90)">{}</text>'
        parts.append(_tag(turned, centre, panel.y.label))
    return Markup("").join(parts)


def _draw_mark(mark: Line | Dots | Steps, x: _Scale, y: _Scale) -> Markup:
    if isinstance(mark, Line):
        points = " ".join(f"{x(a)},{y(b)}" for a, b in zip(mark.x, mark.y, strict=True))
        return _tag('<polyline class="{}" points="{}"/>', mark.role, points)
    if isinstance(mark, Steps):
        return _draw_steps(mark, x, y)
    sizes = _size_dots(mark)
    dots = []
    for number, (a, b) in enumerate(zip(mark.x, mark.y, strict=True)):
        says = _tag("<title>{}</title>", mark.says[number]) if mark.says else ""
        place = x(a), y(b), _short(sizes[number])
        dots.append(_tag('<circle class="{}" cx="{}" cy="{}" r="{}">{}</circle>', mark.role, *place, says))
    return Markup("").join(dots)


def _size_dots(mark: Dots) -> list[float]:
    """Radii: areas go with the weights."""
    if not mark.weights:
        return [3.0] * len(mark.x)
    most = max(mark.weights)
    return [max(1.4, 5 * (weight / most) ** 0.5) for weight in mark.weights]


def _draw_steps(mark: Steps, x: _Scale, y: _Scale) -> Markup:
    points = [f"{x(mark.edges[0])},{y(0)}"]
    for left, right, height in zip(mark.edges[:-1], mark.edges[1:], mark.heights, strict=True):
        points += [f"{x(left)},{y(height)}", f"{x(right)},{y(height)}"]
    points.append(f"{x(mark.edges[-1])},{y(0)}")
    return _tag('<polygon class="{}" points="{}"/>', mark.role, " ".join(points))


def _draw_forest_axis(x: _Scale, bottom: float) -> Markup:
    parts = []
    for tick in x.axis.ticks:
        at = x(tick)
        parts.append(_tag('<line class="grid" x1="{}" x2="{}" y1="0" y2="{}"/>', at, at, bottom))
        parts.append(_tag('<text class="tick" x="{}" y="{}">{}</text>', at, bottom + 12, x.axis.say(tick)))
    middle = _short((LABELS + FOREST_WIDTH - NUMBERS) / 2)
    parts.append(_tag('<text class="label" x="{}" y="{}">{}</text>', middle, bottom + 26, x.axis.label))
    return Markup("").join(parts)


def _draw_row(row: Row, x: _Scale, middle: float) -> Markup:
    weight = " strong" if row.strong else ""
    text = _short(middle + 4)
    label = shorten(row.label, MOST_LETTERS - 2 * row.strong)
    parts = [_tag('<text class="name{}" x="0" y="{}">{}</text>', weight, text, label)]
    if row.value is not None:
        if row.low is not None and row.high is not None:
            parts.append(
                _tag('<line class="bar" x1="{}" x2="{}" y1="{}" y2="{}"/>', x(row.low), x(row.high), middle, middle)
            )
        parts.append(
            _tag('<circle class="first" cx="{}" cy="{}" r="{}"/>', x(row.value), middle, 4 if row.strong else 3.2)
        )
    numbers = show(row.value)
    if row.low is not None and row.high is not None:
        numbers += f" ({show(row.low, 2)}–{show(row.high, 2)})"
    says = _tag("<title>{}</title>", row.note) if row.note else ""
    start = FOREST_WIDTH - NUMBERS + MARGIN
    parts.append(_tag('<text class="value{}" x="{}" y="{}">{}{}</text>', weight, start, text, numbers, says))
    return Markup("").join(parts)
