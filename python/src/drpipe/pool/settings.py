"""What a pool is like: its workers and its limits."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Tuple

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


def processors() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))
