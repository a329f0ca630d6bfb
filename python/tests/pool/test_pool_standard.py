"""`Executor` beside the standard's `ProcessPoolExecutor`: the same calls have the same outcomes."""

import functools
import math
import multiprocessing
import operator
import os
import subprocess
import threading
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from drpipe.pool import Executor, ProcessPool, WorkerLost
from pool_link import PATIENCE, Gate, until
from runs import needs_program, python
from test_pool_kills import children, has_ended

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
context = multiprocessing.get_context("fork")
gate = Gate()


class Area:
    def __init__(self, *, width, height=2):
        self.width, self.height = width, height

    def __call__(self):
        return self.width * self.height

    def __eq__(self, other):
        return vars(self) == vars(other)

    def wider(self, by):
        return self.width + by

    @classmethod
    def named(cls, what):
        return cls.__name__, what


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


def same(value=None):
    return value


def throw(error):
    raise error


def square(number):
    return number * number


def wait(_=None):
    return gate.wait(PATIENCE)


def chained():
    try:
        throw(KeyError("inner"))
    except KeyError as error:
        raise LookupError(2, "outer") from error


def keywords(**given):
    return given


def recurse():
    return recurse()


def numbers():
    yield 1


CALLS = [
    *[functools.partial(same, value) for value in (0, False, "", [], (), {}, None, b"", 1 + 2j)],
    functools.partial(Area, width=3),
    Area(width=4),
    functools.partial(Area(width=4).wider, 3),
    functools.partial(Area.named, "x"),
    functools.partial(len, [1, 2]),
    functools.partial(operator.itemgetter(1), [1, 2]),
    functools.partial(np.add, 1, 2),
    functools.partial(str.upper, "x"),
    functools.partial(keywords, fn=1, self=2, args=3, kwargs=4, timeout=5, name=6),
    functools.partial(same, np.asfortranarray(np.arange(12.0).reshape(3, 4))),
    functools.partial(same, np.zeros((0, 3))),
    functools.partial(same, np.arange(1 << 17)),
    functools.partial(same, np.array([1, "a", None], dtype=object)),
    functools.partial(same, bytearray(100_000)),
    functools.partial(math.sqrt, -1),
    functools.partial(int, "x"),
    *[
        functools.partial(throw, error)
        for error in (
            ValueError("v"),
            ValueError("x" * 200_000),
            KeyError(1),
            KeyboardInterrupt(),
            SystemExit(3),
            GeneratorExit(),
            futures.CancelledError(),
            TimeoutError("t"),
            StopIteration(4),
            Odd(1, 2),
            MemoryError(),
            subprocess.CalledProcessError(3, "x", b"o" * 100_000),
            "no exception",
        )
    ],
    chained,
    recurse,
    numbers,
    threading.Lock,
    functools.partial(open, "/nonexistent"),
    None,
    3,
]


def outcome(pool, call):
    """Returns the type and the text of what a call returns or raises, and of its cause."""
    try:
        value = pool.submit(call).result(PATIENCE)
    except BaseException as error:
        return "raises", type(error), str(error), error.__cause__ is not None
    shown = value.tobytes() if isinstance(value, np.ndarray) else value
    return "returns", type(value), getattr(value, "dtype", None), shown


def test_the_same_calls_have_the_same_outcomes():
    with Executor(2, context) as ours, futures.ProcessPoolExecutor(1, context) as standard:
        different = [
            (call, found, expected)
            for call in CALLS
            for found, expected in [(outcome(ours, call), outcome(standard, call))]
            # An object array is its pointers.
            if found != expected and found[2] != np.dtype(object)
        ]
    assert different == []


def test_e_01_futures_are_those_of_the_standard():
    gate.clear()
    with Executor(1, context) as pool:
        running, waiting = pool.submit(wait), pool.submit(square, 3)
        until(running.running)
        assert not running.done() and not running.cancelled() and not waiting.done()
        assert futures.wait([running], 0).not_done == {running}
        with pytest.raises(futures.TimeoutError):
            running.result(0)
        told = []
        waiting.add_done_callback(told.append)
        gate.set()
        assert set(futures.as_completed([running, waiting], PATIENCE)) == {running, waiting}
        assert waiting.result(0) == 9 and waiting.exception(0) is None
        until(lambda: told == [waiting])


def test_e_02_a_dead_worker_fails_its_own_future():
    with Executor(2, context) as pool:
        lost, kept = pool.submit(os._exit, 3), [pool.submit(square, n) for n in range(50)]
        with pytest.raises(WorkerLost, match="exit code 3") as raised:
            lost.result(PATIENCE)
        assert isinstance(raised.value, BrokenProcessPool)
        assert [task.result(PATIENCE) for task in kept] == [n * n for n in range(50)]


def test_e_03_a_task_that_a_worker_has_is_not_cancelled():
    gate.clear()
    with Executor(1, context) as pool:
        running = pool.submit(wait)
        until(running.running)
        assert not running.cancel()
        gate.set()
        assert running.result(PATIENCE) is True


def test_e_04_map_takes_by_window_and_a_chunk_fails_as_a_whole():
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield read[-1]

    with Executor(1, context) as pool:
        results = pool.map(square, endless(), buffersize=3)
        assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
        assert len(read) <= 5 + 3
        results.close()
        with pytest.raises(ValueError) as raised:
            list(pool.map(math.sqrt, [4, 9, -1, 16], chunksize=2))
        assert "raised for item 2 of the map" in raised.value.__notes__


def test_e_05_an_exception_has_the_traceback_of_its_worker():
    with Executor(1, context) as pool:
        error = pool.submit(chained).exception(PATIENCE)
        assert type(error) is LookupError and error.args == (2, "outer")
        assert "throw(KeyError(" in str(error.__cause__)


def begin(value):
    global begun
    begun = value
    throw(value) if isinstance(value, Exception) else None


def has_begun():
    return begun


def test_e_06_the_initializer_is_called_once_a_worker():
    with Executor(2, context, begin, ("ready",)) as pool:
        assert {pool.submit(has_begun).result(PATIENCE) for _ in range(10)} == {"ready"}
    pool = Executor(2, context, begin, (ValueError("no licence"),))
    with pool, pytest.raises(BrokenProcessPool, match="no licence"):
        pool.submit(has_begun).result(PATIENCE)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_e_07_workers_are_replaced_with_each_start_method(method):
    with Executor(1, multiprocessing.get_context(method), max_tasks_per_child=2) as pool:
        workers = [pool.submit(os.getpid).result(60) for _ in range(6)]
    assert [workers.count(worker) for worker in dict.fromkeys(workers)] == [2, 2, 2]


def test_e_08_lambdas_and_closures_are_tasks():
    factor = 3
    with Executor(1, context) as pool:
        assert pool.submit(lambda n: n * factor, 5).result(PATIENCE) == 15


def test_e_09_many_threads_and_callbacks_submit():
    with Executor(2, context) as pool:
        found, lock = [], threading.Lock()

        def again(task):
            with lock:
                found.append(pool.submit(square, task.result()))

        def submit():
            for number in range(50):
                pool.submit(square, number).add_done_callback(again)

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: len(found) == 400)
        assert sum(task.result(PATIENCE) for task in found) == 8 * sum(n**4 for n in range(50))


EXITS = """
from drpipe.pool import Executor
import time

def late(number):
    time.sleep(0.1)
    print(number, flush=True)

if __name__ == "__main__":
    pool = Executor(1)
    for number in range(3):
        pool.submit(late, number)
    pool.pause()
"""


def test_e_10_the_exit_waits_for_a_pool_though_it_is_paused(tmp_path):
    script = tmp_path / "exits.py"
    script.write_text(EXITS)
    program = python([str(script)], tmp_path)
    assert program.communicate(timeout=60) == ("0\n1\n2\n", "")


def test_d_21_workers_end_with_a_pool_that_is_stopped():
    pool = ProcessPool(2, 2, 5)
    until(lambda: pool._run.workers() == 2)
    workers = children(pool._run._workers.nursery.pid)
    pool._run._attachment.process.kill()
    until(lambda: all(map(has_ended, workers)))
    pool.finalize(1)
