"""What an executor does: with a run of threads within the test's process, and with the program."""

import gc
import itertools
import linecache
import multiprocessing
import sys
import threading
import weakref
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from drpipe.pool.core import Core, Task
from drpipe.pool.ending import CANCELLED
from drpipe.pool.errors import RemoteError, WorkerLost
from drpipe.pool.executor import Executor
from drpipe.pool.payload import Payload
from drpipe.pool.settings import Settings
from pool_link import RUNS, Gate, ThreadRun, die, until, use

#: The longest wait, in seconds. Only a hang takes longer.
PATIENCE = 20.0


@pytest.fixture(params=RUNS)
def start(request, monkeypatch):
    """Returns a function that makes an executor."""
    use(request.param, monkeypatch)
    yield from starting()


@pytest.fixture
def start_here(monkeypatch):
    """Returns a function that makes an executor with a run in this process."""
    use("threads", monkeypatch)
    yield from starting()


def starting():
    made = []
    gate.clear()

    def start(workers=2, **options):
        made.append(Executor(workers, context, **options))
        return made[-1]

    yield start
    for pool in made:
        gate.set()
        pool.resume()
        pool.shutdown()
    gate.clear()


context = multiprocessing.get_context("fork")
#: What tasks wait for.
gate = Gate()


def wait():
    assert gate.wait(PATIENCE)
    return "waited"


def square(x):
    return x * x


def fail(text):
    raise KeyError(text)


def test_a_result_arrives(start):
    assert start().submit(square, 12).result(PATIENCE) == 144


def test_tasks_get_keyword_arguments_of_any_name(start):
    pool = start()
    options = {"fn": 1, "self": 2, "name": 3, "limit": 4}
    assert pool.submit(dict, **options).result(PATIENCE) == options
    assert pool.task(dict, **options).named("n").high().submit().result(PATIENCE) == options


def test_an_exception_is_raised_again_with_the_traceback_of_the_worker(start):
    future = start().submit(fail, "lost")
    with pytest.raises(KeyError, match="lost") as caught:
        future.result(PATIENCE)
    assert "in fail" in str(caught.value.__cause__)


def test_a_dead_worker_fails_its_own_task(start):
    pool = start()
    lost, kept = pool.submit(die), pool.submit(square, 3)
    with pytest.raises(WorkerLost, match="signal 9"):
        lost.result(PATIENCE)
    assert isinstance(lost.exception(), BrokenProcessPool)
    assert kept.result(PATIENCE) == 9


def test_a_task_that_cannot_be_pickled_fails_alone(start):
    pool = start()
    bad = pool.submit(square, threading.Lock())
    assert isinstance(bad.exception(PATIENCE), TypeError)
    assert pool.submit(square, 2).result(PATIENCE) == 4


def test_a_waiting_task_can_be_cancelled_and_a_running_one_cannot(start):
    pool = start(1)
    running = pool.submit(wait)
    until(running.running)
    waiting = pool.submit(square, 2)
    assert waiting.cancel()
    assert waiting.cancelled() and waiting.done() and not waiting.running()
    assert not running.cancel()
    assert futures.wait([waiting], PATIENCE).done == {waiting}
    gate.set()
    assert running.result(PATIENCE) == "waited"
    assert not running.cancel()


def test_a_task_that_the_run_does_not_have_can_be_cancelled(start):
    pool = start(1, queue=None)
    window = pool._settings.window
    tasks = [pool.submit(wait) for _ in range(window + 50)]
    until(lambda: pool._run.is_busy())
    assert tasks[-1].cancel()
    with pytest.raises(futures.CancelledError):
        tasks[-1].result(PATIENCE)
    assert pool.progress().cancelled == 1
    pool.shutdown(wait=False, cancel_futures=True)
    done, rest = futures.wait(tasks[1:], PATIENCE)
    assert not rest
    assert all(task.cancelled() for task in done)
    gate.set()
    assert tasks[0].result(PATIENCE) == "waited"


def test_the_run_never_has_more_than_its_window(start_here):
    pool = start_here(2, queue=5)
    tasks = [pool.submit(square, n) for n in range(200)]
    assert [task.result(PATIENCE) for task in tasks] == [n * n for n in range(200)]
    assert pool._run.most <= 7


def test_a_submission_waits_for_room(start):
    pool = start(1, queue=1)
    first, second = pool.submit(wait), pool.submit(wait)
    began, ended = threading.Event(), threading.Event()

    def submit():
        began.set()
        pool.submit(square, 5).result(PATIENCE)
        ended.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert began.wait(PATIENCE)
    assert not ended.is_set()
    gate.set()
    thread.join(PATIENCE)
    assert ended.is_set()
    assert first.result(PATIENCE) == second.result(PATIENCE) == "waited"


def test_a_callback_may_submit_and_cancel_though_the_queue_is_full(start):
    pool = start(1, queue=2)
    more = []

    def again(future):
        more.append(pool.submit(square, 7))
        other = pool.submit(square, 8)
        more.append(other.cancel() or other.result)

    first = pool.submit(wait)
    first.add_done_callback(again)
    rest = [pool.submit(square, n) for n in (1, 2)]
    gate.set()
    assert [task.result(PATIENCE) for task in rest] == [1, 4]
    until(lambda: len(more) == 2)
    assert more[0].result(PATIENCE) == 49
    assert more[1] is True


@pytest.mark.parametrize("name", [42, None, b"n"])
def test_a_name_that_is_no_string_is_refused(start_here, name):
    with pytest.raises(TypeError, match="must be a string"):
        start_here().task(square, 2).named(name)


def test_a_callback_that_exits_ends_nothing(start):
    pool = start(1)
    first = pool.submit(wait)
    first.add_done_callback(lambda _: sys.exit(3))
    gate.set()
    assert first.result(PATIENCE) == "waited"
    assert pool.submit(square, 4).result(PATIENCE) == 16


def exits(text):
    raise SystemExit(text)


class CannotBeLoaded(Exception):
    def __reduce__(self):
        return exits, ("it cannot be loaded",)


def fail_without_a_pickle():
    raise CannotBeLoaded


def give_what_cannot_be_loaded():
    return CannotBeLoaded()


def test_what_exits_when_it_is_loaded_fails_its_task(start):
    pool = start(1)
    with pytest.raises(RemoteError, match="CannotBeLoaded"):
        pool.submit(fail_without_a_pickle).result(PATIENCE)
    assert isinstance(pool.submit(give_what_cannot_be_loaded).exception(PATIENCE), SystemExit)
    assert pool.submit(square, 4).result(PATIENCE) == 16


@pytest.mark.parametrize("line", range(20))
def test_an_interrupt_of_a_submission_leaves_the_counts_right(line):
    """Raises it at one line after another."""
    core = Core(Settings())
    lines = itertools.count()

    def trace(frame, event, _):
        if frame.f_code is not Core.submit.__code__:
            return None
        # The interpreter takes no interrupt between a lock and its `with`.
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not text.startswith("with") and next(lines) == line:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        core.submit(Task(Payload(b"", ()), lambda ending: None))
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    taken = core.take()
    assert core.open() == len(taken) == core.counts().submitted
    core.acknowledged([(task.number, CANCELLED) for task in taken])
    assert core.is_idle()
    assert core.counts() == (len(taken), 0, 0, len(taken), 0)


def test_high_priority_goes_first(start):
    pool = start(1)
    pool.submit(wait)
    until(lambda: pool._run.is_busy())
    pool.pause()
    window = pool._settings.window
    order = []
    low = [pool.submit(square, n) for n in range(window)]
    last = pool.submit(square, -1)
    high = pool.task(square, -2).high().submit()
    last.add_done_callback(lambda _: order.append("last"))
    high.add_done_callback(lambda _: order.append("high"))
    gate.set()
    pool.resume()
    futures.wait([*low, last, high], PATIENCE)
    assert order == ["high", "last"]


def test_high_priority_overtakes_what_the_run_has_taken(start):
    pool = start(1)
    pool._core._width = pool._settings.window
    pool.submit(wait)
    until(lambda: pool._run.is_busy())
    low = [pool.submit(square, n) for n in range(5)]
    extra = pool.submit(square, 99)
    high = [pool.task(square, n).high().submit() for n in (10, 11)]
    order = []
    for future in (*low, *high):
        future.add_done_callback(lambda future: order.append(future.result()))
    until(lambda: len(pool._core._sent) == 9)
    # The run has all of them when it answers this.
    assert extra.cancel()
    gate.set()
    futures.wait([*low, *high], PATIENCE)
    assert order == [100, 121, 0, 1, 4, 9, 16]


def test_nothing_begins_while_the_pool_is_paused(start):
    pool = start(1)
    assert pool.submit(square, 1).result(PATIENCE) == 1
    pool.pause()
    later = pool.submit(square, 3)
    assert not later.done()
    assert not pool._run.is_busy()
    pool.resume()
    assert later.result(PATIENCE) == 9


def test_retries_are_counted_by_the_run(start_here):
    pool = start_here(1, retries=2)
    with pytest.raises(KeyError):
        pool.submit(fail, "x").result(PATIENCE)
    assert pool._run.attempts == {1: 3}


def test_a_run_that_dies_breaks_the_pool(start):
    pool = start(1)
    future = pool.submit(wait)
    until(future.running)
    if isinstance(pool._run, ThreadRun):
        pool._run.die()
    else:
        pool._run._attachment.process.kill()
    with pytest.raises(BrokenProcessPool, match="the run has died"):
        future.result(PATIENCE)
    with pytest.raises(BrokenProcessPool, match="the run has died"):
        pool.submit(square, 1)


def test_shutdown_waits_for_what_was_submitted(start):
    pool = start(2)
    with pool:
        tasks = [pool.submit(square, n) for n in range(1000)]
    assert [task.result(0) for task in tasks] == [n * n for n in range(1000)]
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(square, 1)
    assert pool.progress() == (1000, 1000, 0, 0, 0)
    assert pool.report() is not None


def test_a_pool_without_tasks_ends(start):
    with start() as pool:
        pass
    assert pool.report() is None


def test_a_pool_that_is_dropped_ends_after_its_tasks(monkeypatch):
    use("threads", monkeypatch)
    pool = Executor(2, context)
    tasks = [pool.submit(square, number) for number in range(100)]
    run = pool._run
    del pool
    gc.collect()
    assert [task.result(PATIENCE) for task in tasks] == [number**2 for number in range(100)]
    assert run.join(PATIENCE)


def test_a_future_that_is_dropped_is_freed_with_its_result(start):
    pool = start(1)
    future = pool.submit(square, 4)
    assert future.result(PATIENCE) == 16
    gone = weakref.ref(future)
    pool.submit(square, 5).result(PATIENCE)
    gc.disable()
    try:
        del future
        until(lambda: gone() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("chunksize", [1, 7])
def test_map_keeps_the_order(start, chunksize):
    pool = start()
    found = pool.map(pow, range(100), [2] * 100, chunksize=chunksize)
    assert list(found) == [n * n for n in range(100)]


def test_map_with_a_buffer_reads_as_results_are_taken(start):
    read = []

    def numbers():
        for number in range(100):
            read.append(number)
            yield number

    results = start().map(square, numbers(), buffersize=4)
    assert len(read) == 4
    assert next(results) == 0
    assert len(read) == 5
    assert list(results) == [n * n for n in range(1, 100)]


def test_a_chunk_fails_as_a_whole_and_says_where(start):
    results = start().map(fail_at_5, range(20), chunksize=3)
    found = []
    with pytest.raises(ValueError, match="five") as caught:
        for result in results:
            found.append(result)
    assert found == [0, 1, 2]
    assert caught.value.__notes__ == ["raised for item 5 of the map"]


def fail_at_5(x):
    if x == 5:
        raise ValueError("five")
    return x


def test_map_passes_its_time(start):
    pool = start(1)
    results = pool.map(lambda_free_wait, [0, 1], timeout=0)
    with pytest.raises(futures.TimeoutError):
        list(results)
    gate.set()


def lambda_free_wait(_):
    return wait()


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 2, "min_workers": 3},
        {"workers": 2, "queue": 0},
        {"workers": 2, "max_tasks_per_child": 0},
        {"workers": 1001},
        {"timeout": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"retries": -1},
        {"grace": -1},
        {"grace": float("nan")},
        {"memory_limit": "lots"},
        {"memory_limit": 0},
    ],
)
def test_arguments_out_of_range_are_refused(start, options):
    with pytest.raises(ValueError, match="must be"):
        start(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 1.5},
        {"timeout": "5"},
        {"retries": 0.5},
        {"grace": None},
        {"memory_limit": 1.5},
        {"queue": "many"},
        {"name": 42},
    ],
)
def test_arguments_of_other_types_are_refused(start_here, options):
    with pytest.raises(TypeError, match="must be"):
        start_here(**options)


def test_limits_of_every_allowed_kind_are_taken(start):
    options = {"timeout": 60, "retries": 1, "grace": 0, "memory_limit": "4 GiB", "queue": 3}
    assert start(np.int64(1), **options).submit(square, 2).result(PATIENCE) == 4
    pool = start(1, timeout=np.float32(60.5), memory_limit=np.int64(1 << 32))
    assert pool.task(square, 2).within(np.float64(50)).submit().result(PATIENCE) == 4


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), 1e30])
def test_a_time_limit_that_no_task_can_have_is_refused(start_here, limit):
    with pytest.raises(ValueError, match="above 0, at most a year, not"):
        start_here().task(square, 2).within(limit)


@pytest.mark.parametrize("count, error", [(0, ValueError), (1001, ValueError), (1.5, TypeError)])
def test_a_number_of_workers_that_no_pool_can_have_is_refused(start_here, count, error):
    with pytest.raises(error, match="whole number from 1 to 1000, not"):
        start_here().set_workers(count)


def test_many_threads_may_submit(start):
    pool = start(2, queue=3)
    found = []

    def submit(base):
        tasks = [pool.submit(square, base + n) for n in range(100)]
        found.extend(task.result(PATIENCE) for task in tasks)

    threads = [threading.Thread(target=submit, args=(1000 * n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(found) == sorted((1000 * b + n) ** 2 for b in range(5) for n in range(100))
