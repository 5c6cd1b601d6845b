"""What tables know of people and views beside the labels: results are given by it, nothing is trained on it."""

import re
from collections.abc import Callable, Mapping, Sequence

from genmed.parts.data.tables import Table, is_missing

TRAITS = ("sex", "age", "view")
SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}
AGE = re.compile(r"0*(\d{1,3})(?:\.0)?Y?")
OLDEST = 120
"""NIH's table has people of 414 years."""


def read_traits(
    table: Table, column: Mapping[str, str], rows: Sequence[int] | None = None
) -> dict[str, tuple[str, ...]]:
    """Trait -> a value for each row, '' where nobody knows: sex F or M, age in years, view in capitals.

    column: trait -> column of the table; one that is not there is passed over. rows: those that are wanted, if not all.
    """
    given = {trait: table.columns[name] for trait in TRAITS if (name := column.get(trait)) in table.columns}
    chosen = given if rows is None else {trait: [cells[row] for row in rows] for trait, cells in given.items()}
    return {trait: _convert(cells, READ[trait]) for trait, cells in chosen.items()}


def _convert(cells: Sequence[str], read: Callable[[str], str]) -> tuple[str, ...]:
    values = {cell: read(cell) for cell in set(cells)}
    return tuple(map(values.__getitem__, cells))


def _read_age(cell: str) -> str:
    found = AGE.fullmatch(cell)
    return str(int(found[1])) if found and int(found[1]) <= OLDEST else ""


READ: dict[str, Callable[[str], str]] = {
    "sex": lambda cell: SEXES.get(cell.lower(), ""),
    "age": _read_age,
    "view": lambda cell: "" if is_missing(cell) else cell.upper(),
}
