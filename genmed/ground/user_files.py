"""Code that the user brings, named `file.py:name`: part of the run's code, digested and copied with it."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError

FORMS = {"model": "file.py:function", "dataset": "file.py:FACTS"}
"""How each kind of thing that a user may bring is named."""
PREFIX = "genmed_user_"
"""Begins the name of the module that such a file becomes."""


def is_user_file(name: str) -> bool:
    return ".py:" in name


def find_user_file(name: str, what: str) -> Path:
    """The file of `file.py:name`. Raises ConfigError where it is not there. what: a key of FORMS."""
    path = Path(name.rpartition(":")[0])
    if not path.is_file():
        raise ConfigError(f"no file {path} for the {what} {name!r}", f"give {FORMS[what]} with a path that exists")
    return path


def place_user_file(recorded: str, file: Path | None, what: str) -> str:
    """`file.py:name` of a stranger's config with the reviewer's own copy in its place.

    Raises ConfigError where a copy is needed and missing, not needed, or of another name.
    """
    flag = f"--{what}-file"
    if not is_user_file(recorded):
        if file:
            raise ConfigError(f"the run's {what} is {recorded}, which needs no file", f"leave out {flag}")
        return recorded
    path, _, attribute = recorded.rpartition(":")
    name = Path(path).name
    if not attribute.isidentifier():
        raise ConfigError(f"the run's {what} is {recorded!a}, which is no {FORMS[what]}")
    if file is None:
        raise ConfigError(
            f"the run's {what} is {name}:{attribute}, and code of a bundle is never executed",
            f"read code/{name} in the bundle; if you trust it, unpack it and name it with {flag}",
        )
    if not file.is_file():
        raise ConfigError(f"no file {file} for {flag}", f"name your copy of the run's {what}")
    if file.name != name:
        raise ConfigError(f"{flag} is {file.name}, the run's {what} is {name}", "give the file that name")
    return f"{file.absolute()}:{attribute}"


def with_absolute_path(name: str) -> str:
    """So that the file is found from any folder; other names as they are."""
    return str(Path(name).absolute()) if is_user_file(name) else name


_imported_before: frozenset[str] | None = None
"""Names of the modules that were imported before the first file of the user's."""
_folders: list[str] = []
"""Of the user's files that were loaded."""


def list_imported_since() -> list[str]:
    """Modules that were imported since the first file of the user's began to load; empty if none did."""
    return [] if _imported_before is None else [name for name in list(sys.modules) if name not in _imported_before]


def list_folders() -> list[Path]:
    """Folders of the user's files that were loaded, where modules are looked for first."""
    return [Path(folder) for folder in reversed(_folders)]


def load_from_user_file(name: str, what: str) -> Any:
    """Execute the file and return what it calls so.

    Its folder goes to the front of the import path and stays there, as a script's does: modules beside it are found,
    also those that are imported later. Raises ConfigError.
    """
    global _imported_before
    path, attribute = find_user_file(name, what), name.rpartition(":")[2]
    folder = str(path.absolute().parent)
    if _imported_before is None:
        _imported_before = frozenset(sys.modules)
    if sys.path[:1] != [folder]:
        sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]
    spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses, pickle and inspect look for it
    try:
        with _own_modules(folder):
            spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        del sys.modules[spec.name]
        told = f"{path} cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(told, _explain_import(error, folder)) from error
    if not hasattr(module, attribute):
        raise ConfigError(f"{path} has no {FORMS[what].rpartition(':')[2]} {attribute}", f"give {FORMS[what]}")
    return getattr(module, attribute)


@contextmanager
def _own_modules(folder: str) -> Iterator[None]:
    """Let a file import the modules beside it, though one of the same name was imported beside another file.

    Otherwise a dataset's `import utils` would silently give the model's. Raises ConfigError where both are needed.
    """
    there = {name.partition(".")[0] for name in os.listdir(folder)}
    tops = {top for top in there if _lies_beside_another(top, folder)}
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in tops}
    if folder not in _folders:
        _folders.append(folder)
    yield
    for name, module in hidden.items():
        if sys.modules.setdefault(name, module) is not module:
            files = f"{module.__file__} and {sys.modules[name].__file__}"
            raise ConfigError(f"two files are imported as {name}: {files}", "rename one: a run knows modules by name")


def _lies_beside_another(top: str, folder: str) -> bool:
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return any(file in (f"{other}/{top}.py", f"{other}/{top}/__init__.py") for other in _folders if other != folder)


def _explain_import(error: Exception, folder: str) -> str:
    """What to do where an import failed; empty for other errors."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is neither in {folder}, nor on PYTHONPATH, nor installed in this environment"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "the file is loaded as a script is: import what lies beside it without a dot"
    if isinstance(error, (ImportError, AttributeError)):
        shadowed = [entry.stem for entry in Path(folder).glob("*.py") if _is_known_elsewhere(entry)]
        if shadowed:
            names = ", ".join(f"{name}.py" for name in sorted(shadowed))
            return f"{names} in {folder} has the name of a module that was imported before: rename it"
    return ""


def _is_known_elsewhere(path: Path) -> bool:
    module = sys.modules.get(path.stem)
    return module is not None and getattr(module, "__file__", None) != str(path)
