"""What the operating system tells of the machine: kernel, C library, memory, container, NVIDIA's driver."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

# a process that ends while its file is read is a ProcessLookupError
NOT_TOLD = (FileNotFoundError, NotADirectoryError, PermissionError, ProcessLookupError)
SYSCTL = "/usr/sbin/sysctl"  # not on every PATH: cron and launchd have a short one
SLOW = 20.0


def read_text(path: Path) -> str | None:
    """A file of /proc or /sys without its last line break; None where this kernel or container does not show it."""
    try:
        return path.read_text(errors="replace").strip()
    except NOT_TOLD:
        return None


def run_text(*command: str) -> str | None:
    """What a system tool prints; None if it is absent, refuses, or takes over 20 s."""
    try:
        output = subprocess.check_output(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SLOW, text=True, errors="replace"
        )
    except (*NOT_TOLD, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return output.strip()


def read_sysctl(name: str) -> str | None:
    """One value of macOS's kernel, None if it does not know the name."""
    return run_text(SYSCTL, "-n", name)


def host_name() -> str:
    """The machine's name on the network; of a container, its id."""
    return os.uname().nodename


def boot_id() -> str:
    """A name for the time since the kernel started: two processes that see the same one run on the same machine.

    Linux: random(4); macOS: its boot session, for the boot time moves whenever the clock is set.
    """
    told = read_text(Path("/proc/sys/kernel/random/boot_id"))
    if told is None and sys.platform == "darwin":
        told = read_sysctl("kern.bootsessionuuid")
    if told is None:
        import psutil

        told = f"booted-{psutil.boot_time():.0f}"
    return told


def describe_system() -> dict[str, Any]:
    """Kernel, its release, the machine's architecture, and the C library with its version ("glibc 2.36")."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
    }


def describe_container(root: Path = Path("/")) -> dict[str, bool]:
    """Which kinds of container this process can tell that it runs in, by the marks that they leave."""
    return {
        "docker": (root / ".dockerenv").exists(),
        "podman": (root / "run/.containerenv").exists(),
        "kubernetes": "KUBERNETES_SERVICE_HOST" in os.environ,
        "apptainer": "APPTAINER_CONTAINER" in os.environ or "SINGULARITY_CONTAINER" in os.environ,
    }


def count_memory() -> int:
    """The machine's memory in bytes, whatever this process may use of it."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def read_driver_version(root: Path = Path("/")) -> str | None:
    """The version of NVIDIA's kernel driver ("570.86.15"), None without one; no program is started."""
    told = read_text(root / "proc/driver/nvidia/version") or ""
    found = re.search(r"Kernel Module\D.*?\s(\d+(?:\.\d+)+)", told)
    return found.group(1) if found else None


def list_driver_gpus(root: Path = Path("/")) -> list[dict[str, Any]]:
    """The GPUs that NVIDIA's driver names, in bus order, without starting CUDA.

    Memory and compute capability are null: only CUDA tells them, and a process that has started CUDA cannot be forked.
    """
    names: list[str] = []
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        found = re.search(r"^Model:\s*(.+?)\s*$", read_text(path) or "", re.MULTILINE)
        names.append(found.group(1) if found else "unknown")
    driver = read_driver_version(root)
    return [
        {"index": index, "name": name, "driver": driver, "memory_bytes": None, "compute_capability": None}
        for index, name in enumerate(names)
    ]
