"""Segments, the lifeline, and the buffer of outputs."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys

import pytest

from drpipe.protocol import segments
from drpipe.protocol.batches import PACK_UP_TO, OutputBuffer, PackedBatch
from drpipe.protocol.segments import IDLE, SHARED_FROM, Lifeline


@pytest.fixture
def pair():
    ends = [Lifeline(end) for end in socket.socketpair()]
    yield ends
    for end in ends:
        end.socket.close()


def test_a_segment_arrives_and_cannot_be_changed(pair):
    ours, theirs = pair
    made = segments.make(bytes(range(256)) * 1024)
    assert ours.send(made)
    received = theirs.receive(SHARED_FROM)
    assert bytes(received.map(False)) == bytes(range(256)) * 1024
    assert os.fstat(received.fd).st_ino == os.fstat(made.fd).st_ino
    for refused in (
        lambda: os.write(received.fd, b"x"),
        lambda: os.truncate(received.fd, 1),
        lambda: mmap.mmap(received.fd, SHARED_FROM),
        # Nor through the name that the system gives the descriptor.
        lambda: mmap.mmap(os.open(f"/proc/self/fd/{received.fd}", os.O_RDWR), SHARED_FROM),
    ):
        with pytest.raises(OSError):
            refused()
    assert bytes(received.map(False)) == bytes(range(256)) * 1024


def test_what_is_written_into_a_segment_is_of_this_process_alone(pair):
    ours, theirs = pair
    made = segments.make(bytes(SHARED_FROM))
    ours.send(made)
    received = theirs.receive(SHARED_FROM)
    writable = received.map(True)
    writable[0] = 7
    assert received.map(False)[0] == received.map(True)[0] == 0 and writable[0] == 7
    with pytest.raises(TypeError):
        received.map(False)[0] = 7


def test_what_is_not_as_it_was_said_is_refused(pair):
    ours, theirs = pair
    made = segments.make(bytes(SHARED_FROM))
    before = len(os.listdir("/proc/self/fd"))
    for length in (0, SHARED_FROM - 1, SHARED_FROM + 1):
        ours.send(made)
        with pytest.raises(OSError, match=f"has {SHARED_FROM} bytes, expected {length}"):
            theirs.receive(length)
    with pytest.raises(BlockingIOError):
        theirs.receive(SHARED_FROM)
    assert len(os.listdir("/proc/self/fd")) <= before, "a descriptor is left"


def test_sending_never_waits(pair):
    ours, _ = pair
    made = segments.make(bytes(SHARED_FROM))
    sent = 0
    while ours.send(made):
        sent += 1
    assert 0 < sent < 100_000


def test_with_too_many_segments_arrays_are_copied(pair, monkeypatch):
    ours, theirs = pair
    made = segments.make(bytes(SHARED_FROM))
    ours.send(made)
    monkeypatch.setattr(segments._count, "most", 0)
    assert type(segments.make(bytes(10))) is bytes
    assert theirs.receive(SHARED_FROM) == bytes(SHARED_FROM)


def test_the_count_of_segments_returns_to_what_it_was(pair):
    ours, theirs = pair
    before = segments._count.open
    made = segments.make(bytes(SHARED_FROM))
    ours.send(made)
    received = theirs.receive(SHARED_FROM)
    assert segments._count.open == before + 2
    del made, received
    assert segments._count.open == before


@pytest.fixture
def free_list(monkeypatch):
    """The free list of this process, empty, and without a thread that gives blocks back."""
    own = segments._FreeList(4 * SHARED_FROM, 100)
    own._is_watched = True
    monkeypatch.setattr(segments, "_free_list", own)
    return own


def filled(value, size=SHARED_FROM):
    return segments.make(bytes([value]) * size)


def inode(segment):
    return os.fstat(segment.fd).st_ino


def test_memory_is_used_again_once_its_last_reader_is_gone(pair, free_list):
    ours, theirs = pair
    made = filled(1)
    first = inode(made)
    ours.send(made)
    del made
    assert inode(filled(2)) != first, "it is on its way"
    received = theirs.receive(SHARED_FROM)
    assert inode(filled(3)) != first, "it has arrived"
    mapping = received.map(True)
    fd = os.dup(received.fd)
    mapping.segment = received = None
    assert inode(filled(4)) != first, "a descriptor is left"
    os.close(fd)
    assert inode(filled(5)) != first, "it is mapped"
    assert mapping[:] == bytes([1]) * SHARED_FROM
    mapping.close()
    free_list.blocks[:] = [b for b in free_list.blocks if os.fstat(b._fd).st_ino == first]
    again = filled(6)
    assert inode(again) == first
    assert again.map(False)[:] == bytes([6]) * SHARED_FROM


def test_a_reader_that_is_killed_holds_no_memory(pair, free_list):
    made = filled(1)
    first = inode(made)
    reads = "m = mmap.mmap(0, 0, mmap.MAP_PRIVATE, mmap.PROT_READ); print(m[0], flush=True)"
    reader = subprocess.Popen(
        [sys.executable, "-c", f"import mmap, signal; {reads}; signal.pause()"],
        stdin=made.fd,
        stdout=subprocess.PIPE,
    )
    assert reader.stdout.read(1) == b"1"
    del made
    assert inode(filled(2)) != first
    reader.kill()
    reader.communicate()
    assert first in {inode(filled(3)), inode(filled(4))}


def test_memory_never_has_two_owners(free_list):
    held = [filled(value) for value in range(1, 5)]
    assert len({inode(segment) for segment in held}) == 4
    for value, segment in enumerate(held, start=1):
        assert segment.map(False)[:] == bytes([value]) * SHARED_FROM


def test_a_forked_process_leaves_the_memory_to_its_parent(monkeypatch):
    first = inode(filled(1))
    child = os.fork()
    if child == 0:
        os._exit(inode(filled(2)) == first)
    assert os.waitpid(child, 0)[1] == 0


def test_what_is_kept_is_bounded(free_list):
    half = SHARED_FROM // 2

    def kept():
        return [block.length for block in free_list.blocks]

    for length in (half, *[SHARED_FROM] * 4, 5 * SHARED_FROM):
        free_list.give(segments._Block(bytes(length)))
    assert kept() == [SHARED_FROM] * 4, "what has another length makes room"
    readers = [block.open() for block in free_list.blocks[1:]]
    for _ in range(3):
        free_list.give(segments._Block(bytes(half)))
    assert kept() == [SHARED_FROM] * 3 + [half] * 2, "what is read stays"
    for reader in readers:
        os.close(reader)


def test_what_was_not_filled_for_a_while_is_given_back(free_list):
    held = filled(1)
    filled(2)
    filled(3)
    (first, second) = free_list.blocks
    first.filled, second.filled = 100.0, 100.0 + IDLE / 2
    assert free_list.return_idle(100.0 + IDLE / 2) and len(free_list.blocks) == 2
    assert free_list.return_idle(100.0 + IDLE) and free_list.blocks == [second]
    assert not free_list.return_idle(100.0 + 2 * IDLE) and free_list.blocks == []
    assert held.map(False)[0] == 1, "its reader keeps it"


def headers_of(output):
    if not isinstance(output, PackedBatch):
        return [output.header]
    data, headers = b"".join(output.parts), []
    while data:
        end = 2 + int.from_bytes(data[:2], "little")
        headers.append(data[2:end])
        data = data[end:]
    assert len(headers) == output.count
    return headers


def test_outputs_keep_their_order_for_each_next_step():
    buffer = OutputBuffer()
    sent = {0: [], 1: []}
    for number, length in enumerate([0, 8, 600, PACK_UP_TO, PACK_UP_TO + 1, 3, 30, 8] * 20):
        header = bytes([number]) * length
        buffers = [b"beside"] if number % 7 == 0 else ()
        origin = b"o" if number % 11 == 0 else None
        buffer.push(number % 2, origin, header, buffers)
        sent[number % 2].append(header)
    assert buffer.count == 160
    outputs = buffer.take()
    for route, headers in sent.items():
        mine = [output for output in outputs if output.route == route]
        assert [header for output in mine for header in headers_of(output)] == headers
    assert buffer.count == buffer.bytes == 0 and buffer.take() == []


def test_a_pack_has_what_was_emitted_one_after_the_other():
    buffer = OutputBuffer()
    for number in range(100):
        buffer.push(number // 30 % 2, None, b"x", ())
    assert [(output.route, output.count) for output in buffer.take()] == [
        (0, 30),
        (1, 30),
        (0, 30),
        (1, 10),
    ]


def test_a_pack_is_not_without_end():
    buffer = OutputBuffer()
    for _ in range(100):
        buffer.push(0, None, bytes(10_000), ())
    sizes = [output.size for output in buffer.take()]
    assert len(sizes) == 4 and max(sizes) < (256 << 10) + 10_002
