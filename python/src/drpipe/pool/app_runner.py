"""`AppRunner` as pydidas has it: runs an app of pydidas in worker processes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, List, Optional

from .controller import WorkerController
from .ending import Ending
from .settings import Settings
from .worker import tell

#: How long a worker waits before it asks its app again, in seconds.
_PAUSE = 0.005
#: The app of this worker.
_app: List[Any] = []
#: How many tasks of an app without tasks each worker has waiting.
_AHEAD = 2
#: The task of an app without tasks.
_NO_TASK = -1


class AppRunner(WorkerController):
    """Runs an app: the methods `multiprocessing_...` of a clone of it, in this process and in
    the workers.

    Besides the signals of the controller there are `sig_final_app_state(app)`, with a copy of the
    app that has all results, and then `sig_post_run_called()`; `finished` comes last.
    """

    def __init__(
        self, app: Any, n_workers: Optional[int] = None, use_app_tasks: bool = True, **options: Any
    ) -> None:
        """Prepares the app, unless that was done, and clones it.

        Args:
            app: the app.
            n_workers: the number of worker processes.
            use_app_tasks: whether the app has tasks. Else it is called until it is stopped.
            options: the options of the controller.

        Raises:
            TypeError: if it is no app.
        """
        super().__init__(n_workers, **options)
        if not hasattr(app, "multiprocessing_func"):
            raise TypeError("Application is not an instance of BaseApp.")
        if not app._config["run_prepared"]:
            app.multiprocessing_pre_run()
        self.sig_results.connect(app.multiprocessing_store_results)
        self.sig_post_run_called.connect(app.multiprocessing_post_run)
        self.__app = app.copy(clone_mode=True)
        self._uses_tasks = use_app_tasks

    def call_app_method(self, method_name: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of the runner's copy of the app.

        Raises:
            RuntimeError: while the app runs.
            KeyError: if there is no such method.
        """
        if self.isRunning():
            raise RuntimeError(
                "Cannot call Application methods while the Application is running. "
                "Please call .stop() on the AppRunner first."
            )
        if not hasattr(self.__app, method_name):
            raise KeyError(f"The App does not have a method with name '{method_name}'.")
        return getattr(self.__app, method_name)(*args, **kwargs)

    def set_app_param(self, param_name: str, value: Any) -> None:
        """Sets a parameter of the runner's copy of the app."""
        self.__app.set_param_value(param_name, value)

    def get_app(self) -> Any:
        """Returns a copy of the runner's copy of the app."""
        return self.__app.copy()

    def _settings(self) -> Settings:
        app = self.__app
        parts = (type(app), app.params.copy(), app.get_config(), app.mp_manager)
        return replace(super()._settings(), initializer=_prepare, initargs=parts)

    def _pre_run(self) -> None:
        self.__app.multiprocessing_pre_run()
        if self._uses_tasks:
            self.change_function(_work)
            self.add_tasks(self.__app.multiprocessing_get_tasks())
            self.finalize_tasks()
        else:
            self.change_function(_work_without_task)
            self.add_tasks([_NO_TASK] * self.n_workers * _AHEAD)

    def _ended(self, task: Any, ending: Ending) -> None:
        super()._ended(task, ending)
        if not self._uses_tasks and not self.isInterruptionRequested():
            self.add_task(_NO_TASK)

    def _has_result(self, task: Any, result: Any) -> None:
        if not self._uses_tasks:
            task, result = result
        super()._has_result(task, result)
        number = task[1] if self._has_ids and self._uses_tasks else task
        try:
            self.__app.multiprocessing_store_results(number, result)
        except BaseException as error:
            self.failures.append((task, error))

    def _post_run(self) -> None:
        self.__app.multiprocessing_post_run()
        self._emit(self.sig_final_app_state, self.__app.copy())
        self._emit(self.sig_post_run_called)


def _prepare(made: Any, params: Any, config: Any, manager: Any) -> None:
    """Makes the app of a worker."""
    app = made(params, clone_mode=True)
    app._config = config
    if manager:
        app.mp_manager = manager
    app.multiprocessing_pre_run()
    _app[:] = [app]


def _work(task: Any) -> Any:
    """Has the app of this worker do a task."""
    app = _app[0]
    app.multiprocessing_pre_cycle(task)
    while not app.multiprocessing_carryon():
        time.sleep(_PAUSE)
    result = app.multiprocessing_func(task)
    signal = app.must_send_signal_and_wait_for_response()
    if signal is not None:
        tell(signal)
        while not app.signal_processed_and_can_continue():
            time.sleep(_PAUSE)
        if result is None:
            result = app.get_latest_results()
    return result


def _work_without_task(task: Any) -> Any:
    """Has the app of this worker do something. Returns an index and a result."""
    app = _app[0]
    app.multiprocessing_pre_cycle(task)
    while not app.multiprocessing_carryon():
        time.sleep(_PAUSE)
        app.multiprocessing_pre_cycle(task)
    return app.multiprocessing_func(task)
