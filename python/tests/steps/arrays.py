"""Steps that work on arrays."""

import numpy as np

import drpipe


class Echo:
    def run(self, msg):
        return msg


class Inspect:
    def run(self, msg):
        return [msg.dtype.str, list(msg.shape), bool(msg.flags.writeable), float(msg.sum())]


class Views(drpipe.Stage):
    def run(self, msg):
        return Inspect().run(msg)


class Doubles:
    def run(self, msg):
        return msg * 2


class Reuses:
    """Sends one array again and again, changed."""

    def init(self):
        self.buffer = np.zeros(1 << 16)

    def run(self, msg):
        for value in range(msg):
            self.buffer[:] = value
            self.send_msg(self.buffer)


class Bias:
    """Subtracts a level from frames."""

    level: float = 1.0

    def run(self, frame):
        frame.add_history(f"bias {self.level}")
        frame.header["BIASLEV"] = self.level
        return frame.replace(data=frame.data - self.level)


class InPlace:
    def run(self, msg):
        msg *= 2
        return msg


class Files:
    """Returns how many files are open."""

    def init(self):
        self.last = None

    def run(self, msg):
        import os

        if isinstance(msg, int):
            return len(os.listdir("/proc/self/fd"))
        self.last = msg * 2
        return self.last
