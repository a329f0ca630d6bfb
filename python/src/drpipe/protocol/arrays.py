"""Encodes and decodes numpy arrays in payloads, and tracks the memory that they use."""

from __future__ import annotations

import math
from pickle import PickleBuffer
from typing import Any, Iterable, Optional, Protocol, Sequence

import msgpack
import numpy as np

from . import pagemap, segments
from .failures import CodecError, Unsendable
from .segments import BUFFER_FROM, Buffer, Mapping, Segment
from .tags import EXTENSION_ARRAY

#: The dtypes that every step knows, keyed by their names on the wire.
TYPES = {
    text: np.dtype(text)
    for text in (
        *("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"),
        *("<f4", "<f8", "<c8", "<c16"),
    )
}
_NAMES = {dtype: text for text, dtype in TYPES.items()}
#: The types of arrays that lose nothing when they are sent as plain numbers.
_MERE_ARRAYS = (np.ndarray, np.memmap, np.matrix)
#: The number of bytes to compare at a time. Comparing in parts finds an early difference
#: quickly.
_PART = 1 << 20


class ArrayEncoder(Protocol):
    """The encoder of the value that contains an array."""

    to_python: bool

    def nested(self, value: Any) -> bytes:
        """Returns the bytes of a value within an extension type."""

    def add_memory(self, memory: Any) -> int:
        """Returns the number of the buffer that will hold the contents of this memory."""


def decode(fields: Any, buffers: Sequence[Buffer], writable: bool) -> Any:
    """Returns a received array, or a numpy scalar if it has no axis.

    A large array is a view of its buffer, not a copy.

    Args:
        fields: dtype, shape and place, as in docs/WIRE.md.
        buffers: the buffers of the payload.
        writable: whether the array can be changed. Otherwise it is a read-only view.

    Raises:
        CodecError: if the fields do not describe an array.
    """
    try:
        kind, shape, place = fields
        dtype = TYPES[kind]
        buffer = buffers[place] if isinstance(place, int) else place
    except (LookupError, TypeError, ValueError):
        raise CodecError(f"the message has an unreadable array: {fields!r:.100}") from None
    size = len(buffer) if not isinstance(buffer, memoryview) else buffer.nbytes
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != size:
        raise CodecError(f"an array of {kind} and shape {shape} came with {size} bytes")
    memory: Any = buffer
    if isinstance(buffer, Segment):
        memory = buffer.map(writable)
    elif writable:
        # Copy the buffer: after a failed call the payload is decoded again.
        memory = bytearray(buffer)
    flat = np.frombuffer(memory, dtype)
    flat.flags.writeable = writable
    if isinstance(memory, Mapping):
        segments.remember(_address(flat), memory)
    return flat.reshape(shape) if shape else flat[0]


def remember(memory: Iterable[Any]) -> None:
    """Remembers which of these memory blocks are segments, so that their arrays can be passed
    on without a copy."""
    for part in memory:
        if isinstance(part, Mapping):
            segments.remember(_address(np.frombuffer(part, np.uint8)), part)


def encode(value: Any, encoder: ArrayEncoder) -> Any:
    """Returns the header's representation of an array or a numpy scalar.

    Raises:
        Unsendable: if it would not arrive unchanged.
    """
    if isinstance(value, np.generic):
        if encoder.to_python:
            if value.dtype not in _NAMES:
                raise _unsupported(value)
        elif isinstance(value, (np.str_, np.bytes_)):
            return value.item()
        elif value.dtype.newbyteorder("<") not in _NAMES:
            raise _unsupported(value)
        else:
            return value.item()
        value = np.asarray(value)
    elif encoder.to_python:
        check_exact(value)
    else:
        check_type(value)
    array = plain(value)
    fields = [_NAMES[array.dtype], list(array.shape), _place(array, encoder)]
    return msgpack.ExtType(EXTENSION_ARRAY, encoder.nested(fields))


def check_exact(array: Any) -> None:
    """Refuses arrays that would not arrive unchanged: those in another byte order or in
    Fortran order, those without an axis, and those of a subclass.

    Raises:
        Unsendable: naming the dtype, the order or the subclass.
    """
    if type(array) is not np.ndarray:
        raise Unsendable(f"{type(array).__module__}.{type(array).__qualname__}")
    if array.dtype not in _NAMES:
        raise _unsupported(array)
    if array.ndim == 0 or array.flags.fnc:
        kind = "in Fortran order" if array.ndim else "without an axis"
        raise Unsendable(f"an array {kind}")


def check_type(array: Any) -> None:
    """Refuses subclasses that hold more than numbers.

    Raises:
        Unsendable: naming the subclass.
    """
    if type(array) not in _MERE_ARRAYS:
        name = f"{type(array).__module__}.{type(array).__qualname__}"
        raise Unsendable(name, "send its parts, for example numpy.asarray(...) and the rest")


def plain(array: Any) -> Any:
    """Returns the array in C order and in the wire's byte order, and copies it only if needed.

    Raises:
        Unsendable: if the wire has no such dtype.
    """
    dtype = array.dtype
    if dtype not in _NAMES:
        dtype = dtype.newbyteorder("<")
        if dtype not in _NAMES:
            raise _unsupported(array)
    # ascontiguousarray would give every array an axis.
    return np.asarray(array, dtype=dtype, order="C")


def _place(array: Any, encoder: ArrayEncoder) -> Any:
    """Returns the bytes of a plain array, or the number of its buffer."""
    if array.nbytes < BUFFER_FROM:
        return array.tobytes()
    return encoder.add_memory(array.reshape(-1).view(np.uint8))


class _Unlocked:
    """The memory of an array, declared writable for pickle to keep it so; nothing writes to it."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (_address(array), False)}


def _reduce(array: Any) -> Any:
    """Reduces an array for pickle so that it arrives writable even if it is read-only here."""
    make, arguments, *more = array.__reduce_ex__(5)
    if isinstance(arguments[0], PickleBuffer):
        memory = np.frombuffer(arguments[0].raw(), np.uint8)
        unlocked: Any = np.asarray(_Unlocked(memory))
        arguments = (PickleBuffer(unlocked), *arguments[1:])
    return (make, arguments, *more)


#: For a pickler's `dispatch_table`.
REDUCERS: Any = {np.ndarray: _reduce}


def known(memory: Any) -> Optional[Segment]:
    """Returns the received segment whose entire, unchanged contents this memory is, if any."""
    array = np.frombuffer(memory, np.uint8)
    mapping = segments.at(_address(array), array.nbytes)
    if mapping is None or (mapping.is_writable and _is_changed(array, mapping.segment)):
        return None
    return mapping.segment


def _is_changed(array: Any, segment: Segment) -> bool:
    """Whether the memory of a segment has been written to.

    If the system does not tell, compares the contents, which takes a fraction of the time of a
    copy and no memory.
    """
    if not pagemap.has_own_pages(_address(array), array.nbytes):
        return False
    original = np.frombuffer(segment.map(False), np.uint8)
    parts = range(0, array.nbytes, _PART)
    return not all(
        np.array_equal(array[at : at + _PART], original[at : at + _PART]) for at in parts
    )


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _unsupported(value: Any) -> Unsendable:
    hint = {
        "f": "use astype('float32') or astype('float64')",
        "M": "use astype('int64')",
        "m": "use astype('int64')",
        "O": "use a list",
        "U": "use tolist()",
        "S": "use tolist()",
        "V": "send its fields as a dict of arrays",
    }.get(value.dtype.kind, "use astype('float64')")
    what = "an array" if isinstance(value, np.ndarray) else "a number"
    return Unsendable(f"{what} of dtype {value.dtype}", hint)
