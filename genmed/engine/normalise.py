"""Bytes to numbers: (pixel / 255 - mean) / std."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.loader import Rows
from genmed.records.config.sections import Normalisation

if TYPE_CHECKING:
    import torch

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and std of the colours that torchvision's weights were trained with."""
IMAGENET_GREY = (0.449, 0.226)
"""The same, averaged over the colours."""
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Scaling:
    """On the scale 0 to 1; one number each, or three for colours that differ."""

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def apply_(self, values: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float32, of values 0 to 255, changed in place: a fifth of the time that copies take."""
        if isinstance(self.mean, float) and isinstance(self.std, float):
            return values.sub_(255 * self.mean).mul_(1 / (255 * self.std))
        mean, factor = 255 * np.array(self.mean), 1 / (255 * np.array(self.std))
        return values.sub_(_by_channel(mean, values)).mul_(_by_channel(factor, values))


def _by_channel(numbers: npt.NDArray[np.float64], values: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.from_numpy(numbers.astype(np.float32)).to(values.device, non_blocking=True).view(1, -1, 1, 1)


def choose_scaling(config: Normalisation, images: ImageBytes, train: Rows) -> Scaling:
    """The scaling that the config names; for `dataset` of the training images' bytes, by channel."""
    if config.method == "imagenet":
        return Scaling(*(IMAGENET if images.channels == 3 else IMAGENET_GREY))
    if config.method == "half":
        return Scaling(0.5, 0.5)
    if config.method == "fixed":
        assert config.mean is not None
        assert config.std is not None
        return Scaling(config.mean, config.std)
    histograms = np.zeros((images.channels, 256), dtype=np.int64)
    for start in range(0, len(train), ROWS_AT_ONCE):
        pixels = images.read(train[start : start + ROWS_AT_ONCE])
        for channel in range(images.channels):
            histograms[channel] += np.bincount(pixels[:, channel].reshape(-1), minlength=256)
    means, stds = zip(*(_measure(histogram.tolist()) for histogram in histograms), strict=True)
    return Scaling(means[0], stds[0]) if images.channels == 1 else Scaling(means, stds)


def _measure(histogram: list[int]) -> tuple[float, float]:
    """Mean and std of bytes, summed as integers: exact."""
    count = sum(histogram)
    total = sum(value * times for value, times in enumerate(histogram))
    squares = sum(value * value * times for value, times in enumerate(histogram))
    variance = (squares * count - total * total) / (count * count)
    return total / count / 255, max(math.sqrt(variance) / 255, 1e-3)
