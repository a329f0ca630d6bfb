"""A pipeline in Python only. None of its classes needs to know drpipe: a class with a method
`run` is a step; `init` and `finish` are called if they are there."""

import os


class Count:
    """Makes the numbers from 1 to `last`."""

    last: int = 10

    def run(self):
        yield from range(1, self.last + 1)


class Switch:
    """Sends even numbers to SQUARE and odd ones to SHIFT: the name of the next step is the last
    element of what is returned."""

    def run(self, number):
        return number, "SQUARE" if number % 2 == 0 else "SHIFT"


class Squares:
    """Squares numbers."""

    def run(self, number):
        return number * number


class Shift:
    """Adds a constant."""

    by: int = 0

    def run(self, number):
        return number + self.by


class NumberFile:
    """Writes a line for each number, in their order."""

    file: str = "numbers.txt"

    def init(self):
        self.numbers = []

    def run(self, number):
        self.numbers.append(number)

    def finish(self):
        os.makedirs(os.path.dirname(self.file) or ".", exist_ok=True)
        # Under another name until it is whole.
        with open(self.file + ".part", "w") as out:
            out.writelines(f"{number}\n" for number in sorted(self.numbers))
        os.replace(self.file + ".part", self.file)
