"""The errors of tasks that a pool could not complete."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from ..api.errors import DrpipeError

_MODULE = "drpipe.pool"


class TaskFailed(DrpipeError):
    """A task has no result. The message says why."""

    __module__ = _MODULE


class RemoteError(TaskFailed):
    """A task raised an exception that cannot be pickled. The message is its text.

    Attributes:
        kind: the type of the exception, with its module.
    """

    __module__ = _MODULE

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message, kind)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0])


class TaskTimeout(TaskFailed, TimeoutError):
    """A task has passed its time limit, and its worker was ended."""

    __module__ = _MODULE


class WorkerLost(TaskFailed, BrokenProcessPool):
    """The worker process ended during a task. The pool has replaced it."""

    __module__ = _MODULE
