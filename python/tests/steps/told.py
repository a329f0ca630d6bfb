"""Producers that are told what became of their items."""

import numpy as np

import drpipe


class Asks(drpipe.Producer):
    """Emits numbers, and writes down what it is told of them."""

    acknowledges = True
    last: int = 10
    file: str = "told.txt"
    fails_at: int = 0

    def init(self):
        self.under_way = self.most = 0

    def run(self):
        for number in range(1, self.last + 1):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            yield number

    def origin(self, value):
        return f"number {value}"

    def acknowledge(self, items):
        with open(self.file, "a", encoding="utf-8") as file:
            for item in items:
                self.under_way -= 1
                if item.number == self.fails_at:
                    raise RuntimeError("it does not want to know")
                why = (item.step, item.cause, item.reasons[:1], item.attempts)
                told = (item.number, item.origin, item.outcome, item.results, why)
                print(repr(told), file=file)

    def finish(self):
        with open(self.file, "a", encoding="utf-8") as file:
            print(f"finished, {self.under_way} under way, {self.most} at most", file=file)


class OneByOne(drpipe.Producer):
    """Emits the result of each item as the next one."""

    acknowledges = True

    def init(self):
        self.next = 1

    def run(self):
        while self.next < 1000:
            if self.next:
                value, self.next = self.next, 0
                yield value
            else:
                yield drpipe.IDLE

    def acknowledge(self, items):
        (self.next,) = items[0].results


def double(value):
    return 2 * value


class Twice(drpipe.Stage):
    """Doubles."""

    def run(self, value):
        return double(value)


class Double(drpipe.Stage):
    """Doubles, refuses 3, and makes nothing of 4."""

    def run(self, value):
        if value == 3:
            raise ValueError("not three")
        return 2 * value if value != 4 else None


class Lacks(drpipe.Stage):
    """Waits for what nobody brings."""

    def run(self, value):
        raise drpipe.Deferred("it is not there yet")


class Gate(drpipe.Stage):
    """Passes values on, from a value or from the first one, once something is in a file."""

    gate: str = ""
    at: int = 0
    is_open = False

    def run(self, value):
        if not self.is_open and self.at in (0, value):
            with open(self.gate, encoding="utf-8") as file:
                file.read()
            self.is_open = True
        return value


class Big(drpipe.Stage):
    """Makes an array of so many bytes."""

    def run(self, size):
        return np.zeros(size, dtype="u1")
