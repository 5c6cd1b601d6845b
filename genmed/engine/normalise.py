"""Bytes to numbers: (pixel / 255 - mean) / std."""

import math
from dataclasses import dataclass

import numpy as np

from genmed.parts.data.loader import Rows
from genmed.parts.data.records import Pixels
from genmed.records.config.sections import Normalisation

# Grey images have one mean; torchvision's weights were trained with these, averaged over the colours.
IMAGENET = (0.449, 0.226)
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Scaling:
    """On the scale 0 to 1."""

    mean: float
    std: float


def choose_scaling(config: Normalisation, pixels: Pixels, train: Rows) -> Scaling:
    """The scaling that the config names; for `dataset` from the training images' bytes, summed as integers: exact."""
    if config.method == "imagenet":
        return Scaling(*IMAGENET)
    if config.method == "half":
        return Scaling(0.5, 0.5)
    if config.method == "fixed":
        assert config.mean is not None
        assert config.std is not None
        return Scaling(config.mean, config.std)
    count = total = squares = 0
    for start in range(0, len(train), ROWS_AT_ONCE):
        histogram = np.bincount(pixels[train[start : start + ROWS_AT_ONCE]].reshape(-1), minlength=256).tolist()
        count += sum(histogram)
        total += sum(value * times for value, times in enumerate(histogram))
        squares += sum(value * value * times for value, times in enumerate(histogram))
    variance = (squares * count - total * total) / (count * count)
    return Scaling(total / count / 255, max(math.sqrt(variance) / 255, 1e-3))
