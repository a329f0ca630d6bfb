"""`WorkerController` as pydidas' programs use them."""

import multiprocessing
import sys
import threading

import numpy as np
import pytest

from drpipe.pool import controller as controllers
from drpipe.pool import run
from drpipe.pool.controller import WorkerController
from drpipe.pool.errors import WorkerLost
from pool_link import RUNS, Gate, Spy, die, until, use

PATIENCE = 20.0
context = multiprocessing.get_context("fork")
#: What tasks wait for, and what shows that one has begun.
gate, begun = Gate(), Gate()


@pytest.fixture(autouse=True, params=RUNS)
def kind(request, monkeypatch):
    use(request.param, monkeypatch)
    # Forks share the gates.
    monkeypatch.setattr(controllers, "_context", lambda: context)
    gate.clear()
    begun.clear()


@pytest.fixture
def start():
    """Returns a function that makes a controller with a function."""
    made = []

    def start(function, *args, workers=2, **options):
        controller = WorkerController(workers, function, args, **options)
        made.append(controller)
        return controller

    yield start
    gate.set()
    for controller in made:
        controller.exit()
        assert controller.wait(1000 * PATIENCE)


def scaled(task, slope, offset=0):
    return task * slope + offset


def same(task):
    return task


def wait(task):
    begun.set()
    assert gate.wait(PATIENCE)
    return task


def odd_fails(task):
    if task % 2:
        raise ValueError(f"{task} is odd")
    return task


def die_at_3(task):
    if task == 3:
        die()
    return task


def do_all(controller, spy, tasks):
    """Has a controller that has not started do these tasks, and waits for its end."""
    controller.add_tasks(tasks)
    controller.finalize_tasks()
    controller.start()
    spy.wait("finished")


@pytest.mark.parametrize(
    "options, error",
    [
        ({"timeout": -1}, ValueError),
        ({"timeout": "5"}, TypeError),
        ({"retries": -1}, ValueError),
        ({"workers": 1001}, ValueError),
    ],
)
def test_limits_are_checked_where_they_are_given(start, options, error):
    with pytest.raises(error, match="must be"):
        start(same, **options)


def test_a_slot_that_exits_silences_nobody(start):
    controller = start(same)
    controller.sig_results.connect(lambda *_: sys.exit(3))
    spy = Spy(controller)
    do_all(controller, spy, range(5))
    assert len(spy.of("sig_progress")) == 5
    assert controller.progress == 1


def test_a_number_of_workers_that_is_set_while_the_run_begins_holds(start, monkeypatch):
    controller, begin, threads = start(same, workers=1), run.begin, []

    def set_workers(is_about_to):
        is_about_to.set()
        controller.n_workers = 3

    def begin_late(*arguments, **options):
        is_about_to = threading.Event()
        threads.append(threading.Thread(target=set_workers, args=(is_about_to,)))
        threads[0].start()
        assert is_about_to.wait(PATIENCE)
        return begin(*arguments, **options)

    monkeypatch.setattr(run, "begin", begin_late)
    spy = Spy(controller)
    controller.start()
    spy.wait("started")
    until(lambda: threads and not threads[0].is_alive())
    until(lambda: controller._run is not None and controller._run.workers() == 3)


def test_the_first_program_of_the_documentation(start):
    controller = WorkerController()
    controller.change_function(scaled, 2, 5)
    spy = Spy(controller)
    do_all(controller, spy, np.arange(10))
    assert controller.progress == 1
    assert sorted(map(tuple, spy.of("sig_results"))) == [(n, 2 * n + 5) for n in range(10)]
    assert controller.wait(1000 * PATIENCE)
    assert not controller.is_alive()


def test_the_second_program_of_the_documentation(start):
    controller = start(scaled, 2, 5)
    spy = Spy(controller)
    controller.add_tasks(np.arange(10))
    controller.start()
    spy.wait("sig_progress", 10)
    assert controller.isRunning() and controller.progress == 1
    controller.add_tasks(np.arange(10, 20))
    spy.wait("sig_progress", 20)
    assert controller.progress == 1
    controller.suspend()
    controller.change_function(scaled, -1, 0)
    controller.add_tasks(np.arange(20, 30))
    assert controller.progress == 0
    controller.restart()
    spy.wait("sig_progress", 30)
    assert controller.progress == 1
    found = dict(spy.of("sig_results"))
    assert found == {n: -n if n >= 20 else 2 * n + 5 for n in range(30)}
    assert controller.isRunning()


def test_results_come_before_progress(start):
    controller = start(same)
    spy = Spy(controller)
    threads = []
    controller.sig_results.connect(lambda *_: threads.append(threading.get_ident()))
    controller.sig_progress.connect(lambda _: threads.append(threading.get_ident()))
    do_all(controller, spy, range(50))
    names = [name for name, *_ in spy.told]
    assert names == ["started", *["sig_results", "sig_progress"] * 50, "finished"]
    assert len(set(threads)) == 1


def test_progress_reaches_one_once(start):
    controller = start(same)
    spy = Spy(controller)
    assert controller.progress == -1
    controller.add_task(0)
    assert controller.progress == 0
    controller.start()
    spy.wait("sig_progress")
    controller.add_task(1)
    assert controller.progress == 0.5
    spy.wait("sig_progress", 2)
    controller.add_tasks(range(8))
    controller.finalize_tasks()
    spy.wait("finished")
    steps = [step for (step,) in spy.of("sig_progress")]
    assert steps[0] == 1 and steps[1] == 1 and steps[-1] == 1
    assert max(steps) == 1
    assert steps[2:].count(1) == 1


def test_p_03_task_numbers(start):
    controller = start(same, task_ids=True)
    spy = Spy(controller)
    do_all(controller, spy, "aba")
    assert sorted(spy.of("sig_results")) == [[(0, "a"), "a"], [(1, "b"), "b"], [(2, "a"), "a"]]


def test_tasks_can_be_added_while_it_runs(start):
    controller = start(same)
    spy = Spy(controller)
    controller.start()
    for number in range(20):
        controller.add_task(number)
        spy.wait("sig_results", number + 1)
    assert controller.isRunning()
    controller.finalize_tasks()
    spy.wait("finished")


def test_finished_comes_once_and_last(start):
    controller = start(same)
    spy = Spy(controller)
    controller.add_tasks(range(20))
    controller.finalize_tasks()
    controller.start()
    assert controller.wait(1000 * PATIENCE)
    assert spy.told[-1] == ("finished",)
    assert len(spy.of("finished")) == 1 and len(spy.of("sig_results")) == 20
    assert controller.isFinished()


def test_a_raising_task_costs_itself_only(start):
    controller = start(odd_fails)
    spy = Spy(controller)
    do_all(controller, spy, range(12))
    assert sorted(result for _, result in spy.of("sig_results")) == [0, 2, 4, 6, 8, 10]
    assert sorted(task for task, _ in spy.of("sig_failed")) == [1, 3, 5, 7, 9, 11]
    assert sorted(task for task, _ in controller.failures) == [1, 3, 5, 7, 9, 11]
    assert all(type(error) is ValueError for _, error in controller.failures)
    assert controller.progress == 1


def test_a_killed_worker_costs_its_task_only(start):
    controller = start(die_at_3)
    spy = Spy(controller)
    do_all(controller, spy, range(6))
    assert sorted(result for _, result in spy.of("sig_results")) == [0, 1, 2, 4, 5]
    ((task, error),) = controller.failures
    assert task == 3 and isinstance(error, WorkerLost)


def test_suspend_never_deadlocks(start):
    controller = start(same)
    spy = Spy(controller)
    controller.start()
    for _ in range(10):
        controller.add_tasks(range(100))
        controller.suspend()
        controller.restart()
    spy.wait("sig_results", 1000)


def test_p_08_nothing_begins_while_it_is_suspended(start):
    controller = start(same)
    spy = Spy(controller)
    controller.start()
    controller.add_task(1)
    spy.wait("sig_progress")
    controller.suspend()
    controller.add_task(2)
    assert not controller._run.is_busy()
    assert len(spy.of("sig_results")) == 1
    controller.restart()
    spy.wait("sig_results", 2)


def test_p_08_results_come_while_it_is_suspended(start):
    controller = start(wait, workers=1)
    spy = Spy(controller)
    controller.start()
    controller.add_task(1)
    assert begun.wait(PATIENCE)
    controller._run.pause()
    gate.set()
    spy.wait("sig_results")


def test_p_09_restart_counts_anew_what_is_left(start):
    controller = start(same)
    spy = Spy(controller)
    controller.add_tasks(range(20))
    controller.start()
    spy.wait("sig_results", 3)
    controller.suspend()
    controller.add_tasks(range(20, 40))
    controller.restart()
    controller.finalize_tasks()
    spy.wait("finished")
    assert sorted(result for _, result in spy.of("sig_results")) == [*range(40)]
    steps = [step for (step,) in spy.of("sig_progress")]
    anew = next(at for at in range(1, 40) if steps[at] < steps[at - 1])
    left = 40 - anew
    assert steps[anew:] == [done / left for done in range(1, left + 1)]


def test_change_function_applies_to_later_tasks(start):
    controller = start(wait, workers=1)
    spy = Spy(controller)
    controller.start()
    controller.add_tasks(["in hand", "not begun", "nor this"])
    assert begun.wait(PATIENCE)
    controller.change_function(scaled, 3)
    assert sorted(controller.dropped) == ["nor this", "not begun"]
    controller.add_tasks([1, 2])
    controller.finalize_tasks()
    gate.set()
    spy.wait("finished")
    assert [tuple(found) for found in spy.of("sig_results")] == [
        ("in hand", "in hand"),
        (1, 3),
        (2, 6),
    ]
    assert controller.progress == 1


def test_p_11_keyword_arguments_keep_their_names():
    controller = WorkerController(1, scaled, (2,), {"offset": 7})
    spy = Spy(controller)
    controller.add_task(10)
    controller.finalize_tasks()
    controller.start()
    spy.wait("finished")
    assert spy.of("sig_results") == [[10, 27]]


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "2", None])
def test_p_12_a_wrong_number_of_workers_is_refused(start, number):
    controller = start(same)
    with pytest.raises(ValueError):
        controller.n_workers = number
    assert controller.n_workers == 2


def test_p_12_the_number_of_workers_takes_effect_at_once(start):
    controller = start(same)
    spy = Spy(controller)
    controller.start()
    controller.add_task(1)
    spy.wait("sig_results")
    controller.n_workers = 3
    until(lambda: controller._run.workers() == 3)


def test_falsy_tasks_and_results_pass(start):
    controller = start(same)
    spy = Spy(controller)
    values = [None, 0, "", False, [], np.zeros(3)]
    do_all(controller, spy, values)
    found = [repr(result) for _, result in spy.of("sig_results")]
    assert sorted(found) == sorted(map(repr, values))


def test_p_14_the_stop_signal_drops_the_rest(start):
    controller = start(wait, workers=1)
    spy = Spy(controller)
    controller.add_tasks(range(5))
    controller.start()
    assert begun.wait(PATIENCE)
    controller.send_stop_signal()
    assert sorted(controller.dropped) == [1, 2, 3, 4]
    gate.set()
    spy.wait("sig_results")
    assert controller.progress == 0.2
    assert controller.isRunning()


@pytest.mark.parametrize("stop", ["stop", "requestInterruption", "exit", "quit"])
def test_p_15_stop_ends_after_what_is_in_workers(start, stop):
    controller = start(wait, workers=1)
    spy = Spy(controller)
    controller.add_tasks(range(5))
    controller.start()
    assert begun.wait(PATIENCE)
    threading.Timer(0.05, gate.set).start()
    getattr(controller, stop)()
    spy.wait("finished")
    assert spy.of("sig_results") == [[0, 0]]
    assert spy.told[-1] == ("finished",)
    assert sorted(controller.dropped) == [1, 2, 3, 4]


def test_p_15_a_controller_that_was_stopped_before_its_start_ends(start):
    controller = start(same)
    controller.add_tasks(range(3))
    controller.stop()
    spy = Spy(controller)
    controller.start()
    spy.wait("finished")
    assert spy.of("sig_results") == []


def test_p_16_a_result_that_cannot_be_pickled_fails(start):
    controller = start(generator)
    spy = Spy(controller)
    do_all(controller, spy, [1])
    assert "pickle" in str(controller.failures[0][1])


def generator(task):
    return (n for n in range(task))


def test_p_18_many_tasks_go_by_window(start):
    controller = start(same)
    spy = Spy(controller)
    controller.add_tasks(range(5000))
    controller.finalize_tasks()
    controller.start()
    run = None
    spy.wait("started")
    spy.wait("sig_results")
    run = controller._run or run
    spy.wait("finished")
    assert len(spy.of("sig_results")) == 5000
    assert getattr(run, "most", 0) <= controller._settings().window


def test_a_controller_starts_again(start):
    controller = start(same)
    for _ in range(2):
        spy = Spy(controller, "sig_results", "finished")
        do_all(controller, spy, range(3))
        assert controller.wait(1000 * PATIENCE)
        assert len(spy.of("sig_results")) == 3


def test_a_task_that_cannot_be_pickled_fails_alone(start):
    controller = start(same)
    spy = Spy(controller)
    do_all(controller, spy, [1, threading.Lock(), 3])
    assert sorted(result for _, result in spy.of("sig_results")) == [1, 3]
    assert len(controller.failures) == 1
