"""Steps in the three styles of the first model, and some that misbehave."""

import os
import pathlib
import sys

import drpipe


class Returns:
    """Doubles a number.

    And more.
    """

    def init(self):
        self.log.info("%s has %s", self.name, self.connections)

    def run(self, msg):
        return msg * 2


class Yields:
    def run(self, msg):
        for item in range(msg):
            yield item


class Sends:
    def init(self):
        return True

    def run(self, msg):
        for connection in self.connections:
            self.send_msg((msg, connection), connection)
        self.send_msg(msg)

    def finish(self):
        self.send_msg("the end")
        return "really", self.connections[1]


class Odd(drpipe.Stage):
    """Sends odd numbers to OTHER."""

    offset: float = 0.0

    def run(self, msg):
        if msg is None:
            return None
        if isinstance(msg, list):
            return tuple(msg)
        return (msg + self.offset, "OTHER") if msg % 2 else msg + self.offset


class Echo:
    def run(self, msg):
        return msg


class Raises:
    def run(self, msg):
        self.send_msg("before")
        if msg == 1:
            raise ValueError("one is bad")
        if msg == 2:
            sys.exit(3)
        if msg == 3:
            raise drpipe.Permanent("three is hopeless")
        if msg == 4:
            return {"a": [1, sys]}
        if msg == 5:
            self.send_msg(1, "OTHR")
        if msg == 6:
            raise KeyboardInterrupt
        if msg == 7:
            return (x for x in [1, memoryview(b"x")])
        return msg


class NoInit:
    def init(self):
        return False

    def run(self, msg):
        return msg


class BadInit:
    def init(self):
        raise OSError("no lamp")

    def run(self, msg):
        return msg


class Early:
    def init(self):
        self.send_msg(1)

    def run(self, msg):
        return msg


class Counts:
    total = 10

    def run(self):
        for number in range(self.total):
            self.send_msg(-number, "OTHER")
            yield number


class Stops:
    def run(self):
        yield 1
        yield 2
        raise RuntimeError("no more light")


class AtOnce:
    def run(self):
        for number in range(5):
            self.send_msg(number)
        return "last"


class Files:
    path = ""

    def run(self):
        yield self.path
        yield drpipe.FitsPath("/x/n1.fits")
        yield "no file"
        yield 7


class Named(Files):
    def origin(self, msg):
        return None if msg == 7 else f"item {msg}"


class Talks:
    def run(self, msg):
        print("printed", msg)
        print("a complaint", file=sys.stderr)
        try:
            raise ValueError("seven")
        except ValueError:
            self.log.exception("it has a value of %s", msg)
        self.log.debug("not heard")
        return msg


class Dies:
    def run(self, msg):
        os.kill(os.getpid(), 11)


class Owns:
    """Has a name and a log of its own."""

    name = "mine"

    def __init__(self):
        self.log = []

    def run(self, msg):
        self.log.append(msg)
        return [self.name, self.log, self.connections]


class Memory:
    def run(self, msg):
        self.kept = bytearray(os.urandom(1024) * (msg << 10))
        return msg


class Kept:
    """Returns what is on the page during a call."""

    def run(self, msg):
        self.send_msg(os.getpid())
        return sys.argv


class Expects:
    """A producer that knows how many values it will emit."""

    total = 3
    wrong = False

    def expected(self):
        if self.wrong:
            raise ValueError("who knows")
        return self.total

    def run(self):
        for number in range(self.total):
            drpipe.product(f"{number}.log")
            yield number


class Saves:
    """A stage that announces files, and fails on 3."""

    def run(self, msg):
        drpipe.product(pathlib.Path("out") / f"{msg}.npy")
        if msg == 3:
            raise ValueError("three")
        return msg

    def finish(self):
        drpipe.product("out/all.npy")
