"""registry copy: all that one registry holds into another, file or server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmed.ground.errors import RequestError
from genmed.records.registry import (
    Copied,
    Existing,
    copy_registry,
    find_place,
    is_same,
    name_place,
    open_place,
    parse_place,
)


@dataclass(frozen=True)
class Copying:
    """What was copied, and between which places."""

    source: str
    target: str
    copied: Copied

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, "from": self.source, "to": self.target, **self.copied.to_json()}


def copy_between(source: str | None, target: str | None, root: Path, existing: Existing) -> Copying:
    """source, target: a URL, a file, or a folder with a registry.db in it; None: the registry in use.

    The run folders stay where they are. Raises RequestError: one place twice, nothing at the source, runs at the target
    that may not be there; StorageError where one cannot be used or is damaged. The target is then as it was, and made
    only when the source is found sound.
    """
    origin = parse_place(source, "--from") if source is not None else find_place(root)
    goal = parse_place(target, "--to") if target is not None else find_place(root)
    told = str(name_place(origin)), str(name_place(goal))
    if is_same(origin, goal):
        raise RequestError(f"--from and --to are both {told[0]}", "give two places; what is left out is the one in use")
    held = open_place(origin, create=False)
    if held is None:
        raise RequestError(f"there is no registry at {told[0]}", "a file, its folder or a database URL is wanted")
    held.check()
    other = open_place(goal, create=True)
    assert other is not None
    return Copying(*told, copy_registry(held, other, existing))
