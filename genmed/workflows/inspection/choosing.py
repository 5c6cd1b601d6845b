"""The config of a command that looks at data: a dataset, the folder that it lies in, and what else is set."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    "data.on_bad_image": "--on-bad-image",
    "augmentation.preset": "--augmentation",
    "seed": "--seed",
}
"""How a value that may be given is called on the command line."""
OWN_WORDS = {
    "--data-root": "PATH",
    "--val-ratio": "--set data.val_ratio",
    "--test-ratio": "--set data.test_ratio",
    "--split-seed": "--set data.split_seed",
    "--num-workers": "--set compute.num_workers",
    "--weights": "model.weights",
    "--root or GENMED_CACHE": "GENMED_CACHE, --out or --csv",
}
"""What hints name that the data commands lack, and what these have in its place."""


@contextmanager
def own_words() -> Iterator[None]:
    """Within it the hints of errors name what the data commands have, and not what `genmed train` has."""
    try:
        yield
    except RequestError as error:
        words = "|".join(map(re.escape, OWN_WORDS))
        error.hint = re.sub(words, lambda found: OWN_WORDS[found[0]], error.hint)
        raise


def choose_data(
    path: Path | None, flags: Mapping[str, Any], settings: Sequence[str], more: Sequence[str] = ()
) -> Config:
    """path: the data root, None for the dataset's own place. flags: values by dotted key, of ORIGINS; None: not given.

    more: what was given beside the path. Raises ConfigError, and RequestError for a folder that the dataset does not
    read.
    """
    _check_folder(path, more)
    given = {**flags, "data.root": None if path is None else str(path)}
    with own_words():
        config = configure(given, settings=settings, origins=ORIGINS).config
    if path is not None and find_dataset(config.data.dataset).built_in:
        raise RequestError(
            f"{config.data.dataset} is made by genmed and reads no folder, got {path}",
            "name the dataset of these files with --dataset; `genmed data list` has all",
        )
    return config


def _check_folder(path: Path | None, more: Sequence[str]) -> None:
    """Raises RequestError where there is more than one; ConfigError where it is no folder."""
    for text in [*([] if path is None or path.exists() else [str(path)]), *more]:
        if "=" in text:
            raise RequestError(f"{text} stands alone", f"each KEY=VALUE has a --set of its own: --set {text}")
    if more:
        raise RequestError(
            f"one folder at a time, got {path} and {' and '.join(more)}", "each has a command of its own"
        )
    if path is None or path.is_dir():
        return
    if path.is_file():
        raise ConfigError(f"{path} is a file, and PATH is the folder of a dataset", _say_how_to_name(path))
    raise ConfigError(f"no data folder {path}", "give the folder that the dataset lies in")


def _say_how_to_name(file: Path) -> str:
    """How to come from a file to the dataset that it belongs to."""
    folder = f"give its folder, {file.parent}, as PATH"
    if file.suffix.lower() in (".csv", ".tsv", ".txt"):
        return f"{folder}, with --dataset manifest --set manifest.file={file.name}"
    if file.suffix.lower() == ".npz":
        return f"{folder}, with --dataset medmnist:{re.sub(r'_[0-9]+$', '', file.stem)}"
    return "give the folder that the dataset lies in"
