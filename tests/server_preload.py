"""What the fork server imports before it forks: all of genmed and all that a command imports late; computes nothing."""

import ctypes
import importlib
import pkgutil
import sys
from pathlib import Path

import alembic.command
import alembic.runtime.environment
import alembic.script  # noqa: F401
import jinja2  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import PIL.Image
import pytest  # noqa: F401  multiprocessing runs the main module again in each child: here, pytest's
import safetensors.torch  # noqa: F401
import scipy.special  # noqa: F401
import sqlalchemy.dialects.sqlite  # noqa: F401
import torch
import torch.utils._python_dispatch
import torchvision  # noqa: F401

import genmed.cli.app

for module in pkgutil.walk_packages(genmed.__path__, "genmed."):
    if module.name != "genmed.__main__":  # it is the command itself
        importlib.import_module(module.name)

genmed.cli.app.build()
PIL.Image.preinit()
torch.nn.Module()  # the first one loads some of torch, and runs no kernel


def use_large_pages() -> None:
    """Gathers this process's memory into pages of 2 MiB where Linux can: a fork then copies 200 entries of its page
    table and not 110,000, and a child that does nothing ends in a third of the time.
    """
    system = ctypes.CDLL(None)
    system.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines() if sys.platform == "linux" else []:
        place, rights, _, _, _, *name = line.split()
        if rights.startswith("rw") and name in ([], ["[heap]"]):
            start, end = (int(edge, 16) for edge in place.split("-"))
            start, end = -(-start // LARGE) * LARGE, end // LARGE * LARGE
            if start < end:
                system.madvise(start, end - start, COLLAPSE)


LARGE = 2 << 20
COLLAPSE = 25
"""MADV_COLLAPSE of <linux/mman.h>, from Linux 6.1 on; before, it is refused and nothing changes."""

use_large_pages()
