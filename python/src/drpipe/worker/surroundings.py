"""Sets up what a step's module expects of the process that imports it."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys

#: Parameters of `mallopt`, and the largest value that the C library itself chooses.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20


def set_up() -> None:
    """Gives the process the arguments and signal handlers that modules expect."""
    sys.argv = sys.argv[:1]
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def use_memory_again() -> None:
    """Has the C library use the memory of arrays again, up to the size at which it stops by itself.

    By default it gives the memory of frames back to the system after each message, and takes it
    again, cleared, with a page fault for each page.
    """
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST)


def set_up_output() -> None:
    """Makes a step's output appear immediately, and a crash print a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()
