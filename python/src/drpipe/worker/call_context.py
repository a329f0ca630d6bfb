"""Tracks which call of a step a thread works for: the call that started the thread, or the
call that submitted the thread's current task to a pool."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from itertools import count
from typing import Any, Callable, Protocol


class Caller(Protocol):
    """An object that runs calls."""

    def call_of_this_thread(self) -> int:
        """Returns the call that the current thread works for, or 0 if there is none."""


#: Returns the number of a new call. Numbers are unique among all steps of the process.
next_call: Callable[[], int] = count(1).__next__
_callers: weakref.WeakSet[Caller] = weakref.WeakSet()

#: The attribute of a thread that holds the call that started it.
_ATTRIBUTE = "_drpipe_call"
#: The call that submitted the current task of this thread.
_task = threading.local()


def of_this_thread() -> int:
    """Returns the call that this thread works for, if the thread does not run calls itself."""
    call = getattr(_task, "call", None)
    return getattr(threading.current_thread(), _ATTRIBUTE, 0) if call is None else call


def follow(caller: Caller) -> None:
    """Starts to record which call starts each thread, and which call submits each task to a
    `ThreadPoolExecutor`."""
    _callers.add(caller)
    start = threading.Thread.start
    if hasattr(start, _ATTRIBUTE):
        return

    @functools.wraps(start)
    def start_in_a_call(self: threading.Thread) -> None:
        setattr(self, _ATTRIBUTE, _current())
        _follow_pools()
        start(self)

    setattr(start_in_a_call, _ATTRIBUTE, True)
    threading.Thread.start = start_in_a_call  # type: ignore[method-assign]


def _current() -> int:
    """Returns the call of this thread. If several steps have one, the latest call is running."""
    return max((caller.call_of_this_thread() for caller in list(_callers)), default=0)


def _follow_pools() -> None:
    """Wraps `ThreadPoolExecutor.submit`, once it is imported.

    Called when a thread starts: a pool does nothing before its first thread.
    """
    module = sys.modules.get("concurrent.futures.thread")
    pool = getattr(module, "ThreadPoolExecutor", None)
    if pool is None or hasattr(pool.submit, _ATTRIBUTE):
        return
    submit = pool.submit

    @functools.wraps(submit)
    def submit_in_a_call(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, _Task(_current(), fn), *args, **kwargs)

    setattr(submit_in_a_call, _ATTRIBUTE, True)
    pool.submit = submit_in_a_call


class _Task:
    """A function that runs on behalf of the call that submitted it."""

    def __init__(self, call: int, function: Callable[..., Any]) -> None:
        self._call = call
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = getattr(_task, "call", None)
        _task.call = self._call
        try:
            return self._function(*args, **kwargs)
        finally:
            _task.call = before
