"""`ProcessPool` as DIRAC has it.

Programs that import `DIRAC.Core.Utilities.ProcessPool` get this one instead after `install()`.
The names, the order of callbacks and the returned dictionaries are DIRAC's. A worker that dies,
a time limit, or a value that cannot be pickled costs its own task only.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import threading
from collections import deque
from typing import Any, Callable, Deque, Iterable, Mapping, Optional, Tuple

from ..driving import program
from ..protocol.failures import summary
from . import run
from .core import Closed, Core, Full, Task
from .dirac_task import S_ERROR, S_OK, ProcessTask, Result
from .ending import Ending
from .payload import Calls
from .settings import Settings, checked_count, checked_limit

__all__ = ["FAST_PROCESS_POOL", "S_ERROR", "S_OK", "ProcessPool", "ProcessTask", "install"]

_log = logging.getLogger("drpipe.pool")

#: Whether submissions and results wait for nothing, as with DIRAC_FAST_PROCESS_POOL=yes.
FAST_PROCESS_POOL = True
#: After how long without work a worker is removed, in seconds, if processes are not kept.
_IDLE = 100.0
#: How long `finalize` waits for the end of workers that it has stopped, in seconds.
_GRACE = 1.0


class ProcessPool:
    """A pool of worker processes with a bounded queue of tasks and callbacks for their results.

    The callbacks are called by `processResults`, in the thread that calls it; after `daemonize`,
    in one background thread.
    """

    def __init__(  # noqa: PLR0917 (DIRAC's)
        self,
        minSize: int = 2,
        maxSize: int = 0,
        maxQueuedRequests: int = 10,
        strictLimits: bool = True,
        poolCallback: Optional[Callable[..., Any]] = None,
        poolExceptionCallback: Optional[Callable[..., Any]] = None,
        keepProcessesRunning: bool = True,
    ) -> None:
        """Creates a pool and starts its first workers, which are forks of this process.

        Args:
            minSize: how many workers are always there.
            maxSize: the most workers.
            maxQueuedRequests: how many tasks may wait for a worker.
            strictLimits: has no effect: the limits always hold.
            poolCallback: called with a task's id and its result.
            poolExceptionCallback: called with a task's id and the dictionary of its exception.
            keepProcessesRunning: whether workers above `minSize` stay when they are idle.

        Raises:
            ProgramNotFound: if there is no drpipe program.
            TypeError: if a size is no whole number.
            ValueError: if a size is larger than that of any pool.
        """
        least = checked_count("minSize", max(1, minSize))
        most = checked_count("maxSize", max(least, maxSize))
        self._settings = Settings(
            name="ProcessPool",
            min_workers=least,
            max_workers=most,
            queue=maxQueuedRequests if maxQueuedRequests > 0 else None,
            shrink_after=None if keepProcessesRunning else _IDLE,
            context=multiprocessing.get_context("fork"),
        )
        self._callback, self._exception_callback = poolCallback, poolExceptionCallback
        program.find()
        #: The tasks that have ended and whose callbacks are to be called.
        self._results: Deque[Tuple[ProcessTask, Ending]] = deque()
        #: How many bytes of results the run counts as waiting for their callbacks.
        self._kept = 0
        self._has_results = threading.Condition()
        self._is_processing = threading.Lock()
        #: The thread that calls callbacks, while one does.
        self._processor = 0
        self._daemon: Optional[threading.Thread] = None
        self._is_final = self._is_over = self._is_waiting = False
        self._start()

    def _start(self) -> None:
        settings = self._settings
        self._calls = Calls()
        self._calls.workers_begin(True)
        self._core = Core(settings)
        self._run = run.begin(self._core, settings)

    def startProcessing(self) -> None:
        """Begins again after `finalize`, in daemon mode."""
        if self._is_final:
            self._is_final = self._is_over = False
            self._start()
        self.daemonize()

    def stopProcessing(self, timeout: float = 10) -> None:
        """Ends the pool as `finalize` does."""
        self.finalize(timeout)

    def setPoolCallback(self, callback: Any) -> None:
        """Sets the pool's result callback."""
        if callable(callback):
            self._callback = callback

    def setPoolExceptionCallback(self, exceptionCallback: Any) -> None:
        """Sets the pool's exception callback."""
        if callable(exceptionCallback):
            self._exception_callback = exceptionCallback

    def getMaxSize(self) -> int:
        """Returns the most workers."""
        return self._settings.max_workers

    def getMinSize(self) -> int:
        """Returns how many workers are always there."""
        return self._settings.min_workers

    def getNumWorkingProcesses(self) -> int:
        """Returns how many workers have a task, or will have one at once."""
        return min(self.getMaxSize(), self._open())

    def getNumIdleProcesses(self) -> int:
        """Returns how many workers have no task."""
        return max(0, self._run.workers() - self.getNumWorkingProcesses())

    def getFreeSlots(self) -> int:
        """Returns how many more workers could have a task."""
        return self.getMaxSize() - self.getNumWorkingProcesses()

    def _open(self) -> int:
        return self._core.open()

    def queueTask(
        self,
        task: ProcessTask,
        blocking: bool = True,
        usePoolCallbacks: bool = False,
    ) -> Result:
        """Puts a task into the queue.

        Args:
            task: the task.
            blocking: whether to wait for room if the queue is full.
            usePoolCallbacks: whether the pool's callbacks are called for it.

        Raises:
            TypeError: if it is no `ProcessTask`.
        """
        if not isinstance(task, ProcessTask):
            raise TypeError("Tasks added to the process pool must be ProcessTask instances")
        if usePoolCallbacks and (self._callback or self._exception_callback):
            task.enablePoolCallbacks()
        if not callable(task._function):
            return S_ERROR(f"{task._function!r} is not callable")
        if self._is_final:
            return S_ERROR("the pool has been finalized: call startProcessing")
        try:
            function, args, kwargs = task._call()
            limit = checked_limit("timeOut", task.getTimeOut() or None)
            payload = self._calls.encode(function, args, kwargs, limit)
        except Exception as error:
            return S_ERROR(f"the task cannot be given to a worker: {summary(error)}")
        name = None if task.getTaskID() is None else str(task.getTaskID())
        queued = Task(payload, lambda ending: self._ended(task, ending), name, is_kept=True)
        try:
            self._core.submit(queued, None if blocking else 0)
        except Full:
            return S_ERROR("Queue is full")
        except Closed as error:
            return S_ERROR(str(error))
        return S_OK()

    def createAndQueueTask(  # noqa: PLR0917 (DIRAC's)
        self,
        taskFunction: Any,
        args: Optional[Iterable[Any]] = None,
        kwargs: Optional[Mapping[str, Any]] = None,
        taskID: Any = None,
        callback: Optional[Callable[..., Any]] = None,
        exceptionCallback: Optional[Callable[..., Any]] = None,
        blocking: bool = True,
        usePoolCallbacks: bool = False,
        timeOut: float = 0,
    ) -> Result:
        """Makes a `ProcessTask` and puts it into the queue."""
        task = ProcessTask(
            taskFunction,
            args,
            kwargs,
            taskID,
            callback,
            exceptionCallback,
            usePoolCallbacks,
            timeOut,
        )
        return self.queueTask(task, blocking)

    def hasPendingTasks(self) -> bool:
        """Whether tasks wait for a worker."""
        return self._open() > self.getMaxSize()

    def isFull(self) -> bool:
        """Whether the queue has no room."""
        return self._core.is_full()

    def isWorking(self) -> bool:
        """Whether tasks wait or are in workers."""
        return self._open() > 0

    def _ended(self, task: ProcessTask, ending: Ending) -> None:
        with self._has_results:
            self._kept += _size(ending)
            if task.hasCallback():
                self._results.append((task, ending))
                self._has_results.notify_all()
        # Only what the background thread is at holds the workers back: nobody else needs to
        # process results.
        if self._daemon is None or not task.hasCallback() or self._is_waiting:
            self._let_go()

    def _let_go(self, most: Optional[int] = None) -> None:
        """Has the run make as many more bytes of results; as many as it can without a number."""
        with self._has_results:
            size = self._kept if most is None else min(most, self._kept)
            self._kept -= size
        self._core.release(size)

    def processResults(self) -> int:
        """Calls the callbacks of all tasks that have ended. Returns how many tasks those were.

        Returns 0 at once if a thread is at it: another one, or this one in a callback.
        """
        if not self._is_processing.acquire(blocking=False):
            return 0
        processed = 0
        self._processor = threading.get_ident()
        try:
            while self._results:
                task, ending = self._results.popleft()
                self._tell(task, ending)
                self._let_go(_size(ending))
                processed += 1
        finally:
            self._processor = 0
            self._is_processing.release()
        return processed

    def _tell(self, task: ProcessTask, ending: Ending) -> None:
        try:
            task._settle(ending)
            task.doExceptionCallback()
            task.doCallback()
            if not task.usePoolCallbacks():
                return
            if task.exceptionRaised():
                if self._exception_callback:
                    self._exception_callback(task.getTaskID(), task.taskException())
            elif self._callback:
                self._callback(task.getTaskID(), task.taskResults())
        except Exception:
            _log.exception("a callback of task %s has failed", task.getTaskID())

    def processAllResults(self, timeout: float = 10) -> None:
        """Waits until all tasks have ended, or for `timeout` seconds, and calls the callbacks.

        In a callback, the others' callbacks are called when this one has returned.
        """
        self._await_all(timeout)
        self._process_rest()

    def _await_all(self, timeout: float) -> bool:
        """Waits until all tasks have ended. Returns whether they have."""
        if self._is_in_callback():
            # The results behind this one wait for the callback, which waits for them.
            self._is_waiting = True
            self._let_go()
        try:
            return self._core.wait(self._core.is_idle, timeout)
        finally:
            self._is_waiting = False

    def _process_rest(self) -> None:
        """Calls all callbacks, also those that another thread is at."""
        while self._results and not self._is_in_callback():
            if self.processResults() == 0:
                with self._is_processing:
                    pass

    def _is_in_callback(self) -> bool:
        return self._processor == threading.get_ident()

    def finalize(self, timeout: float = 60) -> None:
        """Ends the pool. Tasks that have not ended within `timeout` seconds are stopped.

        Their exception callbacks tell so.
        """
        if self._is_final:
            return
        self._is_final = True
        self._core.close()
        if not self._await_all(timeout):
            self._run.stop()
        self._run.join(_GRACE)
        self._run.kill()
        with self._has_results:
            self._is_over = True
            self._has_results.notify_all()
        daemon, self._daemon = self._daemon, None
        if daemon is not None and not self._is_in_callback():
            daemon.join()
        self._process_rest()

    def daemonize(self) -> None:
        """Calls callbacks in a background thread as soon as tasks have ended."""
        if self._daemon is None:
            self._daemon = threading.Thread(target=self._attend, name="drpipe-results", daemon=True)
            self._daemon.start()

    def _attend(self) -> None:
        while True:
            with self._has_results:
                self._has_results.wait_for(lambda: self._results or self._is_over)
            if not self._results:
                return
            try:
                processed = self.processResults()
            except BaseException:
                # Such as SystemExit: the other callbacks are to be called all the same.
                _log.exception("a callback has failed")
                continue
            if processed == 0:
                # Another thread is at it.
                with self._is_processing:
                    pass

    def __del__(self) -> None:
        # An open task refers to the pool, so there is none.
        if hasattr(self, "_core"):
            self._core.abandon()


def _size(ending: Ending) -> int:
    return 0 if ending.result is None else ending.result.size()


def install() -> None:
    """Puts this module in the place of `DIRAC.Core.Utilities.ProcessPool`.

    Call it before DIRAC imports that module.
    """
    sys.modules["DIRAC.Core.Utilities.ProcessPool"] = sys.modules[__name__]
    utilities = sys.modules.get("DIRAC.Core.Utilities")
    if utilities is not None:
        utilities.ProcessPool = sys.modules[__name__]  # type: ignore[attr-defined]
