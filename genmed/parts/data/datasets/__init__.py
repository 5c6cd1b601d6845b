"""The table of datasets: a new one is one file here, with its facts as `FACTS` and a function that returns records."""

import functools
import importlib
import pkgutil

from genmed.ground.errors import ConfigError
from genmed.ground.user_files import find_user_file, is_user_file, load_from_user_file
from genmed.parts.data.records import DatasetFacts
from genmed.records.config import suggest


def _collect() -> dict[str, DatasetFacts]:
    """One DatasetFacts a file, or a tuple of them; the built-in one first."""
    found: list[DatasetFacts] = []
    for module in pkgutil.iter_modules(__path__):
        facts = importlib.import_module(f"{__name__}.{module.name}").FACTS
        found += facts if isinstance(facts, tuple) else [facts]
    return {facts.name: facts for facts in sorted(found, key=lambda facts: (not facts.built_in, facts.name))}


DATASETS = _collect()
VOLUMES = ("organmnist3d", "nodulemnist3d", "adrenalmnist3d", "fracturemnist3d", "vesselmnist3d", "synapsemnist3d")
"""The 3D sets of MedMNIST v2."""


def find_dataset(name: str) -> DatasetFacts:
    """By its name in the table, or `file.py:FACTS` of the user's. Raises ConfigError with the nearest names."""
    if is_user_file(name):
        path = find_user_file(name, "dataset")
        return _load(str(path.absolute()), name.rpartition(":")[2], path.stat().st_mtime_ns)
    if name not in DATASETS:
        if name.lower().removeprefix("medmnist:") in VOLUMES:
            raise ConfigError(
                f"{name} is a 3D set of MedMNIST, whose volumes are not read", "choose one of the 2D sets"
            )
        raise ConfigError(f"unknown dataset {name!r}", suggest(name, sorted(DATASETS)))
    return DATASETS[name]


def is_related(first: str, second: str) -> bool:
    """Whether two datasets may share images: one was made of the other, or both of a third."""
    return first != second and bool(_origins(first) & _origins(second))


def _origins(name: str) -> set[str]:
    """The dataset and all that it was made of."""
    sources = DATASETS[name].sources if name in DATASETS else ()
    return {name}.union(*map(_origins, sources))


@functools.lru_cache(maxsize=8)
def _load(path: str, attribute: str, modified: int) -> DatasetFacts:
    facts = load_from_user_file(f"{path}:{attribute}", "dataset")
    if not isinstance(facts, DatasetFacts):
        raise ConfigError(f"{path}:{attribute} is {type(facts).__name__}, not DatasetFacts", "see CONTRIBUTING.md")
    return facts
