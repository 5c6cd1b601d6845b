"""What changed in the code since a run was made, as a unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genmed.ground.sealed import read_sealed
from genmed.records.config import Config
from genmed.records.environment.code import digest_code, is_user_file
from genmed.records.environment.repository import describe_repository
from genmed.records.run_folder import RunFolder
from genmed.workflows.assemble import list_user_files

MOST_LINES = 400


def diff_code(folder: RunFolder, config: Config) -> str:
    """The user's files against the run's copies; of genmed's own the names, and git's diff then against that of now.

    Empty where nothing changed. Raises RecordError.
    """
    recorded = read_sealed(folder.environment_path)
    brought = list_user_files(config)
    files = recorded["code"]["files"], digest_code(brought)["files"]
    changed = sorted(name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name))
    lines: list[str] = []
    here = {path.name: path for path in brought}
    for name in filter(is_user_file, changed):
        lines += _diff(name, _read(folder.code_path / name), _read(here.get(name)))
    own = [name for name in changed if not is_user_file(name)]
    lines += [f"{name}: {_how(name, *files)}" for name in own]
    if own:
        lines += _diff_repositories(recorded["git"] or {}, describe_repository() or {})
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"... and {len(lines) - MOST_LINES} more lines"]
    return "\n".join(lines)


def _how(name: str, recorded: Mapping[str, str], found: Mapping[str, str]) -> str:
    return "changed" if name in recorded and name in found else "new" if name in found else "gone"


def _diff_repositories(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """The two commits, and how what was not committed then differs from what is not committed now."""
    yield f"commit {recorded.get('commit')} then, {found.get('commit')} now"
    name = "what was not committed"
    yield from _diff(name, recorded.get("diff") or "", found.get("diff") or "")


def _diff(name: str, recorded: str, found: str) -> Iterator[str]:
    lines = recorded.splitlines(), found.splitlines()
    yield from difflib.unified_diff(*lines, f"{name} (recorded)", f"{name} (here)", lineterm="")


def _read(path: Path | None) -> str:
    """Empty for a file that is not there."""
    return path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else ""
