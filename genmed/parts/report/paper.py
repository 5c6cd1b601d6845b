"""Figures as files for a paper, by matplotlib: PNG at 300 dpi, and SVG with letters as paths, the same on any machine.

Nothing of matplotlib's global state is used or changed: its parameters hold within `_style` alone, and figures are made
without pyplot. Equal figures give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from genmed.parts.report.figures import Axis, Dots, Figure, Forest, Line, Panel, Role, Row, Steps, Table
from genmed.parts.report.numbers import shorten, show

DPI = 300
PAGE = 7.0
PANEL = (1.72, 1.62)
"""Width and height, inches: four stand in a page."""
COLUMNS = 4
FOREST_WIDTH, ROW = 4.2, 0.19
FORESTS_IN_A_COLUMN = 5
"""From so many of one size on they stand in two columns: a page is not higher."""
CELL = 0.62
INK, SOFT, GRID = "#1b1f23", "#5b646d", "#e4e6e6"
COLOURS: dict[Role, str] = {"first": "#0068a5", "second": "#c4500a", "quiet": "#a3aab0", "guide": "#7c858d"}
"""Blue and vermillion of Okabe and Ito 2008, darkened for print: told apart by the colour-blind, and in grey."""
PARAMETERS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 6.5,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "text.color": INK,
    "legend.frameon": False,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "genmed",
    "path.simplify": False,
}


def draw_files(figure: Figure) -> dict[str, bytes]:
    """File name -> content: `<name>.png` and `<name>.svg`."""
    with _style():
        drawn = _draw(figure)
        return {
            f"{figure.name}.png": _save(drawn, "png", {"Software": None}),
            f"{figure.name}.svg": _save(drawn, "svg", {"Date": None, "Creator": None}),
        }


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()  # a person's own matplotlibrc has no part in it
        mpl.rcParams.update(PARAMETERS)
        yield


def _save(drawn: Any, kind: str, metadata: dict[str, None]) -> bytes:
    content = io.BytesIO()
    drawn.savefig(content, format=kind, dpi=DPI, metadata=metadata)
    return content.getvalue()


def _draw(figure: Figure) -> Any:
    if figure.table:
        return _draw_table(figure.table)
    if figure.forests:
        return _draw_forests(figure)
    return _draw_panels(figure)


def _make(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    made = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def _draw_panels(figure: Figure) -> Any:
    columns = min(COLUMNS, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    width = PANEL[0] if figure.classes_alike or columns == COLUMNS else 2.2
    made = _make(width * columns, PANEL[1] * rows)
    for number, panel in enumerate(figure.panels):
        axes = made.add_subplot(rows, columns, number + 1)
        _draw_panel(axes, panel, 26 if figure.classes_alike else 32)
        if panel.legend and (number == 0):
            axes.legend(loc="best", fontsize=6, handlelength=1.6, borderpad=0.1, labelspacing=0.2)
        if figure.classes_alike and number % columns:
            axes.set_ylabel("")
        if figure.classes_alike and number + columns < len(figure.panels):
            axes.set_xlabel("")
    return made


def _draw_panel(axes: Any, panel: Panel, room: int) -> None:
    """room: letters of the title."""
    axes.set_title(f"{shorten(panel.title, room)}\n", pad=3, fontweight="bold")
    axes.text(0, 1.04, panel.note, transform=axes.transAxes, color=SOFT, fontsize=6)
    axes.grid(axis="y", color=GRID, linewidth=0.5)
    for mark in panel.marks:
        _draw_mark(axes, mark)
    _scale(axes.xaxis, panel.x, axes.set_xlim)
    _scale(axes.yaxis, panel.y, axes.set_ylim)
    axes.set_xlabel(panel.x.label, labelpad=1)
    axes.set_ylabel(panel.y.label, labelpad=1)


def _scale(axis: Any, known: Axis, set_limits: Any) -> None:
    room = 0.02 * (known.high - known.low)
    set_limits(known.low - room, known.high + room)
    ticks = [tick for tick in known.ticks if known.low - 1e-9 <= tick <= known.high + 1e-9]
    axis.set_ticks(ticks, labels=[known.say(tick) for tick in ticks])


STYLES: dict[Role, dict[str, Any]] = {
    "first": {"linewidth": 1.1},
    "second": {"linewidth": 1.1, "linestyle": (0, (4, 1.6))},
    "quiet": {"linewidth": 0.6},
    "guide": {"linewidth": 0.6, "linestyle": (0, (2, 2))},
}


def _draw_mark(axes: Any, mark: Line | Dots | Steps) -> None:
    colour, name = COLOURS[mark.role], "" if isinstance(mark, Dots) else mark.name
    label = name or None
    if isinstance(mark, Line):
        above = 2.5 if mark.role == "first" else 2
        axes.plot(mark.x, mark.y, color=colour, label=label, zorder=above, **STYLES[mark.role])
    elif isinstance(mark, Dots):
        most = max(mark.weights, default=1)
        sizes = [max(2.0, 22 * weight / most) for weight in mark.weights] or 11
        axes.scatter(mark.x, mark.y, s=sizes, color=colour, zorder=3, linewidths=0, clip_on=False)
    else:
        axes.stairs(mark.heights, mark.edges, fill=True, color=colour, alpha=0.22, linewidth=0)
        axes.stairs(mark.heights, mark.edges, color=colour, label=label, linewidth=0.8)


def _draw_forests(figure: Figure) -> Any:
    sizes = [len(forest.rows) for forest in figure.forests]
    columns = 2 if len(sizes) >= FORESTS_IN_A_COLUMN and len(set(sizes)) == 1 else 1
    lines = -(-len(sizes) // columns)
    heights = [size + 2.6 for size in sizes[:lines]]
    made = _make(FOREST_WIDTH if columns == 1 else PAGE, ROW * sum(heights) + 0.3)
    made.get_layout_engine().set(wspace=0.1)
    grid = made.add_gridspec(lines, columns, height_ratios=heights)
    for number, forest in enumerate(figure.forests):
        axes = made.add_subplot(grid[number // columns, number % columns])
        _draw_forest(axes, forest)
        axes.set_xlabel(forest.x.label if number + columns >= len(sizes) else "", labelpad=1)
    return made


def _draw_forest(axes: Any, forest: Forest) -> None:
    axes.set_title(forest.title, pad=3, fontweight="bold")
    if forest.line is not None:
        axes.axvline(forest.line, color=COLOURS["guide"], **STYLES["guide"])
    for number, row in enumerate(forest.rows):
        _draw_row(axes, row, number)
    axes.set_ylim(len(forest.rows) - 0.4, -0.6)
    axes.set_yticks(range(len(forest.rows)), labels=[shorten(row.label, 32) for row in forest.rows])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.spines["left"].set_visible(False)
    _scale(axes.xaxis, forest.x, axes.set_xlim)


def _draw_row(axes: Any, row: Row, at: int) -> None:
    colour = COLOURS["first"]
    if row.value is not None:
        axes.plot([row.value], [at], "o", color=colour, markersize=4 if row.strong else 3, clip_on=False)
    numbers = show(row.value)
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [at, at], color=colour, linewidth=1.1, solid_capstyle="round")
        numbers += f" ({show(row.low)} to {show(row.high)})"
    place = {"transform": axes.get_yaxis_transform(), "va": "center_baseline"}
    axes.text(1.03, at, numbers, fontsize=6.5, fontweight="bold" if row.strong else "normal", **place)


def _draw_table(table: Table) -> Any:
    size = len(table.classes)
    made = _make(CELL * size + 1.6, CELL * size + 1.2)
    axes = made.add_subplot()
    shares = [[table.share(row, column) for column in range(size)] for row in range(size)]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            share = shares[row][column]
            ink = "white" if share > 0.6 else INK
            axes.text(column, row, f"{table.counts[row][column]:,}\n{share:.0%}", ha="center", va="center", color=ink)
    names = [shorten(name, 24) for name in table.classes]
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 8 else {}
    axes.set_xticks(range(size), labels=names, **turned)
    axes.set_yticks(range(size), labels=names)
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("highest score")
    axes.set_ylabel("truth")
    return made
