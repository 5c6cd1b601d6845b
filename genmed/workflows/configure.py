"""From flags, variables and files to one config that can be trained; without torch."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError
from genmed.ground.interpreter import list_variables
from genmed.ground.user_files import is_user_file, with_absolute_path
from genmed.parts.data.datasets import find_dataset
from genmed.parts.models.table import check_model
from genmed.records.config import (
    Config,
    Layer,
    ResolvedConfig,
    layer_of_defaults,
    layer_of_environment,
    layer_of_file,
    layer_of_flags,
    resolve,
)
from genmed.records.environment import count_default_threads
from genmed.workflows.code import check_code_files
from genmed.workflows.tensorboard import check_package

PATHS = {"data.root", "data.dataset", "manifest.file", "model.name", "model.weights", "run.code_files"}
"""Keys whose values are paths, or may be."""
DEVICES = ("auto", "cpu", "cuda", "mps")


def configure(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | str | None = None,
    settings: Sequence[str] = (),
    origins: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ResolvedConfig:
    """Flag over GENMED_* variable over YAML over the dataset's default over the default; checked as far as possible.

    flags: values by dotted key, None where not given. Raises ConfigError.
    """
    flags = flags or {}
    layers: list[Layer] = [layer_of_file(file)] if file else []
    layers.append(layer_of_environment(os.environ if environ is None else environ))
    layers.append(layer_of_flags(flags, origins or {key: f"argument {key}" for key in flags}, settings))
    layers = [
        replace(layer, values={key: _expand(key, value) for key, value in layer.values.items()}) for layer in layers
    ]
    first = resolve(layers).config
    dataset = find_dataset(first.data.dataset)
    defaults = layer_of_defaults(dataset.defaults, f"default for {dataset.name}")
    cores = max(1, count_default_threads() // first.compute.processes)
    threads = layer_of_defaults({"compute.threads": cores}, "physical cores, at most 8, over the processes")
    root = {} if dataset.built_in else {"data.root": dataset.default_root}
    resolved = resolve([defaults, threads, layer_of_defaults(root, f"default for {dataset.name}"), *layers])
    check(resolved.config)
    return ResolvedConfig(_with_absolute_paths(resolved.config), resolved.origins)


def _expand(key: str, value: Any) -> Any:
    """A path with `~` and `$VARIABLE` resolved, of those keys that hold paths; a path that exists stays as it is.

    Raises ConfigError for a variable that is not set.
    """
    if key not in PATHS:
        return value
    if isinstance(value, (list, tuple)):
        return [_expand(key, entry) for entry in value]
    if not isinstance(value, str) or Path(value).exists():
        return value
    expanded = os.path.expandvars(os.path.expanduser(value))
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise ConfigError(
            f"{key} is {value}, and the variable {unset[1]} is not set", "set it, or write the path in full"
        )
    return expanded


def check(config: Config) -> None:
    """What can be told without torch and without reading the data. Raises ConfigError."""
    dataset = find_dataset(config.data.dataset)
    if not dataset.built_in and config.data.root and not Path(config.data.root).is_dir():
        raise ConfigError(
            f"no data folder {config.data.root} for {dataset.name}",
            f"put the data there or name their folder with --data-root; needed: {dataset.needs}",
        )
    check_model(config.model.name, config.data.image_size)
    check_code_files(config.run.code_files)
    if config.run.tensorboard:
        check_package()
    weights, classes = config.loss.positive_weights, config.labels.classes or dataset.classes
    as_told = config.labels.task == "auto" and config.loss.name == "auto" and dataset.task != "ordinal"
    if isinstance(weights, tuple) and classes and as_told and len(weights) != len(classes):
        raise ConfigError(
            f"loss.positive_weights has {len(weights)} numbers, {dataset.name} has {len(classes)} classes"
        )
    if config.model.weights == "torchvision" and is_user_file(config.model.name):
        raise ConfigError("torchvision has no weights for a model of your own", "name a file with --weights")
    if config.model.weights not in ("random", "torchvision") and not Path(config.model.weights).is_file():
        raise ConfigError(
            f"no weights file {config.model.weights}", "set --weights to random, torchvision or a file that exists"
        )
    if config.training.batch_size < 2 * config.compute.shards:
        raise ConfigError(
            f"training.batch_size must be at least 2 a shard, got {config.training.batch_size}"
            f" for {config.compute.shards} shards"
        )
    if config.training.batch_size % config.compute.shards:
        raise ConfigError(
            f"compute.shards must divide training.batch_size, got {config.compute.shards}"
            f" and {config.training.batch_size}"
        )

    if config.compute.processes > config.compute.shards:
        raise ConfigError(
            f"compute.processes must be at most compute.shards, got {config.compute.processes}"
            f" and {config.compute.shards}",
            f"train with --shards {config.compute.processes}, which is part of the arithmetic",
        )
    if config.compute.processes > 1 and config.run.trace_modules:
        raise ConfigError("--trace-modules needs all shards in one process", "leave out --processes")


def check_device(asked: str) -> None:
    """Raises ConfigError for what is the name of none."""
    if asked not in DEVICES:
        raise ConfigError(f"--device must be auto, cpu, cuda or mps, got {asked}")


def _with_absolute_paths(config: Config) -> Config:
    """A run is resumed and verified from any folder; paths are no part of the fingerprint."""
    paths: dict[str, Any] = {}
    if config.data.root:
        paths["data.root"] = str(Path(config.data.root).absolute())
    table = Path(config.manifest.file)
    if not (Path(config.data.root) / table).is_file() and table.is_file():
        paths["manifest.file"] = str(table.absolute())
    paths["run.code_files"] = tuple(os.path.abspath(pattern) for pattern in config.run.code_files)
    paths["model.name"] = with_absolute_path(config.model.name)
    paths["data.dataset"] = with_absolute_path(config.data.dataset)
    if config.model.weights not in ("random", "torchvision"):
        paths["model.weights"] = str(Path(config.model.weights).absolute())
    return config.replace(**paths)


def interpreter_variables(config: Config) -> dict[str, str]:
    """Environment variables that a process must have been started with to run this config."""
    compute = config.compute
    return list_variables(config.seed, compute.threads, compute.cpu_isa, compute.determinism == "strict")
