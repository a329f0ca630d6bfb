"""`WorkerController` as pydidas has it: a thread that has one function called for many tasks."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import threading
from collections import deque
from functools import partial
from numbers import Integral
from time import monotonic
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Tuple

from ..driving import program
from . import run
from .core import Closed, Core, Task
from .ending import Ending, Outcome
from .future import result_of
from .payload import Calls
from .plan import has_main
from .settings import MOST_WORKERS, Settings, checked_limit, checked_retries, processors
from .signals import Signals

_log = logging.getLogger("drpipe.pool")
#: How long `suspend` and `stop` wait for the tasks in workers, in seconds.
_PATIENCE = 2.0
#: How long one look at the workers is worth, in seconds.
_LOOK = 0.002
#: How many bytes of results the slots have had before the run is told so.
_HAD = 1 << 20

Function = Callable[..., Any]
#: What the controller's thread is to do next.
_Event = Callable[[], None]


class WorkerController(Signals):  # type: ignore[misc]
    """Has a function called in worker processes for each of many tasks.

    All signals come from one thread, in this order: for each task `sig_results(task, result)` or
    `sig_failed(task, error)`, then `sig_progress(float)`; at the end `finished`.

    Example:
        >>> controller = WorkerController(2, pow, (2,))  # doctest: +SKIP
        >>> controller.sig_results.connect(print)  # doctest: +SKIP
        >>> controller.add_tasks(range(10))  # doctest: +SKIP
        >>> controller.finalize_tasks()  # doctest: +SKIP
        >>> controller.start()  # doctest: +SKIP
    """

    def __init__(
        self,
        n_workers: Optional[int] = None,
        function: Optional[Function] = None,
        func_args: Tuple[Any, ...] = (),
        func_kwargs: Optional[Dict[str, Any]] = None,
        *,
        retries: int = 0,
        timeout: Optional[float] = None,
        task_ids: bool = False,
    ) -> None:
        """Creates a controller. `start` starts its workers.

        Args:
            n_workers: the number of worker processes.
            function: called for each task, which is its first argument.
            func_args: its further arguments.
            func_kwargs: its keyword arguments.
            retries: how often a task that fails is tried again.
            timeout: the time limit of a task, in seconds.
            task_ids: whether signals carry a task as a pair of its number and its value. Numbers
                count the tasks from 0, in the order in which they were added.

        Raises:
            ProgramNotFound: if there is no drpipe program.
            TypeError: if `retries` or `timeout` is no number.
            ValueError: if an argument is out of range.
        """
        super().__init__()
        program.find()
        self._n_workers = _checked(_default_workers() if n_workers is None else n_workers)
        self._retries = checked_retries("retries", retries)
        self._timeout = checked_limit("timeout", timeout)
        self._has_ids = task_ids
        self._function: Optional[Function] = function
        self._args, self._kwargs = tuple(func_args), dict(func_kwargs or {})
        #: What raised, with its task, in the order of completion.
        self.failures: List[Tuple[Any, BaseException]] = []
        #: The tasks that were taken back before a worker had them.
        self.dropped: List[Any] = []
        self._lock = threading.RLock()
        #: The tasks that the pool does not have, with their numbers: before `start`, and those
        #: that have no function yet.
        self._unsent: Deque[Tuple[int, Any]] = deque()
        self._added = 0
        #: How many tasks have not ended; and the two numbers whose quotient is the progress.
        self._open = self._progress_done = self._progress_target = 0
        #: How many bytes of results the slots have had, of which the run does not know.
        self._had = 0
        self._events: Deque[_Event] = deque()
        self._has_events = threading.Condition()
        self._calls = Calls()
        self._core: Optional[Core] = None
        self._run: Optional[Any] = None
        self._thread: Optional[threading.Thread] = None
        self._is_suspended = self._is_final = self._is_interrupted = False
        #: Whether it was told to restart and has not started since.
        self._must_restart = False
        self._is_over = threading.Event()

    # Tasks and function.

    @property
    def n_workers(self) -> int:
        """The number of worker processes. A new number takes effect at once."""
        return self._n_workers

    @n_workers.setter
    def n_workers(self, number: int) -> None:
        checked = _checked(number)
        # Not while the run begins: it would have the old number.
        with self._lock:
            self._n_workers = checked
            if self._run is not None and self._core is not None:
                self._run.set_workers(checked)
                self._core.set_workers(self._settings())

    @property
    def flags(self) -> Dict[str, bool]:
        """What the controller is doing, by pydidas' names. A copy: writing changes nothing."""
        is_running = self.isRunning() and not self._is_suspended
        return {
            "running": is_running,
            "thread_alive": not self._is_interrupted and not self.isFinished(),
            "active": self._run is not None,
            "stop_after_run": self._is_final,
            "must_restart": self._must_restart,
        }

    @property
    def progress(self) -> float:
        """The part of the tasks that have ended, from 0 to 1; -1 if there are no tasks."""
        with self._lock:
            return self._progress_done / self._progress_target if self._progress_target else -1

    def add_task(self, task: Any) -> None:
        """Adds a task. Any value is one."""
        self.add_tasks([task])

    def add_tasks(self, tasks: Iterable[Any]) -> None:
        """Adds tasks."""
        with self._lock:
            for task in tasks:
                self._unsent.append((self._added, task))
                self._added += 1
                self._open += 1
                self._progress_target += 1
            self._send()

    def finalize_tasks(self) -> None:
        """Says that no task will be added: the controller ends when all have ended."""
        with self._lock:
            self._is_final = True
            if self._core is not None and not self._unsent:
                self._core.close()

    def change_function(self, func: Function, *args: Any, **kwargs: Any) -> None:
        """Has another function called for tasks that are added from now on.

        Takes back the tasks that no worker has. Those in workers end with the old function.
        """
        self._take_back()
        with self._lock:
            self._function, self._args, self._kwargs = func, args, kwargs
            self._count_anew()
            self._send()

    def reset_task_list(self) -> None:
        """Takes back the tasks that no worker has."""
        self._take_back()

    def _take_back(self) -> None:
        with self._lock:
            core = self._core
            self.dropped += [task for _, task in self._unsent]
            self._open -= len(self._unsent)
            self._unsent.clear()
        if core is not None:
            core.cancel_unbegun()
            # Only then is it known what is taken back.
            core.wait(core.has_answers, _PATIENCE)

    def _count_anew(self) -> None:
        """Lets the progress be that of the tasks that have not ended."""
        self._progress_target, self._progress_done = self._open, 0

    def _send(self) -> None:
        """Gives the pool its tasks."""
        if self._core is None or self._function is None:
            return
        while self._unsent:
            number, value = self._unsent.popleft()
            shown = (number, value) if self._has_ids else value
            try:
                payload = self._calls.encode(
                    self._function, (value, *self._args), self._kwargs, self._timeout
                )
            except Exception as error:
                self._put(partial(self._failed, shown, error))
                continue
            try:
                self._core.submit(Task(payload, partial(self._on_end, shown), is_kept=True))
            except Closed as error:
                self._put(partial(self._failed, shown, error))
        if self._is_final:
            self._core.close()

    # The thread.

    def start(self, *_: Any) -> None:
        """Starts the workers and the thread that emits the signals."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._is_over.clear()
            self._must_restart = False
            self._thread = threading.Thread(target=self._attend, name="controller", daemon=True)
            self._thread.start()

    def _settings(self) -> Settings:
        return Settings(
            name=type(self).__name__,
            min_workers=self._n_workers,
            max_workers=self._n_workers,
            retries=self._retries,
            context=_context(),
        )

    def _attend(self) -> None:
        """Is the controller's thread."""
        self._emit(self.started)
        try:
            self._pre_run()
            self._begin()
            while not self._is_over.is_set():
                self._next_event()()
        except BaseException as error:
            _log.exception("the controller has failed")
            self.failures.append((None, error))
            self._emit(self.sig_failed, None, error)
        finally:
            self._end()

    def _pre_run(self) -> None:
        """Prepares the tasks, in the controller's thread."""

    def _post_run(self) -> None:
        """Is called after the last result, in the controller's thread."""

    def _begin(self) -> None:
        with self._lock:
            settings = self._settings()
            self._calls.workers_begin(has_main(settings.context))
            self._core = core = Core(settings)
            self._run = run.begin(core, settings, on_told=self._on_told, on_over=self._on_over)
            if self._is_suspended:
                self._run.pause()
            self._send()
            if self._is_final or self._is_interrupted:
                core.close()

    def _end(self) -> None:
        with self._lock:
            running, self._run, self._core = self._run, None, None
        if running is not None:
            running.join()
        while self._events:
            self._next_event()()
        try:
            self._post_run()
        except BaseException as error:
            _log.exception("the controller's end has failed")
            self.failures.append((None, error))
        self._is_final = self._is_interrupted = False
        self._emit(self.finished)

    def _next_event(self) -> _Event:
        with self._has_events:
            self._has_events.wait_for(lambda: self._events)
            return self._events.popleft()

    def _put(self, event: _Event) -> None:
        with self._has_events:
            self._events.append(event)
            self._has_events.notify_all()

    def _on_end(self, task: Any, ending: Ending) -> None:
        """Is called when a task has ended: by the pool's thread, or by that which cancels it."""
        if ending.outcome is Outcome.CANCELLED:
            with self._lock:
                self.dropped.append(task)
                self._open -= 1
        else:
            self._put(partial(self._ended, task, ending))

    def _on_told(self, content: Any) -> None:
        """Is called by the pool's thread with what a worker says while it works."""
        self._put(partial(self._emit, self.sig_message_from_worker, content))

    def _on_over(self) -> None:
        """Is called by the pool's thread at the very end."""
        self._put(self._is_over.set)

    def _ended(self, task: Any, ending: Ending) -> None:
        result, error = result_of(ending)
        if error is not None:
            self._failed(task, error)
        else:
            self._has_result(task, result)
            self._progressed()
        self._let_go(ending)

    def _let_go(self, ending: Ending) -> None:
        """Has the run make more results, since the slots have had this one."""
        self._had += ending.result.size() if ending.result is not None else 0
        if self._had >= _HAD and self._core is not None:
            self._core.release(self._had)
            self._had = 0

    def _has_result(self, task: Any, result: Any) -> None:
        self._emit(self.sig_results, task, result)

    def _failed(self, task: Any, error: BaseException) -> None:
        self.failures.append((task, error))
        self._emit(self.sig_failed, task, error)
        self._progressed()

    def _progressed(self) -> None:
        with self._lock:
            self._open -= 1
            self._progress_done += 1
            progress = self.progress
        self._emit(self.sig_progress, progress)

    def _emit(self, signal: Any, *values: Any) -> None:
        try:
            signal.emit(*values)
        except BaseException:
            # Such as SystemExit: the signals go on.
            _log.exception("a slot has failed")

    # Steering.

    def suspend(self) -> None:
        """Begins no task until `restart`.

        Returns when no worker has a task, or after two seconds. Results go on coming.
        """
        self._is_suspended = True
        if self._run is not None:
            self._run.pause()
        self.wait_for_processes_to_finish(_PATIENCE)

    def restart(self) -> None:
        """Begins tasks again. The progress is then that of the tasks that have not ended."""
        with self._lock:
            self._count_anew()
        self._is_suspended, self._must_restart = False, not self.isRunning()
        if self._run is not None:
            self._run.resume()

    def wait_for_processes_to_finish(self, timeout: float = _PATIENCE) -> None:
        """Waits until no worker has a task, or for `timeout` seconds."""
        deadline = monotonic() + timeout
        pause = threading.Event()
        while monotonic() < deadline:
            running = self._run
            if running is None or not running.is_busy():
                return
            pause.wait(_LOOK)

    def send_stop_signal(self) -> None:
        """Takes back the tasks that no worker has: `dropped` has them. The controller stays."""
        self._take_back()

    def stop(self) -> None:
        """Ends the controller after the tasks in workers. Waits two seconds for them."""
        self.requestInterruption()
        if threading.current_thread() is not self._thread:
            self.wait_for_processes_to_finish(_PATIENCE)

    def requestInterruption(self) -> None:
        """Ends the controller after the tasks in workers."""
        with self._lock:
            self._is_interrupted = True
            core = self._core
        self._take_back()
        if core is not None:
            core.close()

    def isInterruptionRequested(self) -> bool:
        """Whether the controller was told to end before all tasks have ended."""
        return self._is_interrupted

    def exit(self, code: Optional[int] = None) -> None:
        """Ends the controller after the tasks in workers."""
        self.requestInterruption()

    quit = exit

    def terminate(self) -> None:
        """Ends the controller at once. Tasks in workers fail."""
        self.requestInterruption()
        if self._run is not None:
            self._run.stop()

    def isRunning(self) -> bool:
        """Whether the controller has started and not ended."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def isFinished(self) -> bool:
        """Whether the controller has ended."""
        return self._is_over.is_set() and not self.isRunning()

    def is_alive(self) -> bool:
        """Whether the controller has started and not ended."""
        return self.isRunning()

    def wait(self, milliseconds: Optional[float] = None) -> bool:
        """Waits for the controller's end. Returns whether it has ended."""
        thread = self._thread
        if thread is not None:
            thread.join(None if milliseconds is None else milliseconds / 1000)
        return not self.isRunning()


def _checked(number: Any) -> int:
    if not isinstance(number, Integral) or isinstance(number, bool) or int(number) < 1:
        raise ValueError("The number of workers must be an integer number of at least 1.")
    if int(number) > MOST_WORKERS:
        raise ValueError(f"The number of workers must be at most {MOST_WORKERS}, not {number}.")
    return int(number)


def _default_workers() -> int:
    settings = sys.modules.get("pydidas.core")
    if settings is None:
        return processors()
    number = settings.PydidasQsettings().value("global/mp_n_workers", int)
    return int(number) or processors()


def _context() -> Any:
    """Returns the context of `multiprocessing`: Qt's threads must not be forked."""
    has_qt = any(name.partition(".")[0] in _QT for name in list(sys.modules))
    return multiprocessing.get_context("spawn" if has_qt else None)


_QT = frozenset(["PyQt5", "PyQt6", "PySide2", "PySide6"])
