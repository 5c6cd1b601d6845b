"""What of a stranger's config is not believed: paths, the user's own files, and what has no part in the bits."""

from __future__ import annotations

from pathlib import Path

from genmed.ground.errors import ConfigError
from genmed.ground.user_files import place_user_file
from genmed.ground.wording import name_some
from genmed.parts.data.datasets import find_dataset
from genmed.records.config import Config, flatten
from genmed.records.config.sections import affects_bits, unflatten
from genmed.records.environment.code import is_of_user
from genmed.records.run_folder import RunFolder
from genmed.workflows.code import find_code, read_code
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
    config: Config,
    data_root: Path | None = None,
    model_file: Path | None = None,
    weights: Path | None = None,
    dataset_file: Path | None = None,
) -> Config:
    """The recorded config, of which only what affects bits is taken over; each file is one that the reviewer named.

    data_root: where the data lie here. model_file, weights, dataset_file: the reviewer's own copies, for a run that was
    trained with files of its user's. Raises ConfigError where one is needed and missing, or given and not needed, or a
    number is larger than anybody needs.
    """
    defaults, recorded = flatten(Config()), flatten(config)
    values = {key: value if affects_bits(key) else defaults[key] for key, value in recorded.items()}
    for key, limit in LIMITS.items():
        if values[key] is not None and values[key] > limit:
            raise ConfigError(f"{key} is {values[key]}, more than the {limit} that is accepted of a bundle")
    values["data.dataset"] = place_user_file(config.data.dataset, dataset_file, "dataset")
    values["data.root"] = _place_data(values["data.dataset"], data_root)
    values["manifest.file"] = Path(config.manifest.file).name
    values["model.name"] = place_user_file(config.model.name, model_file, "model")
    values["model.weights"] = _place_weights(config.model.weights, weights)
    trusted = Config.model_validate(unflatten(values))
    check(trusted)
    if trusted.fingerprint != config.fingerprint:
        raise ConfigError("its config holds values that are not accepted of a bundle")
    return trusted


def refuse_missing_code(bundle: Path, folder: RunFolder, config: Config) -> None:
    """Raises ConfigError, by name, for code that the run imported besides and that the reviewer has no copy of."""
    here = find_code(folder, config).paths
    missing = [name for name in read_code(folder).all_files if is_of_user(name) and name not in here]
    if missing:
        raise ConfigError(
            f"{bundle}: the run also imported {name_some(missing)}, and code of a bundle is never executed",
            "read code/ in the bundle; if you trust it, put these files beside the one that you named, as in code/",
        )


def _place_data(name: str, data_root: Path | None) -> str:
    dataset = find_dataset(name)
    if data_root is None and not dataset.built_in:
        raise ConfigError(
            f"the run is on {dataset.name}: say where your copy of the data lies",
            f"name its folder with --data-root; needed: {dataset.needs}",
        )
    return str(data_root.absolute()) if data_root else ""


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
