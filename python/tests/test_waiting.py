"""What is reported while a step waits, and threads of a step."""

from __future__ import annotations

import pickle
import time

import pytest


@pytest.fixture
def gate(tmp_path):
    """Returns the path of a file that a step waits for."""
    return tmp_path / "gate"


def start_waiting(start, cls, gate=None, **options):
    params = {} if gate is None else {"gate": str(gate)}
    return start(cls, module="waiting", params=params, **options).ready()


def produced_so_far(router, count):
    """Returns what a producer has emitted, once it is this many values, and the latest result."""
    values, result = [], "more"
    while len(values) < count:
        if result != "at work":
            router.send(b"\x10\x10\0\0\0")
        said = router.receive("PRODUCED")
        result = said.result
        values += said.values
    return values, result


@pytest.mark.parametrize("cls", ["Watches", "SendsAndWaits"])
def test_what_a_producer_has_emitted_goes_on_while_it_waits(start, gate, cls):
    router = start_waiting(start, cls, gate, role="producer")
    values, result = produced_so_far(router, 30)
    assert values == list(range(30))
    if result != "at work":
        router.send(b"\x10\x10\0\0\0")
    gate.touch()
    assert router.produced().values == [30]


def test_what_a_producer_sends_after_a_long_wait_goes_on_in_the_same_call(start, gate):
    router = start_waiting(start, "SendsNowAndThen", gate, role="producer")
    assert produced_so_far(router, 2) == ([1, 2], "at work")
    gate.touch()
    assert router.produced().values == [3]


def test_a_short_call_between_long_ones_is_reported(start, gate):
    router = start_waiting(start, "WaitsAtText", gate)
    router.work(router.many(1, ["rest", 2, "wait"]))
    assert router.done(2).values == ["rest", 2]
    gate.touch()
    assert router.done(1).values == ["wait"]


def test_messages_that_are_done_do_not_wait_for_one_that_takes_long(start, gate):
    router = start_waiting(start, "WaitsAtText", gate)
    router.work(router.many(1, [1, 2, 3, "wait", 5]))
    assert router.done(3).values == [1, 2, 3]
    gate.touch()
    assert router.done(2).values == ["wait", 5]


def test_what_a_producer_has_sent_before_it_fails_is_kept(start):
    said = start_waiting(start, "SendsBeforeItFails", role="producer").grant(10)
    assert (said.values, said.result) == ([1], "failed")


def test_a_producer_says_that_it_has_nothing_at_the_moment(start):
    router = start_waiting(start, "HasNothing", role="producer")
    said = router.grant(10)
    assert (said.values, said.result, said.wait) == ([], "idle", 100_000_000)
    assert produced_so_far(router, 1)[0] == [1]


def test_a_producer_that_returns_idle_is_called_again(start):
    router = start_waiting(start, "ReturnsNothing", role="producer")
    said = [router.grant(10) for _ in range(3)]
    assert [s.values for s in said] == [[1], [0], ["last"]]
    assert [s.result for s in said] == ["idle", "idle", "no more"]


def test_a_producer_waits_at_a_barrier(start):
    router = start_waiting(start, "Rounds", role="producer")
    said = router.grant(10)
    assert (said.values, said.result) == ([1], "barrier")
    assert router.grant(1).values == [2]


def test_a_producer_that_returns_a_barrier_is_called_again(start):
    router = start_waiting(start, "ReturnsBarriers", role="producer")
    said = [router.grant(10) for _ in range(3)]
    assert [s.values for s in said] == [[1], [0], ["last"]]
    assert [s.result for s in said] == ["barrier", "barrier", "no more"]


def test_idle_and_barrier_are_one_value_each_also_when_pickled():
    import drpipe

    for name in ("IDLE", "BARRIER"):
        value = getattr(drpipe, name)
        assert pickle.loads(pickle.dumps(value)) is value
        assert repr(value) == f"drpipe.{name}"


def test_a_thread_of_an_earlier_call_cannot_send_in_another_one(start):
    router = start_waiting(start, "Late")
    router.work(router.one(1, "start", origin="a.fits"), router.one(2, "go", origin="b.fits"))
    (output,) = router.done(2).outputs
    assert output.origin == "b.fits"
    (text,) = output.value
    assert "thread uploader" in text and "not sent" in text
    code, _, err = router.stop()
    assert code == 115 and "thread uploader" in err


def test_a_thread_announces_for_the_call_that_it_belongs_to(start):
    router = start_waiting(start, "AnnouncesOnThreads")
    router.work(router.one(1, "good", origin="a.fits"))
    assert router.receive("NOTES").notes == [("product", "good.png", "a.fits")]
    assert router.done(1).completions[0]["failure"] is None
    router.work(router.one(2, "late", origin="b.fits"))
    assert router.receive("NOTES").notes == [("product", "late.png", None)]
    assert router.done(1).completions[0]["failure"] is None
    router.work(router.one(3, "bad", origin="c.fits"))
    assert router.done(1).completions[0]["failure"] is not None
    router.work(router.one(4, "late", origin="d.fits"))
    assert router.receive("NOTES").notes == [("product", "late.png", None)]


def test_a_value_that_is_sent_after_the_last_call_is_refused_and_logged(start, gate):
    router = start_waiting(start, "AfterAll", gate)
    assert router.run(1).values == []
    assert router.finish().failure is None
    router.send(b"\x13")
    gate.touch()
    code, _, err = router.ended()
    assert code == 115
    assert "RuntimeError: send_msg of the thread uploader" in err
    assert any(line.startswith("\x1e") and '"error"' in line for line in err.split("\n"))


def test_a_value_that_a_forked_process_sends_is_refused_and_logged(start):
    router = start_waiting(start, "InAnotherProcess")
    assert router.run(1).values == [1]
    code, _, err = router.stop()
    assert code == 115 and "RuntimeError: send_msg works in the worker's own process" in err


def test_threads_send_for_the_call_that_uses_them(start):
    router = start_waiting(start, "WithThreads")
    router.work(*(router.one(n, n, origin=f"{n}.fits") for n in range(1, 6)))
    outputs = router.done(5).outputs
    assert [(o.origin, o.value) for o in outputs] == [
        (f"{n}.fits", n) for n in range(1, 6) for _ in range(4)
    ]
    assert router.stop()[0] == 0


def test_a_thread_of_a_producer_sends_as_long_as_production_lasts(start):
    router = start_waiting(start, "ProducesOnAThread", role="producer")
    values, result = [], "more"
    while result != "no more":
        said = router.grant(1)
        values += said.values
        result = said.result
    assert sorted(values) == [0, 1, 2, 10, 11, 12]
    assert router.stop()[0] == 0


def test_the_end_waits_for_threads_and_exit_functions(start, gate):
    router = start_waiting(start, "Uploads", gate)
    router.run(1)
    router.finish()
    router.send(b"\x13")
    beats = router.page[2]
    while router.page[2] < beats + 2 and router.process.poll() is None:
        time.sleep(0.01)
    gate.touch()
    assert router.ended()[0] == 0
    assert gate.with_name("gate.thread").exists() and gate.with_name("gate.exit").exists()
