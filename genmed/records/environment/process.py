"""Which process it was, and whether it still runs: so that a killed run is not `running` for ever."""

import os
import sys
from pathlib import Path
from typing import Any

from genmed.records.environment.machine import NOT_TOLD, boot_id, host_name, read_text

__all__ = ["host_name", "identify_process", "is_alive"]

LINUX = sys.platform.startswith("linux")
ENDED = {"Z", "X"}


def identify_process() -> dict[str, Any]:
    """What names this process among all processes of all machines: JSON-able, to be given to `is_alive`.

    `started` is in seconds: after boot on Linux, where the time of day of a start moves as the clock is set; of the
    epoch elsewhere. `pid_namespace` tells two containers of one machine apart, whose pids are not the same processes.
    """
    return {
        "host": host_name(),
        "boot_id": boot_id(),
        "pid": os.getpid(),
        "pid_namespace": _pid_namespace(),
        "started": _start_time(os.getpid()),
    }


def is_alive(identity: dict[str, Any]) -> bool | None:
    """Whether that process still runs; None where it cannot be told from here.

    The same boot id is the same machine, by whatever name. Under another boot id, the same host has been started anew
    since and the process is dead; another host cannot be asked, nor another container. A process that has ended but
    whose parent has not looked yet (a zombie) is dead.
    """
    if identity["boot_id"] != boot_id():
        return False if identity["host"] == host_name() else None
    if identity.get("pid_namespace") != _pid_namespace():
        return None
    started = _start_time(identity["pid"])
    if started is None:
        return None if _is_hidden(identity["pid"]) else False
    return bool(started == identity["started"])


def _start_time(pid: int) -> float | None:
    """When the process began, None if there is none, or if it has ended."""
    if LINUX:
        stat = read_text(Path(f"/proc/{pid}/stat"))
        if stat is None:
            return None
        fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
        state, ticks = fields[0], int(fields[19])
        return None if state in ENDED else ticks / os.sysconf("SC_CLK_TCK")
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:  # a zombie too
        return None


def _is_hidden(pid: int) -> bool:
    """Whether it lives, but is somebody else's and /proc is mounted so that it does not show (hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return False


def _pid_namespace() -> str | None:
    """The name of the set of processes that pids are counted in; None on systems that have but one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except NOT_TOLD:
        return None
