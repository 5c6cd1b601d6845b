"""Counts, names and sentences as people say them."""

from collections.abc import Sequence


def say_count(count: int, what: str) -> str:
    """`1 study`, `2,000 studies`; of `row without an image` the first word has the plural."""
    first, space, rest = what.partition(" ")
    return f"{count:,} {first if count == 1 else say_many(first)}{space}{rest}"


def say_many(what: str) -> str:
    """`studies` of a study, `processes` of a process."""
    return f"{what[:-1]}ies" if what.endswith("y") else f"{what}es" if what.endswith("s") else f"{what}s"


def name_some(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    told = [name if name.isprintable() else ascii(name)[1:-1] for name in names[:most]]
    return ", ".join(told) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def name_file(name: str) -> str:
    """`mine.py:build` of a user's model, wherever it lay; a built-in's name as it is."""
    return name.rpartition("/")[2]


def begin_sentence(text: str) -> str:
    """With a capital."""
    return text[:1].upper() + text[1:]
