"""What a pool is like: its workers and its limits."""

from __future__ import annotations

import multiprocessing
import os
import re
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Callable, Optional, Tuple

#: The most workers of a run.
MOST_WORKERS = 1000
#: The longest time that an initializer may take unless its pool says another, in seconds.
INITIALIZER_TIMEOUT = 300.0
#: How many tasks a run has at a time for each worker, if the pool's queue has no limit.
_TASKS_PER_WORKER = 256
#: How many bytes of tasks a run has at a time, and how many bytes of results wait for the caller.
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True)
class Settings:
    """The workers and the limits of a pool."""

    #: The pool's name on the dashboard.
    name: str = "pool"
    min_workers: int = 1
    max_workers: int = 1
    #: How many tasks may wait; None for any number.
    queue: Optional[int] = None
    #: The time limit of a task, in seconds.
    timeout: Optional[float] = None
    #: How often a task is tried again.
    retries: int = 0
    #: The seconds between SIGTERM and SIGKILL of a worker that is ended.
    grace: float = 2.0
    #: The most memory of a worker, as text or in bytes.
    memory_limit: Optional[Any] = None
    #: How long there is nothing to do before workers above `min_workers` are removed, in seconds;
    #: None if they stay.
    shrink_after: Optional[float] = None
    #: How `multiprocessing` makes the process that starts the workers.
    context: Any = field(default_factory=multiprocessing.get_context)
    #: Called in each worker before its first task, with these arguments.
    initializer: Optional[Callable[..., Any]] = None
    initargs: Tuple[Any, ...] = ()
    #: The longest time that the initializer may take, in seconds; None for any time.
    initializer_timeout: Optional[float] = INITIALIZER_TIMEOUT
    #: After how many tasks a worker is replaced.
    max_tasks: Optional[int] = None

    @property
    def window(self) -> int:
        """How many tasks the run has at a time."""
        if self.queue is None:
            return self.max_workers * _TASKS_PER_WORKER
        return self.queue + self.max_workers

    @property
    def window_bytes(self) -> int:
        """How many bytes of tasks the run has at a time."""
        return _WINDOW_BYTES

    @property
    def most(self) -> Optional[int]:
        """How many tasks may be open."""
        return None if self.queue is None else self.queue + self.max_workers


_YEAR = 365 * 86_400
_SIZE = re.compile("0{0,9}[1-9][0-9]{0,18} *([kKMGT]i?B|B)?")


def checked_limit(what: str, seconds: Any) -> Optional[float]:
    """Returns a time limit as a number; None for none.

    Raises:
        TypeError: if it is no number.
        ValueError: if no task can have this limit.
    """
    if seconds is None:
        return None
    return _number(what, seconds, "a number of seconds above 0, at most a year", 0, _YEAR, False)


def checked_grace(what: str, seconds: Any) -> float:
    """Returns a wait as a number, as `checked_limit` does."""
    return _number(what, seconds, "a number of seconds from 0 to 86400", 0, 86_400, True)


def _number(  # noqa: PLR0917
    what: str, found: Any, expected: str, least: float, most: float, is_closed: bool
) -> float:
    if not isinstance(found, Real) or isinstance(found, bool):
        raise TypeError(f"{what} must be {expected}, not {found!r}")
    number = float(found)
    if not (least < number <= most or (is_closed and number == least)):
        raise ValueError(f"{what} must be {expected}, not {found!r}")
    return number


def checked_count(what: str, count: Any, least: int = 1, most: int = MOST_WORKERS) -> int:
    """Returns a whole number.

    Raises:
        TypeError: if it is none.
        ValueError: if it is out of this range.
    """
    expected = f"a whole number from {least} to {most}"
    if not isinstance(count, Integral) or isinstance(count, bool):
        raise TypeError(f"{what} must be {expected}, not {count!r}")
    if not least <= int(count) <= most:
        raise ValueError(f"{what} must be {expected}, not {count!r}")
    return int(count)


def checked_retries(what: str, count: Any) -> int:
    """Returns a number of retries, as `checked_count` does."""
    return checked_count(what, count, 0, 1000)


def checked_size(what: str, size: Any) -> Any:
    """Returns a number of bytes, which may have a unit; None for no limit.

    Raises:
        TypeError: if it is neither a number nor text.
        ValueError: if it is none of a memory's size.
    """
    expected = 'a number of bytes such as 1073741824 or "1 GiB"'
    if size is None or (isinstance(size, str) and _SIZE.fullmatch(size)):
        return size
    if isinstance(size, str):
        raise ValueError(f"{what} must be {expected}, not {size!r}")
    if not isinstance(size, Integral) or isinstance(size, bool):
        raise TypeError(f"{what} must be {expected}, not {size!r}")
    if 1 <= int(size) < 1 << 63:
        return int(size)
    raise ValueError(f"{what} must be {expected}, not {size!r}")


def processors() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))
