"""What of a stranger's config is not believed: paths, the user's own files, and what has no part in the bits."""

from __future__ import annotations

from pathlib import Path

from genmed.ground.errors import ConfigError
from genmed.parts.data.datasets import find_dataset
from genmed.parts.models.table import is_user_model
from genmed.records.config import Config, flatten
from genmed.records.config.sections import affects_bits, unflatten
from genmed.workflows.configure import check

LIMITS = {
    "compute.threads": 1024,
    "compute.shards": 1024,
    "data.image_size": 4096,
    "training.batch_size": 65536,
    "training.epochs": 1_000_000,
    "training.max_steps": 1_000_000_000,
}


def trusted_config(
    config: Config, data_root: Path | None = None, model_file: Path | None = None, weights: Path | None = None
) -> Config:
    """The recorded config, of which only what affects bits is taken over; each file is one that the reviewer named.

    data_root: where the data lie here. model_file, weights: the reviewer's own copies, for a run that was trained with
    files of its user's. Raises ConfigError where one is needed and missing, or given and not needed, or a number is
    larger than anybody needs.
    """
    defaults, recorded = flatten(Config()), flatten(config)
    values = {key: value if affects_bits(key) else defaults[key] for key, value in recorded.items()}
    for key, limit in LIMITS.items():
        if values[key] is not None and values[key] > limit:
            raise ConfigError(f"{key} is {values[key]}, more than the {limit} that is accepted of a bundle")
    values["data.root"] = _place_data(config, data_root)
    values["model.name"] = _place_model(config.model.name, model_file)
    values["model.weights"] = _place_weights(config.model.weights, weights)
    trusted = Config.model_validate(unflatten(values))
    check(trusted)
    assert trusted.fingerprint == config.fingerprint
    return trusted


def _place_data(config: Config, data_root: Path | None) -> str:
    dataset = find_dataset(config.data.dataset)
    if data_root is None and not dataset.built_in:
        raise ConfigError(
            f"the run is on {dataset.name}: say where your copy of the data lies",
            f"name its folder with --data-root; needed: {dataset.needs}",
        )
    return str(data_root.absolute()) if data_root else ""


def _place_model(recorded: str, model_file: Path | None) -> str:
    if not is_user_model(recorded):
        if model_file:
            raise ConfigError(f"the run's model is {recorded}, which needs no file", "leave out --model-file")
        return recorded
    file, _, function = recorded.rpartition(":")
    name = Path(file).name
    if not function.isidentifier():
        raise ConfigError(f"the run's model is {recorded!a}, which is no file.py:function")
    if model_file is None:
        raise ConfigError(
            f"the run's model is {name}:{function}, and code of a bundle is never executed",
            f"read code/{name} in the bundle; if you trust it, unpack it and name it with --model-file",
        )
    if not model_file.is_file():
        raise ConfigError(f"no file {model_file} for --model-file", "name your copy of the run's model")
    if model_file.name != name:
        raise ConfigError(f"--model-file is {model_file.name}, the run's model is {name}", "give the file that name")
    return f"{model_file.absolute()}:{function}"


def _place_weights(recorded: str, weights: Path | None) -> str:
    if recorded in ("random", "torchvision"):
        if weights:
            raise ConfigError(f"the run's weights are {recorded}, which need no file", "leave out --weights")
        return recorded
    name = Path(recorded).name
    if weights is None:
        raise ConfigError(f"the run began from the weights {name}", "name your copy of that file with --weights")
    if not weights.is_file():
        raise ConfigError(f"no file {weights} for --weights", "name your copy of the file that the run began from")
    if weights.name != name:
        raise ConfigError(f"--weights is {weights.name}, the run's file is {name}", "give the file that name")
    return str(weights.absolute())
