"""Components of traitlets as the first model has them, and classes that are called like
built-in ones."""

from traitlets import Int, List, Unicode
from traitlets.config import Configurable


class Cleaner(Configurable):
    cut = Int(7).tag(config=True)
    bands = List(Unicode()).tag(config=True)


class Calibration(Configurable):
    scale = Int(1).tag(config=True)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scale_at_first = self.scale

    def init(self):
        self.cleaner = Cleaner(parent=self)

    def run(self, value):
        return {
            "value": value,
            "scale": [self.scale, self.scale_at_first],
            "cut": self.cleaner.cut,
            "bands": self.cleaner.bands,
            "other": self.config["OtherReader"]["filename"],
        }


class Square:
    """Not the square of drpipe."""

    offset = 0

    def run(self, number):
        return 1000 + number + self.offset
