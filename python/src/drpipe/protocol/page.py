"""Writes the page of memory that a worker shares with its supervisor."""

from __future__ import annotations

import mmap
import os
from typing import ClassVar, Optional

#: The words on the page: the message in progress, when its processing began, the heartbeats, and
#: by when the processing must have ended.
MESSAGE, SINCE, BEATS, DEADLINE = range(4)
_SIZE = 32


class Page:
    """The page that docs/WIRE.md describes. For speed, callers write `words` directly."""

    #: The page of the worker that is running in this process, which sets it.
    own: ClassVar[Optional[Page]] = None

    def __init__(self, fd: int) -> None:
        """Maps the page. The caller may then close the descriptor."""
        self._map = mmap.mmap(fd, _SIZE)
        self.words = memoryview(self._map).cast("Q")

    def rest(self) -> None:
        """Records that the worker has no message in progress."""
        self.words[MESSAGE] = 0

    def beat(self) -> None:
        """Records that the worker is alive."""
        self.words[BEATS] = (self.words[BEATS] + 1) & 0xFFFF_FFFF_FFFF_FFFF


def current_message() -> int:
    """Returns the number of the message in progress in this process, or 0 if there is none."""
    return Page.own.words[MESSAGE] if Page.own is not None else 0


class Memory:
    """The memory of this process, excluding memory that it shares with others."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def used(self) -> int:
        """Returns the memory in use, in bytes."""
        fields = os.pread(self._statm, 200, 0).split()
        return (int(fields[1]) - int(fields[2])) * self._page
