"""Steps whose work is a run of its own: what they announce afterward counts all the same."""

import json
import os
import sys

import laboratory
import pytest

import drpipe
from drpipe.pool import Executor
from drpipe.protocol.page import current_message
from runs import needs_program, written

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
STEPS = os.path.dirname(laboratory.__file__)


def use_a_pool(directory):
    with Executor(1) as pool:
        assert pool.submit(abs, -2).result() == 2


def use_a_feed(directory):
    content = {
        "version": 1,
        "python": sys.executable,
        "pythonpath": STEPS,
        "producer": {"name": "IN", "class": "Caller"},
        "consumer": {"name": "OUT", "module": "told", "class": "Twice", "results": True},
    }
    with drpipe.Pipeline.load(written(directory, content)).feed() as feed:
        feed.put(1)
        assert [item.results for item in feed.acknowledgements()] == [[2]]


@pytest.mark.parametrize("mode", ["threads", "inline"])
@pytest.mark.parametrize("use", [use_a_pool, use_a_feed])
def test_a_step_that_uses_a_run_goes_on_announcing(use, mode, tmp_path, monkeypatch):
    # The workers are forks of this process, and so know the package that is tested.
    monkeypatch.setattr("drpipe.driving.forking.is_safe", lambda: True)

    def work(number):
        message = current_message()
        drpipe.product("before.txt")
        use(tmp_path)
        assert current_message() == message
        drpipe.product("after.txt")
        drpipe.count_action("use")
        return number

    report = drpipe.run([1, 2], work, mode=mode, summary="summary.json").check()
    assert report.results == [1, 2]
    assert [action.done for action in report.step("work").actions] == [2]
    assert sum(json.loads((tmp_path / "summary.json").read_text())["products"].values()) == 4
