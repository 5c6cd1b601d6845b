"""Lightning and MONAI, as their users train by them: contestants of throughput.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from course import LR, MEAN, STD, Batches, Course, build_network, find_loss
from turns import Turns


def train_by_lightning(course: Course, turns: Turns, *, workers: int | None, checkpoints: bool = True) -> None:
    """workers: of the usual form, whose files are decoded each time; None: tuned, all images in memory."""
    import lightning
    import torch
    from torch.utils.data import DataLoader

    tuned = workers is None

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = build_network(course, channels_last=tuned)

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            images, targets = batch
            loss = find_loss(self.network(images), targets)
            if not tuned:
                self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=LR, **({"fused": True} if tuned else {}))

        def on_train_start(self) -> None:
            turns.begin()

        def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
            turns.step(len(batch[0]), outputs["loss"])

    lightning.seed_everything(0, verbose=False)
    common: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "deterministic": True, "max_epochs": -1}
    if tuned:
        if checkpoints:
            bare = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
            trainer = lightning.Trainer(**common, **bare, default_root_dir=Path(course.folder) / "lightning-tuned")
        else:
            trainer = lightning.Trainer(**common, barebones=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # else `deterministic` costs some 15% more
        trainer.fit(Module(), Batches(course))
        return
    from lightning.pytorch.loggers import CSVLogger

    folder = Path(course.folder) / f"lightning-{workers}"
    trainer = lightning.Trainer(
        **common, logger=CSVLogger(folder), default_root_dir=folder, enable_progress_bar=False, log_every_n_steps=50
    )
    trainer.fit(Module(), DataLoader(Files(course), course.batch, shuffle=True, num_workers=workers or 0))


class Files:
    """A map-style dataset as torchvision's tutorials have it."""

    def __init__(self, course: Course) -> None:
        import torch
        from torchvision import transforms

        self._files = course.files
        self._targets = torch.tensor(course.targets, dtype=torch.float32)
        self._transform = transforms.Compose(
            [
                transforms.Grayscale(course.channels),
                transforms.Resize((course.size, course.size)),
                transforms.ToTensor(),
                transforms.Normalize([MEAN] * course.channels, [STD] * course.channels),
            ]
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        from PIL import Image

        return self._transform(Image.open(self._files[row])), self._targets[row]


def train_by_monai(course: Course, turns: Turns, *, persistent: bool, workers: int = 0) -> None:
    """A plain loop over one of its caches, full before the first step; without meta data, which makes it faster."""
    import torch
    from monai.data import CacheDataset, DataLoader, PersistentDataset, ThreadDataLoader
    from monai.utils import set_determinism

    set_determinism(0)
    targets = torch.tensor(course.targets, dtype=torch.float32)
    items = [{"image": file, "target": target} for file, target in zip(course.files, targets, strict=True)]
    transform = make_transform(course)
    dataset: Any
    if persistent:
        dataset = PersistentDataset(items, transform, cache_dir=Path(course.folder) / f"monai-{workers}")
        for row in range(len(items)):
            dataset[row]
    else:
        dataset = CacheDataset(items, transform, progress=False)
    # what MONAI advises where the transforms are cached: a thread that reads ahead
    kind = DataLoader if workers else ThreadDataLoader
    more = {"persistent_workers": True} if workers else {}
    loader = kind(dataset, batch_size=course.batch, shuffle=True, num_workers=workers, **more)
    network = build_network(course, channels_last=False).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    turns.begin()
    for batch in itertools.chain.from_iterable(itertools.repeat(loader)):
        optimizer.zero_grad()
        loss = find_loss(network(batch["image"]), batch["target"])
        loss.backward()
        optimizer.step()
        turns.step(len(batch["image"]), loss.detach())


def make_transform(course: Course) -> Any:
    from monai.data import PILReader
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        EnsureTyped,
        LoadImaged,
        NormalizeIntensityd,
        RepeatChanneld,
        Resized,
        ScaleIntensityRanged,
    )

    key = "image"
    reader = PILReader(converter=lambda image: image.convert("L"), reverse_indexing=False)
    return Compose(
        [
            LoadImaged(key, reader=reader),
            EnsureChannelFirstd(key),
            Resized(key, (course.size, course.size), mode="bilinear", anti_aliasing=True),
            ScaleIntensityRanged(key, 0, 255, 0, 1),
            NormalizeIntensityd(key, MEAN, STD),
            *([RepeatChanneld(key, course.channels)] if course.channels > 1 else []),
            EnsureTyped(key, track_meta=False),
        ]
    )


PEERS: dict[str, Callable[[Course, Turns], None]] = {
    "Lightning, tuned": partial(train_by_lightning, workers=None, checkpoints=False),
    "Lightning, tuned, with its checkpoints": partial(train_by_lightning, workers=None),
    "Lightning, usual": partial(train_by_lightning, workers=2),
    "Lightning, usual, no workers": partial(train_by_lightning, workers=0),
    "MONAI, CacheDataset": partial(train_by_monai, persistent=False),
    "MONAI, PersistentDataset": partial(train_by_monai, persistent=True),
    "MONAI, PersistentDataset, 2 workers": partial(train_by_monai, persistent=True, workers=2),
}
"""The first word is the package that it needs, in lower case."""
