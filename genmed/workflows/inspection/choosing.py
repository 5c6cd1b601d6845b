"""The config of a command that looks at data: a dataset, the folder that it lies in, and what else is set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError, RequestError
from genmed.parts.data.datasets import find_dataset
from genmed.records.config import Config
from genmed.workflows.configure import configure

ORIGINS = {
    "data.root": "PATH",
    "data.dataset": "--dataset",
    "data.image_size": "--image-size",
    "augmentation.preset": "--augmentation",
    "seed": "--seed",
}
"""How a value that may be given is called on the command line."""


def choose_data(path: Path | None, flags: Mapping[str, Any], settings: Sequence[str]) -> Config:
    """path: the data root, None for the dataset's own place. flags: values by dotted key, of ORIGINS; None: not given.

    Raises ConfigError, and RequestError for a folder that the dataset does not read.
    """
    if path is not None and not path.is_dir():
        raise ConfigError(f"no data folder {path}", "give the folder that the dataset lies in")
    given = {**flags, "data.root": None if path is None else str(path)}
    try:
        config = configure(given, settings=settings, origins=ORIGINS).config
    except ConfigError as error:
        raise ConfigError(error.message, error.hint.replace("--data-root", "PATH")) from None
    if path is not None and find_dataset(config.data.dataset).built_in:
        raise RequestError(
            f"{config.data.dataset} is made by genmed and reads no folder, got {path}",
            "name the dataset of these files with --dataset; `genmed data list` has all",
        )
    return config
