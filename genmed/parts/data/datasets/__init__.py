"""The table of datasets: a new one is one file here and one entry below."""

from genmed.ground.errors import ConfigError
from genmed.parts.data.datasets import nih, phantom
from genmed.parts.data.records import DatasetFacts
from genmed.records.config import suggest

DATASETS: dict[str, DatasetFacts] = {facts.name: facts for facts in (phantom.FACTS, nih.FACTS)}


def find_dataset(name: str) -> DatasetFacts:
    """Raises ConfigError with the nearest names."""
    if name not in DATASETS:
        raise ConfigError(f"unknown dataset {name!r}", suggest(name, sorted(DATASETS)))
    return DATASETS[name]
