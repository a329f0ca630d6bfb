"""The protocol of ZeroMQ (ZMTP 3.0), spoken by a worker over the UNIX socket of its run.

libzmq would have a thread of its own do so, which costs two changes of thread for each message.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import List, Optional, Union

Frame = Union[bytes, bytearray, memoryview]

_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
#: Flags of a frame: another follows; its length has eight bytes; it is a command.
_MORE, _LONG, _COMMAND = 1, 2, 4
_READY = b"\x05READY"
_U64 = struct.Struct(">Q")
#: How many bytes are read at once, and the length from which a frame is not copied.
_CHUNK = 1 << 16
_LARGE = 1 << 14


def identity(worker: int, incarnation: int) -> bytes:
    """Returns a worker's identity on the router's socket."""
    return struct.pack("<cII", b"W", worker, incarnation)


class ZmtpError(OSError):
    """The other side does not speak ZMTP 3."""


class Dealer:
    """A DEALER socket that is connected with one ROUTER socket. One thread at a time uses it."""

    def __init__(self, path: str, identity: bytes) -> None:
        """Connects.

        Args:
            path: where the router listens.
            identity: by what the router knows this side.

        Raises:
            OSError: if nobody listens there.
        """
        #: Whether the router has gone. Nothing will come any more, and what is sent is lost.
        self.is_over = False
        self._data, self._at = b"", 0
        #: The frames of the message that has not come as a whole.
        self._frames: List[bytearray] = []
        #: The frame that has not come as a whole, and how much of it has.
        self._body: Optional[bytearray] = None
        self._filled = 0
        self._flags = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
            self._shake_hands(identity)
        except BaseException:
            self._socket.close()
            raise

    def _shake_hands(self, identity: bytes) -> None:
        ready = _READY + _property(b"Socket-Type", b"DEALER")
        ready += _property(b"Identity", identity)
        self._socket.sendall(_GREETING + bytes([_COMMAND, len(ready)]) + ready)
        theirs = self._receive_part(len(_GREETING))
        # The version that both sides speak is the lower one.
        if theirs[0] != 0xFF or theirs[10] < 3 or theirs[12:32] != _GREETING[12:32]:
            raise ZmtpError(f"the router does not speak ZMTP 3: {theirs!r}")
        # No message may be sent before the other side's READY has come.
        flags, size = self._receive_part(2)
        if flags != _COMMAND or not self._receive_part(size).startswith(_READY):
            raise ZmtpError("the router is not ready for a worker")

    def _receive_part(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ZmtpError("the router has closed the connection")
            data += more
        return data

    def fileno(self) -> int:
        """Returns the descriptor, for `poll`. Call `receive` until it returns None before that."""
        return self._socket.fileno()

    def send(self, frames: List[Frame]) -> None:
        """Sends a message. Does nothing if the router has gone."""
        parts: List[Frame] = []
        left = len(frames)
        # Who ends the worker then has better reasons.
        with contextlib.suppress(ConnectionError):
            for frame in frames:
                left -= 1
                size, flags = len(frame), _MORE if left else 0
                if size < 256:
                    parts += (bytes((flags, size)), frame)
                    continue
                parts += (bytes((flags | _LONG,)), _U64.pack(size))
                if size < _LARGE:
                    parts.append(frame)
                    continue
                self._socket.sendall(b"".join(parts))
                self._socket.sendall(frame)
                parts = []
            if parts:
                self._socket.sendall(b"".join(parts))

    def receive(self, wait: bool) -> Optional[List[bytearray]]:
        """Returns the next message.

        Args:
            wait: whether to wait for it.

        Returns:
            None if no message has come, or if the router has gone.
        """
        flags = 0 if wait else socket.MSG_DONTWAIT
        while not self.is_over:
            while self._next_frame():
                if not self._flags & _MORE:
                    frames, self._frames = self._frames, []
                    return frames
            if not self._fill(flags):
                return None
        return None

    def _next_frame(self) -> bool:
        """Takes a frame out of what was read. Returns whether there was one."""
        while True:
            if self._body is None and not self._begin_frame():
                return False
            body = self._body
            assert body is not None
            taken = self._data[self._at : self._at + len(body) - self._filled]
            body[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            self._at += len(taken)
            if self._filled < len(body):
                return False
            self._body = None
            if not self._flags & _COMMAND:
                self._frames.append(body)
                return True

    def _begin_frame(self) -> bool:
        data, at = self._data, self._at
        left = len(data) - at
        if left < 2:
            return False
        flags = data[at]
        if not flags & _LONG:
            size = data[at + 1]
            self._at += 2
        elif left < 9:
            return False
        else:
            (size,) = _U64.unpack_from(data, at + 1)
            self._at += 9
        self._flags, self._body, self._filled = flags, bytearray(size), 0
        return True

    def _fill(self, flags: int) -> bool:
        """Reads what has come. Returns whether something has."""
        body = self._body
        try:
            if body is not None and len(body) - self._filled >= _LARGE:
                with memoryview(body) as view:
                    count = self._socket.recv_into(view[self._filled :], 0, flags)
                self._filled += count
                self._data, self._at = b"", 0
            else:
                more = self._socket.recv(_CHUNK, flags)
                self._data = self._data[self._at :] + more
                self._at = 0
                count = len(more)
        except BlockingIOError:
            return False
        except ConnectionError:
            count = 0
        self.is_over = not count
        return count > 0

    def close(self) -> None:
        """Closes the connection. The router gets what was sent."""
        self._socket.close()


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
