"""Steps with parameters of every kind."""

import enum
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Dict, List, Literal, Optional, Union

import drpipe


class Mode(enum.Enum):
    FAST = "fast"
    EXACT = "exact"


class Annotated(drpipe.Stage):
    """Has annotations."""

    gathers: ClassVar[bool] = True
    gain: float = 1.5
    count: int
    title: "Optional[str]" = None
    flags: List[bool] = [True]
    table: Dict[str, int] = {}
    mode: Literal["a", "b"] = "a"
    kind: Mode = Mode.FAST
    path: Optional[Path] = None
    either: Union[int, str] = 1
    anything: typing.Any = None
    factor = 2
    label = "x"
    _private = 1

    def run(self, msg):
        return [self.gain, self.factor]

    @property
    def computed(self):
        return 1


@dataclass
class Data:
    threshold: float
    names: list[str] = field(default_factory=list)
    limit: int = 3

    def run(self, msg):
        return self.threshold


class Arguments(drpipe.Producer):
    single = True

    def __init__(self, path, size=7, parent=None, config=None, *, depth: int = 2, **more):
        self.path, self.size, self.parent, self.depth = path, size, parent, depth

    def run(self):
        yield self.path


class Component:
    def __init__(self, configuration, tool):
        self.given = (configuration, tool)

    def run(self, msg):
        return self.given


class Slots:
    __slots__ = ("level",)

    def run(self, msg):
        return self.level


class Narrow:
    @property
    def level(self):
        return 1

    def run(self, msg):
        return msg


class NoRun:
    pass


function = len


class Switch(drpipe.Stage):
    """Names a next step, and checks before the run that it is there."""

    even: str
    odd: str

    def validate(self):
        for name in ("even", "odd"):
            step = getattr(self, name)
            if step not in self.connections:
                raise ValueError(
                    f"{name} says {step}, which is none of {', '.join(self.connections)}"
                )

    def run(self, number):
        return number, self.odd if number % 2 else self.even


class Source:
    """Has no `run`, but can be iterated over."""

    is_closed = False

    def __init__(self, last):
        self.last = last

    def __iter__(self):
        return iter(range(self.last + 1))

    def close(self):
        self.is_closed = True
