"""Reads what the system knows about the memory pages of this process."""

from __future__ import annotations

import mmap
import os

import numpy as np

#: The first of three bits of an entry: the page belongs to a file or is shared; it is in swap
#: space; it is in memory.
_LOWEST = np.uint64(61)
_OF_FILE, _SWAPPED, _PRESENT = 1, 2, 4


def has_own_pages(address: int, length: int) -> bool:
    """Whether some page of a private mapping may differ from that of its file.

    The system copies a page when it is first written to. If the system does not tell, the answer
    is yes, because it may have copied any page.

    Args:
        address: where the mapping begins.
        length: its length in bytes.
    """
    count = -(-length // mmap.PAGESIZE)
    try:
        # Do not keep it open: a forked process would read its parent's pages.
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            entries = os.pread(fd, 8 * count, 8 * (address // mmap.PAGESIZE))
        finally:
            os.close(fd)
    except OSError:
        return True
    if len(entries) != 8 * count:
        return True
    bits = np.frombuffer(entries, np.uint64) >> _LOWEST
    is_there = bits & np.uint64(_SWAPPED | _PRESENT) != 0
    return bool(np.any(is_there & (bits & np.uint64(_OF_FILE) == 0)))
