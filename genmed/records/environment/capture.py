"""The environment: the hardware and software that a run ran on, as `genmed env` prints it and each run keeps it."""

import os
import platform
import sys
from typing import Any

from genmed.records.environment import torch_state
from genmed.records.environment.code import PACKAGE
from genmed.records.environment.distributions import find_imported, list_distributions
from genmed.records.environment.machine import count_memory, describe_container, describe_system, host_name
from genmed.records.environment.processor import describe_processor
from genmed.records.environment.repository import describe_repository

SCHEMA = 1
PACKAGES = (  # each record has these, whether they were imported or not
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
    is never compared. Takes some 60 ms once torch is imported; no step fails for want of a GPU, of git or of /proc.
    """
    cuda = torch_state.describe_cuda(device, with_torch)
    return {
        "schema": SCHEMA,
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "os": describe_system(),
        **describe_packages(),
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
            "python": as_unicode(sys.executable),
            "genmed": as_unicode(str(PACKAGE)),
            "folder": as_unicode(os.getcwd()),
        },
    }


def as_unicode(path: str) -> str:
    """A folder's name may be any bytes, which JSON files cannot hold."""
    return os.fsencode(path).decode(errors="replace")


def describe_packages() -> dict[str, dict[str, Any]]:
    """The distributions: `packages` (PACKAGES, and all that this process has imported), `package_sources` (where each
    imported one was installed from), `installed` (the others, which took no part)."""
    imported = find_imported()
    distributions = {entry.name: entry for entry in list_distributions()}
    versions = {name: entry.version for name, entry in distributions.items()}
    packages = {name: versions.get(name) for name in (*PACKAGES, *(name for name in imported if name not in PACKAGES))}
    return {
        "packages": packages,
        "package_sources": {name: entry.source for name, entry in imported.items()},
        "installed": {
            name: {"version": entry.version, "source": entry.source}
            for name, entry in sorted(distributions.items())
            if name not in packages
        },
    }


def describe_image_libraries() -> dict[str, str | None]:
    """Versions of the libraries that Pillow decodes with; PNG is Pillow's own code over zlib."""
    from PIL import features

    return {name: features.version(feature) for name, feature in IMAGE_LIBRARIES.items()}
