"""What scripts give to `drpipe.run`: functions, classes, producers."""

import contextlib
import itertools
import os
import signal
import threading

import numpy as np

import drpipe


def square(value):
    return value * value


def numbers():
    yield from range(5)


def as_list():
    return [1, 2, 3]


def nothing():
    """Makes no items."""


def twice(value):
    yield value
    yield -value


def fails_at_3(value):
    if value == 3:
        raise ValueError("three")
    return value


def fails_at_49(value):
    if value == 49:
        raise ValueError("49")
    return value


#: Larger than the values that a worker leaves with a failure.
BIG = np.arange(1 << 18, dtype="f8")


class Odd(Exception):
    """An exception that cannot be made of its message alone."""

    def __init__(self, size, unit):
        super().__init__(size, unit)


def fails(value):
    with contextlib.suppress(Exception):
        value[0] = 7
    raise Odd(len(value), "pixels")


def endless():
    yield from itertools.count()


def sleeps_from_3(value):
    if value >= 3:
        threading.Event().wait()
    return value


def dies_at_3(value):
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def pair(value):
    return value, {"value": [value, None, "text", b"bytes", 1.5]}


def double_array(array):
    return array * 2


class Items(drpipe.Producer):
    """A producer with parameters."""

    first: int = 0
    count: int = 3

    def init(self):
        self.log.info("from %d", self.first)

    def run(self):
        for number in range(self.first, self.first + self.count):
            yield number

    def origin(self, value):
        return f"item {value}"


class Sum:
    """Keeps a sum for its `finish`."""

    start = 0

    def init(self):
        self.sum = self.start

    def run(self, value):
        self.sum += value

    def finish(self):
        return self.name, self.connections, self.sum


class Refuses:
    """Fails in `init`."""

    def init(self):
        return False

    def run(self, value):
        return value


class Write(drpipe.Consumer):
    """A consumer that writes a file."""

    def __init__(self, directory):
        self.directory = directory

    def run(self, value):
        with open(os.path.join(self.directory, str(value)), "w"):
            pass
        return f"wrote {value}"


def fails_at_once(value):
    raise ValueError("no")


def same(value):
    return value


def passes_what_is_there(path):
    assert os.path.exists(path)
    return path
