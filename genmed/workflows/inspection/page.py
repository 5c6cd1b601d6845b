"""A white page with images in panels and words below them, of a size that a screen shows whole.

Images are enlarged by whole numbers, so that each pixel is seen; where the page has no room they are reduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from genmed.ground.errors import RequestError
from genmed.ground.wording import say_count

PAGE_WIDTH, PAGE_HEIGHT = 1720, 1300
"""About that; a panel is never cut, and of many images the page is higher."""
LEAST_CELL, MOST_ENLARGED = 96, 256
"""Sides in pixels: an image is reduced to no less than this, and enlarged to no more than that."""
REDUCED = (Fraction(3, 4), Fraction(1, 2), Fraction(3, 8), Fraction(1, 4), Fraction(1, 8), Fraction(1, 16))
LEAST_PANEL = 168
"""Width in pixels in which words are still read."""
MARGIN, GAP, WITHIN = 32, 28, 4
"""Around the page, between panels, between the images of one panel; in pixels."""
MOST_LINES = 3
"""Of a panel's labels."""
MOST_PIXELS = 200_000_000
INK, SOFT, RULE = (24, 28, 33), (110, 118, 128), (222, 226, 230)
TITLE_LINE, NAME_LINE, SMALL_LINE, HEADING_LINE = 30, 19, 17, 34
"""Heights of lines."""

Section = tuple[str, Sequence["Panel"]]
"""A heading, '' for none, and what stands below it."""


@dataclass(frozen=True)
class Panel:
    """Versions of one image, side by side, and what is written below."""

    pictures: npt.NDArray[np.uint8]
    """(V, C, S, S), C 1 or 3."""
    name: str
    caption: str


@dataclass(frozen=True)
class Page:
    """What was drawn."""

    image: Image.Image
    """RGB."""
    scale: Fraction
    """Pixels of the page by pixels of an image, along a side."""


@dataclass(frozen=True)
class _Fonts:
    title: Any
    heading: Any
    name: Any
    small: Any


@dataclass(frozen=True)
class _Place:
    """A panel in its row; a section without panels has a place for its heading."""

    column: int
    panel: Panel | None
    heading: str = ""
    """Of a section that begins here."""
    span: int = 1
    """Columns of this row that are the section's, where it begins."""


Row = list[_Place]


@dataclass(frozen=True)
class _Grid:
    """Where things stand on the page."""

    scale: Fraction
    cell: int
    """Side of one image on the page."""
    versions: int
    columns: int

    @property
    def panel_width(self) -> int:
        return max(LEAST_PANEL, self.versions * self.cell + (self.versions - 1) * WITHIN)

    @property
    def page_width(self) -> int:
        return 2 * MARGIN + self.span(self.columns)

    def span(self, columns: int) -> int:
        return columns * self.panel_width + (columns - 1) * GAP

    def left(self, column: int) -> int:
        return MARGIN + column * (self.panel_width + GAP)


def draw_page(title: str, subtitle: str, headings: Sequence[str], sections: Sequence[Section]) -> Page:
    """The sections side by side as far as they fit, each with its heading and panels in reading order.

    headings: one a version. The subtitle goes on to say at which scale images are drawn, unless it is their own. Raises
    RequestError where the page would have more than MOST_PIXELS.
    """
    fonts = _Fonts(*(ImageFont.load_default(size=size) for size in (22, 17, 14, 13)))
    grid, rows = _plan(sections, len(headings), fonts)
    if grid.scale != 1:
        subtitle += f" Drawn at {float(grid.scale):g}x."
    width = grid.page_width
    heads = _wrap(title, fonts.title, width - 2 * MARGIN, 3)
    below = _wrap(subtitle, fonts.small, width - 2 * MARGIN, 4)
    top = MARGIN + TITLE_LINE * len(heads) + SMALL_LINE * len(below) + 14
    height = top + SMALL_LINE + 2 + sum(_measure_row(row, grid, fonts) for row in rows) + MARGIN - GAP
    if width * height > MOST_PIXELS:
        many = say_count(sum(len(panels) for _, panels in sections), "image")
        raise RequestError(f"a page of {many} would have {width} x {height} pixels", "show fewer with --count")
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(heads):
        draw.text((MARGIN, MARGIN + TITLE_LINE * number), line, INK, fonts.title)
    for number, line in enumerate(below):
        draw.text((MARGIN, MARGIN + TITLE_LINE * len(heads) + SMALL_LINE * number), line, SOFT, fonts.small)
    for column in range(grid.columns):
        for version, word in enumerate(headings):
            draw.text((grid.left(column) + version * (grid.cell + WITHIN), top), word, SOFT, fonts.small)
    top += SMALL_LINE + 2
    for row in rows:
        _draw_row(page, draw, top, row, grid, fonts)
        top += _measure_row(row, grid, fonts)
    return Page(page, grid.scale)


def _plan(sections: Sequence[Section], versions: int, fonts: _Fonts) -> tuple[_Grid, list[Row]]:
    """The largest scale at which all of it fits into PAGE_WIDTH and PAGE_HEIGHT, else the smallest."""
    side = max((panel.pictures.shape[-1] for _, panels in sections for panel in panels), default=LEAST_CELL)
    for scale in _list_scales(side):
        cell = int(side * scale)
        width = _Grid(scale, cell, versions, 1).panel_width
        columns = max(1, (PAGE_WIDTH - 2 * MARGIN + GAP) // (width + GAP))
        rows = _flow(sections, columns)
        grid = _Grid(scale, cell, versions, max(place.column + 1 for row in rows for place in row))
        height = sum(_measure_row(row, grid, fonts) for row in rows)
        if height <= PAGE_HEIGHT - 4 * MARGIN and grid.page_width <= PAGE_WIDTH:
            break
    return grid, rows


def _list_scales(side: int) -> list[Fraction]:
    """The largest first."""
    enlarged = [Fraction(times) for times in range(1, max(1, MOST_ENLARGED // side) + 1)]
    scales = sorted([*enlarged, *REDUCED], reverse=True)
    return [scale for scale in scales if side * scale >= LEAST_CELL]


def _flow(sections: Sequence[Section], columns: int) -> list[Row]:
    """Rows of the page. A section that does not fit beside the one before begins a row."""
    rows: list[Row] = [[]]
    for heading, panels in sections:
        if len(rows[-1]) + len(panels) > columns and rows[-1]:
            rows.append([])
        span = min(max(len(panels), 1), columns)
        for number, panel in enumerate(panels or [None]):
            if len(rows[-1]) == columns:
                rows.append([])
            rows[-1].append(_Place(len(rows[-1]), panel, "" if number else heading, span))
    return rows


def _measure_row(row: Row, grid: _Grid, fonts: _Fonts) -> int:
    panels = [place.panel for place in row if place.panel]
    lines = max((len(_wrap(panel.caption, fonts.small, grid.panel_width, MOST_LINES)) for panel in panels), default=0)
    inner = grid.cell + 6 + NAME_LINE + lines * SMALL_LINE if panels else 0
    return _measure_headings(row) + inner + GAP


def _measure_headings(row: Row) -> int:
    return HEADING_LINE if any(place.heading for place in row) else 0


def _draw_row(page: Image.Image, draw: ImageDraw.ImageDraw, top: int, row: Row, grid: _Grid, fonts: _Fonts) -> None:
    for place in row:
        left = grid.left(place.column)
        if place.heading:
            width = grid.span(place.span)
            draw.line([(left, top), (left + width, top)], RULE)
            draw.text((left, top + 9), _elide(place.heading, fonts.heading, width), INK, fonts.heading)
        if place.panel:
            _draw_panel(page, draw, left, top + _measure_headings(row), place.panel, grid, fonts)


def _draw_panel(
    page: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, panel: Panel, grid: _Grid, fonts: _Fonts
) -> None:
    for version, picture in enumerate(panel.pictures):
        page.paste(_scale(picture, grid.cell), (left + version * (grid.cell + WITHIN), top))
    below = top + grid.cell + 6
    draw.text((left, below), _elide(panel.name, fonts.name, grid.panel_width), INK, fonts.name)
    for number, line in enumerate(_wrap(panel.caption, fonts.small, grid.panel_width, MOST_LINES)):
        draw.text((left, below + NAME_LINE + number * SMALL_LINE), line, SOFT, fonts.small)


def _scale(picture: npt.NDArray[np.uint8], cell: int) -> Image.Image:
    """(C, S, S) as an RGB image of `cell` pixels a side."""
    colours = picture.transpose(1, 2, 0)
    image = Image.fromarray(colours if colours.shape[2] == 3 else np.repeat(colours, 3, axis=2))
    way = Image.Resampling.NEAREST if cell >= image.width else Image.Resampling.BILINEAR
    return image.resize((cell, cell), way)


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
