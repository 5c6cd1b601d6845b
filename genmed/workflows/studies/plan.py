"""From flags to the cells and seeds of a study; without torch, and before any data are read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError
from genmed.ground.user_files import is_user_file
from genmed.records.config import ResolvedConfig, flatten, read_grid
from genmed.records.config.sections import check_name
from genmed.workflows.configure import configure

MOST_SEEDS = 1000
HIGHEST_SEED = 2**32 - 1
MODEL = "model.name"
AT_OWN_THRESHOLD = "net_benefit"
"""Each run has it by its own exchange rate of harms: no two of them can be compared."""


@dataclass(frozen=True)
class PlannedCell:
    """One point of the grid."""

    name: str
    settings: dict[str, Any]
    resolved: ResolvedConfig


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    name: str
    """Empty: to be derived from what the study is."""
    metric: str
    seeds: tuple[int, ...]
    cells: tuple[PlannedCell, ...]


def make_plan(
    flags: Mapping[str, Any],
    *,
    name: str,
    metric: str,
    seeds: str,
    models: str | None,
    grid: Sequence[str],
    file: Path | None = None,
    settings: Sequence[str] = (),
    origins: Mapping[str, str] | None = None,
) -> Plan:
    """flags, file, settings, origins: as for `configure`. seeds: `5` or `1,7,9`. Raises ConfigError."""
    axes = list_axes(models, grid)
    _check_name(name)
    check_metric(metric)
    given = {key: (origins or {}).get(key, key) for key, value in flags.items() if value is not None}
    given |= {text.partition("=")[0]: "--set" for text in settings}
    for key in axes:
        if key in given:
            option = "--models" if key == MODEL else f"--grid {key}"
            raise ConfigError(f"{option} and {given[key]} both give {key}", "leave one of them out")
    told = {**(origins or {}), **{key: "--models" if key == MODEL else "--grid" for key in axes}}
    cells = []
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        resolved = configure({**flags, **chosen}, file=file, settings=settings, origins=told)
        if resolved.config.compute.processes > 1:
            raise ConfigError(
                "each run of a study is computed by one process",
                "leave out compute.processes, or use --jobs",
            )
        values = flatten(resolved.config)
        cells.append(PlannedCell("", {key: values[key] for key in axes}, resolved))
    listed = "," in seeds
    if listed and "seed" in given:
        raise ConfigError("a list of --seeds and --seed exclude each other", "give --seed and how many, or the list")
    chosen_seeds = read_seeds(seeds, cells[0].resolved.config.seed)
    refuse_equal(cells)
    named = _name_cells(cells)
    return Plan(name, metric, chosen_seeds, named)


def read_seeds(text: str, base: int) -> tuple[int, ...]:
    """`5`: base and the four after it; `1,7,9`: these. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"--seeds takes how many, or a list of seeds, got {text!r}", "--seeds 5, or --seeds 1,7,9")
    numbers = [int(part) for part in parts]
    if len(numbers) == 1:
        if not 1 <= numbers[0] <= MOST_SEEDS:
            raise ConfigError(f"--seeds must be from 1 to {MOST_SEEDS}, got {numbers[0]}", "--seeds 5, for example")
        numbers = list(range(base, base + numbers[0]))
    twice = [number for at, number in enumerate(numbers) if number in numbers[:at]]
    if twice:
        raise ConfigError(f"--seeds has {twice[0]} twice", "a run with the same seed is the same run")
    if max(numbers) > HIGHEST_SEED:
        raise ConfigError(f"a seed must be at most {HIGHEST_SEED}, got {max(numbers)}", "set by --seeds")
    return tuple(numbers)


def list_axes(models: str | None, grid: Sequence[str]) -> dict[str, list[Any]]:
    """Dotted key -> its values, the models first. Raises ConfigError."""
    axes: dict[str, list[Any]] = {}
    if models is not None:
        names = [name.strip() for name in models.split(",")]
        if not all(names):
            raise ConfigError(f"--models takes names between commas, got {models!r}", "--models resnet18,densenet121")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"--models has {twice} twice", "give each model once")
        axes[MODEL] = list(names)
    for text in grid:
        key, values = read_grid(text)
        if key == "seed":
            raise ConfigError("--grid takes no seed", "seeds are given by --seeds")
        if key in axes:
            raise ConfigError(f"{key} is given twice", "give all values of a key in one --grid or in --models")
        axes[key] = values
    return axes


def _check_name(name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(f"--name {error}, got {name}") from None
    if name == "latest":
        raise ConfigError("no study can be named latest", "the word is for the newest one")


def check_metric(name: str) -> None:
    """Raises ConfigError for one that cannot compare: Vickers and Elkin fix the threshold beforehand, for all alike."""
    if name.removeprefix("test_").startswith(AT_OWN_THRESHOLD):
        raise ConfigError(
            f"{name} compares no models: it weighs harms by the threshold, and each run has its own",
            "take auroc_macro or brier_macro; `genmed report` draws net benefit at all thresholds",
        )


def refuse_equal(cells: Sequence[PlannedCell]) -> None:
    """Two cells of one fingerprint would be the same runs."""
    seen: dict[str, PlannedCell] = {}
    for cell in cells:
        other = seen.setdefault(cell.resolved.config.fingerprint, cell)
        if other is not cell:
            keys = list(cell.settings)
            parted = [key for key in keys if other.settings[key] != cell.settings[key]] or keys
            raise ConfigError(
                f"cells that differ in {' and '.join(parted)} alone would be the same runs",
                "user files need names of their own"
                if any(is_user_file(str(cell.settings[key])) for key in parted)
                else "it changes no bit of a result",
            )


def _name_cells(cells: Sequence[PlannedCell]) -> tuple[PlannedCell, ...]:
    """By what sets them apart: `densenet121`, `densenet121 lr=0.001`; the model where nothing does."""
    varied = {key for cell in cells for key in cell.settings}
    short = {key: key.rpartition(".")[2] for key in varied}
    unclear = {key for key in varied if sum(name == short[key] for name in short.values()) > 1}

    def name(cell: PlannedCell) -> str:
        settings = cell.settings or {MODEL: cell.resolved.config.model.name}
        parts = [
            Path(str(value)).name if key == MODEL else f"{key if key in unclear else short[key]}={value}"
            for key, value in settings.items()
        ]
        return " ".join(parts)

    return tuple(PlannedCell(name(cell), cell.settings, cell.resolved) for cell in cells)
