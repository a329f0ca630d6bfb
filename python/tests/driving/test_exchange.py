"""Connections between a driver and its workers, without a run."""

import os
import threading

import pytest

from drpipe.driving import channel, private_directory
from drpipe.driving.exchange import Feeder, Results
from drpipe.protocol.driver import DIRECTORY_VARIABLE


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Returns a driver's directory, in a temporary directory for such ones."""
    directory = tmp_path / "driver"
    directory.mkdir()
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(directory))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return str(directory)


def test_what_a_killed_worker_had_handed_over_is_not_taken_twice(place):
    results = Results(place)
    results.begin()
    first = channel.connect(channel.RESULTS)
    for message in range(1, 7):
        first.send((message, f"value {message}"))
    # It dies while it sends a message, before it has reported the last three.
    first._socket.sendall(b"\x01\x00")
    first.close()
    second = channel.connect(channel.RESULTS)
    for message in range(4, 10):
        second.send((message, f"value {message}"))
    second.send_end()
    second.await_goodbye()
    results.close()
    assert results.rest() == ([f"value {message}" for message in range(1, 10)], None)


class Unreadable:
    """Can be sent, but not received."""

    def __reduce__(self):
        return divmod, (1, 0)


def test_a_result_that_cannot_be_read_costs_no_other(place):
    results = Results(place)
    results.begin()
    worker = channel.connect(channel.RESULTS)
    for message, value in ((1, "a"), (2, "b"), (3, Unreadable())):
        worker.send((message, value))
    values, error = results.rest()
    assert values == ["a", "b"] and isinstance(error, ZeroDivisionError)
    worker.close()


def test_an_iterable_is_two_portions_ahead_at_most(place):
    made, gone = [], threading.Event()

    def items():
        try:
            for number in range(10_000):
                made.append(number)
                yield number
        finally:
            gone.set()

    feeder = Feeder(place, items())
    feeder.begin()
    worker = channel.connect(channel.ITEMS)
    worker.ask()
    assert [worker.receive() for _ in range(2 * channel.PORTION)] == list(range(64))
    # It makes no more items than it is asked for.
    worker.ask()
    assert worker.receive() == 64
    feeder.stop()
    worker.close()
    feeder.close()
    assert gone.wait(60)
    assert len(made) <= 3 * channel.PORTION


def test_directories_of_dead_drivers_are_removed_and_of_live_ones_not(tmp_path):
    live = private_directory.PrivateDirectory()
    assert os.stat(live.path).st_mode & 0o777 == 0o700
    for name in ("drpipe-py-new", "drpipe-py-dead", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "drpipe-py-dead" / "lock").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lock").touch()
    (tmp_path / "drpipe-py-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "drpipe-py-fifo").mkdir()
    os.mkfifo(tmp_path / "drpipe-py-fifo" / "lock")
    private_directory.remove_abandoned()
    assert os.path.exists(live.path) and (tmp_path / "drpipe-py-new").exists()
    assert (tmp_path / "other").exists() and (tmp_path / "elsewhere" / "lock").exists()
    assert not (tmp_path / "drpipe-py-dead").exists()
    live.remove()
    assert not os.path.exists(live.path)
