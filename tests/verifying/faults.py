"""A model into which faults are put from outside, and faults of data."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Arguments = Callable[..., list[object]]

SABOTAGED = """
import os
import time
import torch
from torch import nn


class Noise(nn.Module):
    def forward(self, x):
        if os.environ.get("GENMED_TEST_FAULT") != "noise":
            return x
        return x * (1 + time.time_ns() % 1_000_003 * 1e-6)


class Other(nn.Module):
    def forward(self, x):
        return x * 1.0001 if os.environ.get("GENMED_TEST_FAULT") == "other arithmetic" else x * 1.0


def as_stored(tensor):
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def flip(tensor, *places, bit=1):
    for place in places:
        as_stored(tensor).view(torch.int32)[place] ^= bit


def put_fault(fault, model):
    weight = model[0].weight
    if fault == "bit":
        flip(weight, int(os.environ["GENMED_TEST_PLACE"]))
    elif fault == "two bits":
        flip(weight, 3, 11)
    elif fault == "swap":
        flat = as_stored(weight)
        flat[3], flat[11] = flat[11].clone(), flat[3].clone()
    elif fault == "buffer":
        flip(model[1].running_var, 2, bit=1 << 10)  # the lowest is rounded away in the next step


def build(num_classes):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Noise(), Other(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, num_classes),
    )
    if os.environ.get("GENMED_TEST_THREADS"):
        torch.set_num_threads(int(os.environ["GENMED_TEST_THREADS"]))
    if os.environ.get("GENMED_TEST_ISA"):
        os.environ["ONEDNN_MAX_CPU_ISA"] = os.environ["GENMED_TEST_ISA"]
    passes = []

    def before_pass(module, inputs):
        passes.extend([None] * module.training)
        if module.training and len(passes) == int(os.environ.get("GENMED_TEST_STEP", -2)) + 1:  # the first is dry
            put_fault(os.environ.get("GENMED_TEST_FAULT"), model)

    model.register_forward_pre_hook(before_pass)
    return model
"""
"""A model's file. GENMED_TEST_FAULT at step GENMED_TEST_STEP of a process: bit (of weight GENMED_TEST_PLACE), two bits,
swap, buffer; always: noise, other arithmetic. GENMED_TEST_THREADS and _ISA change what the process computes with behind
genmed's back, as a library might."""


def change_pixel(data: Path, *images: str, keep_stamp: bool = False) -> None:
    """One pixel of each, one grey level; keep_stamp: size and time of modification stay."""
    for name in images:
        path = data / "images" / name
        status, original = path.stat(), path.read_bytes()
        with Image.open(path) as image:
            pixels = np.array(image)
        before = int(pixels[5, 7])
        for shade in [before ^ 1, *sorted(set(range(256)) - {before, before ^ 1})]:
            pixels[5, 7] = shade
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
