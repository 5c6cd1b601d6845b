"""What the fork server imports before it forks: all of genmed and all that a command imports late; computes nothing."""

import importlib
import pkgutil

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
