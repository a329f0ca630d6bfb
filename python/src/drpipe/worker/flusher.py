"""A thread that reports finished calls while a long call runs."""

from __future__ import annotations

import threading
from time import sleep
from typing import Callable

#: The time between two looks, in seconds. A call that two successive looks find running is
#: long.
_INTERVAL = 0.002
#: After this number of looks that find nothing new, the thread sleeps until it is woken, so an
#: idle worker costs nothing.
_IDLE_LOOKS = 25


class Flusher:
    """A thread that calls a function repeatedly while there is work."""

    def __init__(self, flush: Callable[[], bool]) -> None:
        """Creates a flusher. The first `wake` starts its thread.

        Args:
            flush: reports what is done and returns whether there was anything new.
        """
        self._flush = flush
        self._used = False
        self._is_started = False
        self._awake = threading.Event()

    def wake(self) -> None:
        """Wakes the thread. Called before work begins."""
        self._used = True
        if not self._awake.is_set():
            self._awake.set()
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._run, name="flusher", daemon=True).start()

    def _run(self) -> None:
        idle = 0
        while True:
            sleep(_INTERVAL)
            is_new, self._used = self._used, False
            is_new |= self._flush()
            idle = 0 if is_new else idle + 1
            if idle > _IDLE_LOOKS:
                self._awake.clear()
                # A `wake` after the line above finds the thread asleep; an earlier one set `_used`.
                if not self._used:
                    self._awake.wait()
                self._awake.set()
                idle = 0
