"""What a step's module finds in this process when it is imported."""

from __future__ import annotations

import faulthandler
import signal
import sys


def set_up() -> None:
    """Gives the process the arguments and the signals that modules expect."""
    sys.argv = sys.argv[:1]
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def set_up_output() -> None:
    """Lets what a step prints appear at once, and a crash leave a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()
