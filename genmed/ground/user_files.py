"""Code that the user brings, named `file.py:name`: part of the run's code, digested and copied with it."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError

FORMS = {"model": "file.py:function", "dataset": "file.py:FACTS"}
"""How each kind of thing that a user may bring is named."""


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


def load_from_user_file(name: str, what: str) -> Any:
    """What the file calls so; it is executed. Raises ConfigError."""
    path, attribute = find_user_file(name, what), name.rpartition(":")[2]
    spec = importlib.util.spec_from_file_location(f"genmed_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses, pickle and inspect look for it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise ConfigError(f"{path} has no {FORMS[what].rpartition(':')[2]} {attribute}", f"give {FORMS[what]}")
    return getattr(module, attribute)
