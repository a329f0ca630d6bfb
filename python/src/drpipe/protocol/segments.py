"""Large arrays in shared memory: sealed memfd files, whose descriptors travel over the
lifeline."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import resource
import socket
import sys
from typing import Any, Optional, Tuple, Union
from weakref import WeakValueDictionary

#: The smallest array that is a buffer beside the header, in bytes; docs/WIRE.md sets it.
BUFFER_FROM = 16384
#: The smallest buffer that is a segment, in bytes. To copy a smaller one takes less time than
#: to make, seal and pass on a file.
SHARED_FROM = 256 << 10

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
#: Neither `send` nor `receive` waits for the other side.
_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_RECEIVE_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_SPACE = socket.CMSG_SPACE(4 * array.array("i").itemsize)
#: Without this mmap duplicates the descriptor.
_UNTRACKED: Any = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class Segment:
    """A buffer in shared memory, which no process can change. It owns its descriptor."""

    def __init__(self, fd: int, length: int) -> None:
        self.fd = fd
        self._length = length
        _count.add(1)

    def __len__(self) -> int:
        return self._length

    def __del__(self) -> None:
        os.close(self.fd)
        _count.add(-1)

    def map(self, writable: bool) -> Mapping:
        """Returns its memory.

        What is written there only this process sees: the kernel copies a page when it is first
        written to.
        """
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        mapping = Mapping(self.fd, self._length, mmap.MAP_PRIVATE, access, **_UNTRACKED)
        mapping.segment = self
        mapping.is_writable = writable
        return mapping


class Mapping(mmap.mmap):
    """The memory of a segment, mapped into this process."""

    segment: Segment
    is_writable: bool


#: A buffer of a payload, in a segment or in a frame.
Buffer = Union[Segment, bytes, bytearray, memoryview]


class _Count:
    """Counts open segments, so that they never use up the descriptors of the process."""

    def __init__(self) -> None:
        self.open = 0
        # A quarter is for segments: steps open files, too.
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        each = 1 if _UNTRACKED else 2
        self.most = sys.maxsize if soft == resource.RLIM_INFINITY else soft // 4 // each

    def add(self, more: int) -> None:
        self.open += more

    def is_full(self) -> bool:
        return self.open >= self.most


_count = _Count()
#: The mappings of received segments that arrays lie on, by address.
_by_address: WeakValueDictionary[int, Mapping] = WeakValueDictionary()


def make(data: Any) -> Buffer:
    """Copies contiguous memory into a segment.

    Returns plain bytes if there are too many segments, or the system has no room for one.
    """
    length = memoryview(data).nbytes
    if _count.is_full():
        return bytes(data)
    try:
        fd = os.memfd_create("drpipe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return bytes(data)
    made = Segment(fd, length)
    try:
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        return bytes(data)
    return made


def remember(address: int, mapping: Mapping) -> None:
    """Remembers that an array at this address is the whole of a segment."""
    _by_address[address] = mapping


def at(address: int, length: int) -> Optional[Mapping]:
    """Returns the mapping with this address and length, if there is one."""
    mapping = _by_address.get(address)
    return mapping if mapping is not None and len(mapping) == length else None


def content(segment: Segment) -> Union[bytes, bytearray]:
    """Reads the contents of a segment."""
    return _read_all(segment.fd, len(segment))


class Lifeline:
    """A worker's end of the socket pair to the program that has started it."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def receive_post(self) -> Tuple[bytes, int]:
        """Waits for the post, and returns it with the descriptor of the page.

        Raises:
            OSError: if the program has ended, or has sent something else.
        """
        post = self._receive_fd(socket.MSG_CMSG_CLOEXEC)
        page = self._receive_fd(socket.MSG_CMSG_CLOEXEC)
        with open(post, "rb") as file:
            file.seek(0)
            return file.read(), page

    def receive(self, length: int) -> Buffer:
        """Returns the next segment, as bytes if there are too many segments. Does not wait.

        Raises:
            OSError: if there is none, or it has another length, or it is not sealed.
        """
        fd = self._receive_fd(_RECEIVE_FLAGS)
        try:
            size = os.fstat(fd).st_size
            if size != length or size == 0:
                raise OSError(f"a segment has {size} bytes, expected {length}")
            if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
                raise OSError("a segment is not sealed")
            if _count.is_full():
                # A copy is slower, but takes no descriptor.
                content = _read_all(fd, length)
                os.close(fd)
                return content
        except BaseException:
            os.close(fd)
            raise
        return Segment(fd, length)

    def send(self, segment: Segment) -> bool:
        """Sends a segment. Returns false if the lifeline is full or closed."""
        fds = array.array("i", [segment.fd])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
        try:
            return self.socket.sendmsg([b"\x01"], rights, _SEND_FLAGS) == 1
        except OSError:
            return False

    def _receive_fd(self, flags: int) -> int:
        data, ancillary, _, _ = self.socket.recvmsg(1, _SPACE, flags)
        fds = array.array("i")
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
        for surplus in fds[1:]:
            os.close(surplus)
        if not data:
            raise OSError("the program at the other end of the lifeline has ended")
        if not fds:
            raise OSError("no file came with the message")
        return fds[0]


def _read_all(fd: int, length: int) -> bytearray:
    content = bytearray(length)
    done = 0
    with memoryview(content) as view:
        while done < length:
            count = os.preadv(fd, [view[done:]], done)
            if not count:
                raise OSError(f"a segment of {length} bytes ends after {done}")
            done += count
    return content
