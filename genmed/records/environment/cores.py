"""How many cores this process may use: of the machine, of its affinity, and of its cgroup's quota."""

import math
import os
import sys
from pathlib import Path

from genmed.records.environment.machine import read_sysctl, read_text

MAX_DEFAULT_THREADS = 8  # small images gain nothing from more, and each number of threads has bits of its own


def count_default_threads() -> int:
    """The physical cores that this process may use: at least 1, at most 8; without torch, under 1 ms.

    Two hardware threads of one core count once. A cgroup's quota of 2.5 processors counts as 3.
    """
    cores = count_physical_cores(list_usable_processors())
    quota = read_processor_quota()
    if quota is not None:
        cores = min(cores, math.ceil(quota))
    return min(cores, MAX_DEFAULT_THREADS)


def count_usable_processors() -> int:
    """Logical processors that this process may use: its affinity, and its cgroup's quota rounded up."""
    count = len(list_usable_processors())
    quota = read_processor_quota()
    return count if quota is None else min(count, math.ceil(quota))


def count_logical_processors() -> int:
    """Of the machine. `os.cpu_count` would obey PYTHON_CPU_COUNT from Python 3.13 on."""
    return os.sysconf("SC_NPROCESSORS_ONLN")


def list_usable_processors() -> list[int]:
    """Numbers of the logical processors in this process's affinity; of all where there is no affinity (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(count_logical_processors()))


def list_online_processors(root: Path = Path("/")) -> list[int]:
    """Numbers of the machine's logical processors, from the kernel's list ("0-3,8")."""
    told = read_text(root / "sys/devices/system/cpu/online")
    if not told:
        return list(range(count_logical_processors()))
    numbers: list[int] = []
    for part in told.split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def count_physical_cores(processors: list[int], root: Path = Path("/")) -> int:
    """Cores that the logical processors belong to; each is its own core where the kernel does not tell."""
    if sys.platform == "darwin":
        return min(len(processors), int(read_sysctl("hw.physicalcpu") or len(processors)))
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({read_text(root / topology.format(number)) or str(number) for number in processors})


def read_processor_quota(root: Path = Path("/")) -> float | None:
    """How many processors' time the control groups leave this process, None if they set no limit.

    The smallest limit from its own group up to the root counts, as in cgroups(7). Reads version 2 (cpu.max) and
    version 1 (cpu.cfs_quota_us). A container sees its own group at the mount point though /proc names another path.
    """
    quotas: list[float] = []
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, read = root / "sys/fs/cgroup", _read_quota_2
        elif "cpu" in controllers.split(","):
            mount, read = root / "sys/fs/cgroup/cpu", _read_quota_1
        else:
            continue
        folder = mount / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(mount):
                quota = read(group)
                quotas += [] if quota is None else [quota]
    return min(quotas, default=None)


def _read_quota_2(group: Path) -> float | None:
    quota, _, period = (read_text(group / "cpu.max") or "max").partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def _read_quota_1(group: Path) -> float | None:
    quota = int(read_text(group / "cpu.cfs_quota_us") or -1)
    period = int(read_text(group / "cpu.cfs_period_us") or 0)
    return None if quota <= 0 or period <= 0 else quota / period
