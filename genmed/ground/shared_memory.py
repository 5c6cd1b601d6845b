"""Memory that several processes of one machine see. It has no name on any disk and is gone with the last of them."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
from pathlib import Path
from typing import NamedTuple

BOOT = Path("/proc/sys/kernel/random/boot_id")


class Address(NamedTuple):
    """Where another process finds it."""

    machine: str
    pid: int
    number: int
    """Of the file descriptor."""
    size: int


class SharedMemory:
    """Made by this process, which keeps it as long as the object lives. Linux alone."""

    def __init__(self, size: int) -> None:
        self._number = os.memfd_create("genmed", os.MFD_CLOEXEC)
        os.ftruncate(self._number, size)
        self.content = mmap.mmap(self._number, size)
        self.address = Address(name_machine(), os.getpid(), self._number, size)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._number)


def can_share() -> bool:
    return hasattr(os, "memfd_create")


def name_machine() -> str:
    """Of a host's one start; containers with names of their own count as machines of their own."""
    return f"{socket.gethostname()} {BOOT.read_text().strip() if BOOT.is_file() else ''}"


def open_shared(address: Address) -> mmap.mmap | None:
    """Another process's memory; None where it is not of this machine, or not to be seen from here."""
    if address.machine != name_machine():
        return None
    try:
        number = os.open(f"/proc/{address.pid}/fd/{address.number}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # of another user, or another container
        return None
    try:
        return mmap.mmap(number, address.size)
    finally:
        os.close(number)
