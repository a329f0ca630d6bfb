"""Connections between a driver and the workers of its run.

Values travel as pickles over a UNIX socket in the driver's private directory. Both ends belong
to the same user and to this package.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from io import BufferedReader
from typing import Any, Callable, Union, cast

from ..protocol import pickles, session_pickles
from ..protocol.driver import DIRECTORY_VARIABLE

#: The names of the sockets: the one that a producer reads items from, and the one for results.
ITEMS, RESULTS = "items", "results"

#: What the driver sends to a worker that has connected, and to a worker that has sent its last
#: value. The number is the version of the format and of the functions that pickles refer to.
_WELCOME, _GOODBYE = b"drpipe 3\n", b"goodbye 3\n"
_ASK = b"\x01"
_COUNT, _LENGTH, _HEAD = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<IQ")
#: The number of items that a producer asks for at a time. A larger number wastes pickled items
#: when a run ends early; a smaller number makes the requests costly.
PORTION = 32
#: These replace the number of a value's parts, which precedes the lengths of the parts.
_END, _FAILURE = 0, 0xFFFF_FFFF
#: The longest part, in bytes, that is copied in order to send or read it together with others.
_SHORT = 1 << 16
_BUFFER = 1 << 18


class End(Exception):
    """The end of the values."""


class Failed(Exception):
    """A failure of the other side. The message says why it could not go on."""


class Channel:
    """One end of a connection. One thread at a time may send, and one may receive."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._reader = cast(BufferedReader, connected.makefile("rb", _BUFFER))
        #: Whether the other side has a main module with this content.
        self.has_main: Callable[[], bool] = lambda: False

    def send(self, value: Any) -> None:
        """Sends a value. Waits until the other side takes it.

        Raises:
            OSError: if the other side has gone.
            Exception: the error that pickle raises for a value that it cannot pickle.
        """
        # The pickle contains short memory blocks. A long block arrives in a separate buffer,
        # which the array on the other side can keep.
        data, beside = pickles.dumps(value, lambda memory: memory.nbytes <= _SHORT)
        if session_pickles.MAIN in data and not self.has_main():
            data, beside = session_pickles.dumps(value), []
        if not beside and len(data) <= _SHORT:
            self._socket.sendall(_HEAD.pack(1, len(data)) + data)
            return
        parts = [memoryview(data), *beside]
        lengths = b"".join(_LENGTH.pack(part.nbytes) for part in parts)
        self._socket.sendall(_COUNT.pack(len(parts)) + lengths)
        for part in parts:
            self._socket.sendall(part)

    def send_failure(self, text: str) -> None:
        """Tells the other side why there will be no more values."""
        data = text.encode("utf-8", "replace")
        self._socket.sendall(_HEAD.pack(_FAILURE, len(data)) + data)

    def send_end(self) -> None:
        """Tells the other side that there are no more values."""
        self._socket.sendall(_HEAD.pack(_END, 0))

    def receive(self) -> Any:
        """Waits for the next value and returns it.

        Raises:
            End: if there are no more.
            Failed: if the other side could not go on.
            EOFError, OSError: if the other side has gone without saying why.
        """
        count, length = _HEAD.unpack(self._read(_HEAD.size))
        if count == 1:
            return session_pickles.loads(self._read(length))
        if count == _END:
            raise End
        if count == _FAILURE:
            raise Failed(self._read(length).decode("utf-8", "replace"))
        rest = struct.unpack(f"<{count - 1}Q", self._read((count - 1) * _LENGTH.size))
        data, *buffers = (self._read(size) for size in (length, *rest))
        return session_pickles.loads(data, buffers)

    def ask(self) -> None:
        """Asks the driver for another portion of items."""
        # A driver that has gone may have sent a last message, which `receive` reads.
        with contextlib.suppress(OSError):
            self._socket.sendall(_ASK)

    def await_ask(self) -> None:
        """Waits until the worker asks for another portion.

        Raises:
            EOFError, OSError: if the worker has gone.
        """
        self._read(len(_ASK))

    def greet(self) -> None:
        """Tells a worker that the driver has accepted it."""
        self._socket.sendall(_WELCOME)

    def dismiss(self) -> None:
        """Tells a worker that the driver has taken all values."""
        self._socket.sendall(_GOODBYE)

    def await_goodbye(self) -> None:
        """Waits until the driver has taken all values.

        Raises:
            EOFError, OSError: if the driver has gone.
        """
        self._read(len(_GOODBYE))

    def close(self) -> None:
        """Closes the connection and wakes the threads that wait for it."""
        with contextlib.suppress(OSError):  # The other side may have closed it before.
            self._socket.shutdown(socket.SHUT_RDWR)
        # The socket stays open for as long as its reader.
        self._reader.close()
        self._socket.close()

    def _read(self, size: int) -> Union[bytes, bytearray]:
        """Reads this number of bytes."""
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
    """Returns the driver's directory in a worker of its run.

    Raises:
        RuntimeError: in any other process.
    """
    found = os.environ.get(DIRECTORY_VARIABLE)
    if not found:
        raise RuntimeError(
            f"this step is for runs that Python has started: {DIRECTORY_VARIABLE} is unset"
        )
    return found


def connect(name: str) -> Channel:
    """Connects a worker to its driver.

    Raises:
        RuntimeError: if the driver has another version.
        EOFError, OSError: if it has gone.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.connect(os.path.join(directory(), name))
    channel = Channel(connected)
    said = channel._read(len(_WELCOME))
    if said != _WELCOME:
        raise RuntimeError(
            f"the drpipe package that drives the run sent {said!r}; that of the program expects "
            f"{_WELCOME!r}: install matching versions"
        )
    return channel


def listen(place: str, name: str) -> socket.socket:
    """Creates a driver's socket in a directory.

    Raises:
        OSError: if it cannot be created. The path of a socket has at most 107 bytes.
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
    """Waits for a worker to connect.

    Raises:
        OSError: if the listener was closed.
    """
    connected, _ = listener.accept()
    channel = Channel(connected)
    channel.greet()
    return channel
