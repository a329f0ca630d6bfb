"""Steps that wait, and whose threads go on."""

import atexit
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import drpipe


def await_file(path):
    """Waits until the test makes the file."""
    while not os.path.exists(path):
        time.sleep(0.001)


def await_rest():
    """Waits until the flusher sleeps."""
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "flusher")
    while sys._current_frames()[thread.ident].f_code.co_name != "wait":
        time.sleep(0.001)


class Watches:
    """Yields values, and waits in the middle of a call."""

    gate = ""

    def run(self):
        for number in range(30):
            yield number
        await_file(self.gate)
        yield 30


class SendsAndWaits(Watches):
    """Does the same in one call."""

    def run(self):
        for number in range(30):
            self.send_msg(number)
        await_file(self.gate)
        return 30


class SendsNowAndThen(Watches):
    """Sends, waits long, and sends again, in one call."""

    def run(self):
        self.send_msg(1)
        await_rest()
        self.send_msg(2)
        await_file(self.gate)
        return 3


class WaitsAtText:
    gate = ""

    def run(self, msg):
        if msg == "rest":
            await_rest()
        elif isinstance(msg, str):
            await_file(self.gate)
        return msg


class SendsBeforeItFails:
    def run(self):
        self.send_msg(1)
        raise RuntimeError("no more light")
        yield


class HasNothing:
    def run(self):
        yield drpipe.IDLE
        yield 1


class Rounds:
    def run(self):
        yield 1
        yield drpipe.BARRIER
        yield 2


class ReturnsNothing:
    rest = 2
    signal = drpipe.IDLE

    def run(self):
        if self.rest == 0:
            return "last"
        self.rest -= 1
        self.send_msg(self.rest)
        return self.signal


class ReturnsBarriers(ReturnsNothing):
    signal = drpipe.BARRIER


class Late:
    """A thread of one call sends during another."""

    def run(self, msg):
        if msg == "start":
            self.go, self.refused = threading.Event(), []
            self.thread = threading.Thread(target=self.send_late, name="uploader")
            self.thread.start()
            return None
        self.go.set()
        self.thread.join()
        return self.refused

    def send_late(self):
        self.go.wait()
        try:
            self.send_msg("late")
        except RuntimeError as error:
            self.refused.append(str(error))


class AnnouncesOnThreads:
    """A thread announces a file for the call that has started it, and one for a later call."""

    def run(self, msg):
        if msg == "late":
            self.go.set()
            self.late.join()
            return
        self.go = threading.Event()
        self.late = threading.Thread(target=self.announce_late)
        self.late.start()
        thread = threading.Thread(target=drpipe.product, args=(f"{msg}.png",))
        thread.start()
        thread.join()
        if msg == "bad":
            raise ValueError(msg)

    def announce_late(self):
        self.go.wait()
        drpipe.product("late.png")


class AfterAll:
    """A thread sends after the worker's last work."""

    gate = ""

    def run(self, msg):
        threading.Thread(target=self.send_late, name="uploader").start()

    def send_late(self):
        await_file(self.gate)
        self.send_msg("late")


class InAnotherProcess:
    """A forked process sends."""

    def run(self, msg):
        child = multiprocessing.get_context("fork").Process(target=self.send_msg, args=(msg,))
        child.start()
        child.join()
        return child.exitcode


class WithThreads:
    """Threads, and a pool that is kept, send for the call that uses them."""

    def init(self):
        self.pool = ThreadPoolExecutor(2)

    def run(self, msg):
        threads = [threading.Thread(target=self.send_msg, args=(msg,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        list(self.pool.map(self.send_msg, [msg, msg]))


class ProducesOnAThread:
    """A thread that sends during the whole production."""

    def run(self):
        sent = threading.Semaphore(0)
        step = threading.Semaphore(0)

        def send():
            for number in range(3):
                step.acquire()
                self.send_msg(number)
                sent.release()

        thread = threading.Thread(target=send)
        thread.start()
        for number in range(3):
            step.release()
            sent.acquire()
            yield 10 + number
        thread.join()


class Uploads:
    """Completes its files in a thread and in an exit function."""

    gate = ""

    def init(self):
        atexit.register(lambda: open(self.gate + ".exit", "w").close())

    def run(self, msg):
        threading.Thread(target=self.upload).start()

    def upload(self):
        await_file(self.gate)
        open(self.gate + ".thread", "w").close()
