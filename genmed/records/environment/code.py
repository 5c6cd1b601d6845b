"""The digest of the code that a run is a function of: genmed's own sources and the files that the user brought."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError
from genmed.ground.fingerprints import digest_file, digest_json

PACKAGE = Path(__file__).resolve().parents[2]


def digest_code(user_files: Sequence[Path] = (), package: Path = PACKAGE) -> dict[str, Any]:
    """SHA-256 over all sources, and of each: {"digest": "sha256:...", "files": {name: "sha256:..."}}.

    The package's `*.py` go by their path from its folder ("genmed/seed.py"), the user's by file name alone
    ("my_model.py"): where either lies changes nothing. One digest over the names and digests, sorted by name.

    Raises ConfigError if a user's file is missing, or if two different ones have the same name.
    """
    sources = {f"genmed/{path.relative_to(package).as_posix()}": path for path in _list_sources(package)}
    brought = {path.name: path.resolve() for path in user_files}
    for path in user_files:
        if not path.is_file():
            raise ConfigError(f"there is no code file {path}", "name a Python file that exists")
        if brought[path.name] != path.resolve():
            raise ConfigError(
                f"two code files are named {path.name}: {path.resolve()} and {brought[path.name]}",
                "rename one: a run knows the files by name",
            )
    files = {name: digest_file(path) for name, path in sorted((sources | brought).items())}
    return {"digest": digest_json(files), "files": files}


def is_user_file(name: str) -> bool:
    """Whether a name of `digest_code` is that of a file which the user brought."""
    return "/" not in name


def _list_sources(package: Path) -> list[Path]:
    """Files that Python would import; editors leave lock files and copies whose names begin with a dot."""
    return [
        path
        for path in package.rglob("*.py")
        if not any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(package).parts)
    ]
