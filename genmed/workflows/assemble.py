"""From a config to all that a training needs: data, model, identity. Nothing is written but the image cache."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genmed.engine.learner import Learner, build_learner, fingerprint_learner
from genmed.engine.normalise import choose_scaling
from genmed.engine.objective import choose_objective, make_targets, weigh_targets
from genmed.engine.progress import Progress
from genmed.engine.task import Task
from genmed.ground.allocator import keep_freed_memory
from genmed.ground.determinism import apply_settings
from genmed.ground.errors import ConfigError, DataError, DeterminismError
from genmed.ground.fingerprints import digest_bytes, digest_file
from genmed.ground.interpreter import is_started_with
from genmed.ground.sealed import write_sealed
from genmed.ground.team import ALONE, Team
from genmed.ground.wording import say_count
from genmed.parts.data.augmentation import choose_strength
from genmed.parts.data.cache import Entry, ImageBytes, open_images
from genmed.parts.data.datasets import find_dataset
from genmed.parts.data.images import ImageFiles, Preparation
from genmed.parts.data.labelling import apply_choices
from genmed.parts.data.patients import settle_patients
from genmed.parts.data.records import SPLITS, UNKNOWN, DatasetFacts, Records
from genmed.parts.data.split import Split, split_records
from genmed.records.config import Config
from genmed.records.environment import Code, capture_environment
from genmed.records.environment.cores import count_usable_processors
from genmed.records.run_folder import RunFolder, write_table
from genmed.workflows.code import capture_code
from genmed.workflows.configure import check_device, interpreter_variables
from genmed.workflows.oddities import find_oddities
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
    code: Code
    environment: dict[str, Any]
    weights: dict[str, str | None] | None
    warnings: tuple[str, ...]

    @property
    def identity(self) -> dict[str, str | None]:
        """What checkpoints belong to."""
        config, data = self.task.config.fingerprint, self.data.fingerprint
        return {"config": config, "data": data, "code": self.code.digest}


def choose_device(asked: str) -> str:
    """cpu, cuda or mps. Raises ConfigError for one that is not here."""
    import torch

    check_device(asked)
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(device for device, present in here.items() if present)
    if not here[asked]:
        present = " and ".join(device for device in here if here[device])
        raise ConfigError(f"--device {asked} was asked for, but torch finds none here", f"here: {present}")
    return asked


def load_data(config: Config, reporter: Reporter, *, trust_stamps: bool) -> LoadedData:
    """Reads the table, opens the images, splits by patient. Raises DataError."""
    facts = find_dataset(config.data.dataset)
    records, images = load_images(config, reporter, trust_stamps=trust_stamps)
    split = split_records(records, config.data)
    return LoadedData(facts, records, split, images, fingerprint_data(records, split, images))


def load_images(config: Config, reporter: Reporter, *, trust_stamps: bool) -> tuple[Records, ImageBytes]:
    """The table and its images as prepared, before they are split. Raises DataError."""
    records, entry = open_dataset(config, reporter, trust_stamps=trust_stamps)
    if not entry.broken:
        return records, entry.images
    if config.data.on_bad_image == "stop":
        raise refuse_broken(list(entry.broken.values()))
    return records.leave_out(entry.broken), entry.images.choose(_list_whole(entry))


def open_dataset(config: Config, reporter: Reporter, *, trust_stamps: bool) -> tuple[Records, Entry]:
    """All rows of the table, and their images as prepared, with those that are broken. Raises DataError."""
    records = read_records(config)
    entry = open_images(
        records,
        Preparation(config.data.image_size, records.channels, config.data.bits),
        trust_stamps=trust_stamps,
        processes=max(config.compute.num_workers, count_usable_processors()),
        progress=reporter.progress,
        report=reporter.message,
    )
    return records, entry


def read_records(config: Config) -> Records:
    """The table as the config reads it, before any image is opened. Raises DataError, ConfigError."""
    facts = find_dataset(config.data.dataset)
    with _uncollected():
        records = facts.load_records(Path(config.data.root), config)
    if config.data.colour != "auto":
        records = replace(records, colour=config.data.colour)
    if isinstance(records.images, ImageFiles):
        records = replace(records, images=replace(records.images, bits=config.data.bits))
    records = settle_patients(records, config.data.patient_pattern)
    if records.patients and records.studies:  # patients number their studies each by itself
        pairs = zip(records.patients, records.studies, strict=True)
        records = replace(records, studies=tuple(f"{patient}/{study}" for patient, study in pairs))
    return apply_choices(records, config.labels)


@contextmanager
def _uncollected() -> Iterator[None]:
    """A large table makes a million small objects that stay: the garbage collector would look at them over and over."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def refuse_broken(reasons: list[str]) -> DataError:
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return DataError(
        f"{say_count(len(reasons), 'image')} cannot be read: {'; '.join(reasons[:3])}{more}",
        "restore these files, remove them and their rows, or leave them out with --on-bad-image skip",
    )


def _list_whole(entry: Entry) -> list[int]:
    return [row for row in range(len(entry.images)) if row not in entry.broken]


def assemble(config: Config, reporter: Reporter, *, trust_stamps: bool = True, team: Team = ALONE) -> Session:
    """All that the training of `config` needs, in this process.

    `config.compute.device` is resolved. Raises ConfigError, DataError, DeterminismError.
    """
    if not is_started_with(interpreter_variables(config)):
        raise DeterminismError(
            "this interpreter was not started with the variables that the config asks for",
            "use `genmed.train`, which starts one, or the command line",
        )
    device = choose_device(config.compute.device)
    if device == "cuda" and team.size > 1:
        import torch

        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > gpus:
            raise ConfigError(
                f"{here} processes on this machine need a GPU each, and it has {gpus}", "take fewer, or --device cpu"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    config = config.replace(**{"compute.device": device})
    apply_settings(
        strict=config.compute.determinism == "strict", tf32=config.compute.tf32, threads=config.compute.threads
    )
    keep_freed_memory()
    data = load_data(config, reporter, trust_stamps=trust_stamps)
    sides = np.array(data.split.sides)
    rows = {side: np.flatnonzero(sides == side) for side in SPLITS}
    records = data.records
    objective = choose_objective(records.task, config.loss)
    targets = make_targets(objective, records.labels)
    weights = config.loss.positive_weights
    if isinstance(weights, tuple) and len(weights) != targets.shape[1]:
        raise ConfigError(
            f"loss.positive_weights has {len(weights)} numbers, the network has {targets.shape[1]} outputs"
        )
    task = Task(
        config=config,
        device=device,
        classes=records.classes,
        ids=records.ids,
        kind=records.task,
        labels=records.labels,
        targets=targets,
        studies=records.studies if records.task in ("multi-label", "binary") else (),
        images=data.images,
        rows=rows,
        scaling=choose_scaling(config.normalisation, data.images, rows["train"]),
        strength=choose_strength(config.augmentation),
        weights=weigh_targets(objective, targets[rows["train"]], weights),
        team=team,
    )
    warnings = find_oddities(data.facts, records, data.split, data.images.in_colour)
    if task.steps_per_epoch == 0:
        raise DataError(f"{len(rows['train'])} training images are too few for {config.compute.shards} shards")
    learner, hazards = _try_learner(task)
    warnings += [f"Not deterministic on CUDA: {hazard}" for hazard in hazards]
    return Session(
        task=task,
        learner=learner,
        initial=fingerprint_learner(learner, Progress()),
        data=data,
        code=capture_code(config),
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
    records = data.records
    write_table(folder.images_path, ["id", *IMAGE_COLUMNS, "file", "prepared", *records.traits], list_images(data))
    sides = {}
    for side in SPLITS:
        rows = task.rows[side]
        sides[side] = {
            "images": len(rows),
            "patients": len({records.patients[row] for row in rows}) if records.patients else None,
            "sites": dict(sorted(Counter(records.sites[row] for row in rows).items())) if records.sites else {},
            "positives": _count(records, rows, 1),
            "unknown": _count(records, rows, UNKNOWN),
        }
    document = {
        "schema": 1,
        "dataset": data.facts.name,
        "title": data.facts.title,
        "licence": data.facts.licence,
        "citation": data.facts.citation,
        "fingerprint": data.fingerprint,
        "lineage": data.facts.lineage,
        "task": records.task,
        "classes": list(task.classes),
        "channels": task.images.channels,
        "seen": describe_kind(data.images, task.rows["train"]),
        "split": {"source": data.split.source, "official": data.split.official, "sides": sides},
        "normalisation": {"mean": task.scaling.mean, "std": task.scaling.std},
        "notes": list(records.notes),
        "left_out": dict(records.left_out),
        "images": {"file": folder.images_path.name, "sha256": digest_file(folder.images_path)},
    }
    write_sealed(folder.data_path, document)


def describe_kind(images: ImageBytes, rows: Any) -> dict[str, Any]:
    """Of which size the images' files are, the shorter and the longer side in pixels, and how many are in colour."""
    sides = sorted(min(images.sizes[row]) for row in rows), sorted(max(images.sizes[row]) for row in rows)
    shorter, longer = ([values[0], values[-1]] for values in sides)
    return {"shorter_side": shorter, "longer_side": longer, "in_colour": images.in_colour}


def _count(records: Records, rows: Any, label: int) -> dict[str, int]:
    """Of the images that have the label, by class."""
    counts = (records.labels[rows] == label).sum(0, dtype=np.int64)
    return dict(zip(records.classes, counts.tolist(), strict=True))


IMAGE_COLUMNS = ("patient", "site", "study", "split", "labels", "decoded")
"""What is known of an image, and what its data fingerprint is made of; how and where the files lie is no part of it."""


def list_images(data: LoadedData) -> Iterator[tuple[str, ...]]:
    """For each image its id, IMAGE_COLUMNS, the digests of its file and of its prepared bytes, and its traits."""
    records, digests = data.records, data.images.digests
    for row in range(len(records)):
        study = records.studies[row] if records.studies else ""
        known = (*records.describe(row), study, data.split.sides[row], name_labels(records, row))
        traits = (values[row] for values in records.traits.values())
        yield (*known, digests.decoded[row], digests.file[row], digests.prepared[row], *traits)


def name_labels(records: Records, row: int) -> str:
    """`Edema|Effusion?`: the classes that are there, and with a question mark those of which nobody knows."""
    marks = {1: "", UNKNOWN: "?"}
    named = zip(records.classes, records.labels[row].tolist(), strict=True)
    return "|".join(f"{name}{marks[label]}" for name, label in named if label in marks)


def fingerprint_data(records: Records, split: Split, images: ImageBytes) -> str:
    """SHA-256 over each image's id, decoded pixels, labels, patient, site, study and side, and which were left out."""
    lines = ["\t".join(records.classes)]
    if records.task != "multi-label":
        lines.append(f"task\t{records.task}")
    unknown = ("",) * len(records)
    columns = [records.ids, images.digests.decoded, records.patients or unknown, records.sites or unknown]
    columns += [records.studies] if records.studies else []
    for row, values in enumerate(zip(*columns, split.sides, strict=True)):
        lines.append("\t".join((*values, records.labels[row].tobytes().hex())))
    lines += [f"left out\t{name}" for name in records.left_out]
    return digest_bytes("\n".join(lines).encode())


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
