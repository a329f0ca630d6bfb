"""The protocol of docs/WIRE.md: heads, and the frames that they refer to."""

from __future__ import annotations

from struct import Struct
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from ..api.stage import Idle
from . import segments
from .batches import Many, One
from .failures import Failure
from .segments import Buffer, Lifeline, Segment

VERSION = 3

READY, INIT_FAILED, DONE, PRODUCED, FINISHED, NOTES = range(1, 7)
GRANT, WORK, FINISH, STOP = range(16, 20)

#: Results of a producer; with the last one its grant is still in use.
MORE, IDLE, NO_MORE, FAILED, AT_WORK = range(5)

#: What a note is about.
_EXPECTED, _PRODUCT = range(2)

#: Headers above this size, in bytes, travel as a frame of their own.
_INLINE_UP_TO = 4096
_IN_FRAME = 1 << 31
_NO_TEXT = 0xFFFF_FFFF

_U32 = Struct("<I")
_U64 = Struct("<Q")
_PLACE = Struct("<cII")
_MANY = Struct("<QI")
_ONE = Struct("<QI")
_OUTPUT = Struct("<BI")
_COMPLETION = Struct("<QIIQB")
_PRODUCTION = Struct("<IQB")

#: A frame as it is sent.
Frame = Union[bytes, bytearray, memoryview]
#: A message: its number, its origin, the header and the buffers of its payload.
Message = Tuple[int, Optional[bytes], Union[bytes, memoryview], Sequence[Buffer]]

#: A file that was made: its path, and what it was made from.
Product = Tuple[bytes, Optional[bytes]]


class WireError(Exception):
    """A message of the router that is not of the protocol."""


class Completion(NamedTuple):
    """Successive messages that are done, or one that failed."""

    first: int
    messages: int
    silent: int
    busy: int
    failure: Optional[Failure]


def identity(worker: int, incarnation: int) -> bytes:
    """A worker's identity on the router's socket."""
    return _PLACE.pack(b"W", worker, incarnation)


class Writer:
    """A head under construction and the frames that it refers to."""

    def __init__(self, kind: int, lifeline: Optional[Lifeline] = None) -> None:
        self._head = bytearray((kind,))
        self._frames: List[Frame] = [self._head]
        self._lifeline = lifeline

    def frames(self) -> List[Frame]:
        """The whole message."""
        return self._frames

    def raw(self, more: bytes) -> None:
        """Bytes of the head."""
        self._head += more

    def text(self, text: str) -> None:
        """A text; what cannot be UTF-8 in it is replaced."""
        data = text.encode("utf-8", "replace")
        self._head += _U32.pack(len(data)) + data

    def failure(self, failure: Failure) -> None:
        """A failure."""
        self._head.append(1 if failure.retryable else 0)
        self._head += _U32.pack(len(failure.texts))
        for text in failure.texts:
            self.text(text)

    def completions(self, completions: Sequence[Completion]) -> None:
        """A list of completions."""
        self._head += _U32.pack(len(completions))
        for first, count, silent, busy, failure in completions:
            outcome = 0 if failure is None else 1
            self._head += _COMPLETION.pack(first, count, silent, busy, outcome)
            if failure is not None:
                self.failure(failure)

    def notes(self, expected: Optional[int], products: Sequence[Product]) -> None:
        """A list of notes."""
        self._head += _U32.pack((expected is not None) + len(products))
        if expected is not None:
            self._head.append(_EXPECTED)
            self._head += _U64.pack(expected)
        for path, origin in products:
            self._head.append(_PRODUCT)
            self._head += _U32.pack(len(path)) + path
            self._origin(origin)

    def outputs(self, outputs: Sequence[Union[One, Many]]) -> None:
        """A list of outputs."""
        self._head += _U32.pack(len(outputs))
        for output in outputs:
            if isinstance(output, One):
                self._head += _OUTPUT.pack(0, output.route)
                self._origin(output.origin)
                self._bytes(output.header)
                self._head += _U32.pack(len(output.buffers))
                for buffer in output.buffers:
                    self._buffer(buffer)
            else:
                self._head += _OUTPUT.pack(1, output.route) + _U32.pack(output.count)
                self._bytes(b"".join(output.parts))

    def _origin(self, origin: Optional[bytes]) -> None:
        if origin is None:
            self._head += _U32.pack(_NO_TEXT)
        else:
            self._head += _U32.pack(len(origin)) + origin

    def _bytes(self, data: bytes) -> None:
        if len(data) <= _INLINE_UP_TO:
            self._head += _U32.pack(len(data)) + data
        else:
            self._head += _U32.pack(_IN_FRAME)
            self._frames.append(data)

    def _buffer(self, buffer: Buffer) -> None:
        if isinstance(buffer, Segment):
            if self._lifeline is not None and self._lifeline.send(buffer):
                self._head += b"\x01" + _U64.pack(len(buffer))
                return
            self._head.append(0)
            self._frames.append(segments.content(buffer))
        else:
            self._head.append(0)
            self._frames.append(buffer)


def ready() -> List[Frame]:
    """The worker is ready."""
    writer = Writer(READY)
    writer.raw(VERSION.to_bytes(2, "little"))
    return writer.frames()


def init_failed(failure: Failure) -> List[Frame]:
    """The step cannot work."""
    writer = Writer(INIT_FAILED)
    writer.failure(failure)
    return writer.frames()


def done(
    completions: Sequence[Completion],
    outputs: Sequence[Union[One, Many]],
    lifeline: Optional[Lifeline] = None,
) -> List[Frame]:
    """What became of the oldest messages in hand, and what they emitted."""
    writer = Writer(DONE, lifeline)
    writer.completions(completions)
    writer.outputs(outputs)
    return writer.frames()


def produced(
    calls: int,
    busy: int,
    result: Union[int, Idle, Failure],
    outputs: Sequence[Union[One, Many]],
    lifeline: Optional[Lifeline] = None,
) -> List[Frame]:
    """The answer to a grant, or a part of it. `result` is MORE, NO_MORE, AT_WORK, that
    there is nothing at the moment, or why it failed."""
    writer = Writer(PRODUCED, lifeline)
    if isinstance(result, Failure):
        writer.raw(_PRODUCTION.pack(calls, busy, FAILED))
        writer.failure(result)
    elif isinstance(result, Idle):
        writer.raw(_PRODUCTION.pack(calls, busy, IDLE) + _U64.pack(int(result.wait * 1e9)))
    else:
        writer.raw(_PRODUCTION.pack(calls, busy, result))
    writer.outputs(outputs)
    return writer.frames()


def finished(
    failure: Optional[Failure],
    outputs: Sequence[Union[One, Many]],
    lifeline: Optional[Lifeline] = None,
) -> List[Frame]:
    """The answer to FINISH."""
    writer = Writer(FINISHED, lifeline)
    writer.raw(b"\x00" if failure is None else b"\x01")
    if failure is not None:
        writer.failure(failure)
    writer.outputs(outputs)
    return writer.frames()


def notes(expected: Optional[int] = None, products: Sequence[Product] = ()) -> List[Frame]:
    """What the step makes known: how much it will emit, and what it has made."""
    writer = Writer(NOTES)
    writer.notes(expected, products)
    return writer.frames()


class Reader:
    """A message of the router. Nothing that it says is believed unchecked."""

    def __init__(
        self,
        head: bytes,
        frames: List[memoryview],
        receive: Optional[Callable[[int], Buffer]] = None,
    ) -> None:
        if not head:
            raise WireError("a message of the router is empty")
        self.kind = head[0]
        self._head = head
        self._at = 1
        # The next one is the last: what was taken is not held.
        self._frames = frames[::-1]
        self._receive = receive

    def grant(self) -> int:
        """About how many items a producer is to produce."""
        count = self._u32()
        self.end()
        return count

    def messages(self) -> Iterator[Message]:
        """The messages of WORK. Each is read when it is asked for.

        Raises:
            WireError: if the router's message is not of the protocol.
            OSError: if a segment did not come as it should.
        """
        for _ in range(self._u32()):
            kind = self._u8()
            if kind == 0:
                yield self._one()
            elif kind == 1:
                yield from self._many()
            else:
                raise WireError(f"parcel {kind} is not known")
        self.end()

    def end(self) -> None:
        """Everything must have been accounted for."""
        rest = len(self._head) - self._at
        if rest or self._frames:
            raise WireError(f"{rest} bytes and {len(self._frames)} frames are left over")

    def _one(self) -> Message:
        number, _attempt = _ONE.unpack(self._take(12))
        length = self._u32()
        origin = None if length == _NO_TEXT else self._take(length)
        header = self._bytes()
        count = self._u32()
        return number, origin, header, [self._buffer() for _ in range(count)] if count else ()

    def _many(self) -> Iterator[Message]:
        first, count = _MANY.unpack(self._take(12))
        pack = self._bytes()
        size = len(pack)
        at = 0
        try:
            for number in range(first, first + count):
                start = at + 2
                at = start + pack[at] + (pack[at + 1] << 8)
                yield number, None, pack[start:at], ()
        except IndexError:
            at = -1
        if at != size or count == 0:
            raise WireError("a pack does not hold the messages that it promises")

    def _buffer(self) -> Buffer:
        kind = self._u8()
        if kind == 0:
            return self._frame()
        if kind != 1:
            raise WireError(f"kind of buffer {kind} is not known")
        length = _U64.unpack(self._take(8))[0]
        if self._receive is None:
            raise WireError("a message refers to a segment, but there is no lifeline")
        return self._receive(length)

    def _bytes(self) -> Union[bytes, memoryview]:
        length = self._u32()
        return self._frame() if length == _IN_FRAME else self._take(length)

    def _frame(self) -> memoryview:
        if not self._frames:
            raise WireError("a message refers to more frames than it has")
        return self._frames.pop()

    def _take(self, length: int) -> bytes:
        start = self._at
        self._at = start + length
        if self._at > len(self._head):
            raise WireError("a message is cut short")
        return self._head[start : self._at]

    def _u8(self) -> int:
        return self._take(1)[0]

    def _u32(self) -> int:
        return int.from_bytes(self._take(4), "little")
