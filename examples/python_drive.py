"""A pipeline without a configuration: functions as stages, driven from Python.

    python3 examples/python_drive.py

needs the program, beside the interpreter, on PATH or named by DRPIPE, and the
package: pip install ./python
"""

import drpipe


def numbers():
    """Advanced as the pipeline has room."""
    yield from range(1, 21)


def square(value):
    """Works in two processes."""
    return value * value


class Odd:
    """Passes odd numbers on in their order, and says at the end how many others there were."""

    def init(self):
        self.others = 0

    def run(self, value):
        if value % 2:
            return value
        self.others += 1

    def finish(self):
        self.log.info("%d numbers are even", self.others)


def main():
    report = drpipe.run(numbers, drpipe.step(square, workers=2, retries=1), Odd)
    print(report.check().results)
    print(report)


if __name__ == "__main__":
    main()
