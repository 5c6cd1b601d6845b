"""The image cache as a person sees it: where it lies, what it holds, how much it may take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from genmed.ground.errors import RequestError
from genmed.ground.files import storage_errors
from genmed.parts.data.cache.place import (
    NO_LIMIT,
    Stored,
    cache_folder,
    clear,
    is_in_use,
    keep_within,
    list_stored,
    read_limit,
    write_limit,
)

UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)},
}


@dataclass(frozen=True)
class CacheState:
    """What there is now, and what was removed to get there."""

    folder: Path
    limit: int | None
    """Bytes; None: no limit."""
    entries: list[tuple[Stored, bool]]
    """And whether it is in use; those used longest ago come first."""
    removed: list[Stored]

    @property
    def size(self) -> int:
        return sum(stored.size for stored, _ in self.entries)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "folder": str(self.folder),
            "limit": self.limit,
            "bytes": self.size,
            "entries": [{**_describe(stored), "in_use": used} for stored, used in self.entries],
            "removed": [_describe(stored) for stored in self.removed],
        }


def mind_cache(limit: str | None = None, *, empty: bool = False) -> CacheState:
    """limit: a size such as 20GB, or `none`, to be kept from now on. empty: removes all that is not in use.

    Creates nothing unless a limit is given. Raises RequestError for what is no size, ConfigError where the stored limit
    is none, StorageError.
    """
    folder = cache_folder()
    removed: list[Stored] = []
    with storage_errors(folder):
        if limit is not None:
            most = parse_size(limit)
            folder.mkdir(parents=True, exist_ok=True)
            write_limit(folder, most)
            removed = keep_within(folder, most)
        if empty:
            removed += clear(folder)
    entries = [(stored, is_in_use(stored.folder)) for stored in list_stored(folder)]
    return CacheState(folder, read_limit(folder), entries, removed)


def parse_size(text: str) -> int | None:
    """Bytes of `20GB`, `1.5 GiB`, `500000` and the like; None for `none`. Raises RequestError."""
    if text.strip().lower() == NO_LIMIT:
        return None
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    if not found or found[2].upper() not in UNITS:
        raise RequestError(f"--limit takes a size, got {text!r}", "for example 20GB, 512MiB, 1000000 or none")
    return int(Fraction(found[1]) * UNITS[found[2].upper()])


def show_size(size: int) -> str:
    """`1.5 GiB`."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return f"{size / 1024**power:.1f} {unit}"
    return f"{size} bytes"


def _describe(stored: Stored) -> dict[str, Any]:
    used = datetime.fromtimestamp(stored.used, UTC).isoformat(timespec="seconds")
    return {"key": stored.folder.name, "what": stored.what, "bytes": stored.size, "used": used}
