"""The environment: the hardware and software that a run ran on, as `genmed env` prints it and each run keeps it."""

import os
import platform
import sys
from typing import Any

from genmed.records.environment import torch_state
from genmed.records.environment.code import PACKAGE
from genmed.records.environment.machine import count_memory, describe_container, describe_system, host_name
from genmed.records.environment.processor import describe_processor
from genmed.records.environment.repository import describe_repository

SCHEMA = 1
PACKAGES = (
    "genmed",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "pydicom",
    "scipy",
    "safetensors",
    "xxhash",
    "pyyaml",
    "pydantic",
    "sqlmodel",
    "sqlalchemy",
    "alembic",
    "typer",
    "rich",
    "psutil",
)
IMAGE_LIBRARIES = {
    "libjpeg": "jpg",
    "libjpeg_turbo": "libjpeg_turbo",
    "zlib": "zlib",
    "zlib_ng": "zlib_ng",
    "libtiff": "libtiff",
    "openjpeg": "jpg_2000",
}


def capture_environment(device: str = "cpu", with_torch: bool = True) -> dict[str, Any]:
    """What this process runs on and how its libraries are set, now: JSON-able, its keys always the same.

    device: where the run computes, "cpu", "cuda", "cuda:1" or "mps". Only for a run on CUDA is CUDA started, to ask
    for cuDNN's version and the GPUs' memory and compute capability; they are null for another.
    with_torch: False leaves null what only torch tells, and does not import it; such a capture is for reading, not
    for `compare_environments`.

    Sizes are in bytes, versions are strings, and what is absent or not told is null. Paths stand under `where`, which
    is never compared. Takes some 20 ms once torch is imported; no step fails for want of a GPU, of git or of /proc.
    """
    cuda = torch_state.describe_cuda(device, with_torch)
    return {
        "schema": SCHEMA,
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "os": describe_system(),
        "packages": {name: find_version(name) for name in PACKAGES},
        "libraries": describe_image_libraries() | torch_state.describe_libraries(with_torch),
        "cpu": describe_processor(with_torch),
        "threads": torch_state.describe_threads(with_torch),
        "memory": {"total_bytes": count_memory()},
        "gpus": torch_state.list_gpus(device, cuda["driver"], with_torch),
        "cuda": cuda,
        "mps": torch_state.describe_mps(with_torch),
        "determinism": torch_state.describe_determinism(with_torch),
        "git": describe_repository(),
        "host": {"hostname": host_name()},
        "container": describe_container(),
        "where": {
            "python": _as_unicode(sys.executable),
            "genmed": _as_unicode(str(PACKAGE)),
            "folder": _as_unicode(os.getcwd()),
        },
    }


def _as_unicode(path: str) -> str:
    """A folder's name may be any bytes, which JSON files cannot hold."""
    return os.fsencode(path).decode(errors="replace")


def find_version(package: str) -> str | None:
    """The installed version, without importing the package; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # 30 ms, and few commands ask

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_image_libraries() -> dict[str, str | None]:
    """Versions of the libraries that Pillow decodes with; PNG is Pillow's own code over zlib."""
    from PIL import features

    return {name: features.version(feature) for name, feature in IMAGE_LIBRARIES.items()}
