"""Pools whose processes are killed at random, and pools by the hundred: every task ends once, and
nothing is left. DRPIPE_ENDURANCE=1 runs the full counts, in about ten minutes."""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import wait as wait_for

import numpy as np
import pytest

from drpipe.pool import Executor, ProcessPool, WorkerController, WorkerLost
from pool_link import PATIENCE, until
from runs import TEST_PATHS, needs_program, program
from test_pool_kills import children, has_ended

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
context = multiprocessing.get_context("fork")
IS_FULL = bool(os.environ.get("DRPIPE_ENDURANCE"))
#: How often each kind of process is killed, at random instants.
KILLS = 200 if IS_FULL else 2
FACES = ["executor", "dirac", "pydidas"]


def nap(number):
    time.sleep(0.002)
    return number


def mixed(number):
    """Returns something small or large, or raises, or takes a while."""
    kind = number % 4
    if kind == 1:
        time.sleep(0.005)
        return np.full(1 << 16, number)
    if kind == 2:
        raise ValueError(number)
    return number if kind else "x" * 1000


def state():
    """Returns the numbers of descriptors, threads and children, and the memory in KiB."""
    # What an executor keeps until it is collected is garbage only then.
    gc.collect()
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    counts = len(os.listdir("/proc/self/fd")), threading.active_count(), len(children(os.getpid()))
    return counts, pages * os.sysconf("SC_PAGE_SIZE") // 1024


def test_each_of_many_tasks_ends_once_though_workers_are_killed():
    count, kills = (20_000 if IS_FULL else 2_000), 0
    ends = [0] * count
    with Executor(6, context, min_workers=2) as pool:
        tasks = [pool.submit(nap, number) for number in range(count)]
        for number, task in enumerate(tasks):
            task.add_done_callback(lambda _, n=number: ends.__setitem__(n, ends[n] + 1))
        pause = threading.Event()
        while not all(task.done() for task in tasks):
            workers = children(pool._run._workers.nursery.pid)
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.choice(workers), signal.SIGKILL)
                    kills += 1
            pause.wait(0.05)
        lost = [task for task in tasks if task.exception() is not None]
        assert all(isinstance(task.exception(), WorkerLost) for task in lost)
        assert all(task.result() == n for n, task in enumerate(tasks) if not task.exception())
        assert set(ends) == {1} and len(lost) <= kills
        done = pool.progress()
        assert (done.done, done.failed, done.open) == (count - len(lost), len(lost), 0)


class Pool:
    """A pool of one of the faces with 300 tasks, and how often these have ended."""

    def __init__(self, face):
        self.ends = []
        getattr(self, face)()

    def executor(self):
        pool = Executor(3, context, min_workers=1)
        tasks = [pool.submit(mixed, number) for number in range(300)]
        for task in tasks:
            # Not the futures: their arrays would be held.
            task.add_done_callback(lambda _: self.ends.append(1))
        self.run = pool._run
        self.end = lambda: (wait_for(tasks, PATIENCE), pool.shutdown())

    def dirac(self):
        pool = ProcessPool(1, 3, 1000)
        self.run = pool._run
        callback = lambda task, result: self.ends.append(1)  # noqa: E731
        for number in range(300):
            pool.createAndQueueTask(mixed, [number], callback=callback, exceptionCallback=callback)
        pool.daemonize()
        self.end = lambda: pool.finalize(PATIENCE)

    def pydidas(self):
        controller = WorkerController(3, mixed)
        controller.sig_results.connect(lambda task, result: self.ends.append(task))
        controller.sig_failed.connect(lambda task, error: self.ends.append(task))
        controller.add_tasks(range(300))
        controller.finalize_tasks()
        controller.start()
        until(lambda: controller._run is not None or controller.isFinished())
        self.run = controller._run

        def end():
            assert controller.wait(1000 * PATIENCE)
            self.ends += controller.dropped

        self.end = end


def kill_one(kind, pool):
    """Kills a process of a pool. Returns all of its processes."""
    nursery, run = pool.run._workers.nursery, pool.run._attachment.process.pid
    workers = children(nursery.pid) if nursery is not None else []
    everybody = [*workers, run, *([nursery.pid] if nursery is not None else [])]
    victims = {"worker": workers, "run": [run], "nursery": everybody[-1:]}[kind]
    if victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(victims), signal.SIGKILL)
    return everybody


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", ["worker", "nursery", "run"])
def test_whatever_is_killed_each_task_ends_and_nothing_is_left(kind, face, tmp_path, monkeypatch):
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setenv("TMPDIR", str(private))
    Pool(face).end()
    (before, _), shared = state(), set(os.listdir("/dev/shm"))
    for _ in range((KILLS + len(FACES) - 1) // len(FACES)):
        pool = Pool(face)
        threading.Event().wait(random.random() * 0.3)
        everybody = kill_one(kind, pool)
        pool.end()
        assert len(pool.ends) == 300
        del pool
        until(lambda everybody=everybody: all(map(has_ended, everybody)))
        assert os.listdir(private) == []
    assert state()[0] == before
    assert set(os.listdir("/dev/shm")) == shared


CALLER = """
import sys, time
sys.path[:0] = {paths!r}
from drpipe.pool import Executor, ProcessPool, WorkerController
from test_pool_endurance import mixed

if __name__ == "__main__":
    print("begins", flush=True)
    if {face!r} == "executor":
        with Executor(3, min_workers=1) as pool:
            while True:
                for task in [pool.submit(mixed, number) for number in range(200)]:
                    task.exception()
    elif {face!r} == "dirac":
        pool = ProcessPool(1, 3, 10, poolCallback=lambda *_: None)
        pool.daemonize()
        while True:
            pool.createAndQueueTask(mixed, [1], taskID=1, usePoolCallbacks=True)
    else:
        controller = WorkerController(3, mixed)
        controller.start()
        while True:
            controller.add_tasks(range(100))
            while controller.progress < 1:
                time.sleep(0.001)
"""


def kill_callers(directory, count):
    """Kills callers at random instants. Is the process that their orphans get as their parent.

    Prints the longest time after which a process was left, in seconds.
    """
    if os.getpid() != 1:
        PR_SET_CHILD_SUBREAPER = 36
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    longest = 0.0
    for number in range(count):
        face = FACES[number % len(FACES)]
        script = os.path.join(directory, f"{face}.py")
        with open(script, "w") as file:
            file.write(CALLER.format(paths=sys.path, face=face))
        caller = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
        caller.stdout.readline()
        time.sleep(random.random() * 0.6)
        caller.kill()
        began = time.monotonic()
        caller.wait()
        caller.stdout.close()
        with contextlib.suppress(ChildProcessError):
            while True:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.001)
        longest = max(longest, time.monotonic() - began)
    print(longest)


SPACES = {"a subreaper": [], "process 1": ["unshare", "--pid", "--fork", "--mount-proc"]}


def can(command):
    return shutil.which(command[0]) and not subprocess.run([*command, "true"]).returncode


@pytest.mark.parametrize("parent", list(SPACES))
def test_nothing_outlives_a_caller_that_is_killed(parent, tmp_path):
    command = SPACES[parent]
    if command and not can(command):
        command = ["unshare", "--user", "--map-root-user", *command[1:]]
        if not can(command):
            pytest.skip("this system lets nobody make a namespace of processes")
    private = tmp_path / "private"
    private.mkdir()
    shared = set(os.listdir("/dev/shm"))
    code = f"import test_pool_endurance as t; t.kill_callers({str(tmp_path)!r}, {max(KILLS, 3)})"
    paths = os.pathsep.join([*sys.path, *TEST_PATHS])
    environment = {"PYTHONPATH": paths, "DRPIPE": str(program()), "TMPDIR": str(private)}
    harness = subprocess.run(
        [*command, sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60 + 10 * KILLS,
    )
    assert harness.returncode == 0, harness.stderr
    assert float(harness.stdout.split()[-1]) < 1, harness.stdout
    assert os.listdir(private) == []
    assert set(os.listdir("/dev/shm")) == shared


def test_pools_by_the_hundred_leave_descriptors_and_memory_flat():
    def use(face, number):
        pool = Pool.__new__(Pool)
        pool.ends = []
        if face == "executor":
            with Executor(1, context) as executor:
                pool.ends.append(executor.submit(abs, -number).result(PATIENCE))
        elif face == "dirac":
            dirac = ProcessPool(1, 1, 10, poolCallback=lambda _, result: pool.ends.append(result))
            dirac.createAndQueueTask(abs, [-number], taskID=1, usePoolCallbacks=True)
            dirac.finalize(PATIENCE)
        else:
            controller = WorkerController(1, abs)
            controller.sig_results.connect(lambda _, result: pool.ends.append(result))
            controller.add_task(-number)
            controller.finalize_tasks()
            controller.start()
            assert controller.wait(1000 * PATIENCE)
        assert pool.ends == [number]

    for number in range(30):
        use(FACES[number % 3], number)
    counts, memory = state()
    for number in range(1000 if IS_FULL else 30):
        use(FACES[number % 3], number)
    after, grown = state()
    assert after == counts
    # Thousands of pools that each kept a KiB would be far beyond this.
    assert grown - memory < 2048


def shared_memory():
    with open("/proc/meminfo") as file:
        (line,) = (line for line in file if line.startswith("Shmem:"))
    return int(line.split()[1]) // 1024


def reads_slowly(face):
    """Measures the whole machine, so it is no test in the midst of others."""
    before, most, count = shared_memory(), [0], [0]

    def slot(_, result):
        assert result.nbytes == 1 << 20
        count[0] += 1
        if count[0] % 20 == 0:
            time.sleep(0.01)
            most[0] = max(most[0], shared_memory() - before)

    if face == "dirac":
        pool = ProcessPool(2, 2, 50, poolCallback=slot)
        pool.daemonize()
        for number in range(10_000):
            pool.createAndQueueTask(image, [number], taskID=1, usePoolCallbacks=True)
        pool.finalize(600)
    else:
        controller = WorkerController(2, image)
        controller.sig_results.connect(slot)
        controller.add_tasks(range(10_000))
        controller.finalize_tasks()
        controller.start()
        assert controller.wait()
    assert count == [10_000]
    assert most[0] < 64 + 2 * 64


def image(number):
    return np.full(1 << 17, number)


if IS_FULL:
    test_the_memory_of_results_is_bounded_under_a_slow_reader = pytest.mark.parametrize(
        "face", ["dirac", "pydidas"]
    )(reads_slowly)
