"""Pipelines without a file: what a script or a notebook gives to `drpipe.run`."""

import functools
import math
import operator
import os
import sys
import textwrap

import laboratory
import numpy as np
import pytest

import drpipe
from drpipe import carry, step
from runs import ROOT, needs_program, program, python

pytestmark = needs_program


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A directory of its own, and the program to test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRPIPE", str(program()))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    assert not list(tmp_path.glob("drpipe-py-*")), "a private directory was left behind"


def results(*arguments, **options):
    return sorted(drpipe.run(*arguments, **options).check().results)


def test_functions_on_a_range():
    assert results(range(100), math.sqrt, laboratory.square, workers=[2, 1]) == pytest.approx(
        list(range(100))
    )


@pytest.mark.parametrize(
    "producer",
    [
        range(5),
        [0, 1, 2, 3, 4],
        (0, 1, 2, 3, 4),
        np.arange(5),
        iter([0, 1, 2, 3, 4]),
        (number for number in range(5)),
        map(int, "01234"),
        laboratory.numbers,
        functools.partial(range, 5),
        lambda: range(5),
        laboratory.Items(),
    ],
    ids=lambda producer: type(producer).__name__,
)
def test_whatever_can_be_iterated_is_a_producer(producer):
    if isinstance(producer, laboratory.Items):
        producer.count = 5
    assert results(producer, laboratory.square) == [0, 1, 4, 9, 16]


def test_a_producer_may_have_nothing():
    for producer in ([], iter([]), laboratory.nothing):
        assert drpipe.run(producer, laboratory.square).check().results == []


def test_no_stage_at_all():
    assert drpipe.run(["a", 1, None, (2, "b"), 2.5]).check().results == ["a", 1, (2, "b"), 2.5]


def test_a_list_that_a_function_returns_is_items_and_generators_are_values():
    assert results(laboratory.as_list, laboratory.twice) == [-3, -2, -1, 1, 2, 3]


def test_values_keep_their_types():
    ((number, details),) = drpipe.run([7], laboratory.pair).check().results
    assert (number, details) == (7, {"value": [7, None, "text", b"bytes", 1.5]})


@pytest.mark.parametrize("size", [10, 5_000, 1_000_000])
def test_arrays_arrive_as_arrays(size):
    array = np.arange(size, dtype="f4").reshape(2, -1)
    for producer in ([array], iter([array])):
        (doubled,) = drpipe.run(producer, laboratory.double_array).check().results
        assert doubled.dtype == array.dtype and np.array_equal(doubled, array * 2)
        assert not doubled.flags.writeable


def test_classes_with_parameters_and_what_steps_are_given():
    report = drpipe.run(
        step(laboratory.Items, params={"first": 10}, name="MADE"),
        step(laboratory.Sum, params={"start": 100}, name="SUM"),
    ).check()
    assert report.results == [("SUM", ["RESULTS"], 133)]
    assert [step.name for step in report.steps] == ["MADE", "SUM", "RESULTS"]


def test_an_instance_keeps_its_state():
    summing = laboratory.Sum()
    summing.start = 1000
    assert drpipe.run(range(3), summing).results == [("Sum", ["RESULTS"], 1003)]
    assert not hasattr(summing, "sum"), "the worker has a copy"


def test_a_consumer_is_the_last_step(tmp_path):
    writes = step(laboratory.Write, params={"directory": str(tmp_path)})
    report = drpipe.run(range(2), consumer=writes).check()
    assert sorted(report.results) == ["wrote 0", "wrote 1"]
    report = drpipe.run(range(3), consumer=writes, results=False).check()
    assert report.results == [] and report.step("Write").done == 3
    assert (tmp_path / "2").exists()


def test_sequential_mode_keeps_the_order():
    report = drpipe.run(range(50), laboratory.square, workers=3, mode="sequential").check()
    assert report.results == [number**2 for number in range(50)]


def test_names_are_unique_and_can_be_read():
    report = drpipe.run(range(2), operator.neg, lambda x: x, operator.neg, abs)
    names = [step.name for step in report.steps]
    assert names == ["range", "neg", "lambda", "neg-2", "abs", "RESULTS"]


def test_what_fails_is_in_the_report(tmp_path):
    report = drpipe.run(
        step(laboratory.Items, params={"count": 5}),
        step(laboratory.fails_at_3, retries=2, backoff=0),
        quarantine=tmp_path / "bad",
    )
    assert report.exit_code == 1 and sorted(report.results) == [0, 1, 2, 4]
    (failed,) = report.failures
    assert (failed.origin, failed.attempt, failed.reasons[0]) == ("item 3", 3, "ValueError: three")
    assert "laboratory.py" in failed.reasons[1] and "adapters.py" not in failed.reasons[1]


def test_a_worker_that_dies_is_replaced():
    stages = step(laboratory.dies_at_3, workers=2)
    report = drpipe.run(range(50), stages)
    assert report.exit_code == 1 and report.failures[0].cause == "lost"
    assert sorted(report.results) == [number for number in range(50) if number != 3]


def test_init_that_returns_false_names_the_class():
    report = drpipe.run(range(3), laboratory.Refuses)
    assert report.verdict == "stopped"
    assert report.reason is not None and "init of Refuses returned False" in report.reason


def test_an_iterator_is_advanced_as_there_is_room():
    made = []

    def endless():
        try:
            for number in range(10**9):
                made.append(number)
                yield np.zeros(1 << 16)
        finally:
            made.append("closed")

    report = drpipe.run(endless(), step(laboratory.fails_at_once, on_error="stop"))
    assert report.verdict == "stopped"
    assert len(made) < 2000


def test_an_iterator_that_fails_ends_production():
    def broken():
        yield 1
        raise OSError("the disk is gone")

    report = drpipe.run(broken(), laboratory.square)
    assert report.verdict == "stopped" and report.results == [1]
    assert report.reason is not None and "OSError: the disk is gone" in report.reason


def test_an_item_that_cannot_be_pickled_ends_production():
    report = drpipe.run(iter([1, lambda: 2]), laboratory.square)
    assert report.verdict == "stopped"
    assert report.reason is not None and "an item cannot be pickled" in report.reason


def test_settings_are_checked():
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        step(laboratory.square, retires=2)
    with pytest.raises(TypeError, match="params are for a class"):
        step(laboratory.square, params={"a": 1})
    with pytest.raises(TypeError, match="the stage int is of type int; expected a function"):
        drpipe.run(range(3), 5)
    with pytest.raises(ValueError, match="2 numbers for 1 stages"):
        drpipe.run(range(3), laboratory.square, workers=[1, 2])
    with pytest.raises(drpipe.ConfigError, match="retries"):
        drpipe.run(range(3), step(laboratory.square, retries=-1))
    with pytest.raises(drpipe.ConfigError, match="mode"):
        drpipe.run(range(3), mode="quick")


def test_what_exists_in_this_session_only_needs_cloudpickle(monkeypatch):
    factor = 3
    assert results(range(3), lambda value: value * factor) == [0, 3, 6]
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(
        drpipe.NotCarried, match=r"lambda cannot be given.*-m pip install cloudpickle"
    ):
        drpipe.run(range(3), lambda value: value)
    # The items of a producer can be made here.
    assert results(lambda: range(3), laboratory.square) == [0, 1, 4]


def test_what_nothing_can_pickle_is_named():
    import threading

    with pytest.raises(drpipe.NotCarried, match="lambda cannot be given to workers"):
        lock = threading.Lock()
        drpipe.run(range(3), lambda value: lock)


def test_carried_things_are_the_same(tmp_path):
    file = str(tmp_path / "thing")
    carry.dump(laboratory.square, "square", file)
    assert carry.load(file) is laboratory.square
    assert not carry.is_loading()


SCRIPT = """\
import sys
{preparation}
import drpipe

class Add:
    amount = 0
    def run(self, value):
        return value + self.amount

def halve(value):
    return value / 2

def main():
    report = drpipe.run(range(3), halve, drpipe.step(Add, params={{"amount": 1}}))
    print(report.check().results)

{call}
"""
GUARDED = 'if __name__ == "__main__":\n    main()'


def ran(arguments, directory):
    process = python(arguments, directory)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize("preparation", ["", "sys.modules['cloudpickle'] = None"])
def test_a_script(tmp_path, preparation):
    script = tmp_path / "night.py"
    script.write_text(SCRIPT.format(preparation=preparation, call=GUARDED))
    for arguments in (["night.py"], ["-m", "night"]):
        code, out, err = ran(arguments, tmp_path)
        assert (code, out) == (0, "[1.0, 1.5, 2.0]\n"), err


def test_a_script_without_a_guard_is_told(tmp_path):
    script = tmp_path / "night.py"
    script.write_text(SCRIPT.format(preparation="sys.modules['cloudpickle'] = None", call="main()"))
    code, _, err = ran(["night.py"], tmp_path)
    assert code == 1 and 'if __name__ == "__main__"' in err


def test_a_session_without_cloudpickle_is_told(tmp_path):
    text = SCRIPT.format(preparation="sys.modules['cloudpickle'] = None", call="main()")
    code, _, err = ran(["-c", text], tmp_path)
    assert code == 1 and "-m pip install cloudpickle" in err
    code, out, err = ran(["-c", SCRIPT.format(preparation="", call="main()")], tmp_path)
    assert (code, out) == (0, "[1.0, 1.5, 2.0]\n"), err


def test_modules_are_found_where_the_script_finds_them(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "optics.py").write_text("def bend(value):\n    return -value\n")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "local.py").write_text("def up(value):\n    return value + 1\n")
    script = """
    import sys
    sys.path.append("parts")
    import drpipe, local, optics
    print(drpipe.run([1], optics.bend, local.up).check().results)
    """
    (tmp_path / "scripts" / "night.py").write_text(textwrap.dedent(script))
    code, out, err = ran([os.path.join("scripts", "night.py")], tmp_path)
    assert (code, out) == (0, "[0]\n"), err


def test_the_example(tmp_path):
    code, out, err = ran([str(ROOT / "examples" / "python_drive.py")], tmp_path)
    assert code == 0, err
    assert out.startswith(f"{[number**2 for number in range(1, 21, 2)]}\n") and "done in" in out
