"""Values that MessagePack cannot carry exactly, as pickles of protocol 5, between
steps in Python.

Loading a pickle runs what its writer chose. Therefore they are made here only from
what a step has emitted, and loaded here only from what the router of the same run
sends, whose directory nobody else can enter. Within a payload a pickle stands alone,
behind a byte that no MessagePack has: nothing that a step sends can become one.
"""

from __future__ import annotations

import copyreg
import importlib.util
import io
import pickle
import sys
from collections import ChainMap
from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

import msgpack

from .failures import CodecError, summary
from .segments import Buffer, Segment

PicklingError = pickle.PicklingError

#: Begins a header that holds a pickle; in MessagePack it begins nothing.
MARK = 0xC1
_PROTOCOL = 5


def dumps(value: Any, goes_within: Callable[[Any], bool]) -> Tuple[bytes, List[Any]]:
    """A pickle, and the memory beside it. Objects whose classes exist in one session
    only go by cloudpickle, where that is installed.

    Args:
        value: anything.
        goes_within: whether an object's memory stands in the pickle itself.

    Raises:
        Exception: what pickle raises for what it cannot take.
    """
    # Each takes longer than the one before it.
    for dump in (pickle.dumps, _dump, _dump_session):
        try:
            return _dumped(dump, value, goes_within)
        except _Locked:
            continue
        except (pickle.PicklingError, AttributeError):
            # Of other things cloudpickle would make something else: bytes of a memoryview.
            if dump is _dump_session or not takes_sessions():
                raise
    raise AssertionError


class _Locked(Exception):
    """There is a read-only array in a value, which would arrive as one."""


def _dump(value: Any, **options: Any) -> bytes:
    """As `pickle.dumps`, but arrays can be changed where they arrive."""
    return _dumped_by(pickle.Pickler, copyreg.dispatch_table, value, options)


def _dump_session(value: Any, **options: Any) -> bytes:
    import cloudpickle

    pickler = cloudpickle.Pickler
    return _dumped_by(pickler, pickler.dispatch_table, value, options)


def _dumped_by(pickler_of: Any, table: Any, value: Any, options: Dict[str, Any]) -> bytes:
    if "numpy" in sys.modules:
        from . import arrays

        # As an attribute of the class: a derived pickler finds none on its instance.
        table = {"dispatch_table": ChainMap(arrays.REDUCERS, table)}
        pickler_of = type("Pickler", (pickler_of,), table)
    file = io.BytesIO()
    pickler_of(file, **options).dump(value)
    return file.getvalue()


def takes(value: Any) -> bool:
    """Whether a value can be pickled."""
    try:
        dumps(value, lambda memory: False)
    except Exception:
        return False
    return True


def takes_sessions() -> bool:
    """Whether classes and functions that no module has can be pickled."""
    return importlib.util.find_spec("cloudpickle") is not None


def _dumped(
    dump: Callable[..., bytes], value: Any, goes_within: Callable[[Any], bool]
) -> Tuple[bytes, List[Any]]:
    beside: List[Any] = []

    def take(buffer: Any) -> bool:
        memory = buffer.raw()
        if memory.readonly and dump is pickle.dumps:
            raise _Locked
        if goes_within(memory):
            return True
        beside.append(memory)
        return False

    return dump(value, protocol=_PROTOCOL, buffer_callback=take), beside


def header(name: str, place: Union[bytes, int], buffers: Sequence[int]) -> bytes:
    """A header with a pickle: its bytes or their buffer, and the buffers that belong to it."""
    fields: bytes = msgpack.packb([name, place, list(buffers)])
    return bytes([MARK]) + fields


class Closed:
    """A pickle that is handed on unopened: whoever loads a pickle of this has its value."""

    def __init__(self, stream: Any, beside: List[Any]) -> None:
        self._stream, self._beside = bytes(stream), beside

    def __reduce__(self) -> Tuple[Callable[..., Any], Tuple[bytes, List[Any]]]:
        return _opened, (self._stream, [pickle.PickleBuffer(memory) for memory in self._beside])


def _opened(stream: bytes, beside: Sequence[Any]) -> Any:
    from ..driving import pickling

    return pickling.loads(stream, beside)


def closed(header: Union[bytes, memoryview], buffers: Sequence[Buffer]) -> Closed:
    """A header with a pickle, for a process that may not know the classes in it.

    Raises:
        CodecError: if there is none.
    """
    _, stream, beside = _parts(header, buffers)
    return Closed(stream, beside)


def load(header: Union[bytes, memoryview], buffers: Sequence[Buffer]) -> Any:
    """The value of a header with a pickle. Its arrays can be changed: nobody else has them.

    Raises:
        CodecError: if it cannot be loaded here.
    """
    name, stream, beside = _parts(header, buffers)
    try:
        value = pickle.loads(stream, buffers=beside)
    except Exception as error:
        is_lost = isinstance(error, (ImportError, AttributeError))
        hint = "; its class must be in a module that this step can import" if is_lost else ""
        raise CodecError(
            f"the message is {name}, which cannot be loaded here: {summary(error)}{hint}"
        ) from error
    if "numpy" in sys.modules:
        from . import arrays

        arrays.remember(beside)
    return value


def _parts(header: Union[bytes, memoryview], buffers: Sequence[Buffer]) -> Tuple[str, Any, Any]:
    """The name of a header with a pickle, the pickle, and the memory beside it."""
    try:
        name, place, used = msgpack.unpackb(header[1:])
        stream = buffers[place] if isinstance(place, int) else place
        beside = [_memory(buffers[index], True) for index in used]
        return name, _memory(stream, False), beside
    except (LookupError, TypeError, ValueError) as error:
        raise CodecError("the message has a pickle that cannot be read") from error


def _memory(buffer: Any, writable: bool) -> Any:
    if isinstance(buffer, Segment):
        return buffer.map(writable)
    # What came stays as it came, for whoever wants to know what a failed call was given.
    return bytearray(buffer) if writable else buffer
