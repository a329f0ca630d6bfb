"""A component with traits, as in the first model."""

from traitlets import Bool, CInt, Dict, Enum, Float, Integer, List, Tuple, Unicode, validate
from traitlets.config import LoggingConfigurable


class Component(LoggingConfigurable):
    def __init__(self, parent, **kwargs):
        super().__init__(parent=parent, **kwargs)


class Cleaner(Component):
    """Cleans images."""

    level = Float(2.5, min=0, help="the level [adu]").tag(config=True)
    count = Integer(3, max=9).tag(config=True)
    title = Unicode(None, allow_none=True).tag(config=True)
    mode = Enum(["a", "b"], default_value="a").tag(config=True)
    sizes = List(Float(), default_value=[1.0]).tag(config=True)
    pair = Tuple((1, 2)).tag(config=True)
    table = Dict().tag(config=True)
    casts = CInt(1).tag(config=True)
    own = Bool(True)
    _hidden = Bool(True)

    @validate("title")
    def _check(self, proposal):
        return proposal["value"]

    def init(self):
        self.log.info("ready")
        return True

    def run(self, msg):
        return [self.level, self.count, self.pair, self.extra]
