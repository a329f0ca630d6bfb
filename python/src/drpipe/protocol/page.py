"""The page of memory that a worker shares with its supervisor."""

from __future__ import annotations

import mmap
import os
from typing import ClassVar, Optional

#: The words on the page: the message at work on, when it was begun, the beats.
MESSAGE, SINCE, BEATS = range(3)
_SIZE = 24


class Page:
    """See docs/WIRE.md. `words` are written directly: once for each message."""

    #: This process's.
    own: ClassVar[Optional[Page]] = None

    def __init__(self, fd: int) -> None:
        """Maps the page; the descriptor may be closed afterwards."""
        self._map = mmap.mmap(fd, _SIZE)
        self.words = memoryview(self._map).cast("Q")
        Page.own = self

    def rest(self) -> None:
        """The worker has nothing begun."""
        self.words[MESSAGE] = 0

    def beat(self) -> None:
        """The worker is alive."""
        self.words[BEATS] = (self.words[BEATS] + 1) & 0xFFFF_FFFF_FFFF_FFFF


def current_message() -> int:
    """The number of the message that this process is at; 0 at none."""
    return Page.own.words[MESSAGE] if Page.own is not None else 0


class Memory:
    """The memory that this process has for itself, without what it shares."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def used(self) -> int:
        """In bytes."""
        fields = os.pread(self._statm, 200, 0).split()
        return (int(fields[1]) - int(fields[2])) * self._page
