"""Runs of functions and classes, as a script or a notebook gives them to `drpipe.run`."""

import functools
import itertools
import linecache
import math
import operator
import os
import pickle
import queue
import signal
import sys
import textwrap
import threading

import laboratory
import numpy as np
import pytest

import drpipe
from drpipe import step
from drpipe.driving import pickling
from runs import needs_program, python

pytestmark = needs_program


@pytest.fixture(autouse=True, params=["forked", "fresh"])
def surroundings(request, temporary_files_here, tmp_path, monkeypatch):
    """Sets whether workers are forks of this process, which has the files of pytest open."""
    monkeypatch.setattr("drpipe.driving.forking.is_safe", lambda: request.param == "forked")
    yield
    assert not list(tmp_path.glob("drpipe-py-*")), "a private directory was left behind"


def results(*arguments, **options):
    return drpipe.run(*arguments, **options).check().results


def test_functions_on_a_range():
    assert results(range(100), math.sqrt, laboratory.square, workers=[2, 1]) == pytest.approx(
        list(range(100))
    )


def test_a_directory_whose_name_is_not_utf_8_is_as_good_as_others(tmp_path, monkeypatch):
    odd = os.fsencode(tmp_path) + b"/n\xe9"
    os.mkdir(odd)
    monkeypatch.chdir(os.fsdecode(odd))
    monkeypatch.syspath_prepend(os.fsdecode(odd))
    assert results(range(3), laboratory.square) == [0, 1, 4]


PRODUCERS = {
    "a range": lambda: range(5),
    "a list": lambda: [0, 1, 2, 3, 4],
    "a tuple": lambda: (0, 1, 2, 3, 4),
    "an array": lambda: np.arange(5),
    "an iterator": lambda: iter([0, 1, 2, 3, 4]),
    "a generator": lambda: (number for number in range(5)),
    "a map": lambda: map(int, "01234"),
    "a generator function": lambda: laboratory.numbers,
    "a partial": lambda: functools.partial(range, 5),
    "a function": lambda: lambda: range(5),
    "an instance": laboratory.Items,
}


@pytest.mark.parametrize("producer", PRODUCERS.values(), ids=PRODUCERS)
def test_whatever_can_be_iterated_is_a_producer(producer):
    made = producer()
    if isinstance(made, laboratory.Items):
        made.count = 5
    assert results(made, laboratory.square) == [0, 1, 4, 9, 16]


def test_a_producer_may_have_nothing():
    for producer in ([], iter([]), laboratory.nothing):
        assert drpipe.run(producer, laboratory.square).check().results == []


def test_no_stage_at_all():
    assert drpipe.run(["a", 1, None, (2, "b"), 2.5]).check().results == ["a", 1, (2, "b"), 2.5]


def test_a_list_that_a_function_returns_is_items_and_generators_are_values():
    assert results(laboratory.as_list, laboratory.twice) == [1, -1, 2, -2, 3, -3]


def test_values_keep_their_types():
    ((number, details),) = drpipe.run([7], laboratory.pair).check().results
    assert (number, details) == (7, {"value": [7, None, "text", b"bytes", 1.5]})


@pytest.mark.parametrize("size", [10, 5_000, 1_000_000])
def test_arrays_arrive_as_arrays(size):
    array = np.arange(size, dtype="f4").reshape(2, -1)
    for producer in ([array], iter([array])):
        (doubled,) = drpipe.run(producer, laboratory.double_array).check().results
        assert doubled.dtype == array.dtype and np.array_equal(doubled, array * 2)
        assert doubled.flags.writeable


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
    assert report.results == ["wrote 0", "wrote 1"]
    report = drpipe.run(range(3), consumer=writes, results=False).check()
    assert report.results == [] and report.step("Write").done == 3
    assert (tmp_path / "2").exists()


def test_results_are_in_the_order_of_the_values():
    stages = [laboratory.square, step(laboratory.fails_at_49, workers=2), operator.neg]
    expected = [-(number**2) for number in range(50) if number != 7]
    for mode in ("threads", "inline"):
        report = drpipe.run(range(50), *stages, workers=3, mode=mode)
        assert report.results == expected
        assert [failed.index for failed in report.failures] == [7]
    report = drpipe.run(range(50), *stages, workers=3, ordered=False)
    assert sorted(report.results) == sorted(expected)


def test_a_text_at_the_end_of_a_tuple_is_no_route():
    items = [("a.fits", "pair"), ("b.fits", "RESULTS"), ("c.fits", "repr")]
    found = results(items, repr, laboratory.pair)
    assert [value for value, _ in found] == list(map(repr, items))
    assert results(items) == items


class Bar:
    """Iterates as a progress bar does, and cannot be pickled."""

    def __init__(self, values):
        self.values, self.lock = values, threading.Lock()

    def __iter__(self):
        yield from self.values


def test_what_cannot_be_pickled_can_be_iterated_over():
    assert results(Bar(range(5)), laboratory.square) == [0, 1, 4, 9, 16]


def test_a_failed_input_has_its_value_its_exception_and_its_entry(tmp_path):
    (tmp_path / "a.fits").touch()
    report = drpipe.run(["a.fits", "b.fits", [1]], step(laboratory.fails, on_error="skip"))
    assert [failed.value for failed in report.failures] == ["a.fits", "b.fits", [1]]
    assert [failed.origin for failed in report.failures] == ["a.fits", "[1]", "[2]"]
    report = drpipe.run([np.arange(3), laboratory.BIG], laboratory.fails)
    small, big = report.failures
    assert np.array_equal(small.value, [0, 1, 2]) and np.array_equal(big.value, laboratory.BIG)
    assert small.path == os.path.join(os.path.abspath(report.quarantine), small.entry)
    error = small.exception
    assert isinstance(error, laboratory.Odd) and error.args == (3, "pixels")
    assert 'raise Odd(len(value), "pixels")' in str(error.__cause__)
    with pytest.raises(drpipe.RunFailed) as caught:
        report.check()
    assert isinstance(caught.value.__cause__, laboratory.Odd)


def test_a_value_of_a_worker_that_died_is_in_quarantine():
    report = drpipe.run(range(5), step(laboratory.dies_at_3, workers=2))
    (failed,) = report.failures
    assert (failed.index, failed.value, failed.exception) == (3, 3, None)
    report = drpipe.run(range(5), step(laboratory.dies_at_3, on_error="skip"))
    with pytest.raises(LookupError, match="has no entry"):
        print(report.failures[0].value)


def test_a_run_is_started_watched_and_iterated_over():
    with drpipe.start(range(200), laboratory.square) as run:
        progress = list(run.progress())
    assert progress[-1].step("square").done == 200 and progress[-1].step("square").finished
    assert run.wait().results == [number**2 for number in range(200)]
    with drpipe.start(laboratory.endless, laboratory.square) as run:
        first = [value for value, _ in zip(run.results(), range(10))]
        run.cancel()
    assert first == [number**2 for number in range(10)]
    assert run.wait().verdict == "interrupted"


def test_an_interrupt_keeps_what_there_is():
    started = queue.Queue()

    def items():
        yield from range(3)
        results = started.get()._results
        with results._changed:
            results._changed.wait_for(lambda: len(results._values) == 3)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        yield from itertools.count(3)

    run = drpipe.start(items(), laboratory.square)
    with pytest.raises(KeyboardInterrupt) as caught, run:
        started.put(run)
        run.wait()
    report = caught.value.report
    assert (report.verdict, report.results[:3]) == ("interrupted", [0, 1, 4])


def test_an_interrupt_within_the_block_has_the_report_too():
    run = drpipe.start(laboratory.endless, laboratory.square)
    with pytest.raises(KeyboardInterrupt) as caught, run:
        taken = [value for _, value in zip(range(10), run.results())]
        raise KeyboardInterrupt
    report = caught.value.report
    assert report.verdict == "interrupted"
    assert taken + report.results == [n**2 for n in range(10 + len(report.results))]


def test_an_interrupt_does_not_wait_for_what_takes_long():
    run = drpipe.start(range(9), laboratory.sleeps_from_3, drain_limit=0)
    values = run.results()
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt) as caught, run:
        os.kill(os.getpid(), signal.SIGINT)
        run.wait()
    assert caught.value.report.verdict == "interrupted"


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
    assert report.exit_code == 1 and report.results == [0, 1, 2, 4]
    (failed,) = report.failures
    assert (failed.origin, failed.attempt, failed.reasons[0]) == ("item 3", 3, "ValueError: three")
    assert (failed.index, failed.value, failed.kind) == (3, 3, "builtins.ValueError")
    assert "laboratory.py" in failed.reasons[1] and "adapters.py" not in failed.reasons[1]


def test_a_worker_that_dies_is_replaced():
    stages = step(laboratory.dies_at_3, workers=2)
    report = drpipe.run(range(50), stages)
    assert report.exit_code == 1 and report.failures[0].cause == "lost"
    assert report.results == [number for number in range(50) if number != 3]


def test_init_that_returns_false_names_the_class():
    with pytest.raises(drpipe.RunStopped, match="init of Refuses returned False") as caught:
        drpipe.run(range(3), laboratory.Refuses)
    assert caught.value.report.verdict == "stopped"


def test_an_iterator_is_advanced_as_there_is_room():
    made = []

    def endless():
        try:
            for number in range(10**9):
                made.append(number)
                yield np.zeros(1 << 16)
        finally:
            made.append("closed")

    with pytest.raises(drpipe.RunStopped) as caught:
        drpipe.run(endless(), step(laboratory.fails_at_once, on_error="stop"))
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(made) < 400 and made[-1] == "closed"


def test_an_iterator_may_wait_for_the_result_of_its_own_latest_value():
    arrived = queue.Queue()

    def one_at_a_time():
        for number in range(200):
            yield number
            assert arrived.get(timeout=60) == number**2

    with drpipe.start(one_at_a_time(), laboratory.square) as run:
        values = []
        for value in run.results():
            values.append(value)
            arrived.put(value)
    assert values == [number**2 for number in range(200)]
    assert run.wait().check()


def test_an_iteration_over_results_never_ends_before_the_last_value():
    for _ in range(20):
        with drpipe.start(iter(range(3)), laboratory.square) as run:
            assert list(run.results()) == [0, 1, 4]


def test_an_iterator_that_fails_ends_production():
    def broken():
        yield 1
        raise OSError("the disk is gone")

    for given in (broken(), broken):
        with pytest.raises(drpipe.RunStopped, match="OSError: the disk is gone") as caught:
            drpipe.run(given, laboratory.square)
        stopped = caught.value
        assert stopped.report.verdict == "stopped" and stopped.report.results == [1]
        assert isinstance(stopped.__cause__, OSError)
        assert isinstance(stopped, drpipe.RunError) and isinstance(stopped, drpipe.RunFailed)
        again = pickle.loads(pickle.dumps(stopped))
        assert str(again) == str(stopped) and again.report.results == [1]


def test_an_item_that_cannot_be_pickled_ends_production():
    with pytest.raises(drpipe.RunStopped, match="an item cannot be pickled") as caught:
        drpipe.run(iter([1, threading.Lock()]), laboratory.square)
    assert caught.value.report.results == [1]
    assert isinstance(caught.value.__cause__, TypeError)


def test_settings_are_checked():
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        step(laboratory.square, retires=2)
    with pytest.raises(TypeError, match="params are for a class"):
        step(laboratory.square, params={"a": 1})
    with pytest.raises(TypeError, match="the stage int is of type int; expected a function"):
        drpipe.run(range(3), 5)
    for wrong in (5, None, object()):
        with pytest.raises(TypeError, match="the producer is of type"):
            drpipe.run(wrong, laboratory.square)
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
    with pytest.raises(drpipe.NotCarried, match="lambda cannot be given to workers"):
        lock = threading.Lock()
        drpipe.run(range(3), lambda value: lock)


def test_carried_things_are_the_same(tmp_path):
    file = str(tmp_path / "thing")
    pickling.dump(laboratory.square, "square", file)
    assert pickling.load(file) is laboratory.square
    assert not pickling.is_loading()


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


#: With a thread, a script cannot be forked.
A_THREAD = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
WITHOUT = "sys.modules['cloudpickle'] = None"
PREPARATIONS = ["", WITHOUT, A_THREAD, f"{A_THREAD}; {WITHOUT}"]


@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_a_script(tmp_path, preparation):
    script = tmp_path / "night.py"
    script.write_text(SCRIPT.format(preparation=preparation, call=GUARDED))
    for arguments in (["night.py"], ["-m", "night"]):
        code, out, err = ran(arguments, tmp_path)
        assert (code, out) == (0, "[1.0, 1.5, 2.0]\n"), err


FAILING = """\
import sys
{preparation}
import drpipe

class Strange(ValueError):
    pass

def measure(value):
    if value:
        raise Strange(value)
    return [1 / unit for unit in [value]]

if __name__ == "__main__":
    report = drpipe.run([0, 1], measure)
    for failed in report.failures:
        print(failed.reasons[-1])
    print(type(failed.exception) is Strange, failed.exception.args)
"""


@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_a_traceback_shows_the_line_of_a_script(tmp_path, preparation):
    script = tmp_path / "night.py"
    script.write_text(FAILING.format(preparation=preparation))
    code, out, err = ran(["night.py"], tmp_path)
    assert code == 0, err
    assert f'File "{script}", line 11, in ' in out and "return [1 / unit for unit" in out
    assert "raise Strange(value)" in out and out.endswith("True (1,)\n")


def test_a_traceback_shows_the_line_of_a_cell():
    text = "def divide(value):\n    return 1 / (value - value)\n"
    linecache.cache["<cell 7>"] = (len(text), None, text.splitlines(True), "<cell 7>")
    cell = {"__name__": "__main__"}
    exec(compile(text, "<cell 7>", "exec"), cell)
    (failed,) = drpipe.run([1], cell["divide"]).failures
    assert 'File "<cell 7>", line 2' in failed.reasons[-1]
    assert "return 1 / (value - value)" in failed.reasons[-1]
    exec("def divide(value): return 1 / (value - value)", cell)
    (failed,) = drpipe.run([1], cell["divide"]).failures
    assert 'File "<string>", line 1, in divide' in failed.reasons[-1]


def test_a_script_without_a_guard_gets_an_error_that_says_so(tmp_path):
    script = tmp_path / "night.py"
    unfit = f"{A_THREAD}; {WITHOUT}"
    script.write_text(SCRIPT.format(preparation=unfit, call="main()"))
    code, _, err = ran(["night.py"], tmp_path)
    assert code == 1 and 'if __name__ == "__main__"' in err


def test_a_session_without_cloudpickle_gets_an_error_that_says_so(tmp_path):
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
