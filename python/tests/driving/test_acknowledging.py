"""Producers in Python that are told what became of their items."""

import ast
import os
import sys

import pytest
import told

import drpipe
from runs import needs_program, written

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
STEPS = os.path.dirname(told.__file__)


def pipeline(directory, params, cls="Asks", end="Double", **keys):
    """Returns a pipeline of a producer and a step whose results go back to it."""
    consumer = {"name": "END", "module": "told", "class": end, "results": True, **keys}
    producer = {"name": "ASKS", "module": "told", "class": cls, "params": params, "window": 4}
    content = {
        "version": 1,
        "python": sys.executable,
        "pythonpath": STEPS,
        "producer": producer,
        "consumer": consumer,
    }
    return drpipe.Pipeline.load(written(directory, content))


def lines(directory):
    *items, last = (directory / "told.txt").read_text().splitlines()
    return [ast.literal_eval(item) for item in items], last


@pytest.mark.parametrize("mode", ["threads", "inline", "sequential"])
def test_a_producer_is_told_of_each_item_before_it_finishes(tmp_path, mode):
    report = pipeline(tmp_path, {"last": 50}, on_error="tell", nb_process=2).run(mode=mode)
    assert report.exit_code == 1
    items, last = lines(tmp_path)
    assert last.startswith("finished, 0 under way") and int(last.split()[4]) <= 5
    by_number = {item[0]: item[1:] for item in items}
    assert sorted(by_number) == list(range(1, 51)) and len(items) == 50
    nothing = (None, None, [], 0)
    for number, found in by_number.items():
        origin = f"number {number}"
        if number == 3:
            why = ("END", "failed", ["ValueError: not three"], 1)
            assert found == (origin, "failed", [], why)
        else:
            results = [] if number == 4 else [2 * number]
            assert found == (origin, "done", results, nothing)


def test_a_producer_that_waits_is_asked_again_when_it_is_told(tmp_path):
    report = pipeline(tmp_path, {}, "OneByOne", "Twice").run().check()
    assert report.step("ASKS").emitted == 10, "1, 2, 4, ... 512"


def test_a_producer_of_a_script_is_told_too(tmp_path):
    asks = drpipe.step(told.Asks, params={"last": 3})
    assert drpipe.run(asks, told.double).check().results == [2, 4, 6]
    items, last = lines(tmp_path)
    assert [item[0] for item in items] == [1, 2, 3]
    assert items[0][1] == "[0] number 1" and last.startswith("finished, 0 under way")


def test_an_exception_while_it_is_told_ends_production(tmp_path):
    with pytest.raises(drpipe.RunStopped, match="it does not want to know") as caught:
        pipeline(tmp_path, {"last": 10**9, "fails_at": 7}).run()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_exception_after_the_last_value_is_not_lost(tmp_path):
    report = pipeline(tmp_path, {"last": 2, "fails_at": 2}, on_error="tell").run()
    assert report.exit_code == 1
