"""`ProcessPool` as DIRAC's programs use it."""

import errno
import functools
import sys
import threading
import time

import pytest

from drpipe.pool import dirac, dirac_task
from drpipe.pool.dirac import ProcessPool, ProcessTask
from drpipe.pool.errors import WorkerLost
from pool_link import RUNS, Gate, die, use

PATIENCE = 20.0
#: What tasks wait for, and how many have begun: shared with forks.
gate = Gate()


@pytest.fixture(params=RUNS)
def start(request, monkeypatch):
    """Returns a function that makes a pool."""
    use(request.param, monkeypatch)
    own = [(dirac_task._ok, dirac_task._error)]
    monkeypatch.setattr(dirac_task, "_own_returns", own)
    gate.clear()
    made = []

    def start(*sizes, **options):
        made.append(ProcessPool(*sizes, **options))
        return made[-1]

    yield start
    gate.set()
    for pool in made:
        pool.finalize(PATIENCE)


class Told:
    """Callbacks that note what they are called with, in their order."""

    def __init__(self):
        self.calls = []
        self.changed = threading.Condition()

    def note(self, name, first, value):
        with self.changed:
            self.calls.append((name, first, value))
            self.changed.notify_all()

    def __getattr__(self, name):
        return functools.partial(self.note, name)

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.calls) >= count, PATIENCE), self.calls
        return self.calls


def queue(pool, function, *args, **options):
    made = pool.createAndQueueTask(function, args=args, **options)
    assert made["OK"], made
    return made


def results(pool, *functions):
    """Returns the values of functions without arguments that a pool runs."""
    told = Told()
    for number, function in enumerate(functions):
        queue(pool, function, taskID=number, callback=told.result, exceptionCallback=told.error)
    pool.processAllResults(PATIENCE)
    assert [name for name, _, _ in told.calls] == ["result"] * len(functions), told.calls
    values = {task.getTaskID(): value for _, task, value in told.calls}
    return [values[number] for number in range(len(functions))]


def give(value):
    return value


def wait():
    assert gate.wait(PATIENCE)
    return "waited"


def fail():
    raise ValueError("it fails")


class Callable:
    """A task as agents write them: a class with keyword arguments only."""

    def __init__(self, *, request, factor=1):
        self.request, self.factor = request, factor

    def __call__(self):
        return self.request * self.factor

    def method(self):
        return "method"


class NotCallable:
    pass


@pytest.mark.parametrize(
    "sizes, least, most", [((), 2, 2), ((0, 0), 1, 1), ((3, 1), 3, 3), ((1, 4), 1, 4)]
)
def test_d_01_sizes(start, sizes, least, most):
    pool = start(*sizes)
    assert (pool.getMinSize(), pool.getMaxSize()) == (least, most)
    assert pool.getFreeSlots() == most


@pytest.mark.parametrize("limit", [float("inf"), 1e30])
def test_a_time_limit_that_no_task_can_have_is_told(start, limit):
    pool = start()
    refused = pool.createAndQueueTask(give, [1], timeOut=limit)
    assert not refused["OK"] and "at most a year" in refused["Message"]
    assert not pool.isWorking()


def test_what_is_no_time_limit_is_told():
    refused = ProcessTask(give).setTimeOut(float("nan"))
    assert not refused["OK"] and "nan" in refused["Message"]


@pytest.mark.parametrize("method", ["finalize", "processAllResults"])
@pytest.mark.parametrize("is_daemon", [False, True])
def test_a_callback_may_wait_for_all_results(start, method, is_daemon):
    pool, told, waiting = start(1, 1), Told(), threading.Event()

    def end(task, value):
        assert waiting.wait(PATIENCE)
        getattr(pool, method)(PATIENCE)
        told.end(task, value)

    def work():
        queue(pool, give, 1, callback=end)
        for number in range(3):
            queue(pool, give, number, callback=told.result)
        assert pool._core.wait(lambda: len(pool._results) + is_daemon >= 4, PATIENCE)
        waiting.set()
        pool.processResults()

    if is_daemon:
        pool.daemonize()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert [value for _, _, value in told.wait(4)] == [1, 0, 1, 2]
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_callback_that_exits_stops_no_other(start):
    pool, told = start(1, 1), Told()
    pool.daemonize()
    queue(pool, give, 1, callback=lambda task, value: sys.exit(3))
    queue(pool, give, 2, callback=told.result)
    assert told.wait(1)[0][2] == 2


def test_d_04_what_is_no_task_is_refused(start):
    with pytest.raises(TypeError):
        start().queueTask("no task")


def test_every_callable_runs(start):
    made = Callable(request=3)
    found = results(start(), functools.partial(give, 4), made, made.method, "abc".upper, lambda: 8)
    assert found == [4, 3, "method", "ABC", 8]


def test_d_05_what_is_not_callable_is_refused_at_submission(start):
    assert not start().createAndQueueTask(5)["OK"]
    assert not start().createAndQueueTask(None)["OK"]


def test_d_05_a_class_makes_an_object_that_is_called(start):
    pool, told = start(), Told()
    options = {"kwargs": {"request": "ab", "factor": 2}, "callback": told.result}
    assert pool.createAndQueueTask(Callable, **options)["OK"]
    queue(pool, NotCallable, exceptionCallback=told.error)
    pool.processAllResults(PATIENCE)
    assert [(name, value) for name, _, value in told.calls if name == "result"] == [
        ("result", "abab")
    ]
    error = next(value for name, _, value in told.calls if name == "error")
    assert "__call__ operator not defined in NotCallable class" in error["Value"]


def test_falsy_results_are_results(start):
    values = [0, None, False, "", [], {}, 0.0]
    assert results(start(), *[functools.partial(give, value) for value in values]) == values


def test_task_callbacks_come_before_pool_callbacks(start):
    told = Told()
    pool = start(2, 2, poolCallback=told.pool_result, poolExceptionCallback=told.pool_error)
    options = {"callback": told.result, "exceptionCallback": told.error, "usePoolCallbacks": True}
    queue(pool, give, 5, taskID=11, **options)
    pool.processAllResults(PATIENCE)
    queue(pool, fail, taskID=12, **options)
    pool.processAllResults(PATIENCE)
    names = [name for name, _, _ in told.calls]
    assert names == ["result", "pool_result", "error", "pool_error"]
    assert [told.calls[n][1] for n in (1, 3)] == [11, 12]
    assert isinstance(told.calls[0][1], ProcessTask)
    assert told.calls[0][2] == told.calls[1][2] == 5


def test_d_08_what_an_exception_is_told_as(start):
    pool, told = start(), Told()
    queue(pool, fail, exceptionCallback=told.error)
    queue(pool, fail, callback=told.result)
    pool.processAllResults(PATIENCE)
    ((_, task, error),) = told.calls
    assert error["OK"] is False
    assert error["Message"] == "Exception"
    assert error["Value"] == "it fails"
    assert type(error["Exc_info"]) is ValueError
    assert task.exceptionRaised() and task.taskException() is error


def test_d_09_no_result_callback_after_an_exception(start):
    told = Told()
    pool = start(poolCallback=told.pool_result)
    queue(pool, fail, callback=told.result, usePoolCallbacks=True)
    pool.processAllResults(PATIENCE)
    assert told.calls == []


def test_d_10_a_callback_that_raises_is_logged(start, caplog):
    def bad(task, value):
        raise RuntimeError("the callback fails")

    pool, told = start(), Told()
    queue(pool, give, 1, callback=bad)
    queue(pool, give, 2, callback=told.result)
    pool.processAllResults(PATIENCE)
    assert [value for _, _, value in told.calls] == [2]
    assert "the callback fails" in caplog.text


@pytest.mark.parametrize("given, kept", [(0, 0), (2, 2), (0.5, 0.5), ("3.5", 3.5), (-1, 0)])
def test_d_11_a_limit_may_be_a_fraction(given, kept):
    task = ProcessTask(give, timeOut=given)
    assert task.getTimeOut() == kept
    assert task.hasTimeOutSet() == bool(kept)


def test_d_11_a_limit_that_is_no_number_is_refused():
    task = ProcessTask(give)
    assert not task.setTimeOut("soon")["OK"]
    assert task.getTimeOut() == 0


def test_d_12_a_full_queue_is_told(start):
    pool = start(1, 1, 2)
    for _ in range(3):
        queue(pool, wait)
    full = pool.createAndQueueTask(wait, blocking=False)
    assert not full["OK"] and full["Message"] == "Queue is full"
    assert pool.isFull() and pool.hasPendingTasks() and pool.isWorking()
    gate.set()
    pool.processAllResults(PATIENCE)
    assert not pool.isFull() and not pool.hasPendingTasks() and not pool.isWorking()


def test_d_13_a_blocked_submission_blocks_nobody_else(start):
    pool, told = start(1, 1, 1), Told()
    queue(pool, wait, callback=told.first)
    queue(pool, wait, callback=told.second)
    thread = threading.Thread(target=queue, args=(pool, give, 3), kwargs={"callback": told.third})
    thread.start()
    assert pool.getNumWorkingProcesses() == 1
    assert pool.getFreeSlots() == 0
    assert pool.processResults() == 0
    gate.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    pool.processAllResults(PATIENCE)
    assert [name for name, _, _ in told.calls] == ["first", "second", "third"]


def test_d_15_a_dead_worker_costs_its_task_only(start):
    pool, told = start(), Told()
    queue(pool, die, exceptionCallback=told.error)
    queue(pool, give, 2, callback=told.result)
    pool.processAllResults(PATIENCE)
    found = {name: value for name, _, value in told.calls}
    assert found["result"] == 2
    assert isinstance(found["error"]["Exc_info"], WorkerLost)


def test_d_16_process_results_counts(start):
    pool, told = start(), Told()
    assert pool.processResults() == 0
    for number in range(5):
        queue(pool, give, number, callback=told.result)
    queue(pool, give, 9)
    assert pool._core.wait(pool._core.is_idle, PATIENCE)
    assert pool.processResults() == 5
    assert pool.processResults() == 0
    here = threading.current_thread()
    queue(pool, give, 1, callback=lambda *_: told.thread(threading.current_thread(), 0))
    pool.processAllResults(PATIENCE)
    assert told.calls[-1][1] is here


def test_d_16_results_are_not_processed_twice_at_a_time(start):
    pool, told = start(), Told()
    queue(pool, give, 1, callback=lambda *_: told.inner(pool.processResults(), 0))
    pool.processAllResults(PATIENCE)
    assert told.calls == [("inner", 0, 0)]


def test_daemon_mode_calls_callbacks_in_one_other_thread(start):
    pool, told = start(), Told()
    pool.daemonize()
    pool.daemonize()
    for number in range(20):
        queue(pool, give, number, callback=lambda *_: told.thread(threading.get_ident(), 0))
    told.wait(20)
    assert len({thread for _, thread, _ in told.calls}) == 1
    assert told.calls[0][1] != threading.get_ident()


def test_d_16_a_callback_may_queue_more(start):
    pool, told = start(1, 1, 1), Told()
    pool.daemonize()

    def again(task, number):
        told.result(task, number)
        if number < 20:
            queue(pool, give, number + 1, callback=again)

    queue(pool, give, 0, callback=again)
    assert [value for _, _, value in told.wait(21)] == list(range(21))


def test_finalize_is_quick(start):
    pool = start()
    queue(pool, give, 1)
    pool.processAllResults(PATIENCE)
    began = time.monotonic()
    pool.finalize(2)
    assert time.monotonic() - began < 2


def test_finalize_waits_for_tasks_and_calls_their_callbacks(start):
    pool, told = start(2, 2, 100), Told()
    for number in range(50):
        queue(pool, give, number, callback=told.result)
    pool.finalize(PATIENCE)
    assert sorted(value for _, _, value in told.calls) == list(range(50))
    assert not pool.createAndQueueTask(give, [1])["OK"]


def test_d_17_what_has_not_ended_in_time_is_stopped_and_told(start):
    pool, told = start(1, 1), Told()
    pool.daemonize()
    queue(pool, wait, exceptionCallback=told.error)
    pool.finalize(0)
    ((_, _, error),) = told.calls
    assert error["Message"] == "Exception"


def test_d_18_a_pool_may_start_again(start):
    pool, told = start(), Told()
    queue(pool, give, 1, callback=told.first)
    pool.finalize(PATIENCE)
    pool.startProcessing()
    queue(pool, give, 2, callback=told.second)
    assert [name for name, _, _ in told.wait(2)] == ["first", "second"]
    pool.stopProcessing(PATIENCE)


def test_d_19_free_slots_are_workers_without_tasks(start):
    pool = start(1, 3, 5)
    assert pool.getFreeSlots() == 3
    for free in (2, 1, 0, 0):
        queue(pool, wait)
        assert pool.getFreeSlots() == free
        assert pool.getNumWorkingProcesses() == 3 - free


def test_d_20_callbacks_need_not_be_picklable(start):
    pool, lock = start(), threading.Lock()
    found = []

    def note(task, value):
        with lock:
            found.append(value)

    queue(pool, give, 1, callback=note)
    pool.processAllResults(PATIENCE)
    assert found == [1]


def test_what_cannot_be_pickled_is_told_at_submission(start):
    made = start().createAndQueueTask(give, [threading.Lock()])
    assert not made["OK"]
    assert "cannot be given to a worker" in made["Message"]


def test_older_programs_pass_arguments_by_position(start):
    told = Told()
    pool = start(1, 1, poolCallback=told.pool_result)
    assert pool.createAndQueueTask(give, [7], None, 3, usePoolCallbacks=True)["OK"]
    pool.processAllResults(PATIENCE)
    assert told.calls == [("pool_result", 3, 7)]


def test_the_pools_callbacks_can_be_set_and_switched(start):
    pool, told = start(), Told()
    pool.setPoolCallback(told.pool_result)
    pool.setPoolExceptionCallback(told.pool_error)
    pool.setPoolCallback("nothing that can be called")
    pool.queueTask(ProcessTask(give, [1], taskID=1), usePoolCallbacks=True)
    silent = ProcessTask(give, [2], taskID=2, usePoolCallbacks=True)
    silent.disablePoolCallbacks()
    assert not silent.hasCallback()
    pool.queueTask(silent)
    pool.queueTask(ProcessTask(fail, taskID=3), usePoolCallbacks=True)
    pool.processAllResults(PATIENCE)
    assert sorted((name, first) for name, first, _ in told.calls) == [
        ("pool_error", 3),
        ("pool_result", 1),
    ]


def test_a_task_can_be_executed_here():
    told = Told()
    task = ProcessTask(Callable, kwargs={"request": 4}, callback=told.result)
    task.process()
    task.doCallback()
    task.doExceptionCallback()
    assert told.calls == [("result", task, 4)]
    assert task.taskResults() == 4


def test_a_timeout_is_told_as_a_result_with_an_error_number(start):
    from drpipe.pool.core import Ending, Outcome

    task = ProcessTask(give, taskID=5, timeOut=1)
    task._settle(Ending(Outcome.TIMED_OUT, texts=("it took longer",)))
    result = task.taskResults()
    assert not task.exceptionRaised()
    assert result["OK"] is False and result["Errno"] == errno.ETIME == 62
    assert "Timed out" in result["Message"]


def test_install_takes_the_place_of_diracs_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "DIRAC.Core.Utilities.ProcessPool", None)
    dirac.install()
    assert sys.modules["DIRAC.Core.Utilities.ProcessPool"] is dirac
    assert dirac.FAST_PROCESS_POOL is True
