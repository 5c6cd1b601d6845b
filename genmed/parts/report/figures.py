"""What is drawn, as plain data: `svg.py` draws it for the page, `paper.py` for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["first", "second", "quiet", "guide"]
"""first, second: two colours that the colour-blind tell apart; quiet: grey, of lesser weight; guide: grey, dashed."""


@dataclass(frozen=True)
class Axis:
    """A scale from low to high."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    digits: int = 1
    """Of the ticks' numbers."""

    def say(self, tick: float) -> str:
        """The number at a tick: 0 without digits."""
        return "0" if tick == 0 else f"{tick:.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Line:
    """Points that are joined."""

    x: Sequence[float]
    y: Sequence[float]
    role: Role = "first"
    name: str = ""
    """In the legend; '' for what needs none."""


@dataclass(frozen=True)
class Dots:
    """Points by themselves."""

    x: Sequence[float]
    y: Sequence[float]
    role: Role = "first"
    says: Sequence[str] = ()
    """What each shows when it is pointed at; empty: nothing."""
    weights: Sequence[float] = ()
    """The greater, the larger the dot; empty: all alike."""


@dataclass(frozen=True)
class Steps:
    """A histogram: heights between edges."""

    edges: Sequence[float]
    heights: Sequence[float]
    role: Role = "first"
    name: str = ""


Mark = Line | Dots | Steps


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]
    note: str = ""
    """A figure below the title."""
    says: str = ""
    """All of it in a sentence, for those who cannot see it."""

    @property
    def legend(self) -> list[tuple[str, Role]]:
        return [(mark.name, mark.role) for mark in self.marks if not isinstance(mark, Dots) and mark.name]


@dataclass(frozen=True)
class Row:
    """A line of a forest plot."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    """How many images it is of."""
    strong: bool = False


@dataclass(frozen=True)
class Forest:
    """Estimates with their intervals, one below the other."""

    title: str
    x: Axis
    rows: Sequence[Row]
    line: float | None = None
    """An estimate to compare with."""


@dataclass(frozen=True)
class Table:
    """A confusion matrix: truth down, call across."""

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]

    def share(self, row: int, column: int) -> float:
        """Of the images of that truth."""
        total = sum(self.counts[row])
        return self.counts[row][column] / total if total else 0.0


@dataclass(frozen=True)
class Figure:
    """A section of the report and a file of plots."""

    name: str
    """Of the file."""
    title: str
    caption: str
    panels: Sequence[Panel] = ()
    forests: Sequence[Forest] = ()
    table: Table | None = None
    classes_alike: bool = field(default=True)
    """Whether all panels share their axes, so that the axes are named once."""
