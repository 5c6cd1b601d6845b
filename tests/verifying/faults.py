"""A model into which faults are put from outside, and faults of data."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Arguments = Callable[..., list[object]]
OFTEN = ("--set", "checkpoints.keep_every_steps=4", "--set", "checkpoints.keep_every_epochs=1")
"""States kept after steps 4, 7, 8, 12, 14, ..."""

SABOTAGED = """
import os
import time
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook


class Noise(nn.Module):
    def forward(self, x):
        if os.environ.get("GENMED_TEST_FAULT") != "noise":
            return x
        return x * (1 + time.time_ns() % 1_000_003 * 1e-6)


class Other(nn.Module):
    def forward(self, x):
        return x * 1.0001 if os.environ.get("GENMED_TEST_FAULT") == "other arithmetic" else x * 1.0


def put_fault(fault, tensor, places):
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    if fault == "swap":
        first, second = places
        flat[first], flat[second] = flat[second].clone(), flat[first].clone()
    else:
        for place in places:
            flat.view(torch.int32)[place] ^= int(os.environ.get("GENMED_TEST_BIT", 1))


def build(num_classes):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Noise(), Other(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, num_classes),
    )
    if os.environ.get("GENMED_TEST_THREADS"):
        torch.set_num_threads(int(os.environ["GENMED_TEST_THREADS"]))
    if os.environ.get("GENMED_TEST_ISA"):
        os.environ["ONEDNN_MAX_CPU_ISA"] = os.environ["GENMED_TEST_ISA"]
    steps = []

    def after_update(optimizer, arguments, keywords):
        if optimizer.param_groups[0]["params"][0] is not model[0].weight:
            return  # another model's, in this process
        steps.append(None)
        if len(steps) == int(os.environ.get("GENMED_TEST_STEP", -1)):
            tensor = {**dict(model.named_parameters()), **dict(model.named_buffers())}[os.environ["GENMED_TEST_TENSOR"]]
            places = [int(place) for place in os.environ["GENMED_TEST_PLACES"].split(",")]
            put_fault(os.environ["GENMED_TEST_FAULT"], tensor, places)

    if "GENMED_TEST_STEP" in os.environ:
        register_optimizer_step_post_hook(after_update)
    return model
"""
"""A model's file. GENMED_TEST_FAULT at the end of step GENMED_TEST_STEP: the bits GENMED_TEST_BIT of GENMED_TEST_TENSOR
flipped at GENMED_TEST_PLACES, or, for swap, two elements swapped. In each pass: noise, other arithmetic.
GENMED_TEST_THREADS and _ISA change what the process computes with behind genmed's back, as a library might."""


NOISY_BACKWARD = """
import time
import torch
from torch import nn


class Twist(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * (1 + time.time_ns() % 1_000_003 * 1e-6)


class Noise(nn.Module):
    def forward(self, x):
        return Twist.apply(x)


def build(num_classes):
    last = nn.Linear(8, num_classes)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Noise(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
"""
"""A model whose gradient reads the clock, and whose loss does not."""


def change_pixel(data: Path, *images: str, place: tuple[int, int] = (5, 7), keep_stamp: bool = False) -> None:
    """One pixel of each, one grey level; keep_stamp: size and time of modification stay, whatever level that takes."""
    for name in images:
        path = data / "images" / name
        status, original = path.stat(), path.read_bytes()
        with Image.open(path) as image:
            pixels = np.array(image)
        before = int(pixels[place])
        for shade in [before ^ 1, *sorted(set(range(256)) - {before, before ^ 1})]:
            pixels[place] = shade
            Image.fromarray(pixels).save(path)
            if not keep_stamp or path.stat().st_size == status.st_size:
                break
        assert path.read_bytes() != original
        if keep_stamp:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            after = path.stat()
            assert (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def change_label(data: Path, image: str, labels: str) -> None:
    path = data / "Data_Entry_2017_v2020.csv"
    lines = path.read_text().splitlines()
    changed = [
        ",".join([image, labels, *line.split(",")[2:]]) if line.startswith(f"{image},") else line for line in lines
    ]
    assert changed != lines
    path.write_text("\n".join(changed) + "\n")


def list_images(data: Path) -> Sequence[str]:
    return sorted(path.name for path in (data / "images").iterdir())
