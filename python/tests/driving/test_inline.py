"""Runs whose steps work in the process that drives them."""

import _thread
import bdb
import logging
import os

import laboratory
import numpy as np
import pytest

import drpipe
from drpipe import Pipeline, step
from runs import config, needs_program, python, written

pytestmark = needs_program


@pytest.fixture(autouse=True)
def surroundings(temporary_files_here, tmp_path):
    """Sees to it that nothing is left behind."""
    yield
    assert not list(tmp_path.glob("drpipe-py-*")), "a private directory was left behind"


def outcome_of(report):
    """Returns what must be the same in every mode."""
    failures = [
        (f.step, f.index, f.value, f.origin, f.cause, f.attempt, f.reasons, f.kind)
        for f in report.failures
    ]
    counts = [
        (s.name, s.received, s.done, s.filtered, s.failed, s.dropped, s.retried, s.emitted)
        for s in report.steps
    ]
    return report.verdict, report.exit_code, report.results, failures, counts


class Marked:
    """Marks some values, and emits their number at the end."""

    def init(self):
        self.kept = 0

    def run(self, value):
        if value % 3:
            self.kept += 1
            yield value, "mark"
            yield {"value": [value, self.name]}

    def finish(self):
        return self.kept, self.connections


def test_values_order_and_failures_are_those_of_workers():
    stages = [step(laboratory.fails_at_3, retries=1, backoff=0), Marked, repr]
    threads, inline, sequential = (
        outcome_of(drpipe.run(range(12), *stages, workers=2, mode=mode))
        for mode in ("threads", "inline", "sequential")
    )
    assert inline == sequential
    # A second worker of Marked has a count of its own.
    assert inline[2][:-1] == threads[2][: len(inline[2]) - 1]
    one = outcome_of(drpipe.run(range(12), *stages))
    assert inline == one


def test_a_producer_that_fails_is_the_same_too():
    def broken():
        yield 1
        raise OSError("the disk is gone")

    found = []
    for mode in ("threads", "inline"):
        with pytest.raises(drpipe.RunStopped) as caught:
            drpipe.run(broken(), laboratory.square, mode=mode)
        assert isinstance(caught.value.__cause__, OSError)
        found.append((str(caught.value), outcome_of(caught.value.report)))
    assert found[0] == found[1]


def test_everything_is_in_this_process_and_thread():
    seen = []

    def note(value):
        seen.append((os.getpid(), _thread.get_ident(), value))
        return seen

    def items():
        note("item")
        yield 1

    drpipe.run(items(), note, mode="inline").check()
    drpipe.run(items, note, mode="sequential").check()
    here = (os.getpid(), _thread.get_ident())
    assert seen == [(*here, value) for value in ("item", 1, "item", 1)]


def test_an_exception_has_its_own_traceback():
    (failed,) = drpipe.run([3], laboratory.fails_at_3, mode="inline").failures
    names = []
    trace = failed.exception.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-1] == "fails_at_3"


@pytest.mark.parametrize("end", [KeyboardInterrupt, bdb.BdbQuit])
def test_an_interrupt_or_the_debuggers_quit_ends_the_run(end):
    def quits_at_3(value):
        if value == 3:
            raise end
        return value

    with pytest.raises(end) as caught:
        drpipe.run(range(10), quits_at_3, mode="inline")
    if end is KeyboardInterrupt:
        assert caught.value.report.verdict == "interrupted"
        assert caught.value.report.results == [0, 1, 2]


def test_what_cannot_be_done_inline_is_refused(tmp_path):
    for limit in ({"timeout": 1}, {"memory_limit": "1 GiB"}):
        with pytest.raises(drpipe.ConfigError, match="inline"):
            drpipe.run([1], step(laboratory.square, **limit), mode="inline")
    run = drpipe.start([1], laboratory.square, mode="inline")
    for look in (run.progress, run.events, run.results):
        with pytest.raises(RuntimeError, match="before wait"):
            look()
    assert run.wait().check().results == [1]
    assert list(run.progress())[-1].step("square").done == 1


def test_arrays_and_a_run_within_a_run():
    def twice(array):
        (inner,) = drpipe.run([array], laboratory.double_array, mode="inline").check().results
        return inner

    array = np.arange(1 << 17, dtype="f8")
    for values in drpipe.run([array, array], twice, mode="inline").check().results:
        assert np.array_equal(values, array * 2)


def test_a_pipeline_with_steps_in_both_languages(tmp_path, caplog):
    (tmp_path / "talks.py").write_text(
        "import os\n"
        "class Talk:\n"
        "    def run(self, msg):\n"
        "        self.log.info('logged %s', msg)\n"
        "        return msg, os.getpid()\n"
    )
    talk = {"name": "TALK", "module": "talks", "class": "Talk"}
    content = config({"name": "SQUARE", "class": "Square"}, last=3)
    content["consumer"] = talk
    caplog.set_level(logging.INFO, "drpipe.run.TALK")
    pipeline = Pipeline.load(written(tmp_path, content))
    report = pipeline.run(mode="inline", results=True, ordered=True).check()
    assert report.results == [(number**2, os.getpid()) for number in (1, 2, 3)]
    assert "logged 9" in caplog.text


def test_a_driver_that_is_killed_leaves_nothing(tmp_path):
    script = (
        "import drpipe, os, signal\n"
        "def dies(value): os.kill(os.getpid(), signal.SIGKILL)\n"
        "drpipe.run([1], dies, mode='inline')\n"
    )
    driver = python(["-c", script], tmp_path)
    driver.communicate()
    assert driver.returncode == -9


OWN = """
import collections, dataclasses, sys
{preparation}
import drpipe

Star = collections.namedtuple("Star", "ra dec")

@dataclasses.dataclass
class Field:
    star: Star

def field(number):
    return Field(Star(number, [number]))

def main():
    for mode in ("threads", "inline", "sequential"):
        results = drpipe.run([1, 2], field, mode=mode).results
        assert results == [field(1), field(2)], results
        assert type(results[0].star) is Star

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("preparation", ["", "sys.modules['cloudpickle'] = None"])
def test_results_of_the_scripts_own_classes_arrive_in_every_mode(tmp_path, preparation):
    script = tmp_path / "script.py"
    script.write_text(OWN.format(preparation=preparation))
    driver = python([str(script)], tmp_path)
    _, errors = driver.communicate()
    assert driver.returncode == 0, errors
