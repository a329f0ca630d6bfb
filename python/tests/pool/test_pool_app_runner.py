"""`AppRunner` as pydidas' programs use it."""

import multiprocessing
import types

import pytest

from drpipe.pool import controller as controllers
from drpipe.pool.app_runner import AppRunner
from pool_link import PATIENCE, RUNS, Spy, use

context = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True, params=RUNS)
def kind(request, monkeypatch):
    use(request.param, monkeypatch)
    # Forks share the queue of answers.
    monkeypatch.setattr(controllers, "_context", lambda: context)
    monkeypatch.setattr(EndlessApp, "count", 0)


class App:
    """An app of pydidas, as far as the runner knows one. It notes what is called."""

    def __init__(self, params=None, clone_mode=False):
        self.params = dict(params or {"n": 4})
        self._config = {"run_prepared": False, "shared": 3}
        self.clone_mode = clone_mode
        self.mp_manager = {}
        self.calls = []
        self.stored = {}
        self.carryon = 0

    def copy(self, clone_mode=False):
        made = type(self)(self.params, clone_mode)
        made._config = dict(self._config)
        made.stored = dict(self.stored)
        made.mp_manager = self.mp_manager
        return made

    def get_config(self):
        return self._config

    def set_param_value(self, name, value):
        self.params[name] = value

    def multiprocessing_pre_run(self):
        self.calls.append("pre_run")
        self._config["run_prepared"] = True

    def multiprocessing_get_tasks(self):
        self.calls.append("get_tasks")
        return range(self.params["n"])

    def multiprocessing_pre_cycle(self, task):
        self.cycle = task

    def multiprocessing_carryon(self):
        self.carryon += 1
        return self.carryon % 3 == 0

    def multiprocessing_func(self, task):
        assert self.cycle == task and self.clone_mode
        return task * self._config["shared"]

    def must_send_signal_and_wait_for_response(self):
        return None

    def multiprocessing_store_results(self, task, result):
        self.stored[task] = result

    def multiprocessing_post_run(self):
        self.calls.append("post_run")


def test_p_19_hooks_in_order():
    app = App()
    runner = AppRunner(app, n_workers=1)
    clone = runner._AppRunner__app
    assert app.calls == ["pre_run"] and clone.calls == [] and clone.clone_mode
    spy = Spy(runner, "sig_results", "sig_final_app_state", "sig_post_run_called", "finished")
    runner.start()
    spy.wait("finished")
    assert clone.calls == ["pre_run", "get_tasks", "post_run"]
    assert app.calls == ["pre_run", "post_run"]
    assert spy.of("sig_results") == [[n, 3 * n] for n in range(4)]


def test_p_19_an_app_that_is_prepared_is_not_prepared_again():
    app = App()
    app._config["run_prepared"] = True
    AppRunner(app, n_workers=1)
    assert app.calls == []


def test_p_20_results_are_stored_on_both():
    app = App()
    runner = AppRunner(app, n_workers=1)
    spy = Spy(runner, "finished")
    runner.start()
    spy.wait("finished")
    assert app.stored == runner._AppRunner__app.stored == {n: 3 * n for n in range(4)}


def test_p_21_the_final_state_has_every_result():
    runner = AppRunner(App({"n": 40}), n_workers=1)
    spy = Spy(runner, "sig_results", "sig_final_app_state", "sig_post_run_called", "finished")
    runner.start()
    spy.wait("finished")
    assert [name for name, *_ in spy.told[-3:]] == [
        "sig_final_app_state",
        "sig_post_run_called",
        "finished",
    ]
    ((final,),) = spy.of("sig_final_app_state")
    assert final is not runner._AppRunner__app
    assert final.stored == {n: 3 * n for n in range(40)}


class FailingApp(App):
    def multiprocessing_func(self, task):
        if task == 2:
            raise ValueError("two")
        return super().multiprocessing_func(task)


def test_p_22_a_failing_task_does_not_hold_the_end():
    runner = AppRunner(FailingApp(), n_workers=1)
    spy = Spy(runner, "sig_final_app_state", "finished")
    runner.start()
    spy.wait("finished")
    assert [task for task, _ in runner.failures] == [2]
    ((final,),) = spy.of("sig_final_app_state")
    assert sorted(final.stored) == [0, 1, 3]


class EndlessApp(App):
    count = 0

    def multiprocessing_func(self, task):
        assert task == -1
        EndlessApp.count += 1
        return EndlessApp.count, "seen"


def test_p_23_an_app_without_tasks_runs_until_it_is_stopped():
    runner = AppRunner(EndlessApp(), n_workers=1, use_app_tasks=False)
    spy = Spy(runner, "sig_results", "finished")
    runner.start()
    found = spy.wait("sig_results", 10)
    assert [index for index, _ in found[:10]] == list(range(1, 11))
    runner.stop()
    spy.wait("finished")


def test_p_24_methods_of_the_app():
    runner = AppRunner(App(), n_workers=1)
    runner.set_app_param("n", 7)
    assert list(runner.call_app_method("multiprocessing_get_tasks")) == list(range(7))
    with pytest.raises(KeyError):
        runner.call_app_method("no_method")
    copy = runner.get_app()
    assert copy is not runner._AppRunner__app and copy.params == {"n": 7}
    runner.sig_results.connect(lambda *_: refused.append(raises(runner)))
    refused = []
    spy = Spy(runner, "finished")
    runner.start()
    spy.wait("finished")
    assert refused == [True] * 7


def raises(runner):
    try:
        runner.call_app_method("get_config")
    except RuntimeError:
        return True
    return False


class AskingApp(App):
    answers = context.Queue()

    def must_send_signal_and_wait_for_response(self):
        return f"may I go on after {self.cycle}?"

    def signal_processed_and_can_continue(self):
        assert self.answers.get(timeout=PATIENCE) == self.cycle
        return True

    def multiprocessing_func(self, task):
        return None

    def get_latest_results(self):
        return f"latest of {self.cycle}"


def test_the_worker_may_wait_for_its_callers_answer():
    runner = AppRunner(AskingApp(), n_workers=1)
    spy = Spy(runner, "sig_results", "finished")
    asked = []

    def answer(text):
        asked.append(text)
        AskingApp.answers.put(int(text.split()[-1].rstrip("?")))

    runner.sig_message_from_worker.connect(answer)
    runner.start()
    spy.wait("finished")
    assert asked == [f"may I go on after {n}?" for n in range(4)]
    assert spy.of("sig_results") == [[n, f"latest of {n}"] for n in range(4)]


def test_what_is_no_app_is_refused():
    with pytest.raises(TypeError):
        AppRunner(types.SimpleNamespace(), n_workers=1)
