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

CHANGE_DRAWS, CROP_DRAWS = 7, 4
DRAWS = CHANGE_DRAWS + CROP_DRAWS

Numbers = npt.NDArray[np.float64]
Affine = tuple[Numbers, Numbers, Numbers, Numbers, Numbers, Numbers]
"""a to f, each (B,): what is at (x, y) in the result was at (a x + b y + c, d x + e y + f). Unit: half a side."""


@dataclass(frozen=True)
class Strength:
    """How far each change may go; units as in the config's section `augmentation`."""

    flip: float = 0.0
    rotate: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    crop: float = 1.0
    aspect: float = 1.0

    @property
    def crops(self) -> bool:
        return self.crop < 1

    @property
    def moves(self) -> bool:
        return bool(self.rotate or self.translate or self.scale or self.crops)

    @property
    def shades(self) -> bool:
        return bool(self.contrast or self.brightness)


PRESETS = {
    "none": Strength(),
    "light": Strength(rotate=5, translate=0.04),
    "standard": Strength(rotate=10, translate=0.06, scale=0.1, contrast=0.15, brightness=0.1),
    "chexnet": Strength(flip=0.5),
    "crop": Strength(flip=0.5, crop=0.08, aspect=4 / 3),
    "baltruschat": Strength(flip=0.5, rotate=7, crop=0.08, aspect=4 / 3),
    "xrv": Strength(rotate=45, translate=0.15, scale=0.15),
}
"""Where the last four come from stands in docs/AUGMENTATION.md."""


def choose_strength(config: Augmentation) -> Strength:
    """The preset, with what the config names itself in its place."""
    preset = PRESETS[config.preset]
    return Strength(
        **{
            name: default if (chosen := getattr(config, name)) is None else chosen
            for name, default in preset.__dict__.items()
        }
    )


def draw_epoch(seed: int, epoch: int, count: int) -> Numbers:
    """(count, DRAWS) uniform numbers: row i holds all that befalls image i in this epoch."""
    changes = draw_uniform((seed, "augment", epoch), (count, CHANGE_DRAWS))
    # Crops came later. Under a key of their own they leave the numbers of all other changes as they were.
    return np.hstack([changes, draw_uniform((seed, "crop", epoch), (count, CROP_DRAWS))])


def augment(images: torch.Tensor, draws: Numbers, strength: Strength) -> torch.Tensor:
    """(B, C, H, W) float32 grey values 0 to 255, changed each by its own row of `draws` (B, DRAWS)."""
    import torch

    def column(values: Numbers) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(images.device, non_blocking=True).view(-1, 1, 1, 1)

    flip, turn, right, down, zoom, contrast, brightness, *crop = np.ascontiguousarray(draws.T)
    if strength.flip:
        images = torch.where(column(flip) < strength.flip, images.flip(-1), images)
    if strength.moves:
        affine = _turn_and_shift(turn, right, down, zoom, strength)
        if strength.crops:
            affine = _enlarge_patch(affine, crop, strength, images.shape[-2:])
        images = _sample(images, affine)
    if strength.shades:
        factor = 1 + strength.contrast * (2 * contrast - 1)
        shift = 255 * strength.brightness * (2 * brightness - 1)
        images = ((images - 127.5) * column(factor) + column(127.5 + shift)).clamp(0, 255)
    return images


def _turn_and_shift(turn: Numbers, right: Numbers, down: Numbers, zoom: Numbers, strength: Strength) -> Affine:
    """Rotation, scale and shift about the centre.

    The angle is 2 atan(t) with t uniform, so that sine and cosine are quotients, exact on every CPU; within 15 degrees
    the angle is uniform to 1%. A strength of 45 degrees ends at 42.9.
    """
    t = (2 * turn - 1) * (strength.rotate * np.pi / 360)
    size = 1 + strength.scale * (2 * zoom - 1)
    cosine, sine = (1 - t * t) / (1 + t * t) / size, 2 * t / (1 + t * t) / size
    shift_x, shift_y = (2 * strength.translate * (2 * draw - 1) for draw in (right, down))
    return cosine, -sine, shift_x, sine, cosine, shift_y


def _enlarge_patch(affine: Affine, draws: list[Numbers], strength: Strength, sides: tuple[int, ...]) -> Affine:
    """The affine map done to a random patch, enlarged to the whole image (`sides`: its height and width in px).

    The patch's area is uniform. Its ratio of width to height is (1 + q) / (1 - q) with q uniform about 0: a ratio is as
    likely as its inverse, and up to 4/3 its logarithm is uniform to 1%, without a logarithm that CPUs round
    differently. torchvision draws again where a patch does not fit; here the ratio stays within what fits.
    """
    size, shape, right, down = draws
    area = strength.crop + (1 - strength.crop) * size
    most = np.minimum(strength.aspect, 1 / area)
    q = (most - 1) / (most + 1) * (2 * shape - 1)
    ratio = (1 + q) / (1 - q)
    width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
    # Up to the centres of the outermost pixels: beyond them, sampling would mix in the black outside.
    shift_x = (1 - width) * (1 - 1 / sides[1]) * (2 * right - 1)
    shift_y = (1 - height) * (1 - 1 / sides[0]) * (2 * down - 1)
    a, b, c, d, e, f = affine
    return width * a, width * b, width * c + shift_x, height * d, height * e, height * f + shift_y


def _sample(images: torch.Tensor, affine: Affine) -> torch.Tensor:
    """Bilinear, black outside."""
    import torch
    from torch.nn.functional import grid_sample

    count, _, height, width = images.shape
    device = images.device
    x = ((torch.arange(width, dtype=torch.float32) * 2 + 1) / width - 1).to(device, non_blocking=True)
    y = ((torch.arange(height, dtype=torch.float32) * 2 + 1) / height - 1).to(device, non_blocking=True)[:, None]
    a, b, c, d, e, f = (
        torch.from_numpy(values.astype(np.float32)).to(device, non_blocking=True).view(count, 1, 1) for values in affine
    )
    grid = torch.stack((a * x + b * y + c, d * x + e * y + f), dim=-1)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
