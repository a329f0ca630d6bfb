"""`Pipeline.feed`: runs that the program itself feeds."""

import itertools
import os
import queue
import signal
import sys
import threading

import laboratory
import numpy as np
import pytest

import drpipe
from drpipe.api import acknowledgement
from drpipe.driving import feed as feeds
from drpipe.protocol import tags
from runs import needs_program, python, written
from test_attach import eventually

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
STEPS = os.path.dirname(laboratory.__file__)
#: The longest wait, in seconds. Only a hang takes longer.
PATIENCE = 20.0


def configuration(cls="Twice", module="told", window=4, window_bytes=1 << 26, **keys):
    """Returns the configuration of one step in Python, whose results come back to who feeds it."""
    work = {"name": "WORK", "module": module, "class": cls, "results": True, "on_error": "tell"}
    return {
        "version": 1,
        "python": sys.executable,
        "pythonpath": STEPS,
        "producer": {
            "name": "IN",
            "class": "Caller",
            "window": window,
            "window_bytes": window_bytes,
        },
        "consumer": {**work, **keys},
    }


def fed(directory, *args, **keys):
    """Returns a feed with this configuration."""
    return drpipe.Pipeline.load(written(directory, configuration(*args, **keys))).feed()


def test_each_item_is_told_of_once_with_its_results(tmp_path):
    with fed(tmp_path, window=64, nb_process=2) as feed:
        numbers = [feed.put(value, f"item {value}") for value in range(30)]
        told = list(feed.acknowledgements())
        assert feed.put(7) == 31
        (last,) = feed.acknowledgements()
    assert numbers == list(range(1, 31))
    assert sorted((item.number, item.origin, item.outcome, *item.results) for item in told) == [
        (value + 1, f"item {value}", "done", 2 * value) for value in range(30)
    ]
    assert (last.number, last.origin, last.results) == (31, None, [14])
    assert feed.report.verdict == "done" and feed.report.step("WORK").done == 31


def test_what_fails_is_told_with_its_reason(tmp_path):
    with fed(tmp_path, "Double") as feed:
        for value in (2, 3, 4):
            feed.put(value)
        told = {item.number: item for item in feed.acknowledgements()}
    assert [told[1].results, told[3].results] == [[4], []]
    failed = told[2]
    assert (failed.outcome, failed.step, failed.cause) == ("failed", "WORK", "failed")
    assert failed.reasons[0] == "ValueError: not three" and failed.attempts == 1
    assert "failed in WORK: ValueError: not three" in repr(failed)
    assert feed.report.exit_code == 1


def test_each_cause_of_a_failure_has_its_word(tmp_path):
    with fed(tmp_path, "Lacks") as feed:
        feed.put(1)
        feed.finish()
        (item,) = feed.acknowledgements()
    assert (item.outcome, item.cause) == ("failed", "in vain")
    assert "it is not there yet" in " ".join(item.reasons)
    causes = [value for name, value in vars(tags).items() if name.startswith("CAUSE_")]
    assert sorted(acknowledgement._CAUSES) == sorted(causes)


def test_a_full_window_makes_put_wait(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with fed(tmp_path, "Gate", window=2, params={"gate": str(gate)}) as feed:
        assert [feed.put(1), feed.put(2)] == [1, 2]
        with pytest.raises(queue.Full):
            feed.put(3, block=False)
        with pytest.raises(queue.Full):
            feed.put(3, timeout=0.01)
        waiting = threading.Thread(target=feed.put, args=(3,))
        waiting.start()
        gate.write_text("open")
        waiting.join()
        assert {item.number for item in feed.acknowledgements()} == {1, 2, 3}


def test_who_never_reads_is_not_held_up(tmp_path):
    with fed(tmp_path, "Big", window=2) as feed:
        for _ in range(200):
            feed.put(1 << 20)
    assert feed.report.step("WORK").done == 200
    assert sum(len(item.results[0]) for item in feed.acknowledgements()) == 200 << 20


def put_until_results_hold_back(feed, count):
    """Puts more items than there may be results that were not read, by one who reads."""
    feed.put(1 << 20)
    assert next(feed.acknowledgements()).outcome == "done"
    for _ in range(count):
        feed.put(1 << 20)
    eventually("results hold back", lambda: sum(feed._held.values()) >= 64 << 20)


def test_who_reads_one_and_leaves_is_not_held_up(tmp_path):
    with fed(tmp_path, "Big", window=200) as feed:
        put_until_results_hold_back(feed, 199)
        feed.finish()
        feed._thread.join(PATIENCE)
        assert not feed._thread.is_alive(), "the run waits for a reader"
    assert feed.report.step("WORK").done == 200
    assert {item.outcome for item in feed.acknowledgements()} == {"done"}


def test_a_put_that_lets_results_go_tells_the_run_at_once(tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with fed(tmp_path, "Gate", window_bytes=1000, params={"gate": str(gate), "at": 3}) as feed:
        feed.put(1)
        assert next(feed.acknowledgements()).results == [1]
        feed.put(2)
        feed.put(3)
        eventually("a result waits for its reader", lambda: feed._held)
        wakes, wake = [], feed._wake
        monkeypatch.setattr(feed, "_wake", lambda: wakes.append(wake()))
        with pytest.raises(queue.Full):
            feed.put(bytes(2000), block=False)
        assert len(wakes) == 1 and not feed._held
        gate.write_text("open")


def test_a_thread_reads_while_another_puts(tmp_path):
    found = []

    def read():
        found.extend(item.results[0] for item in feed.acknowledgements(until_finished=True))

    with fed(tmp_path, window=8, nb_process=2) as feed:
        reader = threading.Thread(target=read)
        reader.start()
        for value in range(500):
            feed.put(value)
        feed.finish()
        reader.join()
    assert sorted(found) == [2 * value for value in range(500)]


def test_items_may_have_a_priority(tmp_path):
    with fed(tmp_path, window=64) as feed:
        for value in range(20):
            feed.put(value, priority="high" if value % 3 else None)
        with pytest.raises(ValueError, match="found the priority 'low'; expected \"high\""):
            feed.put(1, priority="low")
        assert sorted(item.results[0] for item in feed.acknowledgements()) == [
            2 * value for value in range(20)
        ]


def test_arrays_come_back_and_may_be_changed(tmp_path):
    array = np.arange(1 << 17, dtype="f8")
    with fed(tmp_path) as feed:
        feed.put(array)
        (item,) = feed.acknowledgements()
    (doubled,) = item.results
    doubled += 0
    assert np.array_equal(doubled, 2 * array)


def test_an_item_may_be_cancelled(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with fed(tmp_path, "Gate", window=8, params={"gate": str(gate)}) as feed:
        numbers = [feed.put(value) for value in range(4)]
        feed.cancel(numbers[3])
        first = next(feed.acknowledgements())
        gate.write_text("open")
        rest = list(feed.acknowledgements())
    assert (first.number, first.outcome) == (4, "cancelled")
    assert [item.outcome for item in rest] == ["done"] * 3


def test_an_exception_within_the_block_stops_the_run(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with (
        pytest.raises(ZeroDivisionError),
        fed(tmp_path, "Gate", window=8, params={"gate": str(gate)}) as feed,
    ):
        feed.put(1)
        feed.put(2)
        print(1 / 0)
    assert [item.outcome for item in feed.acknowledgements()] == ["dropped"] * 2


def test_a_run_that_dies_drops_each_item_with_the_reason(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    feed = fed(tmp_path, "Gate", window=8, params={"gate": str(gate)})
    numbers = [feed.put(value, f"item {value}") for value in range(5)]
    os.kill(feed._attachment.process.pid, signal.SIGKILL)
    told = list(feed.acknowledgements())
    assert [item.number for item in told] == numbers
    assert {item.outcome for item in told} == {"dropped"}
    assert all("the run has died" in item.reasons[0] for item in told)
    assert told[0].origin == "item 0"
    with pytest.raises(drpipe.RunError, match="the run has died"):
        feed.put(6)
    with pytest.raises(drpipe.RunError, match="the run has died"):
        feed.wait()


def test_a_step_that_stops_the_run_drops_the_rest(tmp_path):
    feed = fed(tmp_path, "Double", window=64, on_error="stop")
    with pytest.raises(drpipe.RunStopped, match="not three") as caught, feed:
        for value in itertools.count():
            feed.put(value)
    assert isinstance(caught.value, drpipe.RunError)
    outcomes = {item.number: item.outcome for item in feed.acknowledgements()}
    assert sorted(outcomes) == list(range(1, len(outcomes) + 1)), "each once"
    assert "dropped" in outcomes.values() or "failed" in outcomes.values()


def test_what_cannot_be_put_is_refused(tmp_path):
    with fed(tmp_path) as feed:
        with pytest.raises(drpipe.Permanent):
            feed.put(threading.Lock())
        feed.finish()
        with pytest.raises(RuntimeError, match="the feed has finished"):
            feed.put(1)
    assert feed.report.verdict == "done"


def test_a_pipeline_that_brings_its_own_items_takes_no_feed(tmp_path):
    content = {
        "version": 1,
        "producer": {"name": "IN", "class": "Integers", "params": {"first": 1, "last": 3}},
        "consumer": {"name": "OUT", "class": "Square"},
    }
    pipeline = drpipe.Pipeline.load(written(tmp_path, content))
    with pytest.raises(drpipe.RunError, match='no step has the class "Caller"'):
        pipeline.feed()


def test_work_of_a_caller_is_not_done(tmp_path):
    content = {
        "version": 1,
        "producer": {"name": "IN", "class": "Caller"},
        "consumer": {"name": "OUT", "class": "Caller"},
    }
    feed = drpipe.Pipeline.load(written(tmp_path, content)).feed()
    with pytest.raises(drpipe.RunStopped, match="does no work of the step OUT"):
        feed.wait()


def test_a_feed_whose_thread_cannot_start_leaves_nothing(tmp_path, monkeypatch):
    began, real = [], feeds.Attachment

    def attach(*args, **options):
        began.append(real(*args, **options))
        return began[0]

    def start(thread):
        raise RuntimeError("can't start new thread")

    files = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(feeds, "Attachment", attach)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        fed(tmp_path)
    assert began[0].process.returncode == -signal.SIGKILL
    assert set(os.listdir("/proc/self/fd")) == files


FORKS = """
import os, sys
import drpipe

feed = drpipe.Pipeline.load(sys.argv[1]).feed()
feed.put(1)
child = os.fork()
if child == 0:
    refused = 0
    for ask in (lambda: feed.put(2), feed.stop, feed.wait):
        try:
            ask()
        except RuntimeError as error:
            refused += "has forked this one" in str(error)
    os._exit(refused if feed._attachment.fileno() == -1 else 9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
feed.finish()
print([item.results for item in feed.acknowledgements()], feed.wait().verdict)
"""


def test_a_fork_has_no_part_in_a_feed(tmp_path):
    written(tmp_path, configuration())
    (tmp_path / "forks.py").write_text(FORKS)
    process = python(["forks.py", "pipeline.json"], tmp_path)
    out, err = process.communicate(timeout=60)
    assert out == "3\n[[2]] done\n", err
