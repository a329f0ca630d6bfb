"""A caller that feeds its run, and hears of each item once."""

import json
import os
import select
import time

import pytest
from msgpack import packb, unpackb

import runs
from drpipe.driving.attach import Attachment, Over, Start
from drpipe.protocol import control, tags, wire
from drpipe.protocol.batches import SingleOutput
from drpipe.worker import attached
from runs import written
from test_attach import Twice, fork, step

pytestmark = [runs.needs_program, pytest.mark.usefixtures("the_program")]


def tasks(window=8, **work):
    """Returns the configuration of a run that does what its caller feeds."""
    return {
        "version": 1,
        "producer": {"name": "TASKS", "class": "Caller", "window": window},
        "stagers": [],
        "consumer": {
            "name": "WORK",
            "class": "Caller",
            "nb_process": 2,
            "results": True,
            "on_error": "tell",
            **work,
        },
    }


class Picky:
    """Fails for 3, and dies of 5."""

    def run(self, number):
        if number == 5:
            os._exit(1)
        if number == 3:
            raise ValueError("not this one")
        return 2 * number


class Feeder:
    """A caller that feeds numbers and keeps what it hears of them."""

    def __init__(self, path, cls, options=()):
        self.run = Attachment(str(path), options)
        self.cls, self.pids = cls, []
        self.over = self.seat = None
        self.heard, self.next, self.is_done = {}, 1, False
        self.refused = []

    def feed(self, window, last):
        """Feeds the numbers up to `last`, as many at a time as the window lets it."""
        outputs = []
        while self.next <= last and self.next - 1 - len(self.heard) < window:
            number = self.next
            self.next += 1
            outputs.append(SingleOutput(0, None, packb(number), (), number))
        if outputs:
            self.seat.link.send(wire.produced(0, 0, tags.RESULT_MORE, outputs))
        if self.next > last and not self.is_done:
            self.is_done = True
            self.seat.link.send(wire.produced(0, 0, tags.RESULT_NO_MORE, ()))

    def hear(self):
        """Reads what the router has sent. Returns whether its last message is there."""
        while True:
            message = self.seat.link.receive_now()
            if message is None or self.hear_one(message):
                return message is not None

    def hear_one(self, message):
        """Reads a message of the router. Returns whether it is the last one."""
        if message.kind == tags.ACKNOWLEDGED:
            size = 0
            for item in message.acknowledgements():
                assert item.number not in self.heard, "each item is acknowledged once"
                self.heard[item.number] = item
                size += sum(len(header) for header, _ in item.results)
            if size:
                self.seat.link.send(wire.released(size))
        elif message.kind == tags.NOT_CANCELLED:
            self.refused.append(message.not_cancelled())
        elif message.kind == tags.FINISH:
            self.seat.link.send(wire.finished(None, ()))
        return message.kind == tags.STOP

    def take(self, frame):
        if isinstance(frame, Over):
            self.over = frame
        elif isinstance(frame, Start) and frame.feeds:
            self.seat = attached.Seat(frame.lifeline)
            self.seat.link.send(wire.ready())
            self.run.started(frame, os.getpid(), control.CALLER)
        else:
            self.pids.append(fork(self.run, frame, self.cls))

    def serve(self, window, last):
        """Feeds and starts workers until the run is over."""
        while self.over is None:
            poller = select.poll()
            poller.register(self.run.fileno(), select.POLLIN)
            if self.seat is not None:
                self.feed(window, last)
                poller.register(self.seat.link, select.POLLIN)
            ready = dict(poller.poll(60_000))
            assert ready, "the run says nothing"
            if self.run.fileno() in ready:
                self.take(self.run.receive())
            elif self.hear():
                self.seat.close()
                self.seat = None
                while self.over is None:
                    self.take(self.run.receive(60))
        self.run.close()
        for pid in self.pids:
            os.waitpid(pid, 0)


def value_of(item):
    ((header, _),) = item.results
    return unpackb(header)


def test_a_caller_feeds_its_run_and_gets_the_results(tmp_path):
    feeder = Feeder(written(tmp_path, tasks(window=8)), Twice)
    feeder.serve(window=8, last=2000)
    assert feeder.over.exit_code == 0
    assert step(feeder.over.report, "WORK")["done"] == 2000
    assert {number: value_of(item) for number, item in feeder.heard.items()} == {
        number: 2 * number for number in range(1, 2001)
    }


def test_a_caller_hears_why_an_item_failed(tmp_path):
    feeder = Feeder(written(tmp_path, tasks(lost_retries=0)), Picky)
    feeder.serve(window=8, last=10)
    assert feeder.over.exit_code == 1
    failed = {number: item for number, item in feeder.heard.items() if item.failure is not None}
    assert set(failed) == {3, 5} and len(feeder.heard) == 10
    assert failed[3].failure.cause == tags.CAUSE_FAILED
    assert "not this one" in failed[3].failure.failure.texts[0]
    assert failed[5].failure.cause == tags.CAUSE_LOST
    assert feeder.over.report["quarantine"] is None, "nothing is kept"


def test_a_feed_that_goes_beyond_its_window_ends_the_run(tmp_path):
    feeder = Feeder(written(tmp_path, tasks(window=2)), Twice)
    feeder.serve(window=1000, last=1000)
    assert feeder.over.exit_code == 3
    assert "window" in feeder.over.report["reason"]


def test_a_drained_run_drops_what_its_feed_still_brings(tmp_path):
    feeder = Feeder(written(tmp_path, tasks(window=100)), Twice)
    while len(feeder.pids) < 2 or feeder.seat is None:
        feeder.take(feeder.run.receive(60))
    answer = feeder.run.drain()
    assert feeder.run.receive(60) == (answer, None)
    # The feed is asked to finish once the run drains, and may have sent something before it knows.
    # It has finished only when it knows what became of that.
    message = feeder.seat.link.receive()
    assert message.kind == tags.FINISH
    feeder.feed(window=100, last=5)
    while len(feeder.heard) < 5:
        assert not feeder.hear()
    feeder.seat.link.send(wire.finished(None, ()))
    while not feeder.hear():
        pass
    feeder.seat.close()
    feeder.take(feeder.run.receive(60))
    feeder.run.close()
    assert feeder.over.exit_code == 130
    assert all(item.outcome == tags.ITEM_DROPPED for item in feeder.heard.values())
    for pid in feeder.pids:
        os.waitpid(pid, 0)


class Sleeper:
    """Sleeps for long over 1."""

    def run(self, number):
        if number == 1:
            time.sleep(600)
        return number


class Canceller(Feeder):
    """A caller that no longer wants 1 once another one is done, at first only if it waits."""

    asked = 0

    def feed(self, window, last):
        super().feed(window, last)
        if self.heard and self.asked == len(self.refused) < 2:
            self.asked += 1
            self.seat.link.send(wire.cancel(1, running=self.asked == 2))


def test_a_task_that_runs_is_cancelled_only_if_that_is_wanted(tmp_path):
    feeder = Canceller(written(tmp_path, tasks()), Sleeper)
    feeder.serve(window=8, last=20)
    assert feeder.refused == [1], "a worker was at it"
    outcomes = {number: item.outcome for number, item in feeder.heard.items()}
    assert outcomes.pop(1) == tags.ITEM_CANCELLED
    assert len(outcomes) == 19 and set(outcomes.values()) == {tags.ITEM_DONE}
    assert len(feeder.pids) == 3, "its worker was ended, and another one took its place"


def test_a_caller_that_ends_when_all_is_done_leaves_a_run_that_ends_in_order(tmp_path):
    content = tasks()
    work = {**content["consumer"], "name": "WORK"}
    work.pop("results")
    content["stagers"] = [work, {"name": "TEXT", "class": "FormatNumber"}]
    lines = {"name": "OUT", "class": "WriteLines", "params": {"file": str(tmp_path / "out.txt")}}
    content["consumer"] = lines
    summary = tmp_path / "summary.json"
    pid = os.fork()
    if pid == 0:
        feeder = Feeder(written(tmp_path, content), Twice, ["--summary", str(summary)])
        while len(feeder.pids) < 2 or feeder.seat is None:
            feeder.take(feeder.run.receive(60))
        feeder.next, feeder.is_done = 1, True
        feeder.feed(8, 5)
        while len(feeder.heard) < 5:
            feeder.hear()
        os.kill(os.getpid(), 9)
    assert os.waitpid(pid, 0)[1] == 9
    deadline = time.monotonic() + 60
    while not summary.exists() or not summary.read_text():
        assert time.monotonic() < deadline, "the run does not end"
        time.sleep(0.01)
    report = json.loads(summary.read_text())
    assert (report["verdict"], report["exit_code"]) == ("interrupted", 130), report
    assert report["finish_failures"] == []
    assert sorted((tmp_path / "out.txt").read_text().split()) == ["10", "2", "4", "6", "8"]
