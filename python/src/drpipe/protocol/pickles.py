"""Payloads with a pickle (protocol 5) for values that MessagePack cannot carry exactly.

Loading a pickle runs code that its writer chose. drpipe therefore pickles only what a step emits,
and loads only what the router of the same run sends, whose directory no other user can enter.
A payload contains a pickle alone, after a byte that never begins MessagePack, so no other value
that a step sends can be mistaken for one.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections import ChainMap
from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

import msgpack

from . import session_pickles
from .failures import CodecError, summary
from .segments import Buffer, Segment
from .tags import PICKLE_MARK

PicklingError = pickle.PicklingError

_PROTOCOL = 5


def dumps(value: Any, goes_within: Callable[[Any], bool]) -> Tuple[bytes, List[Any]]:
    """Returns a pickle and its out-of-band memory.

    If cloudpickle is installed, it pickles objects whose classes exist only in this session.

    Args:
        value: the value.
        goes_within: returns whether the pickle itself contains a memoryview's contents.

    Raises:
        Exception: the error that pickle raises for a value that it cannot pickle.
    """
    # Each one is slower than the one before it.
    for dump in (pickle.dumps, _dump, _dump_session):
        try:
            return _dumped(dump, value, goes_within)
        except _Locked:
            continue
        except (pickle.PicklingError, AttributeError):
            # cloudpickle accepts more, but changes types: a memoryview becomes bytes.
            if dump is _dump_session or not session_pickles.is_available():
                raise
    raise AssertionError


def dumps_with_code(value: Any, goes_within: Callable[[Any], bool]) -> Tuple[bytes, List[Any]]:
    """Returns what `dumps` returns, with the code of all that the main module has defined.

    Raises:
        Exception: the error that cloudpickle raises for a value that it cannot pickle.
    """
    return _dumped(_dump_session, value, goes_within)


class _Locked(Exception):
    """A value contains a read-only array, which would arrive read-only."""


def _dump(value: Any, **options: Any) -> bytes:
    """Pickles like `pickle.dumps`, but so that arrays arrive writable."""
    return _dumped_by(pickle.Pickler, copyreg.dispatch_table, value, options)


def _dump_session(value: Any, **options: Any) -> bytes:
    import cloudpickle

    pickler = cloudpickle.Pickler
    return _dumped_by(pickler, pickler.dispatch_table, value, options)


def _dumped_by(pickler_of: Any, table: Any, value: Any, options: Dict[str, Any]) -> bytes:
    if "numpy" in sys.modules:
        from . import arrays

        # Set it on the class: a derived pickler ignores the instance's attribute.
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
    """Returns a header that holds a pickle.

    Args:
        name: a description of the pickled value.
        place: the pickle, or the number of the buffer that contains it.
        buffers: the numbers of its out-of-band buffers, in order.
    """
    fields: bytes = msgpack.packb([name, place, list(buffers)])
    return bytes([PICKLE_MARK]) + fields


class Unopened:
    """A pickle to pass on unopened. A pickle of this object loads as the original value."""

    def __init__(self, stream: Any, beside: List[Any]) -> None:
        self._stream, self._beside = bytes(stream), beside

    def __reduce__(self) -> Tuple[Callable[..., Any], Tuple[bytes, List[Any]]]:
        beside = [pickle.PickleBuffer(memory) for memory in self._beside]
        return session_pickles.loads, (self._stream, beside)


def unopened(header: Union[bytes, memoryview], buffers: Sequence[Buffer]) -> Unopened:
    """Returns the pickle of a payload, for a process that may not know its classes.

    Raises:
        CodecError: if the payload is malformed.
    """
    _, stream, beside = _parts(header, buffers)
    return Unopened(stream, beside)


def load(header: Union[bytes, memoryview], buffers: Sequence[Buffer]) -> Any:
    """Returns the value of a payload with a pickle. Its arrays belong to this process alone.

    Raises:
        CodecError: if the pickle cannot be loaded here.
    """
    name, stream, beside = _parts(header, buffers)
    try:
        value = _loads(stream, beside)
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
    """Splits a payload into the value's description, the pickle and its out-of-band memory."""
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
    # Copy the buffer: after a failed call the payload is decoded again.
    return bytearray(buffer) if writable else buffer


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds this package's classes under their former modules, too."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(_MOVED.get(module, module), name)


#: The modules of earlier versions that pickles in a quarantine may refer to.
_MOVED = {
    "drpipe.frames": "drpipe.api.frames",
    "drpipe.header": "drpipe.api.header",
    "drpipe.report": "drpipe.api.report",
    "drpipe.stage": "drpipe.api.stage",
}


def _loads(stream: Any, beside: Sequence[Any]) -> Any:
    try:
        return pickle.loads(stream, buffers=beside)
    except ModuleNotFoundError as error:
        if error.name not in _MOVED:
            raise
        return _Unpickler(io.BytesIO(stream), buffers=beside).load()
