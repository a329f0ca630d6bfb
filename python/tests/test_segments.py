"""Segments, the lifeline, and the buffer of outputs."""

from __future__ import annotations

import fcntl
import os
import socket

import pytest

from drpipe.protocol import segments
from drpipe.protocol.batches import PACK_UP_TO, OutputBuffer, PackedBatch
from drpipe.protocol.segments import SHARED_FROM, Lifeline


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
    with pytest.raises(OSError):
        os.write(made.fd, b"x")
    assert fcntl.fcntl(received.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE


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
    assert len(os.listdir("/proc/self/fd")) == before


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
