"""A worker's socket against libzmq, and against whatever else may come over it."""

import os
import socket
import threading

import pytest
import zmq

from drpipe.protocol.zmtp import Dealer, ZmtpError

#: The longest wait for libzmq, in milliseconds. Only a hang takes longer.
PATIENCE = 20_000
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x04\x06\x05READY"
#: The lengths around which frames change their form, or the way that they are sent or read.
LENGTHS = (0, 1, 255, 256, (1 << 14) - 1, 1 << 14, (1 << 16) + 1, 3 << 20)


@pytest.fixture
def router(tmp_path):
    """A ROUTER socket of libzmq, and the path where it listens."""
    context = zmq.Context()
    listening = context.socket(zmq.ROUTER)
    listening.linger, listening.rcvtimeo = 0, PATIENCE
    listening.bind(f"ipc://{tmp_path}/router")
    yield listening, str(tmp_path / "router")
    listening.close()
    context.term()


@pytest.fixture
def peer(tmp_path):
    """A function that accepts a worker and sends it these bytes, and the worker's socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "router"))
    listener.listen()

    def accept(data):
        connected, _ = listener.accept()
        connected.sendall(data)
        return connected

    def connect(data):
        accepted = []
        thread = threading.Thread(target=lambda: accepted.append(accept(data)))
        thread.start()
        try:
            return Dealer(str(tmp_path / "router"), b"W"), accepted
        finally:
            thread.join()

    yield connect
    listener.close()


def test_messages_go_to_libzmq_and_come_back(router):
    listening, path = router
    dealer = Dealer(path, b"W12345678")
    frames = [os.urandom(length) for length in LENGTHS]
    messages = [frames, [b""], [memoryview(frames[3]), bytearray(frames[5])]]
    for message in messages:
        dealer.send(message)
        identity, *heard = listening.recv_multipart()
        assert (identity, heard) == (b"W12345678", [*map(bytes, message)])
        listening.send_multipart([identity, *heard])
    for message in messages:
        assert dealer.receive(True) == message
    assert dealer.receive(False) is None and not dealer.is_over
    dealer.close()


def test_what_was_sent_before_a_close_arrives(router):
    listening, path = router
    dealer = Dealer(path, b"W")
    for number in range(1000):
        dealer.send([b"%d" % number])
    dealer.close()
    heard = [listening.recv_multipart()[1] for _ in range(1000)]
    assert heard == [b"%d" % number for number in range(1000)]


def test_a_poll_shows_what_comes_and_receiving_empties_it(router):
    import select

    listening, path = router
    dealer = Dealer(path, b"W")
    dealer.send([b"here"])
    listening.recv_multipart()
    poller = select.poll()
    poller.register(dealer, select.POLLIN)
    for number in range(3):
        listening.send_multipart([b"W", b"%d" % number])
    heard = []
    while len(heard) < 3:
        assert poller.poll(PATIENCE)
        while True:
            message = dealer.receive(False)
            if message is None:
                break
            heard.append(bytes(message[0]))
    assert heard == [b"0", b"1", b"2"]
    dealer.close()


def test_parts_of_frames_are_awaited(peer):
    dealer, accepted = peer(GREETING + READY)
    data = b"\x01\x02ab" + b"\x03" + (70_000).to_bytes(8, "big") + b"c" * 70_000 + b"\x00\x00"
    for at in range(0, len(data), 611):
        accepted[0].sendall(data[at : at + 611])
        message = dealer.receive(False)
        assert (message is None) == (at + 611 < len(data))
    assert message == [b"ab", b"c" * 70_000, b""]
    dealer.close()


def test_commands_between_messages_are_no_messages(peer):
    ping = b"\x04\x07\x04PING\x00\x0a"
    dealer, _ = peer(GREETING + READY + ping + b"\x00\x01a" + ping + b"\x00\x01b")
    assert dealer.receive(True) == [b"a"]
    assert dealer.receive(True) == [b"b"]
    dealer.close()


def test_a_router_that_goes_in_mid_frame_is_over(peer):
    dealer, accepted = peer(GREETING + READY + b"\x01\x01a\x00\x05bc")
    accepted[0].close()
    assert dealer.receive(True) is None and dealer.is_over
    assert dealer.receive(False) is None
    # As with libzmq: what ends the worker then has a better reason.
    dealer.send([b"x"] * 3)
    dealer.send([b"x" * (1 << 20)])
    dealer.close()


def test_what_is_no_zmtp_is_refused(peer):
    for greeting in (bytes(64), GREETING[:10] + b"\x02" + GREETING[11:], b"HTTP/1.1 400 " * 5):
        with pytest.raises(ZmtpError, match="ZMTP 3"):
            peer(greeting)


def test_nobody_there_is_an_error(tmp_path):
    with pytest.raises(OSError):
        Dealer(str(tmp_path / "router"), b"W")
