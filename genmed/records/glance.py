"""A glance at the registry, for completion: by its driver alone, because importing SQLAlchemy takes half a second.

Seals are not checked; what cannot be read at once is nothing.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from genmed.records.sqlite_file import reading_mode

FILE = "sqlite:///"
SERVERS = ("postgresql://", "postgresql+psycopg://", "postgres://")
PATIENCE = 0.1
"""Seconds to wait for a lock: a person has pressed a key."""
SERVER_PATIENCE = 2
"""Seconds to wait for a server; less is not to be had."""

TAGS = "SELECT DISTINCT value FROM runs, json_each(runs.tags)"
TAGS_ON_SERVER = "SELECT DISTINCT value FROM runs, json_array_elements_text(runs.tags) AS value"


def glance_at_names(root: Path, hidden: bool = False) -> Sequence[tuple[str, str]]:
    """(name, id) of the runs, newest first; of the hidden ones instead, if they are asked for."""
    return _ask(root, f"SELECT name, id FROM runs WHERE hidden = {hidden} ORDER BY created DESC, id DESC")


def glance_at_tags(root: Path) -> Sequence[str]:
    """All tags that a run has, by the alphabet."""
    return sorted(row[0] for row in _ask(root, TAGS, TAGS_ON_SERVER))


def glance_at(root: Path, column: Literal["dataset", "model"]) -> Sequence[str]:
    """All values in this column, by the alphabet."""
    return [row[0] for row in _ask(root, f"SELECT DISTINCT {column} FROM runs ORDER BY {column}")]


def _ask(root: Path, query: str, on_server: str | None = None) -> list[Any]:
    url = os.environ.get("GENMED_REGISTRY") or f"{FILE}{root.absolute() / 'registry.db'}"
    if url.startswith(SERVERS):
        return _ask_server(url, on_server or query)
    path = Path(url.removeprefix(FILE))
    return _ask_file(path, query) if url.startswith(FILE) and path.is_file() else []


def _ask_file(path: Path, query: str) -> list[Any]:
    try:
        address = f"{path.absolute().as_uri()}?{reading_mode(path)}"
        with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE)) as connection:
            return connection.execute(query).fetchall()
    except (sqlite3.Error, OSError, UnicodeDecodeError):
        return []


def _ask_server(url: str, query: str) -> list[Any]:
    try:
        import psycopg
    except ImportError:
        return []
    try:
        address = f"postgresql://{url.partition('://')[2]}"
        with psycopg.connect(address, connect_timeout=SERVER_PATIENCE, client_encoding="utf8") as connection:
            connection.read_only = True
            return connection.execute(query.encode()).fetchall()
    except (psycopg.Error, UnicodeError):
        return []
