"""Values of every kind that a step may send, and steps that pass them on."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import re
import uuid

import numpy as np

Point = collections.namedtuple("Point", "ra dec")


class Kind(enum.IntEnum):
    BIAS = 0
    FLAT = 1


class Color(enum.Enum):
    RED = "r"


class Flags(enum.Flag):
    SATURATED = 1
    COSMIC = 2


class Text(str):
    __slots__ = ()


class Count(int):
    pass


class Length(float):
    unit = "m"


class Raw(bytes):
    pass


class Lines(list):
    pass


class Table(dict):
    pass


class Tagged(set):
    pass


@dataclasses.dataclass
class Event:
    number: int
    telescopes: set
    image: np.ndarray

    def __eq__(self, other):
        return same(vars(self), vars(other))


@dataclasses.dataclass(frozen=True)
class Setting:
    gain: float
    path: pathlib.Path


class Container:
    """A container as events have it: with attributes, sets, arrays and containers."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def __eq__(self, other):
        return same(vars(self), vars(other))


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)


def same(a, b):
    """Whether both are equal, and all their parts of the same types."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ma.MaskedArray):
        return same(a.data, b.data) and same(np.ma.getmaskarray(a), np.ma.getmaskarray(b))
    if isinstance(a, (np.ndarray, np.generic)):
        return same_array(a, b)
    if isinstance(a, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        keys = list(map(type, a)) == list(map(type, b)) and list(a) == list(b)
        return keys and all(same(a[key], b[key]) for key in a)
    if isinstance(a, memoryview):
        return bytes(a) == bytes(b)
    return bool(a == b)


def same_array(a, b):
    orders = [x.flags.f_contiguous and not x.flags.c_contiguous for x in (a, b)]
    alike = a.dtype == b.dtype and a.dtype.str == b.dtype.str and a.shape == b.shape
    if not alike or orders[0] != orders[1]:
        return False
    if a.dtype.kind in "fc":
        return np.array_equal(a, b, equal_nan=True)
    return np.array_equal(a, b)


def events(rows):
    kind = [("id", "i8"), ("pos", "f4", (2,)), ("name", "U3")]
    made = np.zeros(rows, kind)
    made["id"] = np.arange(rows)
    made["name"] = "abc"
    return made


def masked(size):
    made = np.ma.masked_array(np.arange(size), np.arange(size) % 3 == 0, fill_value=-7)
    return made


LARGE = 1 << 17

#: Makes a value of each kind.
KINDS = {
    "none": lambda: [None],
    "bool": lambda: True,
    "int": lambda: -(1 << 63),
    "int beyond 64 bits": lambda: 1 << 70,
    "list with an int beyond 64 bits": lambda: [1, {"x": -(1 << 64)}],
    "float": lambda: -0.0,
    "str": lambda: "é∀",
    "str of a file name": lambda: "night\udcff.fits",
    "bytes": lambda: b"\0\xff",
    "complex": lambda: 1 - 2j,
    "list": lambda: [1, [2.0, "x"], ()],
    "tuple": lambda: (1, (2, [3])),
    "dict": lambda: {"a": 1, "b": {"c": None}},
    "dict with keys of all kinds": lambda: {
        None: 1,
        1: 2,
        2.5: 3,
        b"k": 4,
        (1, "b"): 5,
        frozenset([1]): 6,
        Kind.FLAT: 7,
        np.float32(0.5): 8,
    },
    "namedtuple": lambda: Point(1.0, [2]),
    "list of namedtuples": lambda: [Point(n, -n) for n in range(3)],
    "IntEnum": lambda: Kind.FLAT,
    "Enum": lambda: Color.RED,
    "Flag": lambda: Flags.SATURATED | Flags.COSMIC,
    "IntEnum in a dict": lambda: {"kind": Kind.BIAS, Kind.FLAT: 1},
    "bytearray": lambda: bytearray(b"ab"),
    "empty bytearray": lambda: bytearray(),
    "bytearray in a list": lambda: [1, {"x": (b"bytes", bytearray(b"ab"))}],
    "bytearray beside an array": lambda: {"a": np.ones(3), "b": bytearray(b"x")},
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "OrderedDict": lambda: collections.OrderedDict(b=1, a=2),
    "Counter": lambda: collections.Counter("abca"),
    "deque": lambda: collections.deque([1, (2,)], maxlen=5),
    "set": lambda: {1, "a"},
    "frozenset": lambda: frozenset([1, 2]),
    "range": lambda: range(1, 10, 3),
    "slice": lambda: slice(1, 2),
    "subclass of str": lambda: Text("abc"),
    "subclass of int": lambda: Count(7),
    "subclass of float": lambda: Length(2.5),
    "subclass of bytes": lambda: Raw(b"ab"),
    "subclass of list": lambda: Lines(["a"]),
    "subclass of dict": lambda: Table(a=1),
    "subclass of set": lambda: Tagged([1]),
    "Decimal": lambda: decimal.Decimal("0.10"),
    "Fraction": lambda: fractions.Fraction(1, 3),
    "datetime": lambda: datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone.utc),
    "date": lambda: datetime.date(2026, 1, 2),
    "timedelta": lambda: datetime.timedelta(seconds=1.5),
    "Path": lambda: pathlib.Path("raw/n1.fits"),
    "UUID": lambda: uuid.UUID(int=5),
    "pattern": lambda: re.compile("a+"),
    "exception": lambda: [repr(ValueError("bad")), type(ValueError("bad"))],
    "class": lambda: Event,
    "function": lambda: same,
    "dataclass": lambda: Event(1, {1, 5}, np.arange(4)),
    "large dataclass": lambda: Event(1, {1, 5}, np.arange(LARGE) * 0.5),
    "frozen dataclass": lambda: Setting(1.5, pathlib.Path("x")),
    "container": lambda: Container(r0=Container(tel={1: Container(image=np.ones((3, 4), "f4"))})),
    "slots": lambda: Slots(1, [2]),
    "numpy scalar": lambda: [np.float32(1), np.int8(-1), np.bool_(True), np.float64(0.1)],
    "numpy scalar of text": lambda: [np.str_("ab"), np.bytes_(b"ab")],
    "numpy scalar of time": lambda: np.datetime64("2026-01-01T00:00"),
    "longdouble": lambda: np.longdouble(1) / 3,
    "float16": lambda: np.float16(0.5),
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "large array": lambda: np.arange(LARGE, dtype="<u2").reshape(256, -1),
    "array without an axis": lambda: np.array(5.0),
    "array of no elements": lambda: np.zeros((0, 4), "f4"),
    "big-endian array": lambda: np.arange(6, dtype=">f4").reshape(2, 3),
    "large big-endian array": lambda: np.arange(LARGE, dtype=">i2"),
    "Fortran's order": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "large in Fortran's order": lambda: np.asfortranarray(np.arange(1.0 * LARGE).reshape(256, -1)),
    "float16 array": lambda: np.ones(3, "f2"),
    "structured array": lambda: events(3),
    "large structured array": lambda: events(20_000),
    "record array": lambda: events(3).view(np.recarray),
    "record": lambda: events(3)[1],
    "masked array": lambda: masked(7),
    "large masked array": lambda: masked(LARGE),
    "matrix": lambda: np.matrix([[1, 2], [3, 4]]),
    "array of text": lambda: np.array(["a", "bcd"]),
    "array of bytes": lambda: np.array([b"a", b"bcd"]),
    "array of objects": lambda: np.array([None, {"a": 1}, [2]], dtype=object),
    "array of times": lambda: np.arange("2026-01", "2026-03", dtype="datetime64[D]"),
    "dtype": lambda: np.dtype("f4"),
}


class All:
    """Yields one value of each kind, with its name."""

    names = ""

    def run(self):
        for name, make in KINDS.items():
            yield [name, make()]
            # By itself, too.
            yield make()
            yield f"that was {name}"


class Same:
    def run(self, value):
        return value


class Check:
    """Compares what arrives with what was sent, and writes what differs."""

    def init(self):
        self.bad = []
        self.alone = None

    def run(self, value):
        if isinstance(value, str) and value.startswith("that was "):
            self.compare(value[9:], self.alone, " alone")
        elif type(value) is list and len(value) == 2 and value[0] in KINDS:
            self.compare(value[0], value[1], "")
        else:
            self.alone = value

    def compare(self, name, value, how):
        expected = KINDS[name]()
        if not same(expected, value):
            self.bad.append(f"{name}{how}: {value!r} of {type(value)}")

    def finish(self):
        with open("bad.txt", "w") as file:
            file.write("\n".join(self.bad))


class Names:
    """A namedtuple whose last item is the name of a step."""

    def run(self, name):
        return Point(1, name)


class MakesEvent:
    def run(self, number):
        return Event(number, {1}, np.arange(3))


class Refuses:
    """Fails, or counts the values that it is given."""

    fail: bool = True

    def run(self, event):
        if self.fail:
            raise ValueError("not this one")
        with open("retried.txt", "a") as file:
            file.write(f"{type(event).__name__} {event.number} {sorted(event.telescopes)}\n")
