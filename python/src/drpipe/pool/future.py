"""Futures of tasks: the standard's, with the cancel and the state of a pool."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import FINISHED, PENDING, RUNNING
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from .core import Core, Task
from .ending import Ending, Outcome
from .errors import RemoteError, TaskTimeout, WorkerLost
from .payload import Payload, decode_result

_OPEN = (PENDING, RUNNING)


class TaskFuture(Future):  # type: ignore[type-arg]
    """The future of one task."""

    def __init__(self, core: Core, cancels_running: bool) -> None:
        super().__init__()
        self._core = core
        self._cancels_running = cancels_running
        self._task: Optional[Task] = None

    def of(self, payload: Payload, name: Optional[str], is_high: bool) -> Task:
        """Returns the task whose end this future tells."""
        self._task = task = Task(payload, self._ended, name, is_high=is_high, forget=self._forget)
        return task

    def _forget(self, why: str) -> None:
        """Ends in a fork of the process, without callbacks: they belong to the other process."""
        self._condition = threading.Condition()
        if self._state in _OPEN:
            self._exception = BrokenProcessPool(why)
            self._state = FINISHED

    def cancel(self) -> bool:
        """Cancels the task unless a worker has it. Returns whether it is cancelled.

        With `Executor(cancel_running=True)`, the worker that has the task is ended.
        """
        if self._task is None or self.done():
            return self.cancelled()
        return self._core.cancel(self._task, self._cancels_running)

    def running(self) -> bool:
        """Whether a worker is at the task."""
        task = self._task
        return task is not None and not self.done() and self._core.is_running(task)

    def _ended(self, ending: Ending) -> None:
        """Tells how the task ended."""
        if ending.outcome is Outcome.CANCELLED:
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        result, error = result_of(ending)
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(result)


def result_of(ending: Ending) -> Tuple[Any, Optional[BaseException]]:
    """Returns a task's result and None, or None and what it raised or why it has no result."""
    try:
        error = error_of(ending)
        result = None if ending.result is None else decode_result(ending.result)
    except BaseException as reason:
        # What is loaded may raise anything.
        return None, reason
    return result, error


def error_of(ending: Ending) -> Optional[BaseException]:
    """Returns what a task raised, or why it has no result. Returns None if it has one."""
    if ending.outcome is Outcome.DONE:
        return None
    if ending.raised is not None:
        return ending.raised.exception()
    return _ERRORS[ending.outcome]("; ".join(ending.texts))


_ERRORS: Dict[Outcome, Callable[[str], BaseException]] = {
    Outcome.FAILED: RemoteError,
    Outcome.TIMED_OUT: TaskTimeout,
    Outcome.LOST: WorkerLost,
    Outcome.CANCELLED: lambda why: CancelledError(),
    Outcome.DROPPED: BrokenProcessPool,
}


def failed(error: BaseException) -> Future[Any]:
    """Returns the future of a task that could not be submitted."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def chunk(function: Callable[..., Any], first: int, items: Sequence[Sequence[Any]]) -> Any:
    """Calls a function for each of several items, in a worker.

    An exception says at which item it was raised, counted from 0 over all chunks.
    """
    results = []
    for index, args in enumerate(items, first):
        try:
            results.append(function(*args))
        except Exception as error:
            # As `add_note`, which Python has had since 3.11.
            notes = [*getattr(error, "__notes__", ()), f"raised for item {index} of the map"]
            error.__notes__ = notes
            raise
    return results
