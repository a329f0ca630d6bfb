"""What goes wrong around a pool: every task ends once all the same, and nothing hangs."""

import gc
import itertools
import multiprocessing
import os
import signal
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool

import pytest

from drpipe.driving.attach import Attachment
from drpipe.pool import Executor, TaskFailed, WorkerLost, run
from pool_link import PATIENCE, Gate, until
from runs import needs_program, python

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
context = multiprocessing.get_context("fork")


def square(number):
    return number * number


LEFT = """
from drpipe.pool import Executor
import os, time

def late(path):
    time.sleep(0.1)
    with open(path, "a") as file:
        file.write("x")

if __name__ == "__main__":
    {program}
"""


@pytest.mark.parametrize(
    "program, tasks",
    [
        ("Executor(1).submit(late, 'out')", 1),
        (
            "pool = Executor(2); [pool.submit(late, 'out') for _ in range(4)];"
            " pool.shutdown(wait=False); del pool",
            4,
        ),
    ],
)
def test_the_interpreter_waits_for_tasks_whose_executor_is_gone(program, tasks, tmp_path):
    script = tmp_path / "left.py"
    script.write_text(LEFT.format(program=program))
    caller = python([str(script)], tmp_path)
    assert caller.communicate(timeout=60) == ("", "")
    assert caller.returncode == 0
    assert (tmp_path / "out").read_text() == "x" * tasks


def close_all_files(path):
    with open(path, "a") as file:
        file.write("x")
    os.closerange(3, 1024)


def test_a_task_after_which_its_worker_cannot_report_is_to_blame(tmp_path):
    with Executor(1, context) as pool:
        pool.submit(square, 1)
        lost = pool.submit(close_all_files, tmp_path / "out")
        kept = [pool.submit(square, n) for n in range(100)]
        with pytest.raises(WorkerLost):
            lost.result(PATIENCE)
        assert [task.result(PATIENCE) for task in kept] == [n * n for n in range(100)]
    assert (tmp_path / "out").read_text() == "x"


def test_a_worker_that_dies_during_a_task_is_not_seen_at_it_afterward():
    with Executor(1, context) as pool:
        with pytest.raises(WorkerLost):
            pool.submit(os._exit, 1).result(PATIENCE)
        until(lambda: not pool._run.is_busy())


def test_a_task_that_cannot_be_sent_fails_alone():
    with Executor(1, context) as pool:
        bad = pool.task(square, 2)
        bad._name = 42
        bad, good = bad.submit(), pool.submit(square, 3)
        with pytest.raises(TaskFailed, match="encode"):
            bad.result(PATIENCE)
        assert good.result(PATIENCE) == pool.submit(square, 3).result(PATIENCE) == 9


def test_a_number_of_workers_that_the_run_refuses_at_first_is_asked_for_again(monkeypatch):
    asked, real = [], Attachment.set_workers

    def set_workers(attachment, step, workers):
        asked.append(workers)
        return real(attachment, step if len(asked) > 1 else "NO SUCH STEP", workers)

    monkeypatch.setattr(Attachment, "set_workers", set_workers)
    with Executor(1, context) as pool:
        task = pool.submit(square, 3)
        pool.set_workers(3)
        until(lambda: pool._run.workers() == 3)
        assert task.result(PATIENCE) == 9
        pool.set_workers(1)
        until(lambda: pool._run.workers() == 1)
    assert asked[:2] == [3, 3]


def fails_at(function, last):
    """Returns what raises at one of the calls of a function, and at those after it."""
    calls = itertools.count(1)

    def call(*args):
        if next(calls) >= last:
            raise OSError("nothing is left")
        return function(*args)

    return call


@pytest.mark.parametrize(
    "where, name, last",
    [(run, "Nursery", 1), (os, "pipe2", 1), (os, "pipe2", 2), (run, "attach", 1)],
)
def test_a_pool_that_cannot_start_leaves_no_descriptors(where, name, last, monkeypatch):
    def files():
        # The memory of a pool stays mapped until it is collected.
        gc.collect()
        return set(os.listdir("/proc/self/fd"))

    def use_one():
        with Executor(1, context) as pool:
            pool.submit(square, 1).result(PATIENCE)

    use_one()
    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fails_at(getattr(where, name), last))
        with pytest.raises(OSError, match="nothing is left"):
            use_one()
    # What earlier tests have left may be collected meanwhile.
    assert files() <= before


def in_fork(check):
    """Calls a function in a fork. Returns whether it has returned there."""
    child = os.fork()
    if child == 0:
        try:
            # Ends a child that hangs.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(PATIENCE))
            check()
            os._exit(7)
        finally:
            os._exit(8)
    return os.waitpid(child, 0)[1] == 7 << 8


def test_the_futures_of_a_pool_are_broken_in_a_fork():
    gate = Gate()
    with Executor(1, context, queue=None) as pool:
        pool.submit(square, 1).result(PATIENCE)
        done = pool.submit(square, 5)
        assert done.result(PATIENCE) == 25
        running = pool.submit(gate.wait, PATIENCE)
        until(running.running)
        tasks = [running, *(pool.submit(square, n) for n in range(pool._settings.window + 50))]
        tasks[0].add_done_callback(lambda _: os._exit(9))

        def check():
            assert wait_for(tasks, PATIENCE).not_done == set()
            for task in tasks:
                assert not task.cancel() and not task.running()
                with pytest.raises(BrokenProcessPool, match="belongs to the process"):
                    task.result(PATIENCE)
            assert done.result(PATIENCE) == 25
            pool.shutdown()

        assert in_fork(check)
        tasks[0]._done_callbacks.clear()
        assert not running.done()
        gate.set()
        assert [task.result(PATIENCE) for task in tasks[1:]] == [
            n * n for n in range(len(tasks) - 1)
        ]


IGNORES = """
from drpipe.pool import Executor
import gc, os, signal

def use_one():
    with Executor(1) as pool:
        assert pool.submit(pow, 5, 2).result(60) == 25
    del pool
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    use_one()
    print(use_one() - use_one())
"""


def test_a_caller_may_ignore_the_ends_of_its_children(tmp_path):
    script = tmp_path / "ignores.py"
    script.write_text(IGNORES)
    caller = python([str(script)], tmp_path)
    assert caller.communicate(timeout=60) == ("0\n", "")
    assert caller.returncode == 0


def end_politely(path, times):
    with open(path, "a") as file:
        file.write("x")
    if len(path.read_text()) <= times:
        os.kill(os.getpid(), signal.SIGTERM)
    return "done"


def test_a_task_whose_worker_is_ended_by_sigterm_is_begun_once_more(tmp_path):
    with Executor(1, context) as pool:
        assert pool.submit(end_politely, tmp_path / "once", 1).result(PATIENCE) == "done"
        with pytest.raises(WorkerLost):
            pool.submit(end_politely, tmp_path / "twice", 2).result(PATIENCE)
    assert (tmp_path / "once").read_text() == (tmp_path / "twice").read_text() == "xx"
