"""Printing: JSON and tables on stdout, messages on stderr; plain and tab-separated off a terminal."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TextIO


def print_json(value: Any) -> None:
    """One JSON value on stdout; escaped where the locale's encoding has not all letters."""
    print(json.dumps(value, indent=2, ensure_ascii=not knows_all_letters(sys.stdout), allow_nan=False))


def knows_all_letters(stream: TextIO) -> bool:
    """Whether anybody's names can be written to it."""
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def print_line(text: str) -> None:
    """A message for people, on stderr; a training goes on though nobody reads it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # the reader went away, or its disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[str] = (),
    *,
    whole: Sequence[str] = (),
    expendable: Sequence[str] = (),
) -> None:
    """A table on stdout: drawn on a terminal, tab-separated off it. `numbers`: columns that stand to the right.

    On a terminal: numbers and the columns named by `whole` are never broken; of `expendable` those stay for which there
    is room, the last named first.
    """
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            print("\t".join(row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    unbroken = {*numbers, *whole}
    least = {name: _measure(name, [row[at] for row in rows], name in unbroken) for at, name in enumerate(columns)}
    shown = _choose_columns(least, expendable, console.width)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in shown:
        justify: Literal["left", "right"] = "right" if name in numbers else "left"
        table.add_column(name, justify=justify, no_wrap=name in unbroken, overflow="fold")
    for row in rows:
        cells = [cell for name, cell in zip(columns, row, strict=True) if name in shown]
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    needed = _sum_widths(least[name] for name in shown)
    if unbroken and needed > console.width:  # the terminal breaks the lines, and a copied name is whole
        console.width = needed
    console.print(table)


def _measure(name: str, cells: Sequence[str], unbroken: bool) -> int:
    """The least width of a column; one that may be broken needs its longest word, or MOST_OF_A_WORD of it."""
    from rich.cells import cell_len

    if unbroken:
        return max(map(cell_len, [name, *cells]))
    words = [word for cell in [name, *cells] for word in cell.split()]
    return min(max(map(cell_len, words), default=0), MOST_OF_A_WORD)


def _choose_columns(least: Mapping[str, int], expendable: Sequence[str], room: int) -> list[str]:
    shown = [name for name in least if name not in expendable]
    for name in reversed(expendable):
        if _sum_widths(least[known] for known in [*shown, name]) <= room:
            shown.append(name)
    return [name for name in least if name in shown]


def _sum_widths(widths: Iterable[int]) -> int:
    """With what stands between columns and at both ends."""
    widths = list(widths)
    return sum(widths) + 3 * (len(widths) - 1) + 2


MOST_OF_A_WORD = 12


STYLES = {
    "completed": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": "red",
    "identical": "green",
    "consistent": "yellow",
    "diverged": "red",
    "not comparable": "red",
}


def paint(word: str) -> str:
    """A status or verdict in its colour, for a terminal; anything else as it is."""
    if word not in STYLES or os.environ.get("NO_COLOR"):
        return word
    from rich.style import Style

    return Style.parse(STYLES[word]).render(word)


def show_number(value: float | None, digits: int = 4) -> str:
    """'-' for what is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def show_difference(value: float | None) -> str:
    """`0` for equal figures alone: a difference in the last digit is seen."""
    return "-" if value is None else "0" if value == 0 else f"{value:+.2e}"


def show_note(text: str) -> str:
    """On one line."""
    return " / ".join(" ".join(line.split()) for line in text.splitlines()) or "-"


def show_truth(value: bool) -> str:
    return "yes" if value else "no"


def show_value(value: Any) -> str:
    """Any plain value on one line; of a digest the beginning."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {show_value(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(show_value, value)) or "-"
    text = str(value)
    if text.startswith("sha256:"):
        return text[:19]
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
