"""numpy arrays as the extension type 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Sequence

import msgpack
import numpy as np

from . import segments
from .failures import CodecError
from .segments import Buffer, Segment
from .values import ARRAY, Unsendable

if TYPE_CHECKING:
    from .values import Encoder

#: Arrays from this size on, in bytes, stand beside the header.
BUFFER_FROM = 16384

#: The kinds of numbers that every step knows, as numpy writes them.
TYPES = {
    text: np.dtype(text)
    for text in (
        *("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"),
        *("<f4", "<f8", "<c8", "<c16"),
    )
}
#: Subclasses that are nothing but an array.
_MERE_ARRAYS = (np.ndarray, np.memmap, np.matrix)


def decode(fields: Any, buffers: Sequence[Buffer]) -> Any:
    """A read-only view of a received array, without a copy; a numpy scalar
    where there is no axis.

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
    flat = np.frombuffer(buffer, dtype)  # type: ignore[arg-type]
    flat.flags.writeable = False
    if isinstance(buffer, Segment):
        segments.remember(_address(flat), buffer)
    return flat.reshape(shape) if shape else flat[0]


def encode(value: Any, encoder: Encoder) -> Any:
    """What takes the place of an array, or of a numpy scalar, in a header."""
    if isinstance(value, np.generic):
        if isinstance(value, (np.str_, np.bytes_)):
            return value.item()
        if value.dtype.newbyteorder("<").str not in TYPES:
            raise _unsupported(value)
        if not encoder.to_python:
            return value.item()
        value = np.asarray(value)
    check_type(value)
    array = plain(value)
    fields = [array.dtype.str, list(array.shape), place(array, encoder)]
    return msgpack.ExtType(ARRAY, encoder.nested(fields))


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
    if dtype.str not in TYPES:
        dtype = dtype.newbyteorder("<")
        if dtype.str not in TYPES:
            raise _unsupported(array)
    # Not ascontiguousarray, which gives every array an axis.
    return np.asarray(array, dtype=dtype, order="C")


def place(array: Any, encoder: Encoder) -> Any:
    """The bytes of a plain array, or the number of its buffer."""
    size = array.nbytes
    if size < BUFFER_FROM:
        return array.tobytes()
    if size >= segments.SHARED_FROM:
        known = segments.at(_address(array), size)
        buffer = known if known is not None else segments.make(array.reshape(-1).view(np.uint8))
    else:
        # The step may go on to change its array.
        buffer = array.tobytes()
    return encoder.add_buffer(buffer)


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
