"""Values of every kind arrive as they were sent."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading

import kinds
import msgpack
import numpy as np
import pytest
from kinds import KINDS, same

import drpipe
from drpipe.api.decoding import decoder
from drpipe.driving.pipeline import Pipeline
from drpipe.protocol import pickles, segments, session_pickles
from drpipe.protocol.failures import CodecError
from drpipe.protocol.segments import Segment
from drpipe.protocol.tags import PICKLE_MARK
from drpipe.protocol.values import Encoder
from runs import needs_program, program, written

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass")

PYTHON, RUST = Encoder(True), Encoder(False)
#: The kinds that travel as MessagePack.
BY_MESSAGEPACK = [
    *("none", "bool", "int", "float", "str", "bytes", "complex", "list", "tuple", "dict"),
    *("numpy scalar", "array", "large array", "array of no elements"),
]


def there_and_back(value, encoder=PYTHON):
    """Returns what a worker would receive: segments as segments, the rest as frames."""
    header, buffers = encoder.encode(value)
    received = [
        Segment(os.dup(buffer.fd), len(buffer))
        if isinstance(buffer, Segment)
        else memoryview(bytearray(buffer))
        for buffer in buffers
    ]
    return decoder(True).decode(header, received)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_arrives_as_it_was_sent(kind):
    made = KINDS[kind]()
    assert same(made, there_and_back(KINDS[kind]()))
    nested = there_and_back({"a": [0, (made,)]})
    assert same({"a": [0, (made,)]}, nested)


@pytest.mark.parametrize("odd", [bytearray(b"x"), [bytearray(b"x")], kinds.Point(1, 2)])
def test_something_odd_among_many_numbers_arrives_as_it_was_sent(odd):
    for items in ([0.1] * 100 + [odd] + [0.1] * 100, (0.1, odd, 0.1), [odd], {"a": [1, odd]}):
        assert same(items, there_and_back(items))


@pytest.mark.parametrize("kind", KINDS)
def test_plain_values_go_by_messagepack_and_only_they(kind):
    header, _ = PYTHON.encode(KINDS[kind]())
    assert (header[0] != PICKLE_MARK) == (kind in BY_MESSAGEPACK)


def test_types_that_astronomers_send_arrive_as_they_were_sent():
    units = pytest.importorskip("astropy.units")
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.nddata import CCDData, StdDevUncertainty
    from astropy.table import QTable, Table
    from astropy.time import Time
    from astropy.wcs import WCS

    quantity = there_and_back(np.arange(100_000) * units.adu)
    assert type(quantity) is units.Quantity and quantity.unit == units.adu
    assert quantity[-1].value == 99_999
    table = there_and_back(Table({"a": [1, 2], "b": ["x", "y"]}, meta={"night": 7}))
    assert type(table) is Table and table.meta == {"night": 7} and list(table["b"]) == ["x", "y"]
    queried = there_and_back(QTable({"flux": [1, 2] * units.Jy}))
    assert type(queried) is QTable and queried["flux"].unit == units.Jy
    time = there_and_back(Time(["2026-01-01", "2026-01-02"], scale="tdb"))
    assert type(time) is Time and time.scale == "tdb" and time[0].isot == "2026-01-01T00:00:00.000"
    sky = there_and_back(SkyCoord([10, 20] * units.deg, [5, 6] * units.deg, frame="galactic"))
    assert type(sky) is SkyCoord and sky.frame.name == "galactic" and sky[1].b.deg == 6
    header = fits.Header([("GAIN", 1.5, "a comment"), ("HISTORY", "flat")])
    data = np.arange(300.0 * 200).reshape(300, 200)
    ccd = CCDData(
        data, unit="adu", uncertainty=StdDevUncertainty(data / 10), mask=data > 100, meta=header
    )
    back = there_and_back(ccd)
    assert type(back) is CCDData and back.unit == units.adu and np.array_equal(back.data, data)
    assert np.array_equal(back.mask, data > 100) and type(back.uncertainty) is StdDevUncertainty
    assert back.header.cards["GAIN"].comment == "a comment" and back.header["HISTORY"][0] == "flat"
    assert there_and_back(WCS(naxis=2)).naxis == 2


def test_a_data_frame_arrives_as_it_was_sent():
    pandas = pytest.importorskip("pandas")
    made = pandas.DataFrame({"a": range(50_000), "b": ["x", "y"] * 25_000}).set_index("a")
    back = there_and_back(made)
    pandas.testing.assert_frame_equal(made, back)
    back.loc[0, "b"] = "z"
    series = there_and_back(made["b"])
    assert type(series) is pandas.Series and series.name == "b"


def test_frames_arrive_with_pixels_of_their_own_type():
    counts = np.arange(6, dtype=">i2").reshape(2, 3)
    frame = there_and_back(drpipe.Frame("n1", "raw/n1.fits", counts, {"GAIN": 2}))
    assert type(frame) is drpipe.Frame and same(frame.data, counts) and frame.header["GAIN"] == 2
    masked = np.ma.masked_array(np.ones((2, 2)), [[True, False], [False, False]])
    assert same(there_and_back(drpipe.Frame("n1", "x", masked)).data, masked)
    cards = ["LONGSTR = 'a very long &'", "CONTINUE  'story" + "y" * 50 + "'", "HISTORY flat"]
    frame = drpipe.Frame("n1", "x", counts, cards=cards)
    frame.header["NEW"] = 1
    back = there_and_back(frame)
    assert back.cards == frame.cards and back.header["LONGSTR"].endswith("yy")


class Exposure(drpipe.Frame):
    """A frame with another attribute."""


def test_what_is_more_than_a_frame_does_not_become_one():
    exposure = Exposure("n1", "x", np.ones((2, 2), "f4"))
    exposure.seeing = 0.8
    back = there_and_back(exposure)
    assert type(back) is Exposure and back.seeing == 0.8
    frame = drpipe.Frame("n1", "x", np.ones((2, 2), "f4"))
    frame.seeing = 0.8
    assert there_and_back(frame).seeing == 0.8
    assert there_and_back(frame, RUST).data.sum() == 4


def test_a_value_keeps_what_it_holds_twice():
    event = kinds.Container(name="e", image=np.ones(kinds.LARGE))
    back = there_and_back([event, {"same": event}])
    assert back[0] is back[1]["same"]
    loop = [kinds.Point(1, 2)]
    loop.append(loop)
    assert there_and_back(loop)[1][1][0] == (1, 2)
    plain = [1]
    plain.append(plain)
    assert there_and_back(plain)[1][1][0] == 1


def test_large_arrays_of_objects_go_in_shared_memory():
    event = kinds.Event(1, set(), np.arange(kinds.LARGE, dtype="f8"))
    header, buffers = PYTHON.encode([event, np.ones(4096)])
    assert len(header) < 1000
    assert [type(buffer) for buffer in buffers] == [Segment, bytes]
    assert os.pread(buffers[0].fd, 1 << 20, 0) == event.image.tobytes()


def test_an_array_within_an_object_that_is_passed_on_is_not_copied():
    header, (segment,) = PYTHON.encode({1: kinds.Event(1, set(), np.ones(kinds.LARGE))})
    back = decoder().decode(header, [segment])
    _, (again,) = PYTHON.encode([back])
    assert again is segment


def test_what_was_written_into_a_received_array_is_sent_on():
    header, (segment,) = PYTHON.encode(np.zeros(kinds.LARGE))
    for value in (kinds.Container(image=decoder(True).decode(header, [segment])), None):
        image = decoder(True).decode(header, [segment]) if value is None else value.image
        image[-1] = 7
        sent, (other,) = PYTHON.encode(image if value is None else value)
        assert other is not segment
        back = decoder().decode(sent, [other])
        assert (back if value is None else back.image)[-1] == 7
    assert decoder().decode(header, [segment])[-1] == 0


def test_an_array_that_nobody_has_changed_is_not_copied_when_it_is_sent_on():
    header, (segment,) = PYTHON.encode(np.zeros(kinds.LARGE))
    writable = decoder(True).decode(header, [segment])
    assert PYTHON.encode(writable)[1][0] is segment
    assert PYTHON.encode(decoder().decode(header, [segment]))[1][0] is segment


@pytest.mark.parametrize("size", [3, 5000, kinds.LARGE])
def test_a_read_only_array_within_an_object_can_be_changed_where_it_arrives(size):
    header, buffers = PYTHON.encode(np.zeros(size))
    view = decoder().decode(header, buffers)
    assert not view.flags.writeable
    sent, (*others,) = PYTHON.encode([kinds.Container(image=view, again=view)])
    if size == kinds.LARGE:
        assert others == buffers, "it is not copied"
    (back,) = decoder().decode(sent, [*others])
    back.image[:] = 7
    assert back.again is back.image and view.sum() == 0 and not view.flags.writeable


@pytest.mark.parametrize("size", [3, 5000, kinds.LARGE])
def test_what_one_receiver_writes_no_other_sees(size):
    header, buffers = PYTHON.encode(np.zeros(size))
    first = decoder(True).decode(header, buffers)
    first[:] = 1
    assert decoder(True).decode(header, buffers).sum() == 0
    assert first.sum() == size and first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        decoder().decode(header, buffers)[0] = 1


def test_without_room_for_segments_values_arrive_all_the_same(monkeypatch):
    monkeypatch.setattr(segments._count, "most", 0)
    made = kinds.Event(1, {2}, np.arange(kinds.LARGE))
    header, buffers = PYTHON.encode(made)
    assert [type(buffer) for buffer in buffers] == [bytes]
    back = decoder().decode(header, buffers)
    assert back == made


class Locked:
    def __init__(self):
        self.inner = {"lock": threading.Lock()}


def generator():
    yield


async def later():
    pass


def in_a_function(**fields):
    class Local:
        pass

    made = Local()
    made.__dict__.update(fields)
    return made


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, {"x": Locked()}], "_thread.lock cannot be sent (in item 1, key 'x', the attribute "),
        ([generator()], "generator cannot be sent (in item 0): TypeError: cannot pickle"),
        ((1, memoryview(b"x")), "memoryview cannot be sent (in item 1): use bytes(...)"),
        ((sys,), "module cannot be sent (in item 0): TypeError: cannot pickle"),
    ],
)
def test_what_cannot_be_pickled_is_named_with_its_place(value, text):
    with pytest.raises(CodecError) as error:
        PYTHON.encode(value)
    assert text in str(error.value)
    assert there_and_back([1, (2,)]) == [1, (2,)], "it goes on"


def test_the_error_of_a_coroutine_says_what_it_is():
    coroutine = later()
    with pytest.raises(CodecError, match="coroutine cannot be sent: run must not be async"):
        PYTHON.encode(coroutine)
    coroutine.close()


def test_what_no_module_has_goes_by_cloudpickle_or_says_so(monkeypatch):
    pytest.importorskip("cloudpickle")
    assert there_and_back([lambda: 7])[0]() == 7
    assert type(there_and_back(in_a_function())).__name__ == "Local"
    locked = np.zeros(3)
    locked.flags.writeable = False
    for value in ([locked, in_a_function(image=locked)], [in_a_function(image=locked), locked]):
        back = there_and_back(value)
        images = [item if type(item) is np.ndarray else item.image for item in back]
        assert images[0] is images[1] and images[0].flags.writeable
    monkeypatch.setattr(session_pickles, "is_available", lambda: False)
    with pytest.raises(CodecError, match=r"Local cannot be sent: .* or install cloudpickle"):
        PYTHON.encode(in_a_function())


def test_what_cannot_be_loaded_is_named():
    header, _ = PYTHON.encode(kinds.Point(1, 2))
    broken = header.replace(b"kinds", b"knids")
    with pytest.raises(CodecError, match=r"is knids\.Point, which cannot be loaded here: Module"):
        decoder().decode(broken)


@pytest.mark.parametrize("rest", [b"", b"\xc1", msgpack.packb(["x", 5, []]), msgpack.packb([1])])
def test_a_pickle_that_is_none_is_refused(rest):
    with pytest.raises(CodecError):
        decoder().decode(bytes([PICKLE_MARK]) + rest)


def test_no_value_becomes_a_pickle_on_its_way():
    """Bytes that came from elsewhere are never loaded, however a step sends them on."""

    forms = [msgpack.ExtType(code, pickle.dumps(pytest.fail)) for code in range(128)]
    forms += [pickle.dumps(pytest.fail), pickles.header("x", pickle.dumps(pytest.fail), [])]
    for form in forms:
        for value in (form, [form], {"a": form}):
            header, buffers = PYTHON.encode(value)
            if header[0] != PICKLE_MARK:
                with contextlib.suppress(CodecError):
                    assert decoder().decode(header, buffers) is not pytest.fail


def test_a_namedtuple_whose_last_item_is_a_step_is_a_value(start):
    router = start("Names", module="kinds").ready()
    (output,) = router.run("OTHER").outputs
    assert output.route == 0
    back = decoder().decode(output.header)
    assert type(back) is kinds.Point and back == (1, "OTHER")


@pytest.mark.parametrize("cls", ["Plain", "Asks", "Derived", "Declines"])
@pytest.mark.parametrize("size", [5, 5000])
def test_classes_of_users_change_their_arrays_and_derived_ones_do_not(start, cls, size):
    router = start(cls, module="writers").ready()
    router.work(router.one(1, *PYTHON.encode(np.zeros(size))))
    said = router.done(1)
    if cls in ("Plain", "Asks"):
        assert said.values == [size]
    else:
        summary, hint, _ = said.completions[0]["failure"][1]
        assert "read-only" in summary and "writable_arrays = True" in hint


@pytest.mark.parametrize("size", [10, 5000, kinds.LARGE])
@needs_program
def test_writes_are_seen_by_nobody_else(tmp_path, monkeypatch, size):
    """Neither by another step that gets the same, nor by another attempt, nor are they kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRPIPE", str(program()))
    of = {"module": "writers", "nb_process": 1}
    config = {
        "version": 1,
        "pythonpath": os.path.dirname(kinds.__file__),
        "producer": {
            **of,
            "name": "MAKE",
            "class": "Make",
            "params": {"size": size},
            "next_steps": ["FAIL", "LOOK"],
        },
        "stagers": [
            {
                **of,
                "name": "FAIL",
                "class": "Fails",
                "retries": 1,
                "backoff": 0,
                "next_steps": "LOOK",
            },
        ],
        "consumer": {**of, "name": "LOOK", "class": "Look"},
    }
    report = Pipeline.load(written(tmp_path, config)).run()
    assert report.step("FAIL").failed == 1 and report.step("LOOK").done == 1
    assert (tmp_path / "sums.txt").read_text().split() == ["0.0"]
    assert (tmp_path / "attempts.txt").read_text().split() == ["0.0", "0.0"]
    (header,) = tmp_path.glob("quarantine/*/*/header.bin")
    buffers = [path.read_bytes() for path in sorted(header.parent.glob("buffer-*.bin"))]
    kept = decoder().decode(header.read_bytes(), buffers)
    assert kept.sum() == 0 and len(kept) == size


@needs_program
def test_every_kind_crosses_between_workers_also_unopened_through_rust(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRPIPE", str(program()))
    of = {"module": "kinds", "nb_process": 1}
    config = {
        "version": 1,
        "pythonpath": os.path.dirname(kinds.__file__),
        "producer": {**of, "name": "ALL", "class": "All"},
        "stagers": [
            {**of, "name": "SAME", "class": "Same"},
            {"name": "PASS", "class": "Pass"},
            {"name": "PROCESS", "class": "Pass", "nb_process": 1, "nb_thread": 0},
        ],
        "consumer": {**of, "name": "CHECK", "class": "Check"},
    }
    report = Pipeline.load(written(tmp_path, config)).run()
    report.check()
    assert (tmp_path / "bad.txt").read_text() == ""
    assert report.step("CHECK").done == 3 * len(KINDS)


@needs_program
@pytest.mark.parametrize(
    ("next_of_make", "texts"),
    [
        ("SQUARE", ["kinds.Event cannot be sent to a step in Rust: use dataclasses.asdict"]),
        (
            "PASS",
            ["a Python object (kinds.Event), which only steps in Python can open, but", "send"],
        ),
    ],
)
def test_a_step_in_rust_refuses_an_object_by_its_name(tmp_path, monkeypatch, next_of_make, texts):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRPIPE", str(program()))
    of = {"module": "kinds", "nb_process": 1}
    config = {
        "version": 1,
        "pythonpath": os.path.dirname(kinds.__file__),
        "producer": {"name": "N", "class": "Integers", "params": {"last": 1}, "next_steps": "MAKE"},
        "stagers": [
            {**of, "name": "MAKE", "class": "MakesEvent", "next_steps": [next_of_make, "SAME"]},
            {**of, "name": "SAME", "class": "Same", "next_steps": "END"},
            {"name": "PASS", "class": "Pass", "next_steps": ["SQUARE", "SAME"]},
            {"name": "SQUARE", "class": "Square", "next_steps": "END"},
        ],
        "consumer": {"name": "END", "class": "Discard"},
    }
    if next_of_make == "SQUARE":
        del config["stagers"][2]
    report = Pipeline.load(written(tmp_path, config)).run()
    reasons = " ".join(str(failure.reasons) for failure in report.failures)
    assert report.failures
    for text in texts:
        assert text in reasons


@needs_program
def test_a_kept_object_is_tried_again_only_if_nobody_else_can_have_written_it(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRPIPE", str(program()))
    of = {"module": "kinds", "nb_process": 1}
    config = {
        "version": 1,
        "python": sys.executable,
        "pythonpath": os.path.dirname(kinds.__file__),
        "producer": {"name": "N", "class": "Integers", "params": {"last": 2}},
        "stagers": [{**of, "name": "MAKE", "class": "MakesEvent"}],
        "consumer": {**of, "name": "END", "class": "Refuses"},
    }
    path = written(tmp_path, config)
    failed = Pipeline.load(path).run().failures
    assert len(failed) == 3

    def quarantine(*arguments):
        command = [str(program()), "quarantine", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert quarantine("show", "quarantine").stdout.count("<a Python object: kinds.Event>") == 3
    (exposed, *_) = sorted(tmp_path.glob("quarantine/*/*/header.bin"))
    exposed.chmod(0o666)
    retry = ["retry", "quarantine", "--config", str(path), "--set", "END.fail=false"]
    done = quarantine(*retry)
    assert done.returncode == 1, done.stderr
    assert (
        "is writable by every user" in done.stderr and "2 entries are Python objects" in done.stderr
    )
    assert len((tmp_path / "retried.txt").read_text().splitlines()) == 2
    exposed.chmod(0o644)
    assert quarantine(*retry).returncode == 0
    lines = sorted((tmp_path / "retried.txt").read_text().splitlines())
    assert lines == [f"Event {number} [1]" for number in range(3)]
    assert not list(tmp_path.glob("quarantine/*/*"))


@needs_program
def test_every_kind_comes_as_a_result_and_can_be_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRPIPE", str(program()))
    made = [[name, make()] for name, make in KINDS.items()]
    results = dict(drpipe.run(made, kinds.Same).check().results)
    assert [name for name in KINDS if not same(results[name], KINDS[name]())] == []
    for name in ("array", "large array", "structured array", "big-endian array"):
        results[name][:] = 0
