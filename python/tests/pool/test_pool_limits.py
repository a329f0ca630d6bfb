"""What bounds a pool: the time of initializers, the memory of results, the end of everything."""

import gc
import logging
import multiprocessing
import os
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from drpipe.pool import Executor, ProcessPool, WorkerController, run
from pool_link import PATIENCE, Gate, until
from runs import needs_program, python

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
context = multiprocessing.get_context("fork")
MEBIBYTE = 1 << 20


def square(number):
    return number * number


def stay():
    time.sleep(3600)


def exit_as_one_that_retires():
    os._exit(116)


def test_an_initializer_that_hangs_breaks_the_pool_when_its_time_is_over():
    pool = Executor(2, context, stay, initializer_timeout=0.3)
    tasks = [pool.submit(square, number) for number in range(5)]
    for task in tasks:
        with pytest.raises(BrokenProcessPool, match=r"the initializer took longer than .* 0.3 s"):
            task.result(PATIENCE)
    pool.shutdown()


def test_an_initializer_in_time_begins_its_worker():
    with Executor(1, context, square, (3,), initializer_timeout=PATIENCE) as pool:
        assert pool.submit(square, 3).result(PATIENCE) == 9


def test_an_empty_pool_does_not_wait_for_an_initializer_that_hangs():
    pool = Executor(1, context, stay)
    assert pool.submit(square, 1).cancel()
    pool.shutdown()
    assert pool._run.join(0)


def test_the_end_of_an_empty_pool_is_not_put_off_until_the_next_sign_of_life(monkeypatch):
    monkeypatch.setattr(run, "_BEAT", 3_600_000)
    pool = Executor(1, context, stay)
    assert pool.submit(square, 1).cancel()
    pool.shutdown(wait=False)
    try:
        assert pool._run.join(PATIENCE)
    finally:
        pool._run.kill()


def test_workers_that_have_done_their_tasks_are_no_losses(caplog):
    caplog.set_level(logging.DEBUG)
    with Executor(2, context, max_tasks_per_child=2) as pool:
        assert list(pool.map(square, range(40))) == [n * n for n in range(40)]
    assert "lost" not in caplog.text


def test_a_task_cannot_pretend_that_its_worker_retires():
    with Executor(1, context) as pool:
        with pytest.raises(BrokenProcessPool, match="exit code 116"):
            pool.submit(exit_as_one_that_retires).result(PATIENCE)
        assert pool.submit(square, 3).result(PATIENCE) == 9


def test_shutdown_lets_as_many_go_on_as_there_are_workers():
    pool = Executor(3, context)
    tasks = [pool.submit(square, number) for number in range(50)]
    pool.shutdown(cancel_futures=True)
    assert [task.cancelled() for task in tasks].count(False) >= 3
    assert all(task.cancelled() or task.result(0) == n * n for n, task in enumerate(tasks))


def block(number):
    return bytes([number % 256]) * MEBIBYTE


def of_dirac(slot, count):
    pool = ProcessPool(2, 2, 2 * count, poolCallback=lambda number, result: slot(result))
    pool.daemonize()
    for number in range(count):
        pool.createAndQueueTask(block, [number], taskID=number, usePoolCallbacks=True)
    return lambda: pool.finalize(PATIENCE), pool._core.counts


def of_pydidas(slot, count):
    controller = WorkerController(2, block)
    controller.sig_results.connect(lambda number, result: slot(result))
    controller.add_tasks(range(count))
    controller.finalize_tasks()
    controller.start()
    until(lambda: controller._core is not None)
    return lambda: controller.wait(1000 * PATIENCE), controller._core.counts


@pytest.mark.parametrize("make", [of_dirac, of_pydidas])
def test_results_wait_in_the_workers_while_a_callback_is_slow(make):
    gate, sizes = threading.Event(), []

    def slot(result):
        assert gate.wait(PATIENCE)
        sizes.append(len(result))

    end, counts = make(slot, 400)
    until(lambda: counts().done >= 60)
    # A worker that could go on would have done so by then.
    until(lambda: stands_still(counts))
    assert counts().done <= 64 + 64 + 8
    gate.set()
    end()
    assert sizes == [MEBIBYTE] * 400


def stands_still(counts):
    before = counts().done
    threading.Event().wait(0.3)
    return counts().done == before


def test_a_callback_that_waits_for_the_others_gets_their_results():
    got, pools, gate = [], [], Gate()

    def callback(number, result):
        got.append(number)
        if number == 0:
            pools[0].processAllResults(PATIENCE)
            assert not pools[0].isWorking()

    pool = ProcessPool(2, 2, 400, poolCallback=callback)
    pools.append(pool)
    pool.createAndQueueTask(gate.wait, [PATIENCE], taskID=0, usePoolCallbacks=True)
    pool.daemonize()
    for number in range(1, 200):
        pool.createAndQueueTask(block, [number], taskID=number, usePoolCallbacks=True)
    gate.set()
    pool.finalize(PATIENCE)
    assert sorted(got) == list(range(200))


LATE = """
import atexit
from drpipe.pool import Executor, ProcessPool

@atexit.register
def late():
    old, new = ready.submit, Executor(1).submit
    for make in (lambda: old(pow, 2, 5), lambda: new(pow, 2, 5), ProcessPool):
        try:
            make()
        except RuntimeError as error:
            print(error)

if __name__ == "__main__":
    ready = Executor(1)
    print(ready.submit(pow, 2, 3).result(30))
"""


def test_nothing_begins_when_the_interpreter_exits(tmp_path):
    script = tmp_path / "late.py"
    script.write_text(LATE)
    caller = python([str(script)], tmp_path)
    out, err = caller.communicate(timeout=60)
    assert out.splitlines() == [
        "8",
        "cannot schedule new futures after shutdown",
        "cannot schedule new futures after interpreter shutdown",
        "cannot schedule new futures after interpreter shutdown",
    ], err
    assert (err, caller.returncode) == ("", 0)


def test_a_pool_that_gets_no_thread_leaves_nothing_behind(monkeypatch):
    def files():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def start(thread):
        raise RuntimeError("can't start new thread")

    pool = Executor(1, context)
    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(square, 3)
    assert files() == before
    assert pool.submit(square, 3).result(PATIENCE) == 9
    pool.shutdown()


MANY_FILES = """
import os, resource
from drpipe.pool import Executor, ProcessPool

if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(1500)]
    with Executor(1) as pool:
        print(pool.submit(pow, 2, 5).result(30))
    told = []
    pool = ProcessPool(1, 1, 10, poolCallback=lambda number, result: told.append(result))
    pool.createAndQueueTask(pow, [2, 6], taskID=1, usePoolCallbacks=True)
    pool.finalize(30)
    print(told)
"""


def test_a_program_with_many_open_files_may_have_pools(tmp_path):
    script = tmp_path / "files.py"
    script.write_text(MANY_FILES)
    caller = python([str(script)], tmp_path)
    assert caller.communicate(timeout=60) == ("32\n[64]\n", "")
