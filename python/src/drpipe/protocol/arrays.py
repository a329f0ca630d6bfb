"""numpy arrays as the extension type 1."""

from __future__ import annotations

import math
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Iterable, Optional, Sequence

import msgpack
import numpy as np

from . import segments
from .failures import CodecError, Unsendable
from .segments import BUFFER_FROM, Buffer, Mapping, Segment
from .values import ARRAY

if TYPE_CHECKING:
    from .values import Encoder

#: The kinds of numbers that every step knows, as numpy writes them.
TYPES = {
    text: np.dtype(text)
    for text in (
        *("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"),
        *("<f4", "<f8", "<c8", "<c16"),
    )
}
_NAMES = {dtype: text for text, dtype in TYPES.items()}
#: Subclasses that are nothing but an array, to steps in Rust.
_MERE_ARRAYS = (np.ndarray, np.memmap, np.matrix)
#: So much is compared at a time, in bytes.
_PART = 1 << 20


def decode(fields: Any, buffers: Sequence[Buffer], writable: bool) -> Any:
    """A received array, without a copy of a large one; a numpy scalar where there is
    no axis.

    Args:
        fields: dtype, shape and place, as docs/WIRE.md has them.
        buffers: those of the payload.
        writable: whether it can be changed; otherwise it is a read-only view.

    Raises:
        CodecError: if the fields do not describe one.
    """
    try:
        kind, shape, place = fields
        dtype = TYPES[kind]
        buffer = buffers[place] if isinstance(place, int) else place
    except (LookupError, TypeError, ValueError):
        raise CodecError(f"the message has an array that cannot be read: {fields!r:.100}") from None
    size = len(buffer) if not isinstance(buffer, memoryview) else buffer.nbytes
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != size:
        raise CodecError(f"an array of {kind} and shape {shape} came with {size} bytes")
    memory: Any = buffer
    if isinstance(buffer, Segment):
        memory = buffer.map(writable)
    elif writable:
        # What came stays as it came, for whoever wants to know what a failed call was given.
        memory = bytearray(buffer)
    flat = np.frombuffer(memory, dtype)
    flat.flags.writeable = writable
    if isinstance(memory, Mapping):
        segments.remember(_address(flat), memory)
    return flat.reshape(shape) if shape else flat[0]


def remember(memory: Iterable[Any]) -> None:
    """Arrays lie on this: what of it is a whole segment is sent on as it came."""
    for part in memory:
        if isinstance(part, Mapping):
            segments.remember(_address(np.frombuffer(part, np.uint8)), part)


def encode(value: Any, encoder: Encoder) -> Any:
    """What takes the place of an array, or of a numpy scalar, in a header.

    Raises:
        Unsendable: if it would not arrive as it is.
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
    return msgpack.ExtType(ARRAY, encoder.nested(fields))


def check_exact(array: Any) -> None:
    """Another byte order, the order of Fortran, no axis: what would not arrive as it is.

    Raises:
        Unsendable: naming the dtype, or the subclass.
    """
    if type(array) is not np.ndarray:
        raise Unsendable(f"{type(array).__module__}.{type(array).__qualname__}")
    if array.dtype not in _NAMES:
        raise _unsupported(array)
    if array.ndim == 0 or array.flags.fnc:
        kind = "in the order of Fortran" if array.ndim else "without an axis"
        raise Unsendable(f"an array {kind}")


def check_type(array: Any) -> None:
    """Subclasses have more than their numbers, which would be lost.

    Raises:
        Unsendable: naming the subclass.
    """
    if type(array) not in _MERE_ARRAYS:
        name = f"{type(array).__module__}.{type(array).__qualname__}"
        raise Unsendable(name, "send its parts, for example numpy.asarray(...) and the rest")


def plain(array: Any) -> Any:
    """A contiguous array in the byte order that travels: a copy only if it is not."""
    dtype = array.dtype
    if dtype not in _NAMES:
        dtype = dtype.newbyteorder("<")
        if dtype not in _NAMES:
            raise _unsupported(array)
    # Not ascontiguousarray, which gives every array an axis.
    return np.asarray(array, dtype=dtype, order="C")


def _place(array: Any, encoder: Encoder) -> Any:
    """The bytes of a plain array, or the number of its buffer."""
    if array.nbytes < BUFFER_FROM:
        return array.tobytes()
    return encoder.add_memory(array.reshape(-1).view(np.uint8))


class _Unlocked:
    """The same memory, said to be writable: nobody writes there who is not to."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (_address(array), False)}


def _reduced(array: Any) -> Any:
    """What pickle makes of an array: whether it is read-only here is not told."""
    make, arguments, *more = array.__reduce_ex__(5)
    if isinstance(arguments[0], PickleBuffer):
        memory = np.frombuffer(arguments[0].raw(), np.uint8)
        unlocked: Any = np.asarray(_Unlocked(memory))
        arguments = (PickleBuffer(unlocked), *arguments[1:])
    return (make, arguments, *more)


#: For a pickler's `dispatch_table`.
REDUCERS: Any = {np.ndarray: _reduced}


def known(memory: Any) -> Optional[Segment]:
    """The segment that was received with just this in it, if there is one."""
    array = np.frombuffer(memory, np.uint8)
    mapping = segments.at(_address(array), array.nbytes)
    if mapping is None or (mapping.is_writable and _is_changed(array, mapping.segment)):
        return None
    return mapping.segment


def _is_changed(array: Any, segment: Segment) -> bool:
    """Whether something was written into the memory of a segment. To compare takes a
    fraction of the time that a copy takes, and no memory."""
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
