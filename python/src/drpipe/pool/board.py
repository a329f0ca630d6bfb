"""Memory in which each worker of a pool shows the task that it runs."""

from __future__ import annotations

import mmap
import os
from typing import Any, Tuple

#: The most workers that are shown.
_SLOTS = 4096


class Board:
    """One number for each worker: the task that it runs, or 0."""

    def __init__(self, fd: int = -1) -> None:
        """Makes a board, or maps the one that a descriptor is of."""
        if fd < 0:
            fd = os.memfd_create("drpipe-board", os.MFD_CLOEXEC)
            os.ftruncate(fd, 8 * _SLOTS)
        self._fd = fd
        self._words = memoryview(mmap.mmap(fd, 8 * _SLOTS)).cast("Q")

    def __reduce__(self) -> Tuple[Any, ...]:
        # Only processes that multiprocessing is starting get a board.
        from multiprocessing.reduction import DupFd

        return _detached, (DupFd(self._fd),)

    def set(self, slot: int, number: int) -> None:
        """Shows what a worker runs."""
        if slot < _SLOTS:
            self._words[slot] = number

    def runs(self, number: int) -> bool:
        """Whether a worker runs a task."""
        return number in self._words[:_SLOTS].tolist()

    def is_used(self) -> bool:
        """Whether any worker runs anything."""
        return any(self._words[:_SLOTS].tolist())

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _detached(fd: Any) -> Board:
    return Board(fd.detach())
