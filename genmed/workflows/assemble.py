"""From a config to all that a training needs: data, model, identity. Nothing is written but the image cache."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genmed.engine.learner import Learner, build_learner, fingerprint_learner
from genmed.engine.normalise import choose_scaling
from genmed.engine.progress import Progress
from genmed.engine.task import Task, weigh_positives
from genmed.ground.determinism import apply_settings
from genmed.ground.errors import ConfigError, DataError, DeterminismError
from genmed.ground.fingerprints import digest_bytes, digest_file
from genmed.ground.interpreter import is_started_with
from genmed.ground.sealed import write_sealed
from genmed.parts.data.augmentation import choose_strength
from genmed.parts.data.cache import ImageBytes, open_images
from genmed.parts.data.datasets import find_dataset
from genmed.parts.data.records import SPLITS, DatasetFacts, Records
from genmed.parts.data.split import Split, split_records
from genmed.parts.models.table import find_user_file, is_user_model
from genmed.records.config import Config
from genmed.records.environment import capture_environment, digest_code
from genmed.records.environment.cores import count_usable_processors
from genmed.records.run_folder import RunFolder, write_table
from genmed.workflows.configure import interpreter_variables
from genmed.workflows.reporting import Reporter


@dataclass(frozen=True)
class LoadedData:
    """A dataset that was read, split and decoded."""

    facts: DatasetFacts
    records: Records
    split: Split
    images: ImageBytes
    fingerprint: str

    def count(self, side: str) -> int:
        return self.split.sides.count(side)


@dataclass(frozen=True)
class Session:
    """A training about to begin: what the run is a function of, and its learner in the initial state."""

    task: Task
    learner: Learner
    initial: str
    """State fingerprint before the first step."""
    data: LoadedData
    code: dict[str, Any]
    environment: dict[str, Any]
    weights: dict[str, str | None] | None
    warnings: tuple[str, ...]

    @property
    def identity(self) -> dict[str, str | None]:
        """What checkpoints belong to."""
        config, data = self.task.config.fingerprint, self.data.fingerprint
        return {"config": config, "data": data, "code": self.code["digest"]}


def choose_device(asked: str) -> str:
    """cpu, cuda or mps. Raises ConfigError for one that is not here."""
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(device for device, present in here.items() if present)
    if not here[asked]:
        present = " and ".join(device for device in here if here[device])
        raise ConfigError(f"--device {asked} was asked for, but torch finds none here", f"here: {present}")
    return asked


def load_data(config: Config, reporter: Reporter, *, trust_stamps: bool) -> LoadedData:
    """Reads the table, splits by patient, opens the images. Raises DataError."""
    facts = find_dataset(config.data.dataset)
    records = facts.load_records(Path(config.data.root), config.data)
    split = split_records(records, config.data)
    processes = max(config.compute.num_workers, count_usable_processors())
    images = open_images(
        records,
        config.data.image_size,
        trust_stamps=trust_stamps,
        processes=processes,
        progress=reporter.progress,
        report=reporter.message,
    )
    return LoadedData(facts, records, split, images, _fingerprint_data(facts, records, split, images))


def assemble(config: Config, reporter: Reporter, *, trust_stamps: bool = True) -> Session:
    """All that the training of `config` needs, in this process.

    `config.compute.device` is resolved. Raises ConfigError, DataError, DeterminismError.
    """
    if not is_started_with(interpreter_variables(config)):
        raise DeterminismError(
            "this interpreter was not started with the variables that the config asks for",
            "use `genmed.train`, which starts one, or the command line",
        )
    device = choose_device(config.compute.device)
    config = config.replace(**{"compute.device": device})
    apply_settings(
        strict=config.compute.determinism == "strict", tf32=config.compute.tf32, threads=config.compute.threads
    )
    data = load_data(config, reporter, trust_stamps=trust_stamps)
    sides = np.array(data.split.sides)
    rows = {side: np.flatnonzero(sides == side) for side in SPLITS}
    labels = data.records.labels
    warnings = _find_imbalance(data, rows["train"])
    task = Task(
        config=config,
        device=device,
        classes=data.facts.classes,
        ids=data.records.ids,
        labels=labels,
        images=data.images,
        rows=rows,
        scaling=choose_scaling(config.normalisation, data.images.map(), rows["train"]),
        strength=choose_strength(config.augmentation),
        positive_weights=weigh_positives(labels[rows["train"]], config.loss.positive_weights),
    )
    if task.steps_per_epoch == 0:
        raise DataError(f"{len(rows['train'])} training images are too few for {config.compute.shards} shards")
    learner, hazards = _try_learner(task)
    warnings += [f"Not deterministic on CUDA: {hazard}" for hazard in hazards]
    return Session(
        task=task,
        learner=learner,
        initial=fingerprint_learner(learner, Progress()),
        data=data,
        code=digest_code(list_user_files(config)),
        environment=capture_environment(device),
        weights=_describe_weights(config),
        warnings=tuple(warnings),
    )


def renew_learner(task: Task) -> Learner:
    """Another learner in the initial state, made as the session's own."""
    learner, _ = _try_learner(task)
    return learner


def _try_learner(task: Task) -> tuple[Learner, list[str]]:
    """And what CUDA would refuse of it."""
    from genmed.engine.dry_step import try_step

    learner = build_learner(task)
    return learner, try_step(task, learner)


def write_data(folder: RunFolder, session: Session) -> None:
    """The table of images, and data.json, which holds its digest."""
    data, task = session.data, session.task
    records, digests = data.records, data.images.digests
    names = ["id", "patient", "site", "split", "labels", "file", "decoded", "prepared"]
    labels = ["|".join(task.classes[column] for column in np.flatnonzero(row)) for row in records.labels]
    columns = (records.ids, records.patients, records.sites, data.split.sides, labels)
    write_table(
        folder.images_path,
        names,
        zip(*columns, digests.file, digests.decoded, digests.prepared, strict=True),
    )
    sides = {}
    for side in SPLITS:
        rows = task.rows[side]
        sides[side] = {
            "images": len(rows),
            "patients": len({records.patients[row] for row in rows}),
            "sites": dict(sorted(Counter(records.sites[row] for row in rows).items())),
            "positives": dict(zip(task.classes, records.labels[rows].sum(0, dtype=np.int64).tolist(), strict=True)),
        }
    document = {
        "schema": 1,
        "dataset": data.facts.name,
        "title": data.facts.title,
        "licence": data.facts.licence,
        "citation": data.facts.citation,
        "fingerprint": data.fingerprint,
        "classes": list(task.classes),
        "split": {"source": data.split.source, "official": data.split.official, "sides": sides},
        "normalisation": {"mean": task.scaling.mean, "std": task.scaling.std},
        "notes": list(records.notes),
        "images": {"file": folder.images_path.name, "sha256": digest_file(folder.images_path)},
    }
    write_sealed(folder.data_path, document)


def _fingerprint_data(facts: DatasetFacts, records: Records, split: Split, images: ImageBytes) -> str:
    """SHA-256 over each image's id, decoded pixels, labels, patient, site and side: not where or how files lie."""
    lines = ["\t".join(facts.classes)]
    columns = (records.ids, images.digests.decoded, records.patients, records.sites, split.sides)
    for row, values in enumerate(zip(*columns, strict=True)):
        lines.append("\t".join((*values, records.labels[row].tobytes().hex())))
    return digest_bytes("\n".join(lines).encode())


def _find_imbalance(data: LoadedData, train: Any) -> list[str]:
    positives = data.records.labels[train].sum(0, dtype=np.int64)
    missing = [name for name, count in zip(data.facts.classes, positives, strict=True) if count == 0]
    named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} other classes" if len(missing) > 3 else "")
    return [f"Warning: no training image has {named}: nothing can be learned of it"] if missing else []


def list_user_files(config: Config) -> list[Path]:
    return [find_user_file(config.model.name)] if is_user_model(config.model.name) else []


def _describe_weights(config: Config) -> dict[str, str | None] | None:
    """Where initial weights came from, and the digest of the file where there is one of the user's."""
    if config.model.weights == "random":
        return None
    if config.model.weights == "torchvision":
        import torch
        from torchvision import models

        entry = models.get_model_weights(config.model.name).DEFAULT
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name  # torch checks it only as it downloads
        return {"source": f"torchvision {entry}", "digest": digest_file(file)}
    return {"source": Path(config.model.weights).name, "digest": digest_file(Path(config.model.weights))}
