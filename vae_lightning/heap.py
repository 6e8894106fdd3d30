"""What the processor's memory allocator does with memory that is given back."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes
LARGE = 2**26  # bytes of a block that is given back at once: kept, such blocks leave gaps in which no other fits


def keep_freed_memory() -> bool:
    """Lets this process keep up to a gigabyte of freed memory for its next tensors; says whether the system can.

    glibc hands large blocks back to the system as soon as they are free, and the system clears every page anew when it
    gives them out again. Of activations of some megabytes each, a step then spends up to a quarter of its time in that.
    Blocks of more than 64 MB still go back: a step takes long enough there.

    >>> keep_freed_memory() == sys.platform.startswith("linux")  # and its C library is glibc
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return all([mallopt(MMAP_THRESHOLD, LARGE), mallopt(TRIM_THRESHOLD, KEPT)])
