"""Waits for pipes and sockets, and reads the lines that come through a pipe."""

from __future__ import annotations

import os
import select
from typing import Any, Callable, Optional

from . import logging_bridge

#: The most bytes that are read from a pipe at a time.
_PORTION = 1 << 16


def is_ready(file: Any, timeout: Optional[float], event: int = select.POLLIN) -> bool:
    """Returns whether something can be read from a file, or done with it, within so many seconds.

    Unlike `select.select`, it takes descriptors of any number.
    """
    poll = select.poll()
    poll.register(file, event)
    return bool(poll.poll(None if timeout is None else 1000 * timeout))


class Lines:
    """The lines of a pipe. The last one is a line even if it is unfinished."""

    def __init__(self, fd: int, on_line: Callable[[bytes], object]) -> None:
        """Reads nothing yet.

        Args:
            fd: the pipe, whose reads will not block from now on. It stays the caller's.
            on_line: takes a line.
        """
        self.fd = fd
        self._on_line = on_line
        self._begun = b""
        os.set_blocking(fd, False)

    def read(self) -> bool:
        """Reads a portion if there is one. Returns False at the end."""
        try:
            data = os.read(self.fd, _PORTION)
        except BlockingIOError:
            return True
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            self._on_line(line)
        if not data:
            self._finish()
        return bool(data)

    def read_rest(self) -> None:
        """Reads what the ended program left in the pipe."""
        while is_ready(self.fd, 0):
            if not self.read():
                return
        self._finish()

    def _finish(self) -> None:
        rest, self._begun = self._begun, b""
        if rest:
            self._on_line(rest)


def of_log(fd: int) -> Lines:
    """Returns the lines of a run's log, which go to `logging`."""
    return Lines(fd, lambda line: logging_bridge.of_run(line.decode("utf-8", "replace")))
