"""The loaders that data_speed.py compares: genmed's, MONAI's caches, and torchvision's that decodes each time."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from genmed.engine.normalise import Scaling
from genmed.parts.data.augmentation import PRESETS, augment, draw_epoch
from genmed.parts.data.cache import open_images
from genmed.parts.data.device import Loader as ImageLoader
from genmed.parts.data.device import ResidentLoader
from genmed.parts.data.images import Preparation
from genmed.parts.data.loader import BatchLoader, plan_evaluation
from genmed.parts.data.records import Records

SIZE, BATCH = 224, 32
Loader = Callable[[np.ndarray], Iterator[torch.Tensor]]


class Order:
    """A sampler whose order can be set."""

    rows: np.ndarray = np.arange(0)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows.tolist())

    def __len__(self) -> int:
        return len(self.rows)


LIGHT = PRESETS["light"]


def make_loaders(records: Records, folder: Path, *, augmented: bool) -> dict[str, Loader]:
    """By name and number of workers: from the rows of an epoch to its batches.

    augmented: each image turned and shifted as the preset `light` has it, ours by whole batches, theirs one by one.
    """
    paths = [str(folder / "png" / name) for name in records.ids]
    entry = open_images(
        records, Preparation(SIZE), trust_stamps=True, processes=2, progress=lambda *_: None, report=print
    )
    loaders: dict[str, Loader] = {}
    resident = ResidentLoader(entry.images, records.labels, "cpu")
    loaders["genmed, images=resident"] = partial(read_ours, resident, augmented)
    for workers in (0, 2):
        ours = BatchLoader(entry.images, records.labels, workers=workers, prefetch=2, persistent=True, pin=False)
        loaders[f"genmed, {workers}"] = partial(read_ours, ours, augmented)
    theirs = {**make_monai(paths, folder, augmented), "torchvision, decodes each time": Decoding(paths, augmented)}
    for name, dataset in theirs.items():
        for workers in (0, 2):
            order = Order()
            loader = DataLoader(dataset, BATCH, sampler=order, num_workers=workers, persistent_workers=workers > 0)
            loaders[f"{name}, {workers}"] = partial(read_theirs, loader, order)
    return loaders


def read_ours(loader: ImageLoader, augmented: bool, rows: np.ndarray) -> Iterator[torch.Tensor]:
    draws = draw_epoch(0, 1, len(rows))
    for number, batch in enumerate(loader.read(plan_evaluation(rows, BATCH))):
        images = batch.images.float()
        if augmented:
            images = augment(images, draws[number * BATCH : number * BATCH + len(images)], LIGHT)
        yield Scaling(0.0, 1.0).apply_(images)


def read_theirs(loader: DataLoader[Any], order: Order, rows: np.ndarray) -> Iterator[torch.Tensor]:
    order.rows = rows
    for batch in loader:
        yield batch.pop("image")


class Decoding:
    """A map-style dataset as torchvision's tutorials have it."""

    def __init__(self, paths: list[str], augmented: bool) -> None:
        from torchvision.transforms import InterpolationMode, v2

        self.paths = paths
        steps = [v2.Grayscale(), v2.Resize((SIZE, SIZE)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        shift = (LIGHT.translate, LIGHT.translate)
        change = v2.RandomAffine(LIGHT.rotate, shift, interpolation=InterpolationMode.BILINEAR)
        self.transform = v2.Compose([*steps, *([change] if augmented else [])])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"image": self.transform(Image.open(self.paths[row])).as_subclass(torch.Tensor)}


def make_monai(paths: list[str], folder: Path, augmented: bool) -> dict[str, Any]:
    """Its two caches, without meta data in the batches, which makes them faster; none without MONAI."""
    if not importlib.util.find_spec("monai"):
        print("skipped, for MONAI is not installed (uv run --with monai): PersistentDataset, CacheDataset")
        return {}
    from monai.data import CacheDataset, PersistentDataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        EnsureTyped,
        LoadImaged,
        RandAffined,
        Resized,
        ScaleIntensityRanged,
    )

    key, shift = "image", LIGHT.translate * SIZE
    turn = math.radians(LIGHT.rotate)
    change = RandAffined(
        key, prob=1, rotate_range=turn, translate_range=(shift, shift), mode="bilinear", padding_mode="zeros"
    )
    transform = Compose(
        [
            LoadImaged(key, reverse_indexing=False),
            EnsureChannelFirstd(key),
            Resized(key, (SIZE, SIZE), mode="bilinear", anti_aliasing=True),
            ScaleIntensityRanged(key, 0, 255, 0, 1),
            EnsureTyped(key, track_meta=False),
            *([change] if augmented else []),  # what is random is not cached
        ]
    )
    items = [{key: path} for path in paths]
    persistent = PersistentDataset(items, transform, cache_dir=folder / f"monai-{augmented}")
    for row in range(len(items)):
        persistent[row]
    return {
        "MONAI PersistentDataset": persistent,
        "MONAI CacheDataset": CacheDataset(items, transform, progress=False, num_workers=2),
    }
