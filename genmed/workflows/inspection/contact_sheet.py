"""show: a page of images as the network sees them, each with two of its augmented versions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from genmed.ground.errors import DataError, RequestError
from genmed.ground.files import write_bytes
from genmed.ground.randomness import draw_order
from genmed.ground.wording import say_count
from genmed.parts.data.augmentation import PRESETS, augment, choose_strength, draw_epoch
from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.datasets import find_dataset
from genmed.parts.data.records import UNKNOWN, Pixels, Records
from genmed.parts.data.split import assign_sides, check_split, name_unit
from genmed.records.config import Config
from genmed.workflows.assemble import load_images
from genmed.workflows.inspection.page import Panel, draw_page
from genmed.workflows.places import check_place
from genmed.workflows.reporting import Reporter

EPOCHS = (1, 2)
"""Whose draws are shown."""
HEADINGS = ("as prepared", *(f"epoch {epoch}" for epoch in EPOCHS))


@dataclass(frozen=True)
class LoadedImages:
    """A dataset that was read and decoded; its split is said, not asked for."""

    name: str
    records: Records
    images: ImageBytes
    sides: tuple[str | None, ...]
    """Of each image; None where no training could split them."""


@dataclass(frozen=True)
class Section:
    """Images under one heading; '' for none."""

    heading: str
    rows: list[int]


@dataclass(frozen=True)
class Sheet:
    """What was drawn."""

    file: Path
    width: int
    height: int
    dataset: str
    images: int
    shown: list[dict[str, Any]]
    """Of each image id, side (None: nobody knows) and labels, in the order of the page."""
    seed: int
    augmentation: str
    image_size: int
    drawn_at: float
    """Pixels of the page by pixels of an image, along a side."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **self.__dict__, "file": str(self.file)}


def draw_sheet(config: Config, out: Path, count: int, reporter: Reporter, *, by_class: bool = False) -> Sheet:
    """Writes `count` images as a PNG: equal config, data and count give equal pixels.

    by_class: as many images of each class, under its name. Raises DataError,
    ConfigError; RequestError where there is too much to show; StorageError.
    """
    check_place(out, "--out", ".png")
    data = _load(config, reporter)
    if by_class:
        sections = choose_by_class(data.records, count, config.seed)
    else:
        sections = [Section("", choose_rows(data.records, count, config.seed))]
    rows = [row for section in sections for row in section.rows]
    pictures = dict(zip(rows, make_pictures(config, data, rows), strict=True))
    panels = [
        (
            section.heading,
            [Panel(pictures[row], data.records.ids[row], _caption(data, row)) for row in section.rows],
        )
        for section in sections
    ]
    size = config.data.image_size
    seen = f"The network sees {size} x {size} px."
    if is_augmented(config):
        page = draw_page(_title(config, data, len(rows)), f"{seen} {SUBTITLE}", HEADINGS, panels)
    else:
        page = draw_page(_title(config, data, len(rows)), seen, ("",), panels)
    content = io.BytesIO()
    page.image.save(content, "PNG")
    check_place(out, "--out", ".png")  # by another process meanwhile
    write_bytes(out, content.getvalue())
    shown = [
        {"id": data.records.ids[row], "side": data.sides[row], "labels": _list_labels(data.records, row)}
        for row in rows
    ]
    return Sheet(
        file=out,
        width=page.image.width,
        height=page.image.height,
        dataset=data.name,
        images=len(data.records),
        shown=shown,
        seed=config.seed,
        augmentation=config.augmentation.preset,
        image_size=size,
        drawn_at=float(page.scale),
    )


SUBTITLE = "Left: the image as prepared. Beside it: as augmentation changes it in an epoch, if it is trained on."


def choose_rows(records: Records, count: int, seed: int) -> list[int]:
    """At most `count` rows, ascending: a function of the seed. Each class is there, if that many suffice for it."""
    order = draw_order((seed, "contact sheet"), len(records)).tolist()
    there = records.labels == 1
    chosen: dict[int, None] = {}
    for column in np.argsort(there.sum(0), kind="stable").tolist():
        if not any(there[row, column] for row in chosen):
            first = next((row for row in order if there[row, column]), None)
            chosen.update({} if first is None else {first: None})
    chosen.update(dict.fromkeys(order))
    return sorted(list(chosen)[:count])


def choose_by_class(records: Records, count: int, seed: int) -> list[Section]:
    """As many of each class, and of those with none; none twice. Raises RequestError where `count` is too few."""
    there = records.labels == 1
    wanted = [(name, there[:, column]) for column, name in enumerate(records.classes)]
    if not there.any(1).all():
        wanted.append((_say_none(records), ~there.any(1) & (records.labels != UNKNOWN).any(1)))
    if count < len(wanted):
        raise RequestError(f"--classes needs --count {len(wanted)} or more, one image a class, got {count}")
    order = draw_order((seed, "contact sheet"), len(records)).tolist()
    taken: set[int] = set()
    sections: dict[str, Section] = {}
    for name, fits in sorted(wanted, key=lambda entry: int(entry[1].sum())):  # the rarest choose first
        rows = [row for row in order if fits[row] and row not in taken][: count // len(wanted)]
        taken.update(rows)
        sections[name] = Section(f"{name}: {say_count(int(fits.sum()), 'image')}", rows)
    return [sections[name] for name, _ in wanted]


def is_augmented(config: Config) -> bool:
    return choose_strength(config.augmentation) != PRESETS["none"]


def make_pictures(config: Config, data: LoadedImages, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
    """(len(rows), V, C, S, S): each image as prepared; if any is augmented, then as each of EPOCHS changes it."""
    import torch

    prepared: Pixels = data.images.read(np.array(rows, dtype=np.int64))
    strength = choose_strength(config.augmentation)
    versions = [prepared]
    for epoch in EPOCHS if is_augmented(config) else ():
        draws = draw_epoch(config.seed, epoch, len(data.records))[np.array(rows, dtype=np.int64)]
        changed = augment(torch.from_numpy(prepared).float(), draws, strength)
        versions.append(changed.round().clamp(0, 255).to(torch.uint8).numpy())
    return np.stack(versions, axis=1)


def _load(config: Config, reporter: Reporter) -> LoadedImages:
    records, images = load_images(config, reporter, trust_stamps=True)
    sides: tuple[str | None, ...] = (None,) * len(records)
    assigned = assign_sides(records, config.data).sides
    try:
        check_split(records.groups, assigned, name_unit(records))
        sides = assigned
    except DataError as error:
        reporter.message(f"Note: the images are shown without their sides: {error.message}")
    return LoadedImages(find_dataset(config.data.dataset).name, records, images, sides)


def _title(config: Config, data: LoadedImages, shown: int) -> str:
    many = say_count(len(data.records), "image")
    return f"{data.name}: {shown:,} of {many}, augmentation {_name_augmentation(config)}, seed {config.seed}"


def _name_augmentation(config: Config) -> str:
    own = any(value is not None for name, value in config.augmentation.model_dump().items() if name != "preset")
    return f"{config.augmentation.preset} (changed)" if own else config.augmentation.preset


def _caption(data: LoadedImages, row: int) -> str:
    labels = ", ".join(_list_labels(data.records, row)) or _say_none(data.records)
    side = data.sides[row]
    return f"{side} · {labels}" if side else labels


def _list_labels(records: Records, row: int) -> list[str]:
    """Those that are there, then with a question mark those of which nobody knows."""
    named = list(zip(records.classes, records.labels[row].tolist(), strict=True))
    there = [name for name, label in named if label == 1]
    return there + [f"{name}?" for name, label in named if label == UNKNOWN]


def _say_none(records: Records) -> str:
    return f"not {records.classes[0]}" if len(records.classes) == 1 else "none of the classes"
