"""Sets up what a step's module expects of the process that imports it."""

from __future__ import annotations

import faulthandler
import signal
import sys


def set_up() -> None:
    """Gives the process the arguments and signal handlers that modules expect."""
    sys.argv = sys.argv[:1]
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def set_up_output() -> None:
    """Makes a step's output appear immediately, and a crash print a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()
