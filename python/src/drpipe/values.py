"""Values as MessagePack, with the extension types that steps agree on."""

from __future__ import annotations

import functools
import sys
from struct import Struct
from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

import msgpack

from .failures import CodecError
from .segments import Buffer

#: The extension types.
ARRAY, TYPED, TUPLE, COMPLEX = range(1, 5)

_COMPLEX = Struct("<dd")
_NOTHING: Tuple[Buffer, ...] = ()
#: So deep at most the place of what cannot be sent is looked for.
_DEEPEST = 20

Payload = Tuple[bytes, Sequence[Buffer]]


class Unsendable(CodecError):
    """What MessagePack cannot carry; where it stands is not known yet."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} cannot be sent{': ' + hint if hint else ''}")
        self.what = what
        self.hint = hint


class Decoder:
    """From payloads to values."""

    def __init__(self) -> None:
        self.buffers: Sequence[Buffer] = _NOTHING
        self._options: Dict[str, Any] = {"ext_hook": self._extension, "strict_map_key": False}

    def decode(self, header: Union[bytes, memoryview], buffers: Sequence[Buffer] = ()) -> Any:
        """The value of a payload.

        Raises:
            CodecError: if it is not one.
        """
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
        """A quick way for payloads without buffers; it raises whatever is the matter."""
        return functools.partial(msgpack.unpackb, **self._options)

    def several(self, data: bytes) -> List[Any]:
        """Values one behind the other."""
        unpacker = msgpack.Unpacker(max_buffer_size=len(data), **self._options)
        unpacker.feed(data)
        return list(unpacker)

    def _extension(self, code: int, data: bytes) -> Any:
        if code == ARRAY:
            from . import arrays

            return arrays.decode(msgpack.unpackb(data), self.buffers)
        if code == TYPED:
            from . import frames

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
        self.to_python = to_python
        self._buffers: List[Buffer] = []
        # One for each depth of nesting: none is used within its own work.
        self._packers = [self._new()]
        self._depth = 1
        #: A quick way for values of plain types without anything nested.
        self.pack_plain: Callable[[Any], bytes] = self._packers[0].pack

    def _new(self) -> Any:
        return msgpack.Packer(default=self._default, strict_types=True, autoreset=True)

    def encode(self, value: Any) -> Payload:
        """The payload of a value.

        Raises:
            CodecError: naming the type of what cannot be sent, and where it stands.
        """
        self._depth = 1
        try:
            header = self._packers[0].pack(value)
        except Exception as error:
            self._buffers = []
            raise self._explained(value, error) from None
        if not self._buffers:
            return header, _NOTHING
        buffers, self._buffers = self._buffers, []
        return header, buffers

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

    def add_buffer(self, buffer: Buffer) -> int:
        """The number of a buffer that goes beside the header."""
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def typed(self, name: str, value: Any) -> Any:
        """A value with the name of its type."""
        return msgpack.ExtType(TYPED, self.nested(name) + self.nested(value))

    def _default(self, value: Any) -> Any:
        """What MessagePack has no type for."""
        if isinstance(value, tuple):
            items = list(value)
            return msgpack.ExtType(TUPLE, self.nested(items)) if self.to_python else items
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            from . import arrays

            return arrays.encode(value, self)
        to_wire = getattr(type(value), "_to_wire", None)
        if to_wire is not None:
            return to_wire(value, self)
        return self._base(value)

    def _base(self, value: Any) -> Any:
        """A value of a subclass as one of the class that MessagePack knows."""
        if type(value) is int:
            raise Unsendable(f"the integer {_short(value)}", "it has more than 64 bits")
        for base in (str, int, float, dict, list, bytes, bytearray):
            if isinstance(value, base):
                return _plain(base, value)
        if isinstance(value, complex):
            if self.to_python:
                return msgpack.ExtType(COMPLEX, _COMPLEX.pack(value.real, value.imag))
            raise Unsendable("complex", "Rust steps have no such type; send [real, imag]")
        raise Unsendable(_name(type(value)), _hint(value))

    def _explained(self, value: Any, error: Exception) -> CodecError:
        what, hint = _reason(error)
        place = ", ".join(self._place(value, 0))
        text = f"{what} cannot be sent{f' (in {place})' if place else ''}"
        return CodecError(f"{text}: {hint}" if hint else text)

    def _place(self, value: Any, depth: int) -> List[str]:
        """The way to the first thing that cannot be sent."""
        if depth == _DEEPEST:
            return ["..."]
        children: List[Tuple[str, Any]] = []
        if isinstance(value, dict):
            children += [(f"the key {_short(key)}", key) for key in value]
            children += [(f"key {_short(key)}", item) for key, item in value.items()]
        elif isinstance(value, (list, tuple)):
            children += [(f"item {index}", item) for index, item in enumerate(value)]
        for place, child in children:
            if self._fails(child):
                return [place, *self._place(child, depth + 1)]
        return []

    def _fails(self, value: Any) -> bool:
        try:
            self._packers[0].pack(value)
        except Exception:
            return True
        finally:
            self._buffers = []
        return False


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
    if callable(value):
        return "functions and classes stay in their step"
    if hasattr(type(value), "__await__"):
        return "run must not be async"
    return "send numbers, text, bytes, lists, tuples, dicts or numpy arrays"
