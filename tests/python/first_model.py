"""Classes in the three styles of the first model: messages are sent, returned or yielded.

None of them knows drpipe: they have ``init``, ``run`` and ``finish``, and find
``send_msg`` and ``connections`` on themselves.
"""

import json


class SendingProducer:
    """Sends from within a generator."""

    last = 100

    def init(self):
        self.sent = 0

    def run(self):
        for number in range(self.last + 1):
            self.send_msg(number)
            self.sent += 1
            yield

    def finish(self):
        assert self.sent == self.last + 1


class YieldingProducer:
    """Yields what it makes; has neither init nor finish."""

    last = 100

    def run(self):
        yield from range(self.last + 1)


class TupleProducer:
    """Yields pairs, some with the name of a next step behind them."""

    last = 100

    def init(self):
        return True

    def run(self):
        for number in range(self.last + 1):
            pair = (number, {"squared": number**2, "half": number / 2})
            yield (*pair, self.connections[1]) if number % 2 else pair

    def finish(self):
        pass


class SendingSquare:
    def init(self):
        self.factor = 1

    def run(self, number):
        self.send_msg(self.factor * number**2)

    def finish(self):
        pass


class ReturningSquare:
    def run(self, number):
        return number**2


class YieldingDigits:
    """Several messages for one, or none."""

    def run(self, number):
        for digit in str(number):
            if digit != "0":
                yield int(digit)


class SendingSwitch:
    def run(self, number):
        self.send_msg(number, "EVEN" if number % 2 == 0 else "ODD")


class ReturningSwitch:
    """The last element of the tuple is taken off if it names a next step."""

    def run(self, number):
        return number, "EVEN" if number % 2 == 0 else "ODD"


class YieldingSwitch:
    def run(self, number):
        if number % 2 == 0:
            yield number, "EVEN"
        else:
            yield number, number, "ODD"


class Broadcast:
    def run(self, number):
        for step in self.connections:
            self.send_msg(number, step)


class Named:
    """Marks a number with the name of its step."""

    def run(self, number):
        return [self.name, number]


class OnlySmall:
    """None sends nothing."""

    limit = 10

    def run(self, number):
        return number if number < self.limit else None


class CountDown:
    """Sends back to itself until nothing is left."""

    def run(self, number):
        return (number - 1, "DOWN") if number > 3 else number


class Describe:
    """The type of what came, in words, and the thing itself."""

    def run(self, value):
        return {"type": type(value).__name__, "value": value}


class Types:
    """One value of each kind."""

    def run(self):
        yield from (True, 7, -(2**63), 2**64 - 1, 2.5, "text", b"bytes", [1, "two", [3.0]])
        yield {"a": 1, "b": {"c": None}}
        yield {3: "number as key"}
        yield ("a tuple", (1, 2))


class Gathers:
    """Emits a sum of all when everything has come."""

    gathers = True

    def init(self):
        self.sum = 0

    def run(self, number):
        self.sum += number

    def finish(self):
        self.send_msg(self.sum)


class Write:
    """Writes all that came, a line of JSON each, in order of their text."""

    file = "out.txt"

    def init(self):
        self.lines = []
        return True

    def run(self, value):
        self.lines.append(json.dumps(value, sort_keys=True, default=repr))

    def finish(self):
        with open(self.file, "w") as out:
            out.writelines(line + "\n" for line in sorted(self.lines))


class Refuses:
    """Cannot be initialized."""

    def init(self):
        return False

    def run(self, value):
        return value
