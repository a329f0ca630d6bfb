"""A thread that reports what calls have done while the next one takes long."""

from __future__ import annotations

import threading
from time import sleep
from typing import Callable

#: The time between two looks, in seconds. A call that is still the same at the second look
#: takes long.
_INTERVAL = 0.002
#: The number of looks without anything new after which the thread sleeps until it is woken, so
#: that an idle worker costs nothing.
_IDLE_LOOKS = 25


class Flusher:
    """Calls a function again and again, as long as there is work."""

    def __init__(self, flush: Callable[[], bool]) -> None:
        """Makes a flusher; its thread starts with the first `wake`.

        Args:
            flush: reports what is done, and returns whether there was anything new.
        """
        self._flush = flush
        self._used = False
        self._is_started = False
        self._awake = threading.Event()

    def wake(self) -> None:
        """Lets the thread look. Called before work begins."""
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
                # A `wake` after the line above finds it asleep; one before has set `_used`.
                if not self._used:
                    self._awake.wait()
                self._awake.set()
                idle = 0
