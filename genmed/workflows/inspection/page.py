"""A white page with images in panels and words below them. Enlarged by whole numbers, so that each pixel is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from genmed.ground.errors import RequestError
from genmed.ground.wording import say_count

LEAST_CELL = 128
"""Smaller images are enlarged to at least this many pixels a side."""
PAGE_WIDTH = 1600
"""About that; a panel is never cut."""
MARGIN, GAP, WITHIN = 32, 28, 4
"""Around the page, between panels, between the images of one panel; in pixels."""
MOST_LINES = 3
"""Of a panel's labels."""
MOST_PIXELS = 200_000_000
INK, SOFT, RULE = (24, 28, 33), (110, 118, 128), (222, 226, 230)


@dataclass(frozen=True)
class Panel:
    """Versions of one image, side by side, and what is written below."""

    pictures: npt.NDArray[np.uint8]
    """(V, C, S, S), C 1 or 3."""
    name: str
    caption: str


@dataclass(frozen=True)
class _Fonts:
    title: Any
    heading: Any
    name: Any
    small: Any


@dataclass(frozen=True)
class _Grid:
    """Where things stand on the page."""

    cell: int
    """Side of one image on the page."""
    versions: int
    columns: int

    @property
    def panel_width(self) -> int:
        return self.versions * self.cell + (self.versions - 1) * WITHIN

    @property
    def page_width(self) -> int:
        return 2 * MARGIN + self.columns * self.panel_width + (self.columns - 1) * GAP


NAME_LINE, SMALL_LINE, HEADING_LINE = 19, 17, 34
"""Heights of lines."""


def draw_page(
    title: str, subtitle: str, headings: Sequence[str], sections: Sequence[tuple[str, Sequence[Panel]]]
) -> Image.Image:
    """An RGB image: the sections below each other, each with its heading ('' for none) and panels in reading order.

    headings: one a version. Raises RequestError where the page would have more than MOST_PIXELS.
    """
    fonts = _Fonts(*(ImageFont.load_default(size=size) for size in (22, 17, 14, 13)))
    panels = [panel for _, section in sections for panel in section]
    grid = _plan([section for _, section in sections], len(headings))
    width = grid.page_width
    heads = _wrap(title, fonts.title, width - 2 * MARGIN, 3)
    top = MARGIN + 30 * len(heads) + 22 + 14
    height = top + sum(_measure(panels, heading, grid, fonts) for heading, panels in sections) + MARGIN - GAP
    if width * height > MOST_PIXELS:
        many = say_count(len(panels), "image")
        raise RequestError(f"a page of {many} would have {width} x {height} pixels", "show fewer with --count")
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(heads):
        draw.text((MARGIN, MARGIN + 30 * number), line, INK, fonts.title)
    draw.text((MARGIN, MARGIN + 30 * len(heads)), _elide(subtitle, fonts.small, width - 2 * MARGIN), SOFT, fonts.small)
    for heading, section in sections:
        top = _draw_section(page, draw, top, heading, section, headings, grid, fonts)
    return page


def _plan(sections: Sequence[Sequence[Panel]], versions: int) -> _Grid:
    """As many columns as the page has room for, but none that no section fills."""
    side = max((panel.pictures.shape[-1] for panels in sections for panel in panels), default=LEAST_CELL)
    cell = side * math.ceil(LEAST_CELL / side)
    width = versions * cell + (versions - 1) * WITHIN
    columns = max(1, (PAGE_WIDTH - 2 * MARGIN + GAP) // (width + GAP))
    return _Grid(cell, versions, max(1, min(columns, max(map(len, sections), default=1))))


def _rows(panels: Sequence[Panel], grid: _Grid) -> list[Sequence[Panel]]:
    return [panels[start : start + grid.columns] for start in range(0, len(panels), grid.columns)]


def _measure(panels: Sequence[Panel], heading: str, grid: _Grid, fonts: _Fonts) -> int:
    """Height of a section."""
    heights = [_measure_row(row, grid, fonts) for row in _rows(panels, grid)]
    return (HEADING_LINE if heading else 0) + SMALL_LINE + 2 + sum(heights)


def _measure_row(row: Sequence[Panel], grid: _Grid, fonts: _Fonts) -> int:
    lines = max(len(_wrap(panel.caption, fonts.small, grid.panel_width, MOST_LINES)) for panel in row)
    return grid.cell + 6 + NAME_LINE + lines * SMALL_LINE + GAP


def _draw_section(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    top: int,
    heading: str,
    panels: Sequence[Panel],
    headings: Sequence[str],
    grid: _Grid,
    fonts: _Fonts,
) -> int:
    """Returns where the next one begins."""
    if heading:
        draw.line([(MARGIN, top), (page.width - MARGIN, top)], RULE)
        draw.text((MARGIN, top + 9), _elide(heading, fonts.heading, page.width - 2 * MARGIN), INK, fonts.heading)
        top += HEADING_LINE
    for column in range(min(grid.columns, len(panels))):
        for version, word in enumerate(headings):
            left = MARGIN + column * (grid.panel_width + GAP) + version * (grid.cell + WITHIN)
            draw.text((left, top), word, SOFT, fonts.small)
    top += SMALL_LINE + 2
    for row in _rows(panels, grid):
        for column, panel in enumerate(row):
            _draw_panel(page, draw, MARGIN + column * (grid.panel_width + GAP), top, panel, grid, fonts)
        top += _measure_row(row, grid, fonts)
    return top


def _draw_panel(
    page: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, panel: Panel, grid: _Grid, fonts: _Fonts
) -> None:
    for version, picture in enumerate(panel.pictures):
        times = grid.cell // picture.shape[-1]
        large = picture.repeat(times, axis=1).repeat(times, axis=2).transpose(1, 2, 0)
        image = Image.fromarray(large if large.shape[2] == 3 else np.repeat(large, 3, axis=2))
        page.paste(image, (left + version * (grid.cell + WITHIN), top))
    below = top + grid.cell + 6
    draw.text((left, below), _elide(panel.name, fonts.name, grid.panel_width), INK, fonts.name)
    for number, line in enumerate(_wrap(panel.caption, fonts.small, grid.panel_width, MOST_LINES)):
        draw.text((left, below + NAME_LINE + number * SMALL_LINE), line, SOFT, fonts.small)


def _wrap(text: str, font: Any, width: int, most: int) -> list[str]:
    """Lines of at most `width` pixels, broken between words; the last of `most` says by dots that there is more."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        last = len(lines) == most - 1
        lines.append(_elide(" ".join(words if last else words[:count]), font, width, at_end=True))
        words = words[count:]
    return lines


def _elide(text: str, font: Any, width: int, *, at_end: bool = False) -> str:
    """With dots in the middle, or at the end, where it is too wide: a path is told by both its ends."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text) - 1  # how many letters are kept: bisected, for names may be long
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if font.getlength(_shorten(text, kept, at_end)) <= width else (low, kept - 1)
    return _shorten(text, low, at_end)


def _shorten(text: str, kept: int, at_end: bool) -> str:
    if at_end:
        return f"{text[:kept].rstrip(' ,')}…"
    tail = kept // 2
    return f"{text[: kept - tail]}…{text[len(text) - tail :]}"
