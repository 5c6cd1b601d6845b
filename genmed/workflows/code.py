"""The code of a run: recorded when it begins and as it grows, found again and compared later, kept as copies."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError
from genmed.ground.files import storage_errors, write_bytes
from genmed.ground.fingerprints import digest_bytes
from genmed.ground.sealed import read_sealed, write_sealed
from genmed.ground.user_files import find_user_file, is_user_file, list_folders
from genmed.ground.wording import name_some
from genmed.records.config import Config
from genmed.records.environment.capture import as_unicode, describe_packages
from genmed.records.environment.code import Code, digest_code, find_file, find_imported_files, is_of_user
from genmed.records.environment.differences import HARMLESS
from genmed.records.environment.repository import describe_repository
from genmed.records.run_folder import RunFolder

MOST_LINES = 400
LARGEST_COPY = 1 << 20
"""In bytes; a larger file is digested, and not copied."""
COMPILED = (".so", ".pyd", ".dll", ".dylib", ".pyc", ".zip", ".egg")
"""Files that are digested and not copied: nobody reads them, and no diff shows them."""


@dataclass(frozen=True)
class RecordedCode:
    """The code of a run as its environment.json has it."""

    digest: str
    """Over `files`."""
    files: Mapping[str, str]
    """Name -> digest of what was known when the run began."""
    later: Mapping[str, str]
    """Name -> digest of what was imported afterwards."""
    paths: Mapping[str, str] | None
    """Name -> where a file lay that the import system does not find; None for a run that was made before imports were
    recorded."""
    without_copy: frozenset[str]

    @property
    def all_files(self) -> dict[str, str]:
        return {**self.files, **self.later}

    @property
    def copied(self) -> dict[str, str]:
        """Name -> digest of the user's files of which the run has a copy."""
        return {
            name: digest
            for name, digest in self.all_files.items()
            if is_of_user(name) and name not in self.without_copy
        }

    @staticmethod
    def of(environment: Mapping[str, Any]) -> RecordedCode:
        """From environment.json."""
        code = environment["code"]
        return RecordedCode(
            code["digest"],
            code["files"],
            code.get("later", {}),
            environment.get("where", {}).get("code"),
            frozenset(code.get("without_copy", ())),
        )


def read_code(folder: RunFolder) -> RecordedCode:
    """Raises RecordError."""
    return RecordedCode.of(read_sealed(folder.environment_path))


def list_user_files(config: Config) -> list[Path]:
    """The files that the config names: of a model and a dataset of the user's."""
    named = {"dataset": config.data.dataset, "model": config.model.name}
    return [find_user_file(name, what) for what, name in named.items() if is_user_file(name)]


def capture_code(config: Config) -> Code:
    """All code that the config names or that this process has imported for it. Raises ConfigError."""
    return name_code(config).with_files(find_imported_files())


def name_code(config: Config) -> Code:
    """The code that the config names; nothing is imported. Raises ConfigError."""
    return digest_code(list_user_files(config)).with_files(_find_named_files(config))


def check_code_files(patterns: Iterable[str]) -> None:
    """Raises ConfigError for a pattern of `run.code_files` that no file fits."""
    for pattern in patterns:
        if not any(Path(found).is_file() for found in glob.iglob(pattern, recursive=True)):
            raise ConfigError(f"run.code_files: no file fits {pattern}", "name files, for example configs/*.yaml")


def _find_named_files(config: Config) -> dict[str, Path]:
    """The files of `run.code_files`, named by their path from the folder of the user's file where they lie below it."""
    check_code_files(config.run.code_files)
    folders = [path.absolute().parent for path in list_user_files(config)]
    found = {}
    for pattern in config.run.code_files:
        for path in sorted(Path(os.path.abspath(place)) for place in glob.iglob(pattern, recursive=True)):
            if path.is_file():
                above = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
                found[path.relative_to(above).as_posix()] = path
    return found


def find_code(folder: RunFolder, config: Config, captured: Code | None = None) -> Code:
    """The code here and now under the names that the run recorded, and what this process has imported besides.

    captured: the code of this process; None: no code of the user's was run, and its files are looked for where they
    would be imported from. Raises RecordError, ConfigError.
    """
    recorded = read_code(folder)
    present = _list_present(config)
    code = captured or digest_code(present)
    folders = [path.absolute().parent for path in present]
    places = {} if folder.bundle_path.is_file() else recorded.paths or {}  # a stranger's paths are not followed
    found: dict[str, Path] = {}
    for name in filter(is_of_user, recorded.all_files):
        path = code.paths.get(name) or find_file(name, folders, places.get(name))
        if path:
            found[name] = path
    if recorded.paths is None:  # what else was imported then is unknown
        code = Code({name: code.files[name] for name in code.files if not is_of_user(name)}, {})
    return code.with_files(found)


def _list_present(config: Config) -> list[Path]:
    """The named files that are there."""
    names = [name for name in (config.data.dataset, config.model.name) if is_user_file(name)]
    return [path for path in (Path(name.rpartition(":")[0]) for name in names) if path.is_file()]


def list_changes(recorded: RecordedCode, found: Code) -> list[str]:
    """Names of files that are not as recorded: changed, gone or new; the user's first."""
    before, after = recorded.all_files, found.files
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return sorted(changed, key=lambda name: not is_of_user(name))


def diff_code(folder: RunFolder, found: Code, *, own: bool = True) -> str:
    """The user's files against the run's copies; of genmed's own the names, and git's diff then against that of now.

    own: whether genmed's own files are told of. Empty where nothing changed. Raises RecordError.
    """
    environment = read_sealed(folder.environment_path)
    recorded = RecordedCode.of(environment)
    lines: list[str] = []
    of_genmed = []
    for name in list_changes(recorded, found):
        if not is_of_user(name):
            of_genmed.append(f"{name}: {_describe_change(name, recorded.all_files, found.files)}")
        elif _is_compiled(name) or (name in recorded.all_files and name not in recorded.copied):
            lines.append(f"{name}: {_describe_change(name, recorded.all_files, found.files)}, and no copy to compare")
        else:
            lines += _diff(name, _read(folder.code_path / name), _read(found.paths.get(name)))
    if of_genmed and own:
        lines += [*of_genmed, *_diff_repositories(environment["git"] or {}, describe_repository() or {})]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"... and {len(lines) - MOST_LINES} more lines"]
    return "\n".join(lines)


def describe_changes(recorded: RecordedCode, found: Code) -> str:
    """`blocks.py and 2 more`, of the user's files; empty where all are as recorded."""
    return name_some([name for name in list_changes(recorded, found) if is_of_user(name)])


def write_copies(folder: RunFolder, code: Code, names: Iterable[str]) -> None:
    """Copies of the user's files, as they were digested: the run can be read when they are gone.

    Raises ConfigError where one was edited meanwhile: it is not known which of the two was imported.
    """
    for name in names:
        path = code.paths[name]
        if is_copied(path):
            content = path.read_bytes()
            if digest_bytes(content) != code.files[name]:
                raise ConfigError(f"{path} was edited while the training was prepared", "start again")
            copy = folder.code_path / name
            with storage_errors(copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(copy, content)


def is_copied(path: Path) -> bool:
    """Whether a run keeps a copy of a file of the user's."""
    return not _is_compiled(path.name) and path.stat().st_size <= LARGEST_COPY


def describe_code(code: Code, later: Collection[str] = ()) -> dict[str, Any]:
    """As environment.json has it. later: names of files that were imported after the run began."""
    first = code.without(later)
    return {
        "digest": first.digest,
        "files": dict(first.files),
        "later": {name: code.files[name] for name in sorted(later)},
        "without_copy": sorted(name for name, path in code.paths.items() if not is_copied(path)),
    }


def write_environment(
    folder: RunFolder, environment: Mapping[str, Any], code: Code, later: Collection[str] = ()
) -> None:
    """Writes environment.json. later: as `describe_code` has it."""
    document = {**environment, "where": {**environment["where"], "code": _list_places(code)}}
    write_sealed(folder.environment_path, {**document, "code": describe_code(code, later)})


def add_imports(folder: RunFolder, *, at_end: bool = False) -> list[str]:
    """Add to the record what this process has imported since it was written: the user's modules, and packages.

    Before the end of the run nothing is written for packages alone that cannot change bits. Returns the names of the
    user's files that are new. Raises StorageError, RecordError.
    """
    document = read_sealed(folder.environment_path)
    recorded, packages = RecordedCode.of(document), describe_packages()
    if recorded.paths is None:
        return []
    imported = {name: path for name, path in find_imported_files().items() if name not in recorded.all_files}
    new = [name for name in packages["package_sources"] if name not in document["package_sources"]]
    if not imported and (not new or (HARMLESS.keys() >= set(new) and not at_end)):
        return []
    code = Code({}, {}).with_files(imported)
    write_copies(folder, code, code.files)
    added = describe_code(code)
    document["code"]["later"].update(added["files"])
    document["code"]["without_copy"] += added["without_copy"]
    document["where"]["code"].update(_list_places(code))
    for key in ("packages", "package_sources"):
        document[key].update({name: packages[key][name] for name in new})
    document["installed"] = {name: version for name, version in document["installed"].items() if name not in new}
    write_sealed(folder.environment_path, document)
    return list(imported)


def _list_places(code: Code) -> dict[str, str]:
    """Where those files lie that cannot be found by their names."""
    folders = list_folders()
    lost = {name: path for name, path in code.paths.items() if find_file(name, folders) != path}
    return {name: as_unicode(str(path)) for name, path in sorted(lost.items())}


def _is_compiled(name: str) -> bool:
    return name.endswith(COMPILED)


def _describe_change(name: str, recorded: Mapping[str, str], found: Mapping[str, str]) -> str:
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
