"""Encoding of values as payloads, and decoding."""

from __future__ import annotations

import collections
import contextlib
import datetime
import enum
import math
import pathlib
import random

import msgpack
import numpy as np
import pytest

import drpipe
from drpipe.api.decoding import decoder
from drpipe.protocol.failures import CodecError
from drpipe.protocol.values import Encoder

PYTHON, RUST = Encoder(True), Encoder(False)


def there_and_back(value, encoder=PYTHON):
    header, buffers = encoder.encode(value)
    assert isinstance(header, bytes)
    return decoder().decode(header, [as_received(buffer) for buffer in buffers])


def as_received(buffer):
    if isinstance(buffer, bytes):
        return memoryview(buffer)
    with open(buffer.fd, "rb", closefd=False) as file:
        return memoryview(file.read())


def same(a, b):
    if isinstance(a, (np.ndarray, np.generic)):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b


def arbitrary(rng, depth=0):
    """Returns a value of any kind that travels between Python steps."""
    leaves = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.randrange(-(1 << 63), 1 << 64),
        lambda: rng.randrange(-200, 200),
        lambda: rng.choice([math.inf, -0.0, math.nan, rng.gauss(0, 1e10)]),
        lambda: "".join(rng.choice("aé∀😀\0 ") for _ in range(rng.randrange(40))),
        lambda: rng.randbytes(rng.randrange(300)),
        lambda: complex(rng.random(), rng.random()),
        lambda: np.float32(rng.random()),
        lambda: np.bool_(True),
        lambda: array(rng),
    ]
    if depth < 4 and rng.random() < 0.5:
        items = [arbitrary(rng, depth + 1) for _ in range(rng.randrange(4))]
        keys = rng.sample(["a", 1, "é", (1, "b"), 2.5, b"k", None], len(items))
        return rng.choice([list, tuple, lambda values: dict(zip(keys, values))])(items)
    return rng.choice(leaves)()


def array(rng):
    kind = rng.choice(["<f4", "<f8", "|u1", "|i1", "<i2", "<u8", "|b1", "<c8", "<c16"])
    shape = rng.choice([(0,), (1,), (), (2, 3), (0, 4), (3, 1, 2), (70, 300)])
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    data = bytes(rng.randrange(2) for _ in range(min(size, 99))).ljust(size, b"\1")
    made = np.frombuffer(data, kind).reshape(shape)
    return made if shape else made[()]


@pytest.mark.parametrize("seed", range(200))
def test_values_come_back_with_their_types(seed):
    value = arbitrary(random.Random(seed))
    assert same(value, there_and_back(value))


class Colour(enum.IntEnum):
    RED = 1


class Point(collections.namedtuple("Point", "x y")):
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, 1),
        (Point(1, [2]), [1, [2]]),
        (collections.OrderedDict(a=1), {"a": 1}),
        (type("Text", (str,), {"__str__": lambda self: "x"})("abc"), "abc"),
        (bytearray(b"ab"), b"ab"),
        (np.str_("ab"), "ab"),
    ],
)
def test_subclasses_travel_to_rust_steps_as_their_base(value, expected):
    assert same(there_and_back(value, RUST), expected)


def test_rust_steps_get_plain_values():
    value = (1, (2, np.float32(0.5)), {"a": (np.int64(3), np.bool_(True))})
    assert there_and_back(value, RUST) == [1, [2, 0.5], {"a": [3, True]}]
    header, _ = RUST.encode(np.float64(1.5))
    assert header == msgpack.packb(1.5)


def cyclic():
    value = [1]
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"x": {1}}, "set cannot be sent to a step in Rust (in key 'x'): use a list"),
        ([0, {"a": (1, 2, object())}], "object cannot be sent to a step in Rust (in item 1, key"),
        (1 << 64, "the integer 18446744073709551616 cannot be sent to a step in Rust: it has more"),
        ([-(1 << 63) - 1], "(in item 0): it has more than 64 bits"),
        (
            datetime.datetime(2026, 1, 1),
            "datetime.datetime cannot be sent to a step in Rust: use its isoformat()",
        ),
        (pathlib.Path("x"), "cannot be sent to a step in Rust: use str(path), or drpipe.FitsPath"),
        ({"k": np.array(["a"], object)}, "an array of dtype object cannot be sent to a step"),
        (np.datetime64("2026"), "a number of dtype datetime64[Y] cannot be sent to"),
        (np.ones(3, "f2"), "in Rust: use astype('float32')"),
        (np.ma.masked_array([1], [True]), "in Rust: send its parts"),
        (cyclic(), "a value that contains itself"),
        ({frozenset([1]): 1}, "frozenset cannot be sent to a step in Rust (in the key "),
        (["\udcff"], "a str with characters that are not Unicode cannot"),
        (lambda: 1, "in Rust: functions and classes stay in steps in"),
    ],
)
def test_what_a_step_in_rust_cannot_take_is_named_with_its_place(value, text):
    with pytest.raises(CodecError) as error:
        RUST.encode(value)
    assert text in str(error.value)
    assert there_and_back([1, (2,)], RUST)[0] == 1, "it goes on"


def test_rust_steps_have_no_complex_numbers():
    with pytest.raises(CodecError, match=r"complex cannot be sent to a step in Rust \(in item 1"):
        RUST.encode([1, 2j])


def test_arrays_of_another_order_are_converted_for_rust_steps():
    big = np.arange(6, dtype=">f8").reshape(2, 3)
    back = there_and_back(big, RUST)
    assert back.dtype.str == "<f8" and np.array_equal(back, big)
    turned = np.arange(6, dtype="<i4").reshape(2, 3).T
    assert np.array_equal(there_and_back(turned, RUST), turned)
    for encoder in (PYTHON, RUST):
        assert np.array_equal(there_and_back(turned[::2, ::-1], encoder), turned[::2, ::-1])


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb(msgpack.ExtType(9, b"")),
        msgpack.packb(msgpack.ExtType(1, b"")),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(["<f4", [2], 5]))),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(["<f4", [-1], b""]))),
        msgpack.packb(msgpack.ExtType(2, b"")),
        msgpack.packb(msgpack.ExtType(2, msgpack.packb("drpipe/Frame/1") + msgpack.packb({}))),
        msgpack.packb(msgpack.ExtType(4, b"1")),
        msgpack.packb({"a": 1})[:-1],
    ],
)
def test_what_is_no_value_is_refused(header):
    with pytest.raises(CodecError):
        decoder().decode(header)


@pytest.mark.parametrize("seed", range(100))
def test_arbitrary_bytes_are_refused_or_a_value(seed):
    with contextlib.suppress(CodecError):
        decoder().decode(random.Random(seed).randbytes(seed))


def test_values_of_other_types_keep_their_name():
    exposure = drpipe.Record("lab/Exposure/1", gain=1.5, counts=np.arange(3))
    back = there_and_back(exposure, RUST)
    assert isinstance(back, drpipe.Record) and back.type == "lab/Exposure/1"
    assert back["gain"] == 1.5 and list(back["counts"]) == [0, 1, 2]
    assert back.copy().type == back.type
    named = msgpack.packb(msgpack.ExtType(2, msgpack.packb("lab/Mode/1") + msgpack.packb("Fast")))
    assert decoder().decode(named) == "Fast"
