"""The process that starts the workers of a pool."""

import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
from multiprocessing import resource_tracker

import pytest

from drpipe.pool import nursery as nurseries
from drpipe.pool.nursery import Ended, NotStarted, Nursery, Place, Started
from runs import TEST_PATHS

#: The longest wait, in seconds. Only a hang takes longer.
PATIENCE = 20.0

FLAG = "as it was"


def work(place, lifeline):
    """A worker: says what it is over its lifeline, and ends when the other end closes."""
    tracker = resource_tracker._resource_tracker
    process = multiprocessing.current_process()
    said = [
        place.worker,
        os.getppid(),
        os.getpgid(0) == os.getpid(),
        bytes(process.authkey).hex(),
        getattr(tracker, "_pid", None),
        threading.active_count(),
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        FLAG,
    ]
    lifeline.send(repr(said).encode())
    if lifeline.recv(1):
        # A child in the worker's group, which nobody waits for.
        child = os.fork()
        if child == 0:
            lifeline.recv(1)
            os._exit(0)
        lifeline.send(str(child).encode())
        lifeline.recv(1)
    return 7


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def nursery(request):
    made = Nursery(multiprocessing.get_context(request.param), work)
    made.method = request.param
    yield made
    made.close()


@pytest.fixture
def forked():
    made = Nursery(multiprocessing.get_context("fork"), work)
    yield made
    made.close()


class Worker:
    """A worker that a test has asked for."""

    def __init__(self, nursery, number):
        self.lifeline, theirs = socket.socketpair()
        with theirs:
            nursery.request(Place(number, 0), theirs)
        self.started = answer(nursery)
        assert isinstance(self.started, Started), self.started
        assert self.started.place == Place(number, 0)

    def words(self):
        return eval(self.lifeline.recv(4096).decode())

    def end(self):
        self.lifeline.close()

    def has_ended(self):
        return bool(select.select([self.started.pidfd], [], [], PATIENCE)[0])


def answer(nursery):
    assert select.select([nursery.socket], [], [], PATIENCE)[0], "the nursery says nothing"
    return nursery.answer()


def test_workers_are_forks_of_the_nursery_in_groups_of_their_own(nursery):
    resource_tracker.ensure_running()
    worker = Worker(nursery, 3)
    number, parent, leads, key, _, threads, has_default, _ = worker.words()
    assert (number, parent, leads) == (3, nursery.pid, True)
    assert key == bytes(multiprocessing.current_process().authkey).hex()
    assert threads == 1
    assert has_default
    worker.end()
    assert answer(nursery) == Ended(Place(3, 0), 7 << 8)
    assert worker.has_ended()


def test_a_worker_has_the_main_module_and_the_tracker_of_its_caller():
    global FLAG
    resource_tracker.ensure_running()
    FLAG = "changed before"
    nursery = Nursery(multiprocessing.get_context("fork"), work)
    try:
        FLAG = "changed after"
        worker = Worker(nursery, 1)
        words = worker.words()
        assert words[-1] == "changed before"
        assert words[4] == resource_tracker._resource_tracker._pid
        worker.end()
    finally:
        nursery.close()
        FLAG = "as it was"


def test_signals_of_the_caller_do_not_act_in_workers(forked):
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        nursery = Nursery(multiprocessing.get_context("fork"), work)
        worker = Worker(nursery, 1)
        assert worker.words()[6]
        os.kill(worker.started.pid, signal.SIGTERM)
        assert answer(nursery) == Ended(Place(1, 0), signal.SIGTERM)
        nursery.close()
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_killed_worker_is_told_with_its_signal(forked):
    workers = [Worker(forked, number) for number in range(3)]
    for worker in workers:
        worker.words()
    os.kill(workers[1].started.pid, signal.SIGKILL)
    assert answer(forked) == Ended(Place(1, 0), signal.SIGKILL)
    for number in (0, 2):
        workers[number].end()
        assert answer(forked) == Ended(Place(number, 0), 7 << 8)


def test_what_a_killed_worker_has_started_ends_with_it(forked):
    worker = Worker(forked, 1)
    worker.words()
    worker.lifeline.send(b"!")
    child = os.pidfd_open(int(worker.lifeline.recv(100)))
    os.kill(worker.started.pid, signal.SIGKILL)
    assert answer(forked) == Ended(Place(1, 0), signal.SIGKILL)
    assert select.select([child], [], [], PATIENCE)[0]
    os.close(child)


def test_a_worker_that_cannot_be_forked_is_told(monkeypatch):
    def fork():
        raise BlockingIOError("no process is left")

    context = multiprocessing.get_context("fork")
    real = os.fork
    monkeypatch.setattr(os, "fork", lambda: (real(), monkeypatch.setattr(os, "fork", fork))[0])
    nursery = Nursery(context, work)
    monkeypatch.undo()
    ours, theirs = socket.socketpair()
    nursery.request(Place(4, 2), theirs)
    assert answer(nursery) == NotStarted(Place(4, 2), "BlockingIOError: no process is left")
    nursery.close()
    ours.close()
    theirs.close()


def test_a_dead_nursery_is_noticed_and_its_workers_go_on(forked):
    worker = Worker(forked, 1)
    worker.words()
    os.kill(forked.pid, signal.SIGKILL)
    assert answer(forked) is None
    with pytest.raises(OSError):
        forked.request(Place(2, 0), worker.lifeline)
    assert not select.select([worker.started.pidfd], [], [], 0)[0]
    worker.end()
    assert worker.has_ended()


def test_the_end_of_a_nursery_waits_for_nobody_who_holds_its_files(monkeypatch):
    monkeypatch.setattr(nurseries, "_PATIENCE", 3600.0)
    nursery = Nursery(multiprocessing.get_context("fork"), work)
    worker = Worker(nursery, 1)
    worker.words()
    os.kill(nursery.pid, signal.SIGKILL)
    assert answer(nursery) is None
    thread = threading.Thread(target=nursery.close, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not select.select([worker.started.pidfd], [], [], 0)[0]
    worker.end()
    assert worker.has_ended()


CALLER = """
import multiprocessing, os, sys
sys.path[:0] = {paths!r}
from test_pool_nursery import Worker, work
from drpipe.pool.nursery import Nursery

if __name__ == "__main__":
    nursery = Nursery(multiprocessing.get_context({method!r}), work)
    if os.fork() == 0:  # A child that holds all of the caller's descriptors.
        os.read(0, 1)
        os._exit(0)
    print(nursery.pid, flush=True)
    os.read(0, 1)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_nursery_ends_with_its_caller_also_if_a_child_holds_its_socket(method, tmp_path):
    import subprocess

    script = tmp_path / "caller.py"
    script.write_text(CALLER.format(paths=TEST_PATHS, method=method))
    paths = os.pathsep.join(sys.path)
    caller = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    nursery = os.pidfd_open(int(caller.stdout.readline()))
    caller.kill()
    caller.wait()
    assert select.select([nursery], [], [], PATIENCE)[0]
    caller.stdin.close()
    caller.stdout.close()
    os.close(nursery)
