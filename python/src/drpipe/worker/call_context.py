"""Which call of a step a thread works for: the one that has started the thread, or
that has given it the task at hand."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from itertools import count
from typing import Any, Callable, Protocol


class Caller(Protocol):
    """Runs calls."""

    def call_of_this_thread(self) -> int:
        """The call that the current thread works for; 0 for none."""


#: The number of a new call, of whatever step.
next_call: Callable[[], int] = count(1).__next__
_callers: weakref.WeakSet[Caller] = weakref.WeakSet()

#: Where a thread keeps it: as long as it lives, and while it works at a task.
_ATTRIBUTE = "_drpipe_call"
_task = threading.local()


def of_this_thread() -> int:
    """For threads other than the one that runs the calls."""
    call = getattr(_task, "call", None)
    return getattr(threading.current_thread(), _ATTRIBUTE, 0) if call is None else call


def follow(caller: Caller) -> None:
    """From here on threads, and tasks given to a `ThreadPoolExecutor`, are known by the
    call that they were started in."""
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
    """Of several steps in one process the one that began last is at work."""
    return max((caller.call_of_this_thread() for caller in list(_callers)), default=0)


def _follow_pools() -> None:
    """A pool that is imported is used only with a thread of its own."""
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
    """A function with the call that wants it done."""

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
