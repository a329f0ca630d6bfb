"""Pools whose processes are killed: every task ends once, and nothing is left behind."""

import contextlib
import functools
import gc
import multiprocessing
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool

import pytest

from drpipe.pool import Executor, ProcessPool, TaskTimeout, WorkerLost, dirac
from pool_link import PATIENCE, Gate, until
from runs import TEST_PATHS, needs_program, python

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
context = multiprocessing.get_context("fork")


def square(number):
    return number * number


def nap(number):
    time.sleep(0.002)
    return number


def stay(_=None):
    time.sleep(3600)


def stay_without_signals():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stay()


def where(_=None):
    return os.getpid()


def dies(path):
    with open(path, "a") as file:
        file.write("x")
    os._exit(3)


def has_ended(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 0)[0])
    finally:
        os.close(pidfd)


def processes(pool):
    """Returns the processes of a pool: program, nursery, workers."""
    nursery = pool._run._workers.nursery.pid
    return [pool._run._attachment.process.pid, nursery, *children(nursery)]


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def test_a_random_worker_killed_again_and_again_costs_one_task_each():
    kills = 0
    with Executor(3, context, name="kills") as pool:
        pool.submit(square, 1).result(PATIENCE)
        tasks = [pool.submit(nap, number) for number in range(3000)]
        pause = threading.Event()
        while kills < 40 and not all(task.done() for task in tasks):
            workers = children(pool._run._workers.nursery.pid)
            if workers:
                os.kill(random.choice(workers), signal.SIGKILL)
                kills += 1
            pause.wait(0.03)
        done, rest = wait_for(tasks, 120)
        assert not rest
        lost = [task for task in done if task.exception() is not None]
        assert all(isinstance(task.exception(), WorkerLost) for task in lost)
        assert len(lost) <= kills
        assert all(task.result() == n for n, task in enumerate(tasks) if task not in lost)
        counts = pool.progress()
        assert (counts.done, counts.failed, counts.open) == (3001 - len(lost), len(lost), 0)


def test_a_killed_idle_worker_stops_nobody():
    with Executor(2, context) as pool:
        before = set(pool.map(where, range(20)))
        for worker in children(pool._run._workers.nursery.pid):
            os.kill(worker, signal.SIGKILL)
        after = set(pool.map(where, range(20)))
        assert not before & after


def test_a_dead_nursery_leaves_its_workers_and_then_ends_the_pool():
    with Executor(2, context) as pool:
        pool.submit(square, 1).result(PATIENCE)
        workers = children(pool._run._workers.nursery.pid)
        os.kill(pool._run._workers.nursery.pid, signal.SIGKILL)
        assert pool.submit(square, 2).result(PATIENCE) == 4
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool, match="before they did any work"):
            for _ in range(100):
                pool.submit(square, 2).result(PATIENCE)


def test_a_killed_program_breaks_the_pool_and_ends_its_workers():
    pool = Executor(2, context)
    tasks = [pool.submit(stay) for _ in range(5)]
    until(lambda: pool._run.is_busy())
    everybody = processes(pool)
    pool._run._attachment.process.kill()
    for task in tasks:
        with pytest.raises(BrokenProcessPool):
            task.result(PATIENCE)
    until(lambda: all(map(has_ended, everybody)))
    pool.shutdown()


CALLER = """
import os, sys, time
sys.path[:0] = {paths!r}
from test_pool_kills import processes, stay
from drpipe.pool import Executor

if __name__ == "__main__":
    pool = Executor(2)
    tasks = [pool.submit(stay) for _ in range(5)]
    while not pool._run.is_busy():
        time.sleep(0.01)
    print(*processes(pool), flush=True)
    {then}
"""


@pytest.mark.parametrize("then", ["time.sleep(3600)", "os.fork(); time.sleep(3600)"])
def test_no_worker_outlives_its_caller(then, tmp_path):
    script = tmp_path / "caller.py"
    script.write_text(CALLER.format(paths=TEST_PATHS, then=then))
    caller = python([str(script)], tmp_path, start_new_session=True)
    everybody = list(map(int, caller.stdout.readline().split()))
    assert len(everybody) == 4
    caller.kill()
    caller.wait()
    began = time.monotonic()
    until(lambda: all(map(has_ended, everybody)))
    assert time.monotonic() - began < PATIENCE
    # The fork of the caller.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(caller.pid, signal.SIGKILL)
    caller.communicate()


def test_a_timeout_is_on_time():
    with Executor(2, context, grace=0.2) as pool:
        pool.submit(square, 1).result(PATIENCE)
        for function in (stay, stay_without_signals):
            with pytest.raises(TaskTimeout, match=r"time limit of 0.2 s"):
                pool.task(function).within(0.2).submit().result(PATIENCE)
        assert pool.submit(square, 3).result(PATIENCE) == 9
        assert pool.task(square, 4).within(PATIENCE).submit().result(PATIENCE) == 16


def test_the_limit_of_a_pool_holds_for_each_task():
    with Executor(1, context, timeout=0.2) as pool:
        with pytest.raises(TaskTimeout):
            pool.submit(stay).result(PATIENCE)
        assert pool.submit(square, 3).result(PATIENCE) == 9


def test_a_limit_is_not_held_against_the_next_task():
    with Executor(1, context) as pool:
        tasks = [pool.task(nap, n).within(0.5).submit() for n in range(500)]
        assert [task.result(PATIENCE) for task in tasks] == list(range(500))


def test_a_retried_task_runs_again(tmp_path):
    with Executor(1, context, retries=1) as pool:
        assert pool.submit(second_time, tmp_path / "marker").result(PATIENCE) == "again"


def second_time(marker):
    if marker.exists():
        return "again"
    marker.touch()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_timeout_of_process_pool_is_a_result():
    told = []
    pool = ProcessPool(1, 2, 5, poolCallback=lambda *result: told.append(result))
    pool.createAndQueueTask(stay, taskID=4, usePoolCallbacks=True, timeOut=0.2)
    pool.processAllResults(PATIENCE)
    ((task_id, result),) = told
    assert task_id == 4 and result["Errno"] == 62 and not result["OK"]
    pool.finalize()


def test_a_task_that_sleeps_holds_back_no_other():
    with Executor(2, context) as pool:
        pool.submit(square, 1).result(PATIENCE)
        long = pool.submit(stay)
        tasks = [pool.submit(square, n) for n in range(2000)]
        assert [task.result(PATIENCE) for task in tasks] == [n * n for n in range(2000)]
        assert not long.done()
        pool._run.stop()


def test_a_fork_of_the_caller_has_no_part_in_the_pool():
    with Executor(1, context) as pool:
        assert pool.submit(square, 2).result(PATIENCE) == 4
        child = os.fork()
        if child == 0:
            try:
                pool.submit(square, 2)
            except BrokenProcessPool as error:
                os._exit(7 if "belongs to the process" in str(error) else 8)
            os._exit(9)
        assert os.waitpid(child, 0)[1] == 7 << 8
        assert pool.submit(square, 3).result(PATIENCE) == 9


def test_many_pools_leave_nothing_behind():
    def state():
        gc.collect()
        return (
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            len(children(os.getpid())),
        )

    def use_one():
        with Executor(1, context) as pool:
            assert pool.submit(square, 5).result(PATIENCE) == 25

    use_one()
    before = state()
    for _ in range(30):
        use_one()
    assert state() == before


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_other_methods(method, tmp_path):
    script = tmp_path / "methods.py"
    script.write_text(METHODS.format(method=method))
    caller = python([str(script)], tmp_path)
    out, err = caller.communicate(timeout=60)
    assert out.split() == ["16", "global"], err


METHODS = """
import contextlib
import functools
import gc
import multiprocessing
from drpipe.pool import Executor

def square(x):
    return x * x

def begin(text):
    global said
    said = text

def tell():
    return said

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with Executor(1, context, begin, ("global",)) as pool:
        print(pool.submit(square, 4).result(30))
        print(pool.submit(tell).result(30))
"""


def boom():
    raise RuntimeError("no licence for this worker")


def test_an_initializer_that_raises_breaks_the_pool_with_its_reason():
    pool = Executor(2, context, boom)
    task = pool.submit(square, 1)
    with pytest.raises(BrokenProcessPool, match="no licence for this worker"):
        task.result(PATIENCE)
    pool.shutdown()


def test_a_worker_is_replaced_after_its_tasks():
    with Executor(1, context, max_tasks_per_child=3) as pool:
        workers = [pool.submit(where).result(PATIENCE) for _ in range(9)]
        assert len(set(workers)) == 3
        assert [workers.count(worker) for worker in dict.fromkeys(workers)] == [3, 3, 3]


EXIT = """
from drpipe.pool import Executor
import time

def late():
    time.sleep(0.3)
    print("late", flush=True)

if __name__ == "__main__":
    pool = Executor(1)
    pool.submit(late)
"""


def test_the_interpreter_waits_for_what_was_submitted(tmp_path):
    script = tmp_path / "exits.py"
    script.write_text(EXIT)
    caller = python([str(script)], tmp_path)
    out, err = caller.communicate(timeout=60)
    assert (out, err, caller.returncode) == ("late\n", "", 0)


def test_importing_pools_loads_neither_numpy_nor_qt():
    code = "import sys, drpipe.pool; print(sorted({'numpy', 'zmq', 'qtpy'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert out.stdout == b"[]\n", out.stderr


def test_d_02_a_process_pool_grows_when_no_worker_is_idle():
    gate = Gate()
    pool = ProcessPool(1, 3, 10)
    until(lambda: pool._run.workers() == 1)
    for number in range(5):
        assert pool.createAndQueueTask(look, [gate._out], taskID=number)["OK"]
    until(lambda: pool._run.workers() == 3)
    assert pool.getNumWorkingProcesses() == 3 and pool.getNumIdleProcesses() == 0
    gate.set()
    pool.processAllResults(PATIENCE)
    # By default, what has been started stays.
    assert pool._run.workers() == pool.getNumIdleProcesses() == 3
    pool.finalize()


def look(file):
    """Waits until a pipe that the worker has inherited has something."""
    assert select.select([file], [], [], PATIENCE)[0]


def test_d_03_a_process_pool_may_shrink_to_its_least(monkeypatch):
    monkeypatch.setattr(dirac, "_IDLE", 0.1)
    gate = Gate()
    pool = ProcessPool(1, 3, 10, keepProcessesRunning=False)
    for _ in range(3):
        assert pool.createAndQueueTask(look, [gate._out])["OK"]
    until(lambda: pool._run.workers() == 3)
    gate.set()
    until(lambda: pool._run.workers() == 1)
    assert pool.createAndQueueTask(look, [gate._out])["OK"]
    pool.processAllResults(PATIENCE)
    pool.finalize()


def test_an_executor_changes_its_number_of_workers():
    with Executor(3, context, min_workers=1) as pool:
        pool.submit(square, 1).result(PATIENCE)
        until(lambda: pool._run.workers() == 1)
        pool.set_workers(3)
        until(lambda: pool._run.workers() == 3)
        pool.set_workers(2)
        until(lambda: pool._run.workers() == 2)
        assert pool.submit(square, 3).result(PATIENCE) == 9


@pytest.mark.parametrize("make", [functools.partial(Executor, 1, context), ProcessPool])
def test_a_pool_that_is_dropped_leaves_nothing_behind(make):
    pool = make()
    if isinstance(pool, Executor):
        assert pool.submit(square, 3).result(PATIENCE) == 9
    run = pool._run
    everybody = processes(pool)
    del pool
    gc.collect()
    assert run.join(PATIENCE)
    assert all(map(has_ended, everybody))


def test_cancel_may_end_the_worker_that_has_the_task():
    with Executor(1, context, cancel_running=True) as pool:
        pool.submit(square, 1).result(PATIENCE)
        long = pool.submit(stay)
        until(long.running)
        waiting = [pool.submit(square, number) for number in range(50)]
        assert long.cancel() and long.cancelled()
        assert [task.result(PATIENCE) for task in waiting] == [n * n for n in range(50)]
        assert not waiting[0].cancel()


QUIET = """
from drpipe.pool import WorkerController
import time

if __name__ == "__main__":
    controller = WorkerController(1, abs)
    controller.add_task(-1)
    controller.start()
    while controller.progress < 1:
        time.sleep(0.01)
"""


def test_the_interpreter_ends_a_controller_that_was_not_finalized(tmp_path):
    script = tmp_path / "quiet.py"
    script.write_text(QUIET)
    caller = python([str(script)], tmp_path)
    out, err = caller.communicate(timeout=60)
    assert (out, err, caller.returncode) == ("", "", 0)


def test_a_task_that_kills_its_worker_is_begun_once_and_once_more_for_each_retry(tmp_path):
    for retries in range(3):
        path = tmp_path / str(retries)
        pool = Executor(1, retries=retries, mp_context=context)
        with pool, pytest.raises(WorkerLost):
            pool.submit(dies, path).result(60)
        assert path.read_text() == "x" * (retries + 1)
