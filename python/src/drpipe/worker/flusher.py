"""A thread that reports what calls have done when the next one takes long."""

from __future__ import annotations

import threading
from time import sleep
from typing import Callable

#: A call that goes on at two looks one after the other takes long; in seconds.
_LOOK = 0.002
#: After so many looks at which nothing was new the thread sleeps until it is woken.
_LOOKS = 25


class Handover:
    """Looks again and again, while anything is done."""

    def __init__(self, look: Callable[[], bool]) -> None:
        #: Reports what there is since the latest look; true if there is something newer.
        self._look = look
        self._used = False
        self._is_started = False
        self._awake = threading.Event()

    def wake(self) -> None:
        """Something may come."""
        self._used = True
        if not self._awake.is_set():
            self._awake.set()
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._look_on, name="handover", daemon=True).start()

    def _look_on(self) -> None:
        idle = 0
        while True:
            sleep(_LOOK)
            is_new, self._used = self._used, False
            is_new |= self._look()
            idle = 0 if is_new else idle + 1
            if idle > _LOOKS:
                self._awake.clear()
                # Whoever comes after this finds it asleep, and wakes it.
                if not self._used:
                    self._awake.wait()
                self._awake.set()
                idle = 0
