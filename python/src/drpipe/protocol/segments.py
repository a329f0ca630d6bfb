"""Large arrays in shared memory: sealed memfd files, whose descriptors travel over the
lifeline. docs/WIRE.md says how their memory is used again."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import resource
import socket
import sys
import threading
from time import monotonic, sleep
from typing import Any, List, Optional, Tuple, Union
from weakref import WeakValueDictionary

#: The smallest array that is a buffer beside the header, in bytes; docs/WIRE.md sets it.
BUFFER_FROM = 16384
#: The smallest buffer that is a segment, in bytes. To copy a smaller one takes less time than
#: to make, seal and pass on a file.
SHARED_FROM = 256 << 10

_IS_WHOLE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
#: Nobody writes to the file, except by the mapping that its maker has.
_FUTURE_WRITE: int = getattr(fcntl, "F_SEAL_FUTURE_WRITE", 0x10)
_IS_READ_ONLY = fcntl.F_SEAL_WRITE | _FUTURE_WRITE
#: Limits the bytes that are kept to be used again.
_MOST_KEPT = 256 << 20
#: Memory that was not filled for this long, in seconds, goes back to the system.
IDLE = 2.0
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


class _Block:
    """Memory of segments of this process, which may write to it when nobody reads it.

    Readers have a file description of their own, with a shared lock. The system removes that
    with the last descriptor and the last mapping of the description, in whatever process.
    """

    def __init__(self, data: Any) -> None:
        fd = os.memfd_create("drpipe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # Not by the mapping: if there is no memory a call fails, but a store ends the process.
            rest = memoryview(data).cast("B")
            self.length = len(rest)
            while rest:
                rest = rest[os.write(fd, rest) :]
            self._memory = mmap.mmap(fd, self.length, **_UNTRACKED)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _IS_WHOLE | _FUTURE_WRITE)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self.filled = monotonic()

    def __del__(self) -> None:
        if hasattr(self, "filled"):
            os.close(self._fd)

    def fill(self, data: Any) -> None:
        """Overwrites all of it. Nobody may be reading it."""
        self._memory[:] = memoryview(data).cast("B")
        self.filled = monotonic()

    def open(self) -> int:
        """Opens the memory for readers."""
        reader = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(reader)
            raise
        return reader

    def is_read(self) -> bool:
        """Whether anybody may be reading it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError:
            return True
        return False


class _FreeList:
    """Blocks that wait until nobody reads them, in the order in which they were filled.

    One that is taken is in the list no longer, so it never has two owners.
    """

    def __init__(self, most_bytes: int, most_blocks: int) -> None:
        self._most_bytes, self._most_blocks = most_bytes, most_blocks
        self.clear()

    def clear(self) -> None:
        """Forgets all blocks."""
        self.blocks: List[_Block] = []
        self._lock = threading.Lock()
        self._is_watched = False

    def take(self, length: int) -> Optional[_Block]:
        """Takes a block of this length that nobody reads.

        The one that was filled first is the most likely.
        """
        with self._lock:
            for index, block in enumerate(self.blocks):
                if block.length == length and not block.is_read():
                    return self.blocks.pop(index)
        return None

    def give(self, block: _Block) -> None:
        """Keeps a block, if there is room for it beside those of its length and those that are
        read."""
        if block.length > self._most_bytes:
            return
        with self._lock:
            while not self._has_room(block.length):
                for index, kept in enumerate(self.blocks):
                    if kept.length != block.length and not kept.is_read():
                        del self.blocks[index]
                        break
                else:
                    return
            self.blocks.append(block)
            if not self._is_watched:
                try:
                    threading.Thread(target=self._watch, name="memory", daemon=True).start()
                    self._is_watched = True
                except RuntimeError:  # The system has no thread left: nothing is used again.
                    self.blocks.clear()

    def return_idle(self, now: float) -> bool:
        """Gives blocks that were not filled for a while back to the system.

        Where one is still read, its readers keep the memory.

        Returns:
            Whether any block is left.
        """
        with self._lock:
            idle = [block for block in self.blocks if now - block.filled >= IDLE]
            del self.blocks[: len(idle)]
            self._is_watched = is_any_left = bool(self.blocks)
        return is_any_left

    def _has_room(self, length: int) -> bool:
        kept = sum(block.length for block in self.blocks)
        return kept + length <= self._most_bytes and len(self.blocks) < self._most_blocks

    def _watch(self) -> None:
        sleep(IDLE)
        while self.return_idle(monotonic()):
            sleep(IDLE)


def _most_bytes() -> int:
    """Leaves most of a limited address space (`ulimit -v`) to others."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return _MOST_KEPT if limit == resource.RLIM_INFINITY else min(_MOST_KEPT, limit // 16)


_count = _Count()
_free_list = _FreeList(_most_bytes(), _count.most // 2)
# A forked process shares the memory of its parent, who alone may use it again.
os.register_at_fork(after_in_child=_free_list.clear)
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
        block = _free_list.take(length)
        if block is None:
            block = _Block(data)
        else:
            block.fill(data)
        segment = Segment(block.open(), length)
    except OSError:
        return bytes(data)
    _free_list.give(block)
    return segment


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
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            if seals & _IS_WHOLE != _IS_WHOLE or not seals & _IS_READ_ONLY:
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
