"""Encodes values as payloads and decodes them.

A value travels as MessagePack with extension types if these preserve the types of all its
parts. Otherwise Python steps get it as a pickle, and Rust steps cannot get it.
"""

from __future__ import annotations

import functools
import sys
from struct import Struct
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, Union

import msgpack

from . import pickles, segments, session_pickles
from .failures import CodecError, Unsendable, summary
from .segments import BUFFER_FROM, Buffer
from .tags import (
    EXTENSION_ARRAY,
    EXTENSION_COMPLEX,
    EXTENSION_TUPLE,
    EXTENSION_TYPED,
    PICKLE_MARK,
)

_COMPLEX = Struct("<dd")
_NOTHING: Tuple[Buffer, ...] = ()
#: The most levels at which an error message looks for the part that cannot be sent.
_DEEPEST = 20
#: The types that MessagePack would send as bytes.
_LIKE_BYTES = frozenset([bytearray, memoryview])
_ASYNC = "run must not be async"
_CONTAINERS = frozenset([list, tuple, dict])
_PLAIN = frozenset([int, float, str, bool, bytes, complex, type(None)])

Payload = Tuple[bytes, Sequence[Buffer]]


def _only_value(name: Any, value: Any) -> Any:
    del name
    return value


class Decoder:
    """A decoder of payloads, for one thread at a time."""

    def __init__(
        self,
        writable: bool = False,
        opens_pickles: bool = True,
        typed: Callable[[Any, Any], Any] = _only_value,
    ) -> None:
        """Creates a decoder.

        Args:
            writable: whether the arrays of a value can be changed. Those of a pickle always can.
            opens_pickles: whether pickles are loaded. Otherwise they are passed on unopened.
            typed: creates a value from a type's name and the value sent with that name.
        """
        self.buffers: Sequence[Buffer] = _NOTHING
        self._writable = writable
        self._typed = typed
        self._load: Callable[..., Any] = pickles.load if opens_pickles else pickles.unopened
        self._options: Dict[str, Any] = {"ext_hook": self._extension, "strict_map_key": False}

    def decode(self, header: Union[bytes, memoryview], buffers: Sequence[Buffer] = ()) -> Any:
        """Returns the value of a payload.

        Raises:
            CodecError: if the payload is malformed, or its pickle cannot be loaded here.
        """
        if header and header[0] == PICKLE_MARK:
            return self._load(header, buffers)
        self.buffers = buffers
        try:
            return msgpack.unpackb(header, **self._options)
        except CodecError:
            raise
        except Exception as error:
            text = str(error) or type(error).__name__
            raise CodecError(f"the message cannot be read as MessagePack: {text}") from error
        finally:
            self.buffers = _NOTHING

    def unpack(self) -> Callable[[Union[bytes, memoryview]], Any]:
        """Returns a faster `decode` for MessagePack without buffers.

        It may raise any exception; call `decode` then to learn what is wrong.
        """
        return functools.partial(msgpack.unpackb, **self._options)

    def several(self, data: bytes) -> List[Any]:
        """Returns the values of a sequence of encoded values."""
        unpacker = msgpack.Unpacker(max_buffer_size=len(data), **self._options)
        unpacker.feed(data)
        return list(unpacker)

    def _extension(self, code: int, data: bytes) -> Any:
        if code == EXTENSION_ARRAY:
            from . import arrays

            return arrays.decode(msgpack.unpackb(data), self.buffers, self._writable)
        if code == EXTENSION_TYPED:
            name, value = self.several(data)
            return self._typed(name, value)
        if code == EXTENSION_TUPLE:
            return tuple(msgpack.unpackb(data, **self._options))
        if code == EXTENSION_COMPLEX:
            return complex(*_COMPLEX.unpack(data))
        raise CodecError(
            f"the message has a value of the extension type {code}, which is not known"
        )


class Encoder:
    """An encoder of values for next steps in one language, for one thread at a time."""

    def __init__(self, to_python: bool) -> None:
        #: Whether Python steps open the payload. They distinguish types that MessagePack does
        #: not.
        self.to_python = to_python
        #: The memory of the buffers, copied once the header is complete.
        self._memory: List[Any] = []
        # One packer per depth of nesting: msgpack refuses to use a packer within its own call.
        self._packers = [self._new()]
        self._depth = 1
        #: A faster `encode` for numbers. It raises an exception for values that need `encode`.
        self.pack_plain: Callable[[Any], bytes] = self._packers[0].pack

    def _new(self) -> Any:
        return msgpack.Packer(default=self._default, strict_types=True, autoreset=True)

    def encode(self, value: Any) -> Payload:
        """Returns the payload of a value.

        Raises:
            CodecError: naming the type and the place of the part that cannot be sent.
        """
        try:
            header = self.pack_plain(value)
            # MessagePack marks bytes and a bytearray with the same codes.
            if (0xC4 in header or 0xC5 in header or 0xC6 in header) and self.to_python:
                _check_bytes(value)
        except Exception as error:
            return self._otherwise(value, error)
        return (header, self._buffers()) if self._memory else (header, _NOTHING)

    def _otherwise(self, value: Any, error: Exception) -> Payload:
        """Returns the payload of a value that MessagePack refused."""
        self._memory.clear()
        if not self.to_python:
            raise self._explained(value, error) from None
        try:
            return self._pickled(value, error)
        except Exception as second:
            self._memory.clear()
            raise self._explained(value, second) from None

    def _pickled(self, value: Any, error: Exception) -> Payload:
        stream, beside = pickles.dumps(value, lambda memory: memory.nbytes < BUFFER_FROM)
        numbers = [self.add_memory(memory) for memory in beside]
        place = stream if len(stream) < BUFFER_FROM else self.add_memory(memoryview(stream))
        own = _name(type(value))
        inner = _reason(error)[0]
        name = own if inner == own or type(value) not in _CONTAINERS else f"{own} with {inner}"
        return pickles.header(name, place, numbers), self._buffers()

    def _buffers(self) -> Sequence[Buffer]:
        memory, self._memory = self._memory, []
        return [_buffer(part) for part in memory]

    def nested(self, value: Any) -> bytes:
        """Returns the bytes of a value within an extension type."""
        if self._depth == len(self._packers):
            self._packers.append(self._new())
        packer = self._packers[self._depth]
        self._depth += 1
        try:
            packed: bytes = packer.pack(value)
            return packed
        finally:
            self._depth -= 1

    def add_memory(self, memory: Any) -> int:
        """Returns the number of the buffer that will hold the contents of this memory."""
        self._memory.append(memory)
        return len(self._memory) - 1

    def typed(self, name: str, value: Any) -> Any:
        """Returns the header's representation of a value with the name of its type."""
        return msgpack.ExtType(EXTENSION_TYPED, self.nested(name) + self.nested(value))

    def _default(self, value: Any) -> Any:
        """Returns the representation of a value of a type that MessagePack lacks."""
        if isinstance(value, tuple):
            if not self.to_python:
                return list(value)
            if type(value) is tuple:
                return msgpack.ExtType(EXTENSION_TUPLE, self.nested(list(value)))
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            from . import arrays

            return arrays.encode(value, self)
        to_wire = getattr(type(value), "_to_wire", None)
        if to_wire is not None:
            return to_wire(value, self)
        return self._exact(value) if self.to_python else _base(value)

    def _exact(self, value: Any) -> Any:
        if type(value) is complex:
            return msgpack.ExtType(EXTENSION_COMPLEX, _COMPLEX.pack(value.real, value.imag))
        raise Unsendable(_name(type(value)))

    def _explained(self, value: Any, error: Exception) -> CodecError:
        places, culprit = self._place(value, [])
        if self.to_python:
            what, hint = _name(type(culprit)), _obstacle(culprit, error)
        else:
            what, hint = _reason(error)
        to = "" if self.to_python else " to a step in Rust"
        place = f" (in {', '.join(places)})" if places else ""
        return CodecError(f"{what} cannot be sent{to}{place}{': ' + hint if hint else ''}")

    def _place(self, value: Any, around: List[Any]) -> Tuple[List[str], Any]:
        """Returns the path to the first part that cannot be sent, and that part."""
        if len(around) == _DEEPEST:
            return ["..."], value
        around = [*around, value]
        for place, child in _parts(value, self.to_python):
            if not any(child is one for one in around) and self._fails(child):
                places, culprit = self._place(child, around)
                return [place, *places], culprit
        return [], value

    def _fails(self, value: Any) -> bool:
        try:
            self.pack_plain(value)
            _check_bytes(value)
        except Exception:
            return not self.to_python or not pickles.takes(value)
        finally:
            self._memory.clear()
        return False


def _parts(value: Any, to_python: bool) -> Iterator[Tuple[str, Any]]:
    """Yields the parts of a value, each with its place."""
    if isinstance(value, dict):
        yield from ((f"the key {_short(key)}", key) for key in value)
        yield from ((f"key {_short(key)}", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"item {index}", item) for index, item in enumerate(value))
    elif to_python and not isinstance(value, (type, ModuleType)):
        inside = getattr(value, "__dict__", None) or {}
        yield from ((f"the attribute {name}", item) for name, item in inside.items())


def _check_bytes(value: Any) -> None:
    """Refuses values that MessagePack would send as bytes although they have another type.

    Raises:
        Unsendable: naming the type.
    """
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind in _LIKE_BYTES:
        raise Unsendable(_name(kind))
    if kind is list or kind is tuple:
        if _are_numbers(value):
            return
        parts = value
    elif isinstance(value, dict):
        parts = [*value, *value.values()]
    else:
        return
    if not set(map(type, parts)) <= _PLAIN:
        for part in parts:
            _check_bytes(part)


def _are_numbers(items: Sequence[Any]) -> bool:
    """Whether a list contains only numbers, as long lists often do.

    Only numbers can be summed, and summing them is faster than checking each one.
    """
    if not items or type(items[0]) is not float or type(items[-1]) is not float:
        return False
    try:
        sum(items)
    except Exception:
        return False
    return True


def _buffer(memory: Any) -> Buffer:
    """Returns a buffer with the current contents of memory that the step may change later."""
    if memory.nbytes < segments.SHARED_FROM:
        return bytes(memory)
    if "numpy" in sys.modules:
        from . import arrays

        known = arrays.known(memory)
        if known is not None:
            return known
    return segments.make(memory)


def _base(value: Any) -> Any:
    """Returns a value of a subclass as a value of the base class that MessagePack knows."""
    if type(value) is int:
        raise Unsendable(f"the integer {_short(value)}", "it has more than 64 bits")
    for base in (str, int, float, dict, list, bytes, bytearray):
        if isinstance(value, base):
            return _plain(base, value)
    if isinstance(value, complex):
        raise Unsendable("complex", "Rust steps have no such type; send [real, imag]")
    raise Unsendable(_name(type(value)), _hint(value))


def _plain(base: Any, value: Any) -> Any:
    # Use the base's own methods: a subclass may have overridden them.
    if base is dict:
        return dict(value)
    if base is list:
        return list(value)
    if base is str:
        return str.__str__(value)
    return base.__int__(value) if base is int else _converted(base, value)


def _converted(base: Any, value: Any) -> Any:
    return base.__float__(value) if base is float else base(value)


def _reason(error: Exception) -> Tuple[str, str]:
    if isinstance(error, Unsendable):
        return error.what, error.hint
    if isinstance(error, CodecError):
        return "the value", str(error)
    if isinstance(error, UnicodeEncodeError):
        return "a str with characters that are not Unicode", "send os.fsencode(...) of file names"
    if isinstance(error, (RecursionError, ValueError)) and "recursion" in str(error):
        return "a value that contains itself, or is nested too deeply,", ""
    if isinstance(error, OverflowError):
        return "an integer of more than 64 bits", ""
    return "the value", str(error) or type(error).__name__


def _obstacle(value: Any, error: Exception) -> str:
    """Returns why pickle refuses a value, and what to do about it."""
    if hasattr(type(value), "__await__"):
        return _ASYNC
    if isinstance(value, memoryview):
        return "use bytes(...)"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    near = "" if session_pickles.is_available() else ", or install cloudpickle"
    is_lost = isinstance(error, (AttributeError, pickles.PicklingError))
    hint = f"; put its parts into a module{near}" if is_lost else ""
    return summary(error) + hint


def _name(cls: type) -> str:
    home = cls.__module__
    return cls.__qualname__ if home == "builtins" else f"{home}.{cls.__qualname__}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _hint(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return "use a list"
    if hasattr(type(value), "__fspath__"):
        return "use str(path), or drpipe.FitsPath"
    if hasattr(type(value), "__dataclass_fields__"):
        return "use dataclasses.asdict(...)"
    if hasattr(type(value), "isoformat"):
        return "use its isoformat()"
    if hasattr(type(value), "__members__"):
        return "use its value"
    if hasattr(type(value), "__await__"):
        return _ASYNC
    if callable(value):
        return "functions and classes stay in steps in Python"
    return "send numbers, text, bytes, lists, tuples, dicts or numpy arrays"
