"""Components with helpers, and constructors that take the configuration in every way."""

from traitlets import Bool, Int, List, Tuple, Unicode
from traitlets.config import Configurable


class Mirror(Configurable):
    facets = Int(1).tag(config=True)
    color = Unicode("none").tag(config=True)


class Lid(Configurable):
    open = Bool(True).tag(config=True)


class Telescope(Configurable):
    size = Int(1).tag(config=True)
    flag = Bool(True).tag(config=True)
    names = List(Unicode()).tag(config=True)
    pair = Tuple((0, 0)).tag(config=True)
    title = Unicode("").tag(config=True)
    own = Int(0)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.size_at_first = self.size

    def init(self):
        self.mirror = Mirror(parent=self)
        self.lid = Lid(parent=self)

    def run(self, msg):
        return msg


class ByParent(Telescope):
    def __init__(self, parent=None):
        super().__init__(parent=parent)


class ByConfig(Telescope):
    def __init__(self, config=None, parent=None, **kwargs):
        assert config is None or parent is None
        super().__init__(config=config, parent=parent, **kwargs)


class ByTool(Telescope):
    def __init__(self, config, tool, **kwargs):
        super().__init__(config=config, parent=tool, **kwargs)


class Closed(Telescope):
    def __init__(self):
        super().__init__()
