"""Patients of images whose table names none: read from the path, by a regular expression of the user's."""

import re
from collections.abc import Sequence

from genmed.ground.errors import DataError


def find_patients(ids: Sequence[str], pattern: str) -> tuple[str, ...]:
    """What the pattern finds in each id, its first group if it has one.

    Raises DataError with the first id in which it finds nothing: patients that are half known make a wrong split.
    """
    expression = re.compile(pattern)
    found = [expression.search(name) for name in ids]
    without = [name for name, match in zip(ids, found, strict=True) if not match or not match[expression.groups and 1]]
    if without:
        raise DataError(
            f"data.patient_pattern {pattern!r} finds no patient in {len(without)} of {len(ids)} images ({without[0]})",
            "change the pattern, or leave it out and split by image",
        )
    return tuple(match[expression.groups and 1] for match in found if match)
