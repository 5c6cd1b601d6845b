"""From a plan to a study on record: the data are read and all that can be refused is refused before it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from genmed.ground.errors import ConfigError
from genmed.ground.fingerprints import digest_file, digest_json
from genmed.parts.data.datasets import find_dataset
from genmed.parts.data.records import TaskKind
from genmed.parts.metrics.of_all import OF_ALL
from genmed.parts.metrics.of_class import OF_RANKING, OF_SUMS
from genmed.records.config import Config, ResolvedConfig, flatten, suggest
from genmed.records.registry import open_registry
from genmed.records.run_folder import check_root, now
from genmed.records.study_folder import StudyCell, StudyDocument, StudyFolder, study_folder
from genmed.workflows.assemble import choose_device, load_data
from genmed.workflows.code import name_code
from genmed.workflows.oddities import refuse_unlearnable
from genmed.workflows.reporting import Reporter
from genmed.workflows.studies.found import find_imported
from genmed.workflows.studies.plan import AT_OWN_THRESHOLD, Plan, refuse_equal

READ = ("data.", "labels.", "manifest.")
"""Keys that decide which data are read."""
Known = tuple[str, list[str]]
"""The data's fingerprint, and the metrics that they have."""


def prepare(plan: Plan, root: Path, reporter: Reporter) -> tuple[StudyFolder, StudyDocument]:
    """The study as it would be written down; nothing is written but the image cache.

    Raises RequestError: what cannot be trained, a metric that the data do not have, or a study of that name which is
    another one.
    """
    check_root(root)
    open_registry(root, create=False)
    resolved = [
        ResolvedConfig(_with_device(cell.resolved.config), {**cell.resolved.origins, "seed": "--seeds"})
        for cell in plan.cells
    ]
    refuse_equal([replace(cell, resolved=entry) for cell, entry in zip(plan.cells, resolved, strict=True)])
    study_id = identify([entry.config for entry in resolved], plan.seeds)
    config = resolved[0].config
    dataset = re.sub(r"[^A-Za-z0-9._-]+", "-", find_dataset(config.data.dataset).name).strip("-.")
    folder = study_folder(root, plan.name or f"{dataset}-{study_id}")
    metric = plan.metric.removeprefix("test_")
    before = folder.read() if folder.document_path.is_file() else None
    if before is not None:
        refuse_another(before, plan, resolved, metric)
    read: dict[str, Known] = {}
    cells = []
    for planned, entry in zip(plan.cells, resolved, strict=True):
        fingerprint, metrics = _read_data(entry.config, read, reporter)
        if metric not in metrics:
            raise ConfigError(f"{folder.name} has no metric {metric!r}", suggest(metric, metrics))
        cells.append(
            StudyCell(
                name=planned.name,
                settings=planned.settings,
                values=flatten(entry.config.replace(seed=plan.seeds[0])),
                origins=dict(entry.origins),
                data_fingerprint=fingerprint,
                code_digest=(code := name_code(entry.config)).digest,
                code_files=tuple(code.paths),
                imported=find_imported(root, entry.config, plan.seeds, tuple(code.paths)),
                weights_digest=digest_weights(entry.config),
            )
        )
    created = before.created if before else now()
    return folder, StudyDocument(
        id=study_id, name=folder.name, created=created, metric=metric, seeds=plan.seeds, cells=tuple(cells)
    )


def renew(document: StudyDocument, root: Path, reporter: Reporter, data_root: Path | None) -> StudyDocument:
    """The study with the data and the code that are here now."""
    read: dict[str, Known] = {}
    cells = []
    for cell in document.cells:
        config = cell.config(document.seeds[0])
        if data_root:
            config = config.replace(**{"data.root": str(data_root.absolute())})
        fingerprint, _ = _read_data(config, read, reporter)
        found = {
            "values": flatten(config),
            "data_fingerprint": fingerprint,
            "code_digest": (code := name_code(config)).digest,
            "code_files": tuple(code.paths),
            "imported": find_imported(root, config, document.seeds, tuple(code.paths)),
            "weights_digest": digest_weights(config),
        }
        cells.append(cell.model_copy(update=found))
    return document.model_copy(update={"cells": tuple(cells)})


def tell_changes(before: StudyDocument, after: StudyDocument) -> list[str]:
    """What is not as it was when the study was last run: runs of it do not count any more."""
    told = []
    names = {"data_fingerprint": "data", "code_digest": "code", "imported": "code", "weights_digest": "initial weights"}
    for name, what in names.items():
        pairs = zip(before.cells, after.cells, strict=True)
        if any(_has_changed(getattr(old, name), getattr(new, name)) for old, new in pairs):
            told.append(f"the {what} changed since the study was last run; runs made before that do not count")
    return list(dict.fromkeys(told))


def _has_changed(old: Any, new: Any) -> bool:
    """Of files that were imported, only those count that were known before."""
    if isinstance(old, dict):
        return any(new.get(name, digest) != digest for name, digest in old.items())
    return bool(old != new)


def identify(configs: Iterable[Config], seeds: tuple[int, ...]) -> str:
    """8 hexadecimal digits: the same for the same command, wherever it is given."""
    cells = [{**config.affecting_bits(), "seed": None} for config in configs]
    return digest_json({"seeds": list(seeds), "cells": cells}).partition(":")[2][:8]


def refuse_another(before: StudyDocument, plan: Plan, resolved: list[ResolvedConfig], metric: str) -> None:
    """Raises ConfigError, naming the differences, where the study on record is not the one asked for."""
    differences = []
    if before.seeds != plan.seeds:
        differences.append(f"seeds were {_join(before.seeds)}, are {_join(plan.seeds)}")
    names = [cell.name for cell in plan.cells], [cell.name for cell in before.cells]
    if names[0] != names[1]:
        differences.append(f"cells were {_join(names[1])}, are {_join(names[0])}")
    if before.metric != metric:
        differences.append(f"metric was {before.metric}, is {metric}")
    now_by_name = {cell.name: entry.config for cell, entry in zip(plan.cells, resolved, strict=True)}
    for cell in before.cells:
        if cell.name in now_by_name:
            seed = before.seeds[0]
            then, here = cell.config(seed).affecting_bits(), now_by_name[cell.name].replace(seed=seed).affecting_bits()
            changed = [key for key in then | here if then.get(key) != here.get(key)]
            differences += [f"{key} was {then.get(key)}, is {here.get(key)}" for key in changed]
    if differences:
        told = list(dict.fromkeys(differences))
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        raise ConfigError(
            f"there is a study {before.name} of another config: {'; '.join(told[:3])}{more}",
            f"choose another --name; or go on with it: genmed study resume {before.name}",
        )


def list_metrics(classes: Iterable[str], kind: TaskKind) -> list[str]:
    """All by which cells can be compared: means over classes first."""
    of_class = [name for name in (*OF_RANKING, *OF_SUMS) if name != AT_OWN_THRESHOLD]
    whole = list(OF_ALL.get(kind, ()))
    return [f"{name}_macro" for name in of_class] + whole + [f"{n}_{label}" for label in classes for n in of_class]


def digest_weights(config: Config) -> str | None:
    """Of the user's file of initial weights, if that is where they come from."""
    named = config.model.weights
    return None if named in ("random", "torchvision") else digest_file(Path(named))


def _read_data(config: Config, read: dict[str, Known], reporter: Reporter) -> Known:
    """Once for all cells on the same data; decoded images are in the cache then."""
    key = digest_json({name: value for name, value in flatten(config).items() if name.startswith(READ)})
    if key not in read:
        if check_layout := find_dataset(config.data.dataset).check_layout:
            check_layout(Path(config.data.root), config)
        data = load_data(config, reporter, trust_stamps=True)
        refuse_unlearnable(data.records, data.split.sides)
        read[key] = data.fingerprint, list_metrics(data.records.classes, data.records.task)
    return read[key]


def _with_device(config: Config) -> Config:
    return config.replace(**{"compute.device": choose_device(config.compute.device)})


def _join(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
