"""Runs tasks in a worker."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Union

from ..api.failure_details import RemoteTraceback
from ..protocol import failures, session_pickles
from ..protocol.segments import Buffer
from .errors import RemoteError
from .payload import Call, Payload, decode, encode_result

#: How many functions a worker keeps.
_MOST_FUNCTIONS = 64
#: The most bytes of an exception's pickle that are sent.
_LONGEST = 1 << 20


class Tasks:
    """Runs tasks, and keeps the functions that it ran last."""

    def __init__(self) -> None:
        self._functions: OrderedDict[bytes, Callable[..., Any]] = OrderedDict()

    def run(
        self,
        header: Union[bytes, memoryview],
        buffers: Sequence[Buffer],
        limited: Callable[[float], None],
    ) -> Payload:
        """Runs one task and returns its pickled result.

        Args:
            header: the header of the task's payload.
            buffers: the buffers of the task's payload.
            limited: called with the time limit in seconds, if the task has one.

        Raises:
            BaseException: what the task raises, or pickle for what it cannot load or dump.
        """
        call = decode(header, buffers)
        if call.limit is not None:
            limited(call.limit)
        memories = iter(call.buffers)
        function = self._function(call, memories)
        args, kwargs = session_pickles.loads(call.arguments, memories)
        return encode_result(function(*args, **kwargs))

    def _function(self, call: Call, memories: Any) -> Callable[..., Any]:
        functions = self._functions
        if not call.is_named:
            made: Callable[..., Any] = session_pickles.loads(call.function, memories)
            return made
        function = functions.get(call.function)
        if function is None:
            function = functions[call.function] = session_pickles.loads(call.function)
            if len(functions) > _MOST_FUNCTIONS:
                functions.popitem(last=False)
        else:
            functions.move_to_end(call.function)
        return function


class Raised(NamedTuple):
    """An exception of a task, as the worker sends it aside."""

    #: Its pickle; empty if it cannot be pickled or is too long.
    error: bytes
    #: Its type, with its module.
    kind: str
    #: Its message with its type, and its traceback.
    texts: List[str]

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """Describes an exception."""
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        return cls(_dump(error), kind, failures.of(error).texts)

    def exception(self) -> BaseException:
        """Returns the exception, with the traceback of the worker as its cause."""
        error = _load(self.error)
        if error is None:
            error = RemoteError(self.texts[0], self.kind)
        # What a function raises that is not written in Python has no traceback but its text.
        error.__cause__ = RemoteTraceback(self.texts[-1])
        return error


def _dump(error: BaseException) -> bytes:
    try:
        data = session_pickles.dumps(error)
    except BaseException:
        return b""
    # Many an exception can be pickled, and not loaded.
    return data if len(data) <= _LONGEST and _load(data) is not None else b""


def _load(data: bytes) -> Optional[BaseException]:
    try:
        error = session_pickles.loads(data)
    except BaseException:
        return None
    return error if isinstance(error, BaseException) else None


#: What a worker says aside: about an item, this.
_ASIDE = struct.Struct("<BQ")
EXCEPTION, MESSAGE = 0, 1


def aside(kind: int, item: int, content: Any) -> bytes:
    """Writes what a worker says to its caller during a task."""
    return _ASIDE.pack(kind, item) + pickle.dumps(content, 5)


def read_aside(data: bytes) -> Any:
    """Returns kind, item and content of what `aside` has written."""
    kind, item = _ASIDE.unpack_from(data)
    return kind, item, session_pickles.loads(data[_ASIDE.size :])
