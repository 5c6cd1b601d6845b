"""Images in the page: as data, so that it needs no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from genmed.parts.data.records import Pixels

LARGEST, SMALLEST = 256, 128
"""Side in the page, pixels: larger images are reduced, smaller ones enlarged by whole numbers."""
HEAT = np.array([[0, 0, 0], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=np.float64)
"""Dark to bright by even steps for every eye: points of matplotlib's inferno."""
MOST_HEAT = 0.65
"""How much of the picture the heat covers where it is strongest."""
Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """An image as prepared, and what of it moved the score."""

    pixels: Pixels
    """(C, S, S), C 1 or 3."""
    saliency: Map | None
    """(h, w), 0 to 1; None where the network has no such map."""


def embed(picture: Picture) -> tuple[str, str | None]:
    """`data:` addresses of the image, and of the image under its saliency."""
    image = _to_image(picture.pixels)
    if picture.saliency is None:
        return _address(image, "PNG"), None
    return _address(image, "PNG"), _address(_cover(image, picture.saliency), "JPEG", quality=82)


def _to_image(pixels: Pixels) -> Image.Image:
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    side = image.width
    if side > LARGEST:
        return image.resize((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    times = -(-SMALLEST // side)
    return image.resize((side * times, side * times), Image.Resampling.NEAREST)


def _cover(image: Image.Image, saliency: Map) -> Image.Image:
    """The map's own resolution is coarse: it is blurred up to the image's."""
    heat = Image.fromarray(saliency).resize(image.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(heat, dtype=np.float64), 0, 1)[:, :, None]
    place = strength[:, :, 0] * (len(HEAT) - 1)
    colours = np.stack([np.interp(place, range(len(HEAT)), HEAT[:, channel]) for channel in range(3)], axis=2)
    below = np.asarray(image.convert("RGB"), dtype=np.float64)
    cover = MOST_HEAT * strength**0.7
    return Image.fromarray((below * (1 - cover) + colours * cover).round().astype(np.uint8))


def _address(image: Image.Image, form: str, **how: int) -> str:
    content = io.BytesIO()
    image.save(content, form, **how)
    return f"data:image/{form.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
