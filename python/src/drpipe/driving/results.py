"""The step that delivers a pipeline's results to the Python process that drives it."""

from __future__ import annotations

from typing import Any

from ..api.stage import Consumer
from ..protocol import page
from . import channel


class Deliver(Consumer):
    """A consumer that delivers each value to the driver and waits until the driver takes it."""

    singleton = True
    stateful = False
    writable_arrays = True
    #: This worker need not know the classes of the driver's script.
    opens_pickles = False

    def init(self) -> None:
        """Connects to the driver."""
        self._channel = channel.connect(channel.RESULTS)

    def run(self, msg: Any) -> None:
        """Delivers a value with its message's number, by which the driver detects repeats."""
        self._channel.send((page.current_message(), msg))

    def finish(self) -> None:
        """Waits until the driver has taken all values."""
        self._channel.send_end()
        self._channel.await_goodbye()
