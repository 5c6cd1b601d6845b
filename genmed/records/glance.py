"""A glance at the registry, for completion: by sqlite3 alone, because importing SQLAlchemy takes half a second.

Seals are not checked; what cannot be read at once is nothing.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from genmed.records.sqlite_file import reading_mode

ADDRESS = "sqlite:///"
PATIENCE = 0.1
"""Seconds to wait for a lock: a person has pressed a key."""


def glance_at_names(root: Path, hidden: bool = False) -> Sequence[tuple[str, str]]:
    """(name, id) of the runs, newest first; of the hidden ones instead, if they are asked for."""
    return _ask(root, "SELECT name, id FROM runs WHERE hidden = ? ORDER BY created DESC, id DESC", hidden)


def glance_at_tags(root: Path) -> Sequence[str]:
    """All tags that a run has, by the alphabet."""
    return [row[0] for row in _ask(root, "SELECT DISTINCT value FROM runs, json_each(runs.tags) ORDER BY value")]


def glance_at(root: Path, column: Literal["dataset", "model"]) -> Sequence[str]:
    """All values in this column, by the alphabet."""
    return [row[0] for row in _ask(root, f"SELECT DISTINCT {column} FROM runs ORDER BY {column}")]


def _ask(root: Path, query: str, *values: Any) -> list[Any]:
    url = os.environ.get("GENMED_REGISTRY") or f"{ADDRESS}{root.absolute() / 'registry.db'}"
    path = Path(url.removeprefix(ADDRESS))
    if not url.startswith(ADDRESS) or not path.is_file():
        return []
    try:
        address = f"{path.absolute().as_uri()}?{reading_mode(path)}"
        with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE)) as connection:
            return connection.execute(query, values).fetchall()
    except (sqlite3.Error, OSError, UnicodeDecodeError):
        return []
