"""Writes and reads the frames of the control socket, which docs/ATTACH.md describes."""

from __future__ import annotations

from struct import Struct
from typing import List, NamedTuple, Optional, Union

from . import tags
from .failures import Failure

#: The longest frame, in bytes.
LONGEST = 65_536

# The kinds of frames from the caller.
HELLO, STARTED, NOT_STARTED, ENDED, STEER, PUT = 1, 2, 3, 4, 5, 6
# The kinds of frames from the run.
WELCOME, REFUSED, START, ANSWER, OVER = 16, 17, 18, 19, 20
# The verbs of STEER.
PAUSE, RESUME, WORKERS, DRAIN, STOP, CANCEL = 0, 1, 2, 3, 4, 5
# What the process of an attached worker is.
CALLER, PROCESS, GROUP = 0, 1, 2

#: The length of a text that says that there is none.
_NONE = 0xFFFF_FFFF

_U32 = Struct("<I")
_PLACE = Struct("<II")


class ControlError(Exception):
    """A frame of the run violates the protocol."""


class Welcome(NamedTuple):
    """The run has begun."""

    #: The run's name.
    run: str
    #: The version of the program.
    version: str
    #: Where workers connect.
    endpoint: str


class Refused(NamedTuple):
    """There will be no run."""

    failure: Failure


class Start(NamedTuple):
    """A worker must be started. The worker's lifeline comes with this frame."""

    worker: int
    incarnation: int
    step: str
    #: Whether the worker feeds the run.
    feeds: bool


class Answer(NamedTuple):
    """The answer to a request; `error` is None if the run has carried it out."""

    request: int
    error: Optional[str]


class Over(NamedTuple):
    """The run is over. The report comes with this frame, as a file with JSON."""

    exit_code: int


Frame = Union[Welcome, Refused, Start, Answer, Over]


def _text(text: Optional[str]) -> bytes:
    if text is None:
        return _U32.pack(_NONE)
    data = text.encode("utf-8", "replace")
    return _U32.pack(len(data)) + data


def hello(pid: int, name: str) -> bytes:
    """Returns HELLO: the caller's process and its name."""
    return bytes((HELLO,)) + tags.VERSION.to_bytes(2, "little") + _U32.pack(pid) + _text(name)


def started(worker: int, incarnation: int, pid: int, manner: int) -> bytes:
    """Returns STARTED: the process that is the worker now."""
    place = _PLACE.pack(worker, incarnation)
    return bytes((STARTED,)) + place + _U32.pack(pid) + bytes((manner,))


def not_started(worker: int, incarnation: int, failure: Failure) -> bytes:
    """Returns NOT_STARTED. Of a long failure, only the first texts are sent."""
    texts: List[bytes] = []
    room = LONGEST // 2
    for text in failure.texts:
        encoded = _text(text[: room // 4])
        room -= len(encoded)
        if room < 0:
            break
        texts.append(encoded)
    head = bytes((NOT_STARTED,)) + _PLACE.pack(worker, incarnation)
    return head + bytes((failure.retryable,)) + _U32.pack(len(texts)) + b"".join(texts)


def ended(worker: int, incarnation: int, status: int) -> bytes:
    """Returns ENDED: how the worker's process has ended, as `os.waitpid` tells it."""
    return bytes((ENDED,)) + _PLACE.pack(worker, incarnation) + status.to_bytes(4, "little")


def steer(request: int, verb: int, step: Optional[str] = None, workers: int = 0) -> bytes:
    """Returns STEER: a request to pause, to resume, to set workers, to drain, or to stop."""
    head = bytes((STEER,)) + _U32.pack(request) + bytes((verb,))
    if verb in (PAUSE, RESUME):
        return head + _text(step)
    return head + _text(step) + _U32.pack(workers) if verb == WORKERS else head


def cancel(request: int, origin: str, running: bool) -> bytes:
    """Returns STEER: a request to give up all that descends from an origin."""
    head = bytes((STEER,)) + _U32.pack(request) + bytes((CANCEL,))
    return head + _text(origin) + bytes((running,))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 1

    def take(self, length: int) -> bytes:
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise ControlError("a frame of the run is cut short")
        return self._data[start : self._at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def text(self) -> str:
        return self.take(self.u32()).decode("utf-8", "replace")

    def failure(self) -> Failure:
        retryable = bool(self.u8())
        return Failure(retryable, [self.text() for _ in range(self.u32())])

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self.rest():
            raise ControlError("bytes of a frame of the run are left over")


def read(data: bytes) -> Frame:
    """Reads a frame of the run.

    Raises:
        ControlError: if it is not one.
    """
    reader = _Reader(data)
    kind = data[0] if data else 0
    frame: Frame
    if kind == WELCOME:
        frame = Welcome(reader.text(), reader.text(), reader.text())
    elif kind == REFUSED:
        frame = Refused(reader.failure())
    elif kind == START:
        frame = Start(reader.u32(), reader.u32(), reader.text(), bool(reader.u8()))
    elif kind == ANSWER:
        frame = Answer(reader.u32(), reader.text() if reader.u8() else None)
    elif kind == OVER:
        frame = Over(reader.u8())
    else:
        raise ControlError(f"frame kind {kind} is not known")
    reader.end()
    return frame
