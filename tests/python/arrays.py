"""Stages that work on arrays."""

import numpy as np

import drpipe


class Arrays(drpipe.Producer):
    """Arrays of several types and sizes: in the message, beside it, in shared memory."""

    def run(self):
        for size in (10, 10_000, 200_000):
            for dtype in ("f4", "f8", "u2", "i8", "?", "c16"):
                yield np.arange(size).astype(dtype)
        yield np.arange(6).reshape(2, 3)[:, ::-1]
        yield np.arange(4, dtype=">f8")
        yield {"nested": [np.zeros((0, 3)), np.float32(2.5)]}


class Same(drpipe.Stage):
    """Passes on what comes, and says that it could not be written to."""

    def run(self, value):
        if isinstance(value, np.ndarray) and value.nbytes >= 16384:
            assert not value.flags.writeable
        return value


class Summary(drpipe.Stage):
    """The type, the shape and the sum of an array."""

    def run(self, value):
        if not isinstance(value, np.ndarray):
            return [str(value), "", ""]
        return [str(value.dtype), list(value.shape), float(value.sum().real)]


class Brighten(drpipe.Stage):
    """Adds a constant to every pixel [ADU]."""

    offset: float = 100.0

    def run(self, frame: drpipe.Frame) -> drpipe.Frame:
        frame.header["OFFSET"] = self.offset
        frame.history.append(f"brightened by {self.offset}")
        frame.data = frame.data + self.offset
        return frame


class Pass(drpipe.Stage):
    """Touches nothing."""

    def run(self, value):
        return value
