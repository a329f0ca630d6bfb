"""Large arrays in shared memory: sealed memfd files whose descriptors travel over the
lifeline. docs/WIRE.md describes how their memory is reused."""

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

#: The smallest array, in bytes, that travels in a buffer beside the header; set by docs/WIRE.md.
BUFFER_FROM = 16384
#: The smallest buffer, in bytes, that becomes a segment. Copying a smaller one takes less time
#: than creating, sealing and passing a file.
SHARED_FROM = 256 << 10

_IS_WHOLE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
#: Forbids all writes to the file except through the mapping that its creator has.
_FUTURE_WRITE: int = getattr(fcntl, "F_SEAL_FUTURE_WRITE", 0x10)
_IS_READ_ONLY = fcntl.F_SEAL_WRITE | _FUTURE_WRITE
#: The most bytes that are kept for reuse.
_MOST_KEPT = 256 << 20
#: How long memory may go unfilled, in seconds, before it returns to the system.
IDLE = 2.0
#: Neither `send` nor `receive` waits for the other side.
_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_RECEIVE_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_SPACE = socket.CMSG_SPACE(4 * array.array("i").itemsize)
#: Without this option, mmap duplicates the descriptor.
_UNTRACKED: Any = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class Segment:
    """A buffer in shared memory that no reader can change. It owns its descriptor."""

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
        """Returns the memory of the segment.

        Only this process sees what it writes there: the kernel copies a page when it is first
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


#: A buffer of a payload, either a segment or a frame.
Buffer = Union[Segment, bytes, bytearray, memoryview]


class _Count:
    """A count of open segments, which keeps them from using up the process's descriptors."""

    def __init__(self) -> None:
        self.open = 0
        # Segments get a quarter, because steps open files, too.
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        each = 1 if _UNTRACKED else 2
        self.most = sys.maxsize if soft == resource.RLIM_INFINITY else soft // 4 // each

    def add(self, more: int) -> None:
        self.open += more

    def is_full(self) -> bool:
        return self.open >= self.most


class _Block:
    """A block of segment memory that this process may write to while no process reads it.

    Readers have a separate file description with a shared lock. The system removes the lock with
    the last descriptor and the last mapping of that description, in whichever process it is.
    """

    def __init__(self, data: Any) -> None:
        fd = os.memfd_create("drpipe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # Do not fill it through the mapping: without free memory, a system call fails, but a
            # store kills the process.
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
        """Overwrites the whole block. No process may be reading it."""
        self._memory[:] = memoryview(data).cast("B")
        self.filled = monotonic()

    def open(self) -> int:
        """Opens the block for readers."""
        reader = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(reader)
            raise
        return reader

    def is_read(self) -> bool:
        """Whether a process may be reading the block."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError:
            return True
        return False


class _FreeList:
    """Blocks that wait until no process reads them, in the order in which they were filled.

    `take` removes a block from the list, so it never has two owners.
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
        """Takes a block of this length that no process reads.

        It looks first at the oldest, which is the most likely to be free.
        """
        with self._lock:
            for index, block in enumerate(self.blocks):
                if block.length == length and not block.is_read():
                    return self.blocks.pop(index)
        return None

    def give(self, block: _Block) -> None:
        """Keeps a block if there is room for it beside the blocks of its length and those being
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
                except RuntimeError:  # The system has no thread left, so reuse no memory.
                    self.blocks.clear()

    def return_idle(self, now: float) -> bool:
        """Returns blocks that have not been filled for a while to the system.

        If a block is still being read, its readers keep the memory.

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
    """Returns how many bytes to keep. Leaves most of a limited address space (`ulimit -v`) free."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return _MOST_KEPT if limit == resource.RLIM_INFINITY else min(_MOST_KEPT, limit // 16)


_count = _Count()
_free_list = _FreeList(_most_bytes(), _count.most // 2)
# A forked process shares its parent's memory, and only the parent may reuse it.
os.register_at_fork(after_in_child=_free_list.clear)
#: The mappings of received segments that arrays use, keyed by address.
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
    """Records that an array at this address spans a whole segment."""
    _by_address[address] = mapping


def at(address: int, length: int) -> Optional[Mapping]:
    """Returns the mapping with this address and length, if there is one."""
    mapping = _by_address.get(address)
    return mapping if mapping is not None and len(mapping) == length else None


def content(segment: Segment) -> Union[bytes, bytearray]:
    """Reads the contents of a segment."""
    return _read_all(segment.fd, len(segment))


class Lifeline:
    """A worker's end of the socket pair to the program that started it."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def receive_post(self) -> Tuple[bytes, int]:
        """Waits for the post and returns it with the descriptor of the page.

        Raises:
            OSError: if the program has ended, or has sent something else.
        """
        post = self._receive_fd(socket.MSG_CMSG_CLOEXEC)
        page = self._receive_fd(socket.MSG_CMSG_CLOEXEC)
        with open(post, "rb") as file:
            file.seek(0)
            return file.read(), page

    def receive(self, length: int) -> Buffer:
        """Returns the next segment without waiting, or bytes if there are too many segments.

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
                # A copy is slower, but needs no descriptor.
                content = _read_all(fd, length)
                os.close(fd)
                return content
        except BaseException:
            os.close(fd)
            raise
        return Segment(fd, length)

    def send(self, segment: Segment) -> bool:
        """Sends a segment. Returns False if the lifeline is full or closed."""
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
