"""Values as payloads: MessagePack with the extension types that steps agree on, where
the types of all that is in a value survive it; else pickles, between steps in Python."""

from __future__ import annotations

import functools
import sys
from struct import Struct
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, Union

import msgpack

from . import pickles, segments
from .failures import CodecError, Unsendable, summary
from .segments import BUFFER_FROM, Buffer

#: The extension types.
ARRAY, TYPED, TUPLE, COMPLEX = range(1, 5)

_COMPLEX = Struct("<dd")
_NOTHING: Tuple[Buffer, ...] = ()
#: So deep at most the place of what cannot be sent is looked for.
_DEEPEST = 20
#: What MessagePack takes for bytes, without asking.
_LIKE_BYTES = frozenset([bytearray, memoryview])
_ASYNC = "run must not be async"
_CONTAINERS = frozenset([list, tuple, dict])
_PLAIN = frozenset([int, float, str, bool, bytes, complex, type(None)])

Payload = Tuple[bytes, Sequence[Buffer]]


class Decoder:
    """From payloads to values."""

    def __init__(self, writable: bool = False, opens: bool = True) -> None:
        """`writable`: whether arrays can be changed, where they are not a part of an object
        that comes as a pickle: those always can. `opens`: whether pickles are loaded."""
        self.buffers: Sequence[Buffer] = _NOTHING
        self._writable = writable
        self._load: Callable[..., Any] = pickles.load if opens else pickles.closed
        self._options: Dict[str, Any] = {"ext_hook": self._extension, "strict_map_key": False}

    def decode(self, header: Union[bytes, memoryview], buffers: Sequence[Buffer] = ()) -> Any:
        """The value of a payload.

        Raises:
            CodecError: if it is not one.
        """
        if header and header[0] == pickles.MARK:
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
        """A quick way for MessagePack without buffers; it raises whatever is the matter."""
        return functools.partial(msgpack.unpackb, **self._options)

    def several(self, data: bytes) -> List[Any]:
        """Values one behind the other."""
        unpacker = msgpack.Unpacker(max_buffer_size=len(data), **self._options)
        unpacker.feed(data)
        return list(unpacker)

    def _extension(self, code: int, data: bytes) -> Any:
        if code == ARRAY:
            from . import arrays

            return arrays.decode(msgpack.unpackb(data), self.buffers, self._writable)
        if code == TYPED:
            from ..api import frames

            name, value = self.several(data)
            return frames.from_wire(name, value)
        if code == TUPLE:
            return tuple(msgpack.unpackb(data, **self._options))
        if code == COMPLEX:
            return complex(*_COMPLEX.unpack(data))
        raise CodecError(
            f"the message has a value of the extension type {code}, which is not known"
        )


class Encoder:
    """From values to payloads for next steps of one kind."""

    def __init__(self, to_python: bool) -> None:
        #: Whether what comes out is opened by steps in Python: they tell types apart that
        #: MessagePack does not.
        self.to_python = to_python
        #: What is to stand beside the header. It is copied once the header is whole.
        self._memory: List[Any] = []
        # One for each depth of nesting: none is used within its own work.
        self._packers = [self._new()]
        self._depth = 1
        #: A quick way for numbers; it raises where `encode` must be asked.
        self.pack_plain: Callable[[Any], bytes] = self._packers[0].pack

    def _new(self) -> Any:
        return msgpack.Packer(default=self._default, strict_types=True, autoreset=True)

    def encode(self, value: Any) -> Payload:
        """The payload of a value.

        Raises:
            CodecError: naming the type of what cannot be sent, and where it stands.
        """
        try:
            header = self.pack_plain(value)
            # The marks of bytes: a bytearray has them too.
            if (0xC4 in header or 0xC5 in header or 0xC6 in header) and self.to_python:
                _check_bytes(value)
        except Exception as error:
            return self._otherwise(value, error)
        return (header, self._buffers()) if self._memory else (header, _NOTHING)

    def _otherwise(self, value: Any, error: Exception) -> Payload:
        """The payload of what MessagePack has refused."""
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
        """The bytes of a value within an extension type."""
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
        """The number of the buffer that will have what is in this memory."""
        self._memory.append(memory)
        return len(self._memory) - 1

    def typed(self, name: str, value: Any) -> Any:
        """A value with the name of its type."""
        return msgpack.ExtType(TYPED, self.nested(name) + self.nested(value))

    def _default(self, value: Any) -> Any:
        """What MessagePack has no type for."""
        if isinstance(value, tuple):
            if not self.to_python:
                return list(value)
            if type(value) is tuple:
                return msgpack.ExtType(TUPLE, self.nested(list(value)))
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
            return msgpack.ExtType(COMPLEX, _COMPLEX.pack(value.real, value.imag))
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
        """The way to the first thing that cannot be sent, and that thing."""
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
    """What is in a value, and where."""
    if isinstance(value, dict):
        yield from ((f"the key {_short(key)}", key) for key in value)
        yield from ((f"key {_short(key)}", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"item {index}", item) for index, item in enumerate(value))
    elif to_python and not isinstance(value, (type, ModuleType)):
        inside = getattr(value, "__dict__", None) or {}
        yield from ((f"the attribute {name}", item) for name, item in inside.items())


def _check_bytes(value: Any) -> None:
    """What is like bytes, but would arrive as bytes.

    Raises:
        Unsendable: naming its type.
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
    """Whether a list is one of numbers, as long ones often are: only these add up, and that
    takes less time than to look at them one by one."""
    if not items or type(items[0]) is not float or type(items[-1]) is not float:
        return False
    try:
        sum(items)
    except Exception:
        return False
    return True


def _buffer(memory: Any) -> Buffer:
    """The contents of memory, which the step may go on to change."""
    if memory.nbytes < segments.SHARED_FROM:
        return bytes(memory)
    if "numpy" in sys.modules:
        from . import arrays

        known = arrays.known(memory)
        if known is not None:
            return known
    return segments.make(memory)


def _base(value: Any) -> Any:
    """A value of a subclass as one of the class that MessagePack knows."""
    if type(value) is int:
        raise Unsendable(f"the integer {_short(value)}", "it has more than 64 bits")
    for base in (str, int, float, dict, list, bytes, bytearray):
        if isinstance(value, base):
            return _plain(base, value)
    if isinstance(value, complex):
        raise Unsendable("complex", "Rust steps have no such type; send [real, imag]")
    raise Unsendable(_name(type(value)), _hint(value))


def _plain(base: Any, value: Any) -> Any:
    # The base's own methods: a subclass may have changed them.
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
    """Why pickle does not take a value, and what to do."""
    if hasattr(type(value), "__await__"):
        return _ASYNC
    if isinstance(value, memoryview):
        return "use bytes(...)"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    near = "" if pickles.takes_sessions() else ", or install cloudpickle"
    is_lost = isinstance(error, (AttributeError, pickles.PicklingError))
    hint = f"; put what it is made of into a module{near}" if is_lost else ""
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
