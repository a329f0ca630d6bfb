"""How tasks and their results travel: pickles, with large memory beside them.

The payload of a task has as its header a MessagePack list: the pickle of the function, whether
the worker may keep the function, the pickle of the arguments, and the time limit. The payload of
a result has as its header the byte PICKLE_MARK and a pickle. Memory of 16 KiB or more lies in the
payload's buffers, in the order in which the pickles refer to it.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import msgpack

from ..api.errors import NotCarried
from ..protocol import pickles, segments, session_pickles
from ..protocol.batches import size_of
from ..protocol.failures import summary
from ..protocol.segments import BUFFER_FROM, SHARED_FROM, Buffer, Segment
from ..protocol.tags import PICKLE_MARK

_MARK = bytes([PICKLE_MARK])
#: The most functions whose pickles a pool keeps.
_MOST_KEPT = 64
_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class Payload(NamedTuple):
    """A header and the buffers beside it."""

    header: Union[bytes, memoryview]
    buffers: Sequence[Buffer]

    def size(self) -> int:
        """Returns the number of bytes of the header and all buffers."""
        return size_of(self.header, self.buffers)


class Call(NamedTuple):
    """A task in a worker."""

    function: bytes
    #: Whether the function is found by its name, so that the worker may keep it.
    is_named: bool
    #: The pickle of the positional arguments and the keyword arguments.
    arguments: bytes
    #: The time limit in seconds.
    limit: Optional[float]
    buffers: List[Any]


class Calls:
    """Pickles the tasks of one pool."""

    def __init__(self) -> None:
        #: The functions and classes of the main module that the workers have.
        self._shared: Dict[str, Any] = {}
        #: The pickles of functions that are found by their names, by the functions' ids. The
        #: function itself is kept, so that no other gets its id.
        self._kept: Dict[int, Tuple[Any, bytes]] = {}

    def workers_begin(self, have_main: bool) -> None:
        """Records what the main module has when the process is made that starts the workers.

        Args:
            have_main: whether that process has, or imports, the main module.
        """
        self._shared = session_pickles.definitions() if have_main else {}

    def encode(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Dict[str, Any],
        limit: Optional[float] = None,
    ) -> Payload:
        """Pickles a task.

        The payload has copies of the arguments: the caller may change them afterwards.

        Raises:
            Exception: the error that pickle raises for what it cannot pickle.
        """
        beside: List[Any] = []
        data, is_named = self._function(function, beside)
        arguments = self._dumps((tuple(args), kwargs), beside)
        return Payload(_pack([data, is_named, arguments, limit]), [*map(_copy, beside)])

    def _function(self, function: Any, beside: List[Any]) -> Tuple[bytes, bool]:
        kept = self._kept.get(id(function))
        if kept is not None:
            return kept[1], True
        try:
            data = self._dumps(function, beside)
        except Exception as error:
            if session_pickles.is_available():
                raise
            raise NotCarried(
                f"{function!r} cannot be given to workers: {summary(error)}; install a package "
                f"that can ({sys.executable} -m pip install cloudpickle), or put it into a module"
            ) from error
        # A function that is pickled with its code may change between two tasks.
        is_named = _has_name(function) and not self._has_code(data)
        if is_named:
            if len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[id(function)] = (function, data)
        return data, is_named

    def _dumps(self, value: Any, beside: List[Any]) -> bytes:
        data, more = pickles.dumps(value, _goes_within)
        if self._has_code(data):
            data, more = pickles.dumps_with_code(value, _goes_within)
        beside += more
        return data

    def _has_code(self, data: bytes) -> bool:
        """Whether a pickle needs the code of what the main module has and workers lack."""
        return session_pickles.MAIN in data and self._main_has_changed()

    def _main_has_changed(self) -> bool:
        """Whether workers lack something that the main module has now, and cloudpickle can help."""
        if not session_pickles.is_available():
            return False
        shared, now = self._shared, session_pickles.definitions()
        return any(shared.get(name) is not thing for name, thing in now.items())


def _has_name(function: Any) -> bool:
    """Whether pickle writes only the name of a function."""
    if isinstance(function, BuiltinFunctionType):
        return function.__self__ is None or isinstance(function.__self__, ModuleType)
    if not isinstance(function, (FunctionType, type)):
        return False
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _goes_within(memory: memoryview) -> bool:
    return memory.nbytes < BUFFER_FROM


def _copy(memory: Any) -> Buffer:
    """Copies memory that its owner may change before it is sent."""
    return segments.make(memory) if memory.nbytes >= SHARED_FROM else bytes(memory)


def decode(header: Union[bytes, memoryview], buffers: Sequence[Buffer]) -> Call:
    """Reads a task in a worker. Nothing is unpickled yet."""
    function, is_named, arguments, limit = msgpack.unpackb(header)
    return Call(function, is_named, arguments, limit, _memories(buffers))


def _memories(buffers: Sequence[Buffer]) -> List[Any]:
    """Returns memory that arrays may be changed in. The kernel copies the pages of a segment
    that are written to."""
    return [
        buffer.map(True) if isinstance(buffer, Segment) else bytearray(buffer) for buffer in buffers
    ]


def encode_result(value: Any) -> Payload:
    """Pickles a task's result.

    Raises:
        Exception: the error that pickle raises for what it cannot pickle.
    """
    data, beside = pickles.dumps(value, _goes_within)
    return Payload(_MARK + data, [*map(_copy, beside)] if beside else ())


def decode_result(payload: Payload) -> Any:
    """Loads a task's result.

    Raises:
        Exception: the error that pickle raises for what it cannot load.
    """
    header, buffers = payload
    if header[0] != PICKLE_MARK:
        raise ValueError("the payload is not the result of a task")
    return session_pickles.loads(bytes(header[1:]), _memories(buffers) if buffers else ())
