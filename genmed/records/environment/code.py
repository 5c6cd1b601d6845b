"""The code that a run is a function of: genmed's own sources, and what was imported or named besides, by name.

genmed's files are named by their path from the package (`genmed/seed.py`). The user's are named as the import system
sees them, wherever they lie: `net.py` is the model's file, `blocks.py` the module `blocks`, `lab/unet.py` the module
`lab.unet`. Files that are read and not imported are named by their path from the folder of the user's file.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder, all_suffixes
from pathlib import Path, PurePosixPath

from genmed.ground.errors import ConfigError
from genmed.ground.fingerprints import digest_file, digest_json
from genmed.ground.user_files import PREFIX, list_imported_since
from genmed.records.environment.distributions import find_foreign_modules

PACKAGE = Path(__file__).resolve().parents[2]
OWN = "genmed/"


@dataclass(frozen=True)
class Code:
    """Files of code as they are here and now, genmed's and the user's, by name."""

    files: Mapping[str, str]
    """Name -> `sha256:...`, sorted by name."""
    paths: Mapping[str, Path]
    """Name -> where it lies, of the user's files alone."""

    @property
    def digest(self) -> str:
        """SHA-256 over all names and digests."""
        return digest_json(dict(self.files))

    def without(self, names: Collection[str]) -> Code:
        """The files that are not among these names."""
        return Code(
            {name: digest for name, digest in self.files.items() if name not in names},
            {name: path for name, path in self.paths.items() if name not in names},
        )

    def with_files(self, paths: Mapping[str, Path]) -> Code:
        """These files of the user's as well, digested. Raises ConfigError where two files have one name."""
        for name, path in paths.items():
            if self.paths.get(name, path).resolve() != path.resolve():
                raise ConfigError(
                    f"two code files are named {name}: {self.paths[name]} and {path}",
                    "rename one: a run knows the files by name",
                )
        more = {name: path for name, path in paths.items() if name not in self.paths}
        files = {**self.files, **{name: digest_file(path) for name, path in more.items()}}
        return Code(dict(sorted(files.items())), {**self.paths, **more})


def digest_code(user_files: Sequence[Path] = (), package: Path = PACKAGE) -> Code:
    """genmed's sources and the named files of the user's, which go by file name alone.

    Raises ConfigError if a user's file is missing, or if two different ones have the same name.
    """
    code = Code(digest_package(package), {})
    for path in user_files:
        if not path.is_file():
            raise ConfigError(f"there is no code file {path}", "name a Python file that exists")
        code = code.with_files({path.name: path.absolute()})
    return code


def digest_package(package: Path = PACKAGE) -> dict[str, str]:
    """Name -> digest of each source of genmed's."""
    sources = {f"{OWN}{path.relative_to(package).as_posix()}": path for path in _list_sources(package)}
    return {name: digest_file(path) for name, path in sorted(sources.items())}


def is_of_user(name: str) -> bool:
    """Whether a name of `digest_code` is that of a file which the user brought."""
    return not name.startswith(OWN)


def find_imported_files() -> dict[str, Path]:
    """The user's modules that were imported since the first of the user's files began to load: name -> file."""
    found = {}
    for module, path in find_foreign_modules(list_imported_since()).items():
        if not module.startswith(PREFIX):
            file = next((place for place in (path, *path.parents) if place.is_file()), None)  # a zip file has modules
            if file:
                found[_name_of(module, file)] = file
    return found


def _name_of(module: str, path: Path) -> str:
    """`lab.nets` in `.../nets/__init__.py` -> `lab/nets/__init__.py`."""
    parents = module.split(".")
    if path.stem != "__init__":
        parents.pop()
    return "/".join([*parents, path.name])


def find_file(name: str, folders: Sequence[Path], recorded: str | None = None) -> Path | None:
    """Where a file of the user's lies now; nothing is imported.

    folders: of the user's named files, which come first on the import path. recorded: where the file lay when the run
    was made, if the import system did not find it then: of a module that the user's code loads from a path.
    """
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    module = _module_of(name)
    found = _find_module(module) if module else None
    found = found or next((Path(entry) for entry in sys.path if Path(entry).name == name), None)
    found = found or (Path(recorded) if recorded else None)
    return found if found and found.is_file() else None


def _module_of(name: str) -> str:
    """`lab/nets/__init__.py` -> `lab.nets`; empty for a file that is no module."""
    path = PurePosixPath(name)
    suffix = next((suffix for suffix in all_suffixes() if path.name.endswith(suffix)), "")
    if not suffix:
        return ""
    stem = path.name.partition(".")[0]
    return ".".join([*path.parts[:-1], *([] if stem == "__init__" else [stem])])


def _find_module(name: str) -> Path | None:
    """The file that would be imported under the name."""
    first, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
        for part in rest:
            places = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(f"{spec.name}.{part}", places) if spec and places is not None else None
    except (ImportError, ValueError):  # ValueError: a module in `sys.modules` that names no file
        return None
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def _list_sources(package: Path) -> list[Path]:
    """Files that Python would import; editors leave lock files and copies whose names begin with a dot."""
    return [
        path
        for path in package.rglob("*.py")
        if not any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(package).parts)
    ]
