"""Random changes of a whole batch on its device; what befalls an image is a function of (seed, epoch, row).

torchvision's v2 transforms draw one parameter for a whole batch, so the per-image flips and affine maps are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genmed.ground.randomness import draw_uniform
from genmed.records.config.sections import Augmentation

if TYPE_CHECKING:
    import torch

DRAWS = 7


@dataclass(frozen=True)
class Strength:
    """How far each change may go; units as in the config's section `augmentation`."""

    flip: float = 0.0
    rotate: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0

    @property
    def moves(self) -> bool:
        return bool(self.rotate or self.translate or self.scale)

    @property
    def shades(self) -> bool:
        return bool(self.contrast or self.brightness)


PRESETS = {
    "none": Strength(),
    "light": Strength(rotate=5, translate=0.04),
    "standard": Strength(rotate=10, translate=0.06, scale=0.1, contrast=0.15, brightness=0.1),
    "chexnet": Strength(flip=0.5),
}


def choose_strength(config: Augmentation) -> Strength:
    """The preset, with what the config names itself in its place."""
    preset = PRESETS[config.preset]
    return Strength(
        **{
            name: default if (chosen := getattr(config, name)) is None else chosen
            for name, default in preset.__dict__.items()
        }
    )


def draw_epoch(seed: int, epoch: int, count: int) -> npt.NDArray[np.float64]:
    """(count, DRAWS) uniform numbers: row i holds all that befalls image i in this epoch."""
    return draw_uniform((seed, "augment", epoch), (count, DRAWS))


def augment(images: torch.Tensor, draws: npt.NDArray[np.float64], strength: Strength) -> torch.Tensor:
    """(B, C, H, W) float32 grey values 0 to 255, changed each by its own row of `draws` (B, DRAWS)."""
    import torch

    def column(values: npt.NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(images.device, non_blocking=True).view(-1, 1, 1, 1)

    flip, turn, right, down, zoom, contrast, brightness = np.ascontiguousarray(draws.T)
    if strength.flip:
        images = torch.where(column(flip) < strength.flip, images.flip(-1), images)
    if strength.moves:
        images = _move(images, turn, right, down, zoom, strength)
    if strength.shades:
        factor = 1 + strength.contrast * (2 * contrast - 1)
        shift = 255 * strength.brightness * (2 * brightness - 1)
        images = ((images - 127.5) * column(factor) + column(127.5 + shift)).clamp(0, 255)
    return images


def _move(
    images: torch.Tensor,
    turn: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    down: npt.NDArray[np.float64],
    zoom: npt.NDArray[np.float64],
    strength: Strength,
) -> torch.Tensor:
    """Rotation, scale and shift about the centre, bilinear, black outside.

    The angle is 2 atan(t) with t uniform, so that sine and cosine are quotients, exact on every CPU; within 15 degrees
    the angle is uniform to 1%.
    """
    import torch
    from torch.nn.functional import grid_sample

    count, _, height, width = images.shape
    t = (2 * turn - 1) * (strength.rotate * np.pi / 360)
    size = 1 + strength.scale * (2 * zoom - 1)
    cosine, sine = (1 - t * t) / (1 + t * t) / size, 2 * t / (1 + t * t) / size
    shift_x, shift_y = (2 * strength.translate * (2 * draw - 1) for draw in (right, down))
    device = images.device
    x = ((torch.arange(width, dtype=torch.float32) * 2 + 1) / width - 1).to(device)
    y = ((torch.arange(height, dtype=torch.float32) * 2 + 1) / height - 1).to(device)[:, None]
    a, b, u, v = (
        torch.from_numpy(values.astype(np.float32)).to(device, non_blocking=True).view(count, 1, 1)
        for values in (cosine, sine, shift_x, shift_y)
    )
    grid = torch.stack((a * x - b * y + u, b * x + a * y + v), dim=-1)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
