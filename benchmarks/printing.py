"""What benchmarks print: the machine that they ran on, and tables."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence

from genmed.records.environment.machine import count_memory
from genmed.records.environment.processor import describe_processor


def describe_machine(*packages: str) -> str:
    """E.g. 'AMD EPYC, 2 cores, 24 GiB, Linux, Python 3.11.7, torch 2.15.0'."""
    processor = describe_processor(with_torch=False)["model"]
    cores, memory = len(os.sched_getaffinity(0)), count_memory() / 2**30
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    place = f"{processor}, {cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    return ", ".join([place, *versions])


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for cells in (header, *rows):
        _, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        print("  ".join([cells[0].ljust(widths[0]), *others]))
    print(flush=True)
