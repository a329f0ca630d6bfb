"""Steps that write into the arrays that they are given."""

import numpy as np

import drpipe


class Plain:
    def run(self, array):
        array += 1
        return float(array.sum())


class Derived(drpipe.Stage):
    def run(self, array):
        array += 1
        return float(array.sum())


class Asks(Derived):
    writable_arrays = True


class Declines(Plain):
    writable_arrays = False


class Make:
    """Sends one array to both of its next steps."""

    size: int

    def run(self):
        zeros = np.zeros(self.size)
        for step in self.connections:
            self.send_msg(zeros, step)
        zeros += 5


class Fails:
    """Changes the array that it is given, and fails."""

    def run(self, array):
        with open("attempts.txt", "a") as file:
            print(float(array.sum()), file=file)
        array += 1
        raise ValueError("so that it comes again")


class Look:
    def run(self, array):
        with open("sums.txt", "a") as file:
            print(float(array.sum()), file=file)
