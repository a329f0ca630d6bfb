"""The page of memory that a worker shares with its supervisor."""

from __future__ import annotations

import mmap
import os
from typing import ClassVar, Optional

#: The words on the page: the message at work on, when its work began, and the beats.
MESSAGE, SINCE, BEATS = range(3)
_SIZE = 24


class Page:
    """The page, as docs/WIRE.md describes it. `words` are written directly, for each message."""

    #: The page of the worker that is at work in this process.
    own: ClassVar[Optional[Page]] = None

    def __init__(self, fd: int) -> None:
        """Maps the page. The descriptor may be closed afterwards."""
        self._map = mmap.mmap(fd, _SIZE)
        self.words = memoryview(self._map).cast("Q")
        Page.own = self

    def rest(self) -> None:
        """Says that the worker is at work on no message."""
        self.words[MESSAGE] = 0

    def beat(self) -> None:
        """Says that the worker is alive."""
        self.words[BEATS] = (self.words[BEATS] + 1) & 0xFFFF_FFFF_FFFF_FFFF


def current_message() -> int:
    """Returns the number of the message that this process is at work on; 0 for none."""
    return Page.own.words[MESSAGE] if Page.own is not None else 0


class Memory:
    """The memory of this process, without what it shares with others."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def used(self) -> int:
        """Returns the memory in use, in bytes."""
        fields = os.pread(self._statm, 200, 0).split()
        return (int(fields[1]) - int(fields[2])) * self._page
