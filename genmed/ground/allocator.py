"""The C library's allocator, told to keep what it has: a step frees and asks for the same memory as the step before."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's names for what `mallopt` sets."""
KEPT, MAPPED = 2**31 - 1, 2**30
"""In bytes: free memory at the heap's end that is not given back; blocks that are so large get maps of their own."""


def keep_freed_memory() -> bool:
    """Whether it could be told; where the C library is not glibc nothing changes.

    Else each large tensor is mapped, its pages are filled with zeros at the first touch, and it is unmapped when freed.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    return set_option is not None and all([set_option(TRIM_THRESHOLD, KEPT), set_option(MMAP_THRESHOLD, MAPPED)])
