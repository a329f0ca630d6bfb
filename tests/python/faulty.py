"""Classes that go wrong in every way."""

import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import drpipe


class Raises(drpipe.Stage):
    """Fails on multiples of ten."""

    def run(self, number):
        if number % 10 == 0:
            raise ValueError(f"{number} is a multiple of ten")
        return number


class GivesUp(drpipe.Stage):
    def run(self, number):
        raise drpipe.Permanent("never again")


class Dies(drpipe.Stage):
    """Ends its process on multiples of ten, in one way or another."""

    how = "exit"

    def run(self, number):
        if number % 10 == 0:
            if self.how == "exit":
                os._exit(7)
            if self.how == "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.how == "hang":
                threading.Event().wait()
        return number


class Sleeps(drpipe.Stage):
    """Takes its time."""

    seconds: float = 0.001

    def run(self, number):
        time.sleep(self.seconds)
        return number


class Talks(drpipe.Stage):
    """Prints, logs and complains."""

    def run(self, number):
        print("printed", number)
        print("complained", number, file=sys.stderr)
        self.log.warning("logged\nin two lines %d", number)
        logging.getLogger("lab").error("logged elsewhere %d", number)
        return number


class Unsendable(drpipe.Stage):
    def run(self, number):
        return {"value": [1, threading.Lock()]}


class Astray(drpipe.Stage):
    def run(self, number):
        self.send_msg(number, "AND")


class Declares(drpipe.Stage):
    """Takes a gain."""

    gain: float = 1.0
    mode: str = "fast"

    def run(self, number):
        return number * self.gain


class Needs(drpipe.Stage):
    def __init__(self, factor: int):
        self.factor = factor

    def run(self, number):
        return number * self.factor


class FailingProducer(drpipe.Producer):
    def run(self):
        yield 1
        raise RuntimeError("no more film")


class Floods(drpipe.Stage):
    """Prints without end on multiples of ten."""

    def run(self, number):
        while number % 10 == 0:
            os.write(1, b"y\n" * 30_000)
        return number


class Forks(drpipe.Stage):
    """Has a child that ends as it should."""

    def run(self, number):
        child = os.fork()
        if child == 0:
            sys.exit(3)
        _, status = os.waitpid(child, 0)
        return [number, os.waitstatus_to_exitcode(status)]


class Builds:
    """Takes what it is given by name."""

    def __init__(self, **parameters):
        self.factor = parameters["a"] * 2

    def run(self, number):
        return number * self.factor


class LastWords(drpipe.Consumer):
    """Has much to say at the end."""

    def run(self, number):
        pass

    def finish(self):
        for number in range(5000):
            print("said", number)
        self.log.error("the last line")


class Starts(drpipe.Stage):
    """Starts programs in every way, and notes their numbers."""

    gathers = False

    def init(self):
        sleep = ["sleep", "600"]
        started = [
            subprocess.Popen(sleep),
            subprocess.Popen(sleep, env={}),
            subprocess.Popen(sleep, start_new_session=True),
        ]
        pool = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        pool.start()
        self.held = [*started, pool]
        with open(f"started-{os.getpid()}", "w") as out:
            out.write(" ".join(str(process.pid) for process in self.held))

    def run(self, number):
        # With the interpreter's lock, so that no other thread of it does anything.
        ctypes.PyDLL(None).sleep(600)
