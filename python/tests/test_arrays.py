"""Arrays through the real worker: in the header, as frames, as segments."""

from __future__ import annotations

import fcntl
import os

import msgpack
import numpy as np
import pytest

from router import FUTURE_WRITE, IS_WHOLE, segment

LARGE = 1 << 18


def array(kind, shape, place):
    return msgpack.packb(msgpack.ExtType(1, msgpack.packb([kind, shape, place])))


def received(output):
    """Returns the array of an output."""
    return array_of(output.value, output.buffers)


def array_of(extension, buffers):
    assert extension.code == 1
    kind, shape, place = msgpack.unpackb(extension.data)
    buffer = buffers[place] if isinstance(place, int) else place
    data = buffer.data if hasattr(buffer, "fd") else buffer
    return np.frombuffer(data, kind).reshape(shape)


def frame(pixels, shape, cards=(), buffers=0, kind="F32"):
    fields = {
        "name": "n1",
        "source": "raw/n1.fits",
        "shape": shape,
        "pixels": {kind: msgpack.ExtType(1, msgpack.packb(pixels))},
        "unit": "adu",
        "cards": list(cards),
        "history": ["read"],
    }
    data = msgpack.packb("drpipe/Frame/1") + msgpack.packb(fields)
    return msgpack.packb(msgpack.ExtType(2, data))


@pytest.mark.parametrize("size", [3, 4096, 1 << 17])
def test_arrays_of_every_size_come_and_go(start, size):
    numbers = np.arange(size, dtype="<f4")
    place = numbers.tobytes() if numbers.nbytes < 16384 else 0
    buffers = []
    if numbers.nbytes >= LARGE:
        buffers = [segment(numbers.tobytes())]
    elif place == 0:
        buffers = [numbers.tobytes()]
    router = start("Doubles", module="arrays").ready()
    router.work(router.one(1, array("<f4", [size], place), buffers))
    (output,) = router.done(1).outputs
    assert np.array_equal(received(output), numbers * 2)
    assert len(output.buffers) == len(buffers)
    assert all(hasattr(buffer, "fd") == (numbers.nbytes >= LARGE) for buffer in output.buffers)


@pytest.mark.parametrize("cls", ["Inspect", "Views"])
def test_a_received_array_is_a_read_only_view_or_of_the_step_alone(start, cls):
    router = start(cls, module="arrays").ready()
    writable = cls == "Inspect"
    ones = np.ones((64, 1024), dtype="<f4")
    router.work(
        router.one(1, array("<f4", [64, 1024], 0), [segment(ones.tobytes())]),
        router.one(2, array("<f4", [64, 1024], 0), [ones.tobytes()]),
        router.one(3, array("<f4", [2], ones[0, :2].tobytes())),
    )
    said = router.done(3)
    assert said.values[:2] == [["<f4", [64, 1024], writable, 65536.0]] * 2
    assert said.values[2] == ["<f4", [2], writable, 2.0]


def test_a_segment_that_was_changed_is_sent_on_as_it_is_now(start):
    router = start("InPlace", module="arrays").ready()
    ones = np.ones(LARGE, "u1")
    sent = segment(ones.tobytes())
    for number in (1, 2):
        router.work(router.one(number, array("|u1", [LARGE], 0), [sent]))
        (output,) = router.done(1).outputs
        assert received(output).sum() == 2 * LARGE
        assert output.buffers[0].inode != sent.inode
    assert os.pread(sent.fd, LARGE, 0) == ones.tobytes()


def test_segments_are_given_back(start):
    router = start("Files", module="arrays").ready()
    (before,) = router.run(1).values
    sent = segment(bytes(LARGE))
    for number in range(100):
        router.work(router.one(number, array("|u1", [LARGE], 0), [sent]))
        (output,) = router.done(1).outputs
        os.close(output.buffers[0].fd)
    assert router.run(1).values[0] <= before + 2


def test_a_segment_that_is_passed_on_is_not_copied(start):
    router = start("Echo", module="arrays").ready()
    sent = segment(bytes(LARGE))
    for number in (1, 2):
        router.work(router.one(number, array("|u1", [512, 512], 0), [sent]))
        (output,) = router.done(1).outputs
        assert output.buffers[0].inode == sent.inode


def test_what_a_step_changes_after_it_has_sent_it_stays_as_it_was_sent(start):
    said = start("Reuses", module="arrays").ready().run(3)
    assert [received(output)[0] for output in said.outputs] == [0.0, 1.0, 2.0]


def test_a_segment_without_room_in_the_lifeline_goes_as_a_frame(start):
    router = start("Echo", module="arrays").ready()
    count = 600
    sent = segment(bytes(LARGE))
    for number in range(count):
        router.work(router.one(number, array("|u1", [LARGE], 0), [sent]))
        if number % 100 == 99:
            # The worker has taken these, so there is room for more segments.
            router.socket.poll()
    outputs = router.done(count).outputs
    assert len(outputs) == count
    assert {len(getattr(o.buffers[0], "data", o.buffers[0])) for o in outputs} == {LARGE}


@pytest.mark.parametrize("seals", [fcntl.F_SEAL_WRITE | IS_WHOLE, FUTURE_WRITE | IS_WHOLE])
def test_a_segment_is_taken_if_nobody_or_its_maker_alone_can_write_to_it(start, seals):
    router = start("Inspect", module="arrays").ready()
    ones = np.ones(LARGE, "u1").tobytes()
    router.work(router.one(1, array("|u1", [LARGE], 0), [segment(ones, seals)]))
    assert router.done(1).values == [["|u1", [LARGE], True, float(LARGE)]]


@pytest.mark.parametrize("seals", [0, IS_WHOLE, fcntl.F_SEAL_WRITE, FUTURE_WRITE])
def test_a_segment_that_could_change_ends_the_worker(start, seals):
    router = start("Echo", module="arrays").ready()
    router.work(router.one(1, array("|u1", [LARGE], 0), [segment(bytes(LARGE), seals)]))
    code, _, err = router.ended()
    assert code == 113 and "not sealed" in err


def test_an_array_that_is_not_what_it_says_fails(start):
    router = start("Echo", module="arrays").ready()
    router.work(
        router.one(1, array("<f4", [5], bytes(16))),
        router.one(2, array("|O", [2], bytes(16))),
        router.one(3, array("<f4", [4], 0)),
        router.one(4, array("<f4", [4], bytes(16))),
    )
    said = router.done(4)
    failures = [c["failure"] for c in said.completions if c["failure"]]
    assert len(failures) == 3 and not any(retryable for retryable, _ in failures)
    assert "an array of <f4 and shape [5] came with 16 bytes" in failures[0][1][0]
    assert len(said.outputs) == 1


def test_a_frame_goes_through_with_its_header(start):
    pixels = np.arange(300 * 400, dtype="<f4")
    cards = ["EXPTIME =                 30.5 / [s]", "OBJECT  = 'M 31    '"]
    header = frame(["<f4", [120000], 0], [300, 400], cards)
    router = start("Bias", module="arrays", params={"level": 2}).ready()
    router.work(router.one(1, header, [segment(pixels.tobytes())], origin="raw/n1.fits"))
    (output,) = router.done(1).outputs
    assert output.origin == "raw/n1.fits"
    name, fields = unpack_typed(output.value)
    assert name == "drpipe/Frame/1"
    assert np.array_equal(array_of(fields["pixels"]["F32"], output.buffers), pixels - 2)
    assert fields["shape"] == [300, 400] and fields["unit"] == "adu"
    assert fields["cards"] == [*cards, "BIASLEV =                  2.0"]
    assert fields["history"] == ["read", "bias 2.0"]


def test_an_untouched_frame_keeps_its_segment(start):
    router = start("Echo", module="arrays").ready()
    sent = segment(bytes(8 * 200 * 300))
    header = frame(["<f8", [60000], 0], [200, 300], kind="F64")
    router.work(router.one(1, header, [sent]))
    (output,) = router.done(1).outputs
    assert output.buffers[0].inode == sent.inode
    assert "F64" in unpack_typed(output.value)[1]["pixels"]


def unpack_typed(extension):
    assert extension.code == 2
    unpacker = msgpack.Unpacker()
    unpacker.feed(extension.data)
    return list(unpacker)
