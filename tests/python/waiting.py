"""Steps that wait, whose threads go on, or whose workers are ended."""

import os
import signal
import threading
import time

import drpipe


def await_file(name):
    """Waits until somebody makes the file, and not for ever."""
    end = time.monotonic() + 60
    while not os.path.exists(name):
        if time.monotonic() > end:
            raise TimeoutError(f"{name} does not come")
        time.sleep(0.001)


class Watch(drpipe.Producer):
    """Yields some numbers, and the next one when the others have arrived."""

    first: int = 30

    def run(self):
        yield from range(self.first)
        await_file("gate")
        yield self.first


class SendAndWatch(Watch):
    """The same in one call."""

    def run(self):
        for number in range(self.first):
            self.send_msg(number)
        await_file("gate")
        return self.first


class OpenGate(drpipe.Consumer):
    """Makes the file that is waited for when so many have arrived."""

    gathers = True
    wanted: int = 30
    got = 0

    def run(self, msg):
        self.got += 1
        if self.got == self.wanted:
            open("gate", "w").close()


class SplitInTurns(drpipe.Stage):
    def run(self, number: int):
        self.send(f"{number}-a", "X")
        self.send(f"{number}-b", "Y")
        self.send(f"{number}-c", "X")


class Late(drpipe.Stage):
    """Its threads send when their calls have returned."""

    gathers = False

    def run(self, msg):
        threading.Thread(target=self.send_late, args=(msg,), name=f"late {msg}").start()

    def finish(self):
        open("gate", "w").close()

    def send_late(self, msg):
        await_file("gate")
        self.send_msg(msg)


class Upload(drpipe.Stage):
    """Its products are written by threads, after the last call."""

    gathers = False
    endless: bool = False

    def run(self, msg):
        threading.Thread(target=self.upload, args=(msg,)).start()
        return msg

    def finish(self):
        open("gate", "w").close()

    def upload(self, msg):
        await_file("no such gate" if self.endless else "gate")
        open(f"product-{msg}", "w").close()


class EndsItself(drpipe.Stage):
    """Ends its worker at some numbers, as others end a process."""

    gathers = False
    numbers: list = []
    number_of_signal: int = signal.SIGTERM
    #: How often.
    times: int = 1000

    def run(self, msg):
        if msg in self.numbers:
            with open(f"ended-{msg}", "a") as file:
                file.write("x")
            if os.path.getsize(f"ended-{msg}") <= self.times:
                os.kill(os.getpid(), self.number_of_signal)
                threading.Event().wait()
        return msg
