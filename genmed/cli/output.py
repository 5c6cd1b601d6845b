"""Printing: JSON and tables on stdout, messages on stderr; plain and tab-separated off a terminal."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_line(text: str) -> None:
    """A message for people, on stderr; a training goes on though nobody reads it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # the reader went away, or its disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """A table on stdout: drawn on a terminal, tab-separated off it. `numbers`: columns that stand to the right."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            print("\t".join(row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    Console().print(table)


STYLES = {
    "completed": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": "red",
    "identical": "green",
    "diverged": "red",
}


def show_number(value: float | None, digits: int = 4) -> str:
    """'-' for what is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"
