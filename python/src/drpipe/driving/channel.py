"""Values between a driver and the workers of its run: pickles over a UNIX socket
in a private directory. Both ends are of the same user and of this package."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from io import BufferedReader
from typing import Any, Union, cast

from ..protocol import pickles
from . import pickling

#: Says which directory it is, to the workers.
VARIABLE = "DRPIPE_DRIVER"
#: The sockets in it: where a step gets its items, and where results go.
ITEMS, RESULTS = "items", "results"

#: What the driver answers when it has heard of a worker, and of an end. Another
#: version of the form has another one.
_WELCOME, _GOODBYE = b"drpipe 2\n", b"goodbye 2\n"
_ASK = b"\x01"
_COUNT, _LENGTH, _HEAD = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<IQ")
#: So many items a producer asks for at a time.
PORTION = 32
#: In the place of the number of a value's parts, which stands before their lengths.
_END, _FAILURE = 0, 0xFFFF_FFFF
#: Longer parts are not copied once more.
_SHORT = 1 << 16
_BUFFER = 1 << 18


class End(Exception):
    """There are no more values."""


class Failed(Exception):
    """The other side could not go on; the text says why."""


class Channel:
    """One end of a connection."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._reader = cast(BufferedReader, connected.makefile("rb", _BUFFER))

    def send(self, value: Any) -> None:
        """Sends a value; waits while the other side takes none.

        Raises:
            OSError: if it has gone. What pickle raises.
        """
        # What is short goes within: only what is read into room of its own can be changed.
        data, beside = pickles.dumps(value, lambda memory: memory.nbytes <= _SHORT)
        if pickling.MAIN in data:
            data, beside = pickling.dumps(value), []
        if not beside and len(data) <= _SHORT:
            self._socket.sendall(_HEAD.pack(1, len(data)) + data)
            return
        parts = [memoryview(data), *beside]
        lengths = b"".join(_LENGTH.pack(part.nbytes) for part in parts)
        self._socket.sendall(_COUNT.pack(len(parts)) + lengths)
        for part in parts:
            self._socket.sendall(part)

    def send_failure(self, text: str) -> None:
        """Says why there will be no more values."""
        data = text.encode("utf-8", "replace")
        self._socket.sendall(_HEAD.pack(_FAILURE, len(data)) + data)

    def send_end(self) -> None:
        """Says that there are no more values."""
        self._socket.sendall(_HEAD.pack(_END, 0))

    def receive(self) -> Any:
        """The next value.

        Raises:
            End: if there is none.
            Failed: if the other side says so.
            EOFError, OSError: if it has gone without a word.
        """
        count, length = _HEAD.unpack(self._read(_HEAD.size))
        if count == 1:
            return pickling.loads(self._read(length))
        if count == _END:
            raise End
        if count == _FAILURE:
            raise Failed(self._read(length).decode("utf-8", "replace"))
        rest = struct.unpack(f"<{count - 1}Q", self._read((count - 1) * _LENGTH.size))
        data, *buffers = (self._read(size) for size in (length, *rest))
        return pickling.loads(data, buffers)

    def ask(self) -> None:
        """In a worker: there is room for another portion of items."""
        with contextlib.suppress(OSError):  # It has said all: what it said comes first.
            self._socket.sendall(_ASK)

    def await_ask(self) -> None:
        """In the driver: waits until there is.

        Raises:
            EOFError, OSError: if the worker has gone.
        """
        self._read(len(_ASK))

    def greet(self) -> None:
        """The driver has heard of the worker."""
        self._socket.sendall(_WELCOME)

    def dismiss(self) -> None:
        """The driver has taken everything."""
        self._socket.sendall(_GOODBYE)

    def await_goodbye(self) -> None:
        """Waits until the driver has taken everything.

        Raises:
            EOFError, OSError: if it has gone.
        """
        self._read(len(_GOODBYE))

    def close(self) -> None:
        """Closes the connection; whoever waits at it is woken."""
        with contextlib.suppress(OSError):  # The other side was faster.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self, size: int) -> Union[bytes, bytearray]:
        """So many bytes."""
        if size <= _SHORT:
            data = self._reader.read(size)
            if len(data) < size:
                raise EOFError("the other side has gone")
            return data
        room = bytearray(size)
        view = memoryview(room)
        while view:
            count = self._reader.readinto(view)
            if not count:
                raise EOFError("the other side has gone")
            view = view[count:]
        return room


def directory() -> str:
    """The driver's directory, for a worker of its run.

    Raises:
        RuntimeError: in any other process.
    """
    found = os.environ.get(VARIABLE)
    if not found:
        raise RuntimeError(f"this step is for runs that Python has started: {VARIABLE} is unset")
    return found


def connect(name: str) -> Channel:
    """A worker's connection to its driver.

    Raises:
        RuntimeError: if the driver is of another version.
        OSError: if it has gone.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.connect(os.path.join(directory(), name))
    channel = Channel(connected)
    said = channel._read(len(_WELCOME))
    if said != _WELCOME:
        raise RuntimeError(
            f"the drpipe package that drives the run says {said!r}, the program's expects "
            f"{_WELCOME!r}: install versions that belong together"
        )
    return channel


def listen(place: str, name: str) -> socket.socket:
    """A driver's socket.

    Raises:
        OSError: if it cannot be made; the path of a socket has at most 107 bytes.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = os.path.join(place, name)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise OSError(f"{path}: {error}; set TMPDIR to a directory with a shorter path") from error
    listener.listen(8)
    return listener


def accept(listener: socket.socket) -> Channel:
    """Waits for a worker.

    Raises:
        OSError: if the listener was closed.
    """
    connected, _ = listener.accept()
    channel = Channel(connected)
    channel.greet()
    return channel
