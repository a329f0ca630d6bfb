"""The tasks of `ProcessPool`, and the dictionaries that it returns, as DIRAC has them."""

from __future__ import annotations

import errno
import inspect
import math
import os
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple

from .ending import Ending, Outcome
from .future import result_of

Result = Dict[str, Any]


def S_OK(value: Any = "") -> Result:
    """Returns the dictionary of a call that succeeded."""
    made: Result = _returns()[0](value)
    return made


def S_ERROR(*arguments: Any) -> Result:
    """Returns the dictionary of a call that failed: `S_ERROR(message)`, or with an error number
    before the message."""
    made: Result = _returns()[1](*arguments)
    return made


def _returns() -> Tuple[Callable[..., Result], Callable[..., Result]]:
    """Returns DIRAC's own functions where DIRAC is installed."""
    if not _own_returns:
        try:
            from DIRAC.Core.Utilities.ReturnValues import S_ERROR as error
            from DIRAC.Core.Utilities.ReturnValues import S_OK as ok
        except ImportError:
            ok, error = _ok, _error
        _own_returns.append((ok, error))
    return _own_returns[0]


_own_returns: list[Tuple[Callable[..., Result], Callable[..., Result]]] = []


def _ok(value: Any = "") -> Result:
    return {"OK": True, "Value": value}


def _error(*arguments: Any) -> Result:
    number = next((item for item in arguments if isinstance(item, int)), 0)
    text = next((item for item in arguments if isinstance(item, str)), "")
    if number:
        text = f"{os.strerror(number)} ( {number} : {text})"
    return {"OK": False, "Errno": number, "Message": text, "CallStack": []}


class ProcessTask:
    """A call to be made in a worker process, with its callbacks, which stay in this process."""

    taskID: Any = 0

    def __init__(  # noqa: PLR0917 (DIRAC's)
        self,
        taskFunction: Any,
        args: Optional[Iterable[Any]] = None,
        kwargs: Optional[Mapping[str, Any]] = None,
        taskID: Any = None,
        callback: Optional[Callable[..., Any]] = None,
        exceptionCallback: Optional[Callable[..., Any]] = None,
        usePoolCallbacks: bool = False,
        timeOut: float = 0,
    ) -> None:
        """Creates a task.

        Args:
            taskFunction: a callable. Of a class, an instance is made with the arguments and then
                called without any.
            args: positional arguments.
            kwargs: keyword arguments.
            taskID: what the pool's callbacks get.
            callback: called with the task and its result.
            exceptionCallback: called with the task and a dictionary if it raised an exception.
            usePoolCallbacks: whether the pool's callbacks are called, too.
            timeOut: the time limit in seconds; 0 for none.
        """
        self._function = taskFunction
        self._args = tuple(args or ())
        self._kwargs = dict(kwargs or {})
        self._id = taskID
        self._callback, self._exception_callback = callback, exceptionCallback
        self._uses_pool = usePoolCallbacks
        self._limit: float = 0
        self.setTimeOut(timeOut)
        self._is_done = False
        self._has_raised = False
        self._exception: Optional[Result] = None
        self._result: Any = None

    def taskResults(self) -> Any:
        """Returns the result."""
        return self._result

    def taskException(self) -> Optional[Result]:
        """Returns the dictionary of the exception, or None."""
        return self._exception

    def enablePoolCallbacks(self) -> None:
        """Has the pool's callbacks called."""
        self._uses_pool = True

    def disablePoolCallbacks(self) -> None:
        """Does not have the pool's callbacks called."""
        self._uses_pool = False

    def usePoolCallbacks(self) -> bool:
        """Whether the pool's callbacks are called."""
        return self._uses_pool

    def hasPoolCallback(self) -> bool:
        """Whether the pool's callbacks are called."""
        return self._uses_pool

    def setTimeOut(self, timeOut: float) -> Result:
        """Sets the time limit in seconds; 0 for none."""
        try:
            limit = timeOut if isinstance(timeOut, int) else float(timeOut)
            if math.isnan(limit):
                raise ValueError(f"a time limit must be a number of seconds, not {timeOut!r}")
            self._limit = max(0, limit)
        except (TypeError, ValueError) as error:
            return S_ERROR(str(error))
        return S_OK(self._limit)

    def getTimeOut(self) -> float:
        """Returns the time limit in seconds; 0 if there is none."""
        return self._limit

    def hasTimeOutSet(self) -> bool:
        """Whether there is a time limit."""
        return self._limit != 0

    def getTaskID(self) -> Any:
        """Returns the id that the task was made with."""
        return self._id

    def hasCallback(self) -> bool:
        """Whether any callback is to be called."""
        return bool(self._callback or self._exception_callback or self._uses_pool)

    def exceptionRaised(self) -> bool:
        """Whether the task raised an exception."""
        return self._has_raised

    def doExceptionCallback(self) -> None:
        """Calls the exception callback if the task raised an exception."""
        if self._is_done and self._has_raised and self._exception_callback:
            self._exception_callback(self, self._exception)

    def doCallback(self) -> None:
        """Calls the result callback if the task has a result."""
        if self._is_done and not self._has_raised and self._callback:
            self._callback(self, self._result)

    def setResult(self, result: Any) -> None:
        """Sets the result."""
        self._result = result
        self._is_done = True

    def process(self) -> None:
        """Executes the task in this process."""
        try:
            function, args, kwargs = self._call()
            self.setResult(function(*args, **kwargs))
        except Exception as error:
            self._raised(error)

    def _call(self) -> Tuple[Callable[..., Any], Tuple[Any, ...], Dict[str, Any]]:
        """Returns what a worker calls."""
        if inspect.isclass(self._function):
            return _make_and_call, (self._function, self._args, self._kwargs), {}
        return self._function, self._args, self._kwargs

    def _raised(self, error: BaseException) -> None:
        self._is_done = self._has_raised = True
        if self._exception_callback or self._uses_pool:
            told = S_ERROR("Exception")
            told["Value"] = str(error)
            told["Exc_info"] = error
            self._exception = told

    def _settle(self, ending: Ending) -> None:
        """Takes over how the task ended in its worker."""
        if ending.outcome is Outcome.TIMED_OUT:
            self.setResult(S_ERROR(errno.ETIME, "Timed out"))
            return
        result, error = result_of(ending)
        if error is not None:
            self._raised(error)
        else:
            self.setResult(result)


def _make_and_call(made: Any, args: Any, kwargs: Any) -> Any:
    task = made(*args, **kwargs)
    if not callable(task):
        raise TypeError(f"__call__ operator not defined in {type(task).__name__} class")
    return task()
