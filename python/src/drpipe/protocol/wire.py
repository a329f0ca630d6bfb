"""Writes and reads the messages of docs/WIRE.md: heads and the frames that they refer to."""

from __future__ import annotations

from struct import Struct
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import segments, tags
from .batches import Output, SingleOutput
from .failures import Failure
from .segments import Buffer, Lifeline, Segment

#: The longest header that the head contains, in bytes. A longer one is a separate frame.
_INLINE_UP_TO = 4096

_U32 = Struct("<I")
_U64 = Struct("<Q")
_PACK = Struct("<QI")
_MESSAGE = Struct("<QIQ")
_MESSAGES = Struct("<QI")
_OUTPUT = Struct("<BBI")
_COMPLETION = Struct("<QIIQB")
_PRODUCTION = Struct("<IQB")
_ACTION = Struct("<IIIIQ")

#: A frame as it is sent.
Frame = Union[bytes, bytearray, memoryview]
#: A payload: its header and its buffers.
Payload = Tuple[Union[bytes, memoryview], Sequence[Buffer]]
#: A message: its number, the number of its item or 0, its origin, its payload, and its priority.
Message = Tuple[int, int, Optional[bytes], Union[bytes, memoryview], Sequence[Buffer], int]

#: A file that a step made: its path, and the origin of the input that it was made from.
Product = Tuple[bytes, Optional[bytes]]
#: An action: its name, how often it was done, skipped, failed, deferred; its time in nanoseconds.
Action = Tuple[str, Sequence[int]]


class WireError(Exception):
    """A message from the router violates the protocol."""


class Completion(NamedTuple):
    """A series of successive messages that are done, or one message that failed.

    `silent` is the number of messages that emitted nothing; `busy` is the total running time
    in nanoseconds.
    """

    first: int
    messages: int
    silent: int
    busy: int
    failure: Optional[Failure]


class Wait(NamedTuple):
    """The result of a producer that has nothing now: how long to wait before the next call."""

    seconds: float


#: The result of a producer's calls: RESULT_MORE, RESULT_NO_MORE, RESULT_AT_WORK, RESULT_BARRIER,
#: a wait, or a failure.
Result = Union[int, Wait, Failure]


class ItemFailure(NamedTuple):
    """Why an item has failed.

    `cause` is one of the tags `CAUSE_...`. `entry` names what the quarantine keeps of it.
    """

    step: str
    cause: int
    failure: Failure
    attempts: int
    entry: Optional[str]


class Acknowledgement(NamedTuple):
    """What became of an item.

    `outcome` is one of the tags `ITEM_...`. `results` is empty unless the item is done.
    """

    number: int
    origin: Optional[bytes]
    outcome: int
    results: Sequence[Payload]
    failure: Optional[ItemFailure]


class Writer:
    """A head under construction, and the frames that it refers to."""

    def __init__(self, kind: int, lifeline: Optional[Lifeline] = None) -> None:
        self._head = bytearray((kind,))
        self._frames: List[Frame] = [self._head]
        self._lifeline = lifeline

    def frames(self) -> List[Frame]:
        """Returns the complete message."""
        return self._frames

    def raw(self, more: bytes) -> None:
        """Writes bytes to the head."""
        self._head += more

    def text(self, text: str) -> None:
        """Writes a string. Replaces characters that UTF-8 cannot encode."""
        data = text.encode("utf-8", "replace")
        self._head += _U32.pack(len(data)) + data

    def failure(self, failure: Failure) -> None:
        """Writes a failure."""
        self._head.append(1 if failure.retryable else 0)
        self._head += _U32.pack(len(failure.texts))
        for text in failure.texts:
            self.text(text)

    def completions(self, completions: Sequence[Completion]) -> None:
        """Writes a list of completions."""
        self._head += _U32.pack(len(completions))
        for first, count, silent, busy, failure in completions:
            if failure is None:
                self._head += _COMPLETION.pack(first, count, silent, busy, tags.OUTCOME_DONE)
                continue
            if failure.wait is None:
                self._head += _COMPLETION.pack(first, count, silent, busy, tags.OUTCOME_FAILED)
            else:
                self._head += _COMPLETION.pack(first, count, silent, busy, tags.OUTCOME_DEFERRED)
                self._head += _U64.pack(int(failure.wait * 1e9))
            self.failure(failure)

    def notes(
        self, expected: Optional[int], products: Sequence[Product], actions: Sequence[Action]
    ) -> None:
        """Writes a list of notes."""
        self._head += _U32.pack((expected is not None) + len(products) + bool(actions))
        if expected is not None:
            self._head.append(tags.NOTE_EXPECTED)
            self._head += _U64.pack(expected)
        for path, origin in products:
            self._head.append(tags.NOTE_PRODUCT)
            self._head += _U32.pack(len(path)) + path
            self._origin(origin)
        if actions:
            self._head.append(tags.NOTE_ACTIONS)
            self._head += _U32.pack(len(actions))
        for name, counts in actions:
            self.text(name)
            executions = (min(count, 0xFFFF_FFFF) for count in counts[:4])
            self._head += _ACTION.pack(*executions, min(counts[4], 2**64 - 1))

    def outputs(self, outputs: Sequence[Output]) -> None:
        """Writes a list of outputs."""
        self._head += _U32.pack(len(outputs))
        for output in outputs:
            if isinstance(output, SingleOutput):
                self._head += _OUTPUT.pack(tags.KIND_ONE, output.priority, output.route)
                self._head += _U64.pack(output.item)
                self._origin(output.origin)
                self.bytes(output.header)
                self._head += _U32.pack(len(output.buffers))
                for buffer in output.buffers:
                    self._buffer(buffer)
            else:
                self._head += _OUTPUT.pack(tags.KIND_PACK, output.priority, output.route)
                self._head += _U32.pack(output.count)
                self.bytes(b"".join(output.parts))

    def _origin(self, origin: Optional[bytes]) -> None:
        if origin is None:
            self._head += _U32.pack(tags.NO_ORIGIN)
        else:
            self._head += _U32.pack(len(origin)) + origin

    def bytes(self, data: bytes) -> None:
        """Writes bytes: in the head, or as a frame if they are long."""
        if len(data) <= _INLINE_UP_TO:
            self._head += _U32.pack(len(data)) + data
        else:
            self._head += _U32.pack(tags.IN_FRAME)
            self._frames.append(data)

    def _buffer(self, buffer: Buffer) -> None:
        if isinstance(buffer, Segment):
            if self._lifeline is not None and self._lifeline.send(buffer):
                self._head.append(tags.BUFFER_SEGMENT)
                self._head += _U64.pack(len(buffer))
                return
            self._head.append(tags.BUFFER_FRAME)
            self._frames.append(segments.content(buffer))
        else:
            self._head.append(tags.BUFFER_FRAME)
            self._frames.append(buffer)


def ready() -> List[Frame]:
    """Returns READY: the step can work."""
    writer = Writer(tags.READY)
    writer.raw(tags.VERSION.to_bytes(2, "little"))
    return writer.frames()


def init_failed(failure: Failure) -> List[Frame]:
    """Returns INIT_FAILED: the step cannot work."""
    writer = Writer(tags.INIT_FAILED)
    writer.failure(failure)
    return writer.frames()


def done(
    completions: Sequence[Completion],
    outputs: Sequence[Output],
    lifeline: Optional[Lifeline] = None,
) -> List[Frame]:
    """Returns DONE: the outcomes of the oldest messages in hand, and the outputs for them."""
    writer = Writer(tags.DONE, lifeline)
    writer.completions(completions)
    writer.outputs(outputs)
    return writer.frames()


def produced(
    calls: int,
    busy: int,
    result: Result,
    outputs: Sequence[Output],
    lifeline: Optional[Lifeline] = None,
) -> List[Frame]:
    """Returns PRODUCED, which answers a grant or a part of it.

    Args:
        calls: how often the producer was called.
        busy: the running time of the calls, in nanoseconds.
        result: the result of the calls.
        outputs: what the calls emitted.
        lifeline: the connection for segments.
    """
    writer = Writer(tags.PRODUCED, lifeline)
    if isinstance(result, Failure):
        writer.raw(_PRODUCTION.pack(calls, busy, tags.RESULT_FAILED))
        writer.failure(result)
    elif isinstance(result, Wait):
        writer.raw(_PRODUCTION.pack(calls, busy, tags.RESULT_IDLE))
        writer.raw(_U64.pack(int(result.seconds * 1e9)))
    else:
        writer.raw(_PRODUCTION.pack(calls, busy, result))
    writer.outputs(outputs)
    return writer.frames()


def finished(
    failure: Optional[Failure],
    outputs: Sequence[Output],
    lifeline: Optional[Lifeline] = None,
) -> List[Frame]:
    """Returns FINISHED, which answers FINISH."""
    writer = Writer(tags.FINISHED, lifeline)
    writer.raw(b"\x00" if failure is None else b"\x01")
    if failure is not None:
        writer.failure(failure)
    writer.outputs(outputs)
    return writer.frames()


def released(size: int) -> List[Frame]:
    """Returns RELEASED: the producer has handed on results of this size, in bytes."""
    writer = Writer(tags.RELEASED)
    writer.raw(_U64.pack(size))
    return writer.frames()


def aside(content: bytes) -> List[Frame]:
    """Returns ASIDE: what an attached worker says to its caller while it is at work."""
    writer = Writer(tags.ASIDE)
    writer.bytes(content)
    return writer.frames()


def returned(first: int, count: int) -> List[Frame]:
    """Returns RETURNED: messages that the worker has not begun and gives back."""
    writer = Writer(tags.RETURNED)
    writer.raw(_MESSAGES.pack(first, count))
    return writer.frames()


def cancel(number: int, running: bool) -> List[Frame]:
    """Returns CANCEL: the producer no longer wants an item.

    Args:
        number: the item.
        running: whether this holds even if a worker is processing a message of the item.
    """
    writer = Writer(tags.CANCEL)
    writer.raw(_U64.pack(number) + bytes((running,)))
    return writer.frames()


def notes(
    expected: Optional[int] = None,
    products: Sequence[Product] = (),
    actions: Sequence[Action] = (),
) -> List[Frame]:
    """Returns NOTES: how many values the step expects to emit, the files that it made, and the
    executions of its actions."""
    writer = Writer(tags.NOTES)
    writer.notes(expected, products, actions)
    return writer.frames()


class Reader:
    """A reader of a message from the router. It checks every length and every count."""

    def __init__(
        self,
        head: bytes,
        frames: List[memoryview],
        receive: Optional[Callable[[int], Buffer]] = None,
    ) -> None:
        """Starts to read a message.

        Args:
            head: the first frame.
            frames: the other frames.
            receive: receives the next segment, which has this length, from the lifeline.

        Raises:
            WireError: if the head is empty.
        """
        if not head:
            raise WireError("a message of the router is empty")
        self.kind = head[0]
        self._head = head
        self._at = 1
        # The next frame comes last in this list, so that `pop` releases each frame it returns.
        self._frames = frames[::-1]
        self._receive = receive

    def grant(self) -> int:
        """Reads the rest of GRANT: the approximate number of items to produce.

        Raises:
            WireError: if the router's message violates the protocol.
        """
        count = self._u32()
        self.end()
        return count

    def messages(self) -> Iterator[Message]:
        """Reads the rest of WORK, one message at a time as the caller iterates.

        Raises:
            WireError: if the router's message violates the protocol.
            OSError: if a segment is missing or invalid.
        """
        for _ in range(self._u32()):
            kind, priority = self._take(2)
            if priority not in (tags.PRIORITY_NORMAL, tags.PRIORITY_HIGH):
                raise WireError(f"priority {priority} is not known")
            if kind == tags.KIND_ONE:
                yield self._message(priority)
            elif kind == tags.KIND_PACK:
                yield from self._pack(priority)
            else:
                raise WireError(f"batch {kind} is not known")
        self.end()

    def told(self) -> Union[bytes, memoryview]:
        """Reads the rest of TOLD: what a worker has said aside.

        Raises:
            WireError: if the router's message violates the protocol.
        """
        content = self._bytes()
        self.end()
        return content

    def acknowledgements(self) -> List[Acknowledgement]:
        """Reads the rest of ACKNOWLEDGED: what became of items.

        Raises:
            WireError: if the router's message violates the protocol.
            OSError: if a segment is missing or invalid.
        """
        items = [self._acknowledgement() for _ in range(self._u32())]
        self.end()
        return items

    def not_cancelled(self) -> int:
        """Reads the rest of NOT_CANCELLED: the number of an item that goes on.

        Raises:
            WireError: if the router's message violates the protocol.
        """
        number = self._u64()
        self.end()
        return number

    def _acknowledgement(self) -> Acknowledgement:
        number = self._u64()
        origin = self._origin()
        outcome = self._u8()
        results: List[Payload] = []
        failure = None
        if outcome == tags.ITEM_DONE:
            results = [self._payload() for _ in range(self._u32())]
        elif outcome == tags.ITEM_FAILED:
            step, cause = self._text(), self._u8()
            retryable = self._u8() != 0
            texts = [self._text() for _ in range(self._u32())]
            attempts, entry = self._u32(), self._origin()
            name = None if entry is None else entry.decode("utf-8", "replace")
            failure = ItemFailure(step, cause, Failure(retryable, texts), attempts, name)
        elif outcome not in (tags.ITEM_DROPPED, tags.ITEM_CANCELLED):
            raise WireError(f"end of an item {outcome} is not known")
        return Acknowledgement(number, origin, outcome, results, failure)

    def end(self) -> None:
        """Checks that the message has no unread parts.

        Raises:
            WireError: if bytes or frames are left over.
        """
        rest = len(self._head) - self._at
        if rest or self._frames:
            raise WireError(f"{rest} bytes and {len(self._frames)} frames are left over")

    def _message(self, priority: int) -> Message:
        number, _attempt, item = _MESSAGE.unpack(self._take(20))
        length = self._u32()
        origin = None if length == tags.NO_ORIGIN else self._take(length)
        header = self._bytes()
        count = self._u32()
        buffers = [self._buffer() for _ in range(count)] if count else ()
        return number, item, origin, header, buffers, priority

    def _payload(self) -> Payload:
        header = self._bytes()
        return header, [self._buffer() for _ in range(self._u32())]

    def _origin(self) -> Optional[bytes]:
        length = self._u32()
        return None if length == tags.NO_ORIGIN else self._take(length)

    def _text(self) -> str:
        return self._take(self._u32()).decode("utf-8", "replace")

    def _pack(self, priority: int) -> Iterator[Message]:
        first, count = _PACK.unpack(self._take(12))
        pack = self._bytes()
        size = len(pack)
        at = 0
        try:
            for number in range(first, first + count):
                start = at + 2
                at = start + pack[at] + (pack[at + 1] << 8)
                yield number, 0, None, pack[start:at], (), priority
        except IndexError:
            at = -1
        if at != size or count == 0:
            raise WireError("a packed batch does not hold as many messages as it states")

    def _buffer(self) -> Buffer:
        kind = self._u8()
        if kind == tags.BUFFER_FRAME:
            return self._frame()
        if kind != tags.BUFFER_SEGMENT:
            raise WireError(f"kind of buffer {kind} is not known")
        length = self._u64()
        if self._receive is None:
            raise WireError("a message refers to a segment, but there is no lifeline")
        return self._receive(length)

    def _bytes(self) -> Union[bytes, memoryview]:
        length = self._u32()
        return self._frame() if length == tags.IN_FRAME else self._take(length)

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

    def _u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _u32(self) -> int:
        return int.from_bytes(self._take(4), "little")
