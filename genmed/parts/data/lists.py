"""Columns whose cells are lists of names, as Python, NumPy and JSON write them: `['mass', 'nodule']`."""

import re
from collections.abc import Sequence

from genmed.ground.errors import DataError
from genmed.parts.data.tables import Table

LIST = re.compile(r"""\[(.*)\]|\(\s*(['"].*)\)|\{\s*(['"].*)\}""")
NAME = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s,'"\[\]][^,\[\]]*))\s*(?:,\s*|$|(?=['"]))""")
"""A name in quotes, or without, up to the comma; NumPy has no commas."""
NOTHING = ("", "nan", "none", "null")
"""What is no name in a list, in lower case."""


def find_lists(table: Table, name: str, cells: Sequence[str]) -> dict[str, list[str]]:
    """Each distinct cell of a column of lists -> the names in it; nothing if it is no column of lists.

    An empty cell holds the name ''. Raises DataError, with the line, for a list that cannot be read, and for another
    cell among lists.
    """
    given = {cell: LIST.fullmatch(cell) for cell in dict.fromkeys(cells) if cell}
    if not any(given.values()):
        return {}
    example = next(cell for cell, found in given.items() if found)
    lists = {"": [""]} if "" in cells else {}
    for cell, found in given.items():
        names = _split("".join(found.groups(""))) if found else None
        if names is None:
            raise DataError(
                f"{table.at(cells.index(cell))}: {name} is {cell!r}, which is no list of names such as {example}",
                "write each cell of the column as a list, or none of them",
            )
        lists[cell] = names
    return lists


def _split(inner: str) -> list[str] | None:
    """The names between the brackets; None if that is something else."""
    names, at = [], len(inner) - len(inner.lstrip())
    while at < len(inner):
        found = NAME.match(inner, at)
        if not found:
            return None
        names.append(re.sub(r"\\(.)", r"\1", "".join(found.groups(""))).strip())
        at = found.end()
    return [name for name in names if name.lower() not in NOTHING]
