"""An executor of `concurrent.futures` whose tasks run in a pool of worker processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import threading
import weakref
from collections import deque
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from time import monotonic
from typing import Any, Callable, Deque, Iterable, Iterator, List, Optional, Tuple

from ..driving import program
from . import run
from .core import Closed, Core, Counts
from .future import TaskFuture, chunk, failed
from .payload import Calls
from .plan import has_main
from .settings import (
    INITIALIZER_TIMEOUT,
    Settings,
    checked_count,
    checked_grace,
    checked_limit,
    checked_retries,
    checked_size,
    processors,
)

#: The largest limit of tasks that wait.
_MOST_WAITING = 1_000_000_000
#: The executors that are open, which the interpreter's exit shuts down.
_open: weakref.WeakSet[Executor] = weakref.WeakSet()
#: The runs that executors have begun. The thread of each keeps it until it is over, whatever has
#: become of the executor, and the interpreter's exit waits for it.
_runs: weakref.WeakSet[run.PoolRun] = weakref.WeakSet()


class Executor(futures.Executor):
    """Runs functions in worker processes, as `concurrent.futures.ProcessPoolExecutor` does.

    A worker that dies costs its own task only: its future raises `WorkerLost`, and the worker is
    replaced. Tasks may have a time limit, names and priorities, and may be tried again.

    Example:
        >>> with Executor(max_workers=2) as pool:  # doctest: +SKIP
        ...     future = pool.submit(pow, 2, 10)
        ...     future.result()
        1024
    """

    def __init__(
        self,
        max_workers: Optional[int] = None,
        mp_context: Any = None,
        initializer: Optional[Callable[..., Any]] = None,
        initargs: Tuple[Any, ...] = (),
        *,
        initializer_timeout: Optional[float] = INITIALIZER_TIMEOUT,
        max_tasks_per_child: Optional[int] = None,
        min_workers: Optional[int] = None,
        queue: Optional[int] = None,
        timeout: Optional[float] = None,
        retries: int = 0,
        memory_limit: Any = None,
        grace: float = 2.0,
        name: str = "pool",
        cancel_running: bool = False,
    ) -> None:
        """Creates an executor. The first `submit` starts its workers.

        Args:
            max_workers: the most worker processes; by default the number of processors.
            mp_context: a context of `multiprocessing`, which says how the process is made that
                starts the workers.
            initializer: called in each worker before its first task.
            initargs: the arguments of the initializer.
            initializer_timeout: the most seconds that the initializer may take: then the pool is
                broken. None for any time.
            max_tasks_per_child: after how many tasks a worker is replaced.
            min_workers: how many workers are always there; by default `max_workers`.
            queue: how many tasks may wait for a worker. A submission waits while there are as
                many. By default any number may.
            timeout: the time limit of each task, in seconds.
            retries: how often a task that fails is tried again.
            memory_limit: the most memory of a worker, such as "2 GiB".
            grace: the seconds between SIGTERM and SIGKILL of a worker that is ended.
            name: the name on the dashboard.
            cancel_running: whether `Future.cancel` ends the worker that runs the task.

        Raises:
            ProgramNotFound: if there is no drpipe program.
            TypeError: if an argument is of another type.
            ValueError: if an argument is out of range.
        """
        most = processors() if max_workers is None else max_workers
        if isinstance(most, int) and most < 1:
            raise ValueError(f"max_workers must be greater than 0, not {most!r}")
        least = most if min_workers is None else min_workers
        most = checked_count("max_workers", most)
        least = checked_count("min_workers", least, 1, most)
        if queue is not None:
            queue = checked_count("queue", queue, 1, _MOST_WAITING)
        if max_tasks_per_child is not None:
            checked_count("max_tasks_per_child", max_tasks_per_child, 1, sys.maxsize)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if not isinstance(name, str):
            raise TypeError(f"the name of a pool must be a string, not {name!r}")
        program.find()
        self._settings = Settings(
            name=name,
            min_workers=least,
            max_workers=most,
            queue=queue,
            timeout=checked_limit("timeout", timeout),
            retries=checked_retries("retries", retries),
            grace=checked_grace("grace", grace),
            memory_limit=checked_size("memory_limit", memory_limit),
            context=mp_context or multiprocessing.get_context(),
            initializer=initializer,
            initargs=initargs,
            initializer_timeout=checked_limit("initializer_timeout", initializer_timeout),
            max_tasks=max_tasks_per_child,
        )
        self._cancels_running = cancel_running
        self._calls = Calls()
        self._core = Core(self._settings)
        self._lock = threading.Lock()
        self._run: Optional[run.PoolRun] = None
        self._is_shut_down = False
        # A pool that nobody refers to any more ends when its tasks have ended.
        weakref.finalize(self, self._core.abandon).atexit = False
        _open.add(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """Submits a call and returns its future.

        Raises:
            RuntimeError: after `shutdown`.
            BrokenProcessPool: if the pool is broken.
        """
        return self._submit(fn, args, kwargs)

    def task(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission:
        """Prepares a call that has options, for `Submission.submit`."""
        return Submission(self, fn, args, kwargs)

    def _submit(  # noqa: PLR0917
        self,
        fn: Callable[..., Any],
        args: Tuple[Any, ...],
        kwargs: Any,
        name: Optional[str] = None,
        limit: Optional[float] = None,
        is_high: bool = False,
    ) -> futures.Future[Any]:
        if self._run is None:
            self._start()
        try:
            payload = self._calls.encode(fn, args, kwargs, limit)
        except Exception as error:
            return failed(error)
        future = TaskFuture(self._core, self._cancels_running)
        try:
            self._core.submit(future.of(payload, name, is_high))
        except Closed as error:
            raise self._closed(error) from None
        return future

    def _closed(self, error: Closed) -> RuntimeError:
        if self._core.broken is not None:
            return BrokenProcessPool(str(error))
        return RuntimeError("cannot schedule new futures after shutdown")

    def _start(self) -> None:
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._run is None:
                self._calls.workers_begin(has_main(self._settings.context))
                self._run = run.begin(self._core, self._settings)
                _runs.add(self._run)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: Optional[float] = None,
        chunksize: int = 1,
        buffersize: Optional[int] = None,
    ) -> Iterator[Any]:
        """Calls a function for each item of the iterables, and yields the results in order.

        Args:
            fn: the function.
            iterables: its arguments, as for the built-in `map`.
            timeout: the seconds after which the iterator raises `TimeoutError`, from this call on.
            chunksize: how many items travel together. A chunk fails as a whole; a note of the
                exception names the item.
            buffersize: how many results may be under way or waiting. The iterables are then read
                as results are taken; else they are read at once.

        Raises:
            ValueError: if `chunksize` or `buffersize` is less than 1.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        items = zip(*iterables)
        submitted: Iterator[futures.Future[Any]]
        if chunksize == 1:
            submitted = (self._submit(fn, args, {}) for args in items)
            most = buffersize
        else:
            parts = _parts(items, chunksize)
            submitted = (self._submit(chunk, (fn, first, part), {}) for first, part in parts)
            most = None if buffersize is None else max(1, buffersize // chunksize)
        deadline = None if timeout is None else monotonic() + timeout
        begun = deque(itertools.islice(submitted, most))
        results = _results(submitted, begun, deadline)
        return results if chunksize == 1 else itertools.chain.from_iterable(results)

    def pause(self) -> None:
        """Begins no task until `resume`. Tasks in workers go on."""
        if self._run is None:
            self._start()
        assert self._run is not None
        self._run.pause()

    def resume(self) -> None:
        """Begins tasks again."""
        if self._run is not None:
            self._run.resume()

    def set_workers(self, count: int) -> None:
        """Changes the number of workers.

        Raises:
            TypeError: if it is no whole number.
            ValueError: if no pool can have this number.
        """
        count = checked_count("the number of workers", count)
        with self._lock:
            self._settings = replace(self._settings, min_workers=count, max_workers=count)
            if self._run is not None:
                self._run.set_workers(count)
            self._core.set_workers(self._settings)

    def progress(self) -> Counts:
        """Returns how many tasks are submitted, done, failed, cancelled and open."""
        return self._core.counts()

    def report(self) -> Any:
        """Returns the report of the run, or None before the executor is shut down."""
        return None if self._run is None else self._run.report

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks, and ends the workers when those that are open have ended.

        Args:
            wait: whether to wait for that.
            cancel_futures: whether to cancel the tasks that wait. As in the standard, as many
                as there are workers are on their way to these, and go on.
        """
        with self._lock:
            self._is_shut_down = True
        if cancel_futures:
            self._core.cancel_unbegun(self._settings.max_workers)
        self._core.close()
        if wait and self._run is not None:
            self._run.join()


class Submission:
    """A call with options that never collide with its arguments."""

    def __init__(
        self, executor: Executor, fn: Callable[..., Any], args: Tuple[Any, ...], kwargs: Any
    ) -> None:
        self._executor, self._fn, self._args, self._kwargs = executor, fn, args, kwargs
        self._name: Optional[str] = None
        self._limit: Optional[float] = None
        self._is_high = False

    def named(self, name: str) -> Submission:
        """Gives the task a name in the log of the run.

        Raises:
            TypeError: if it is no string.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a task must be a string, not {name!r}")
        self._name = name
        return self

    def within(self, seconds: float) -> Submission:
        """Limits the time of the task. It fails with `TaskTimeout` when the time has passed.

        Raises:
            TypeError: if it is no number.
            ValueError: if it is not above 0, or more than a year.
        """
        if seconds is None:
            raise TypeError("the time limit of a task must be a number of seconds, not None")
        self._limit = checked_limit("the time limit of a task", seconds)
        return self

    def high(self) -> Submission:
        """Puts the task before those without priority that no worker has."""
        self._is_high = True
        return self

    def submit(self) -> futures.Future[Any]:
        """Submits the call and returns its future."""
        return self._executor._submit(
            self._fn, self._args, self._kwargs, self._name, self._limit, self._is_high
        )


def _parts(items: Iterator[Any], size: int) -> Iterator[Tuple[int, List[Any]]]:
    """Yields the items in parts of this size, each with the index of its first."""
    first = 0
    while True:
        part = list(itertools.islice(items, size))
        if not part:
            return
        yield first, part
        first += len(part)


def _results(
    submitted: Iterator[futures.Future[Any]],
    begun: Deque[futures.Future[Any]],
    deadline: Optional[float],
) -> Iterator[Any]:
    """Yields the results of futures in order, and replaces each by the next that is submitted."""
    try:
        while begun:
            # Before the next result: a worker has something to do meanwhile.
            rest = None if deadline is None else deadline - monotonic()
            future = begun.popleft()
            try:
                # In a list, so that this generator does not hold what it has yielded.
                result = [future.result(rest)]
            finally:
                future.cancel()
                del future
            begun.extend(itertools.islice(submitted, 1))
            yield result.pop()
    finally:
        for future in begun:
            future.cancel()


def _shut_down_all() -> None:
    for executor in list(_open):
        executor.shutdown(wait=False)
    for begun in list(_runs):
        begun.join()


def _forget_all() -> None:
    """Leaves the executors of a process to it, in a fork of it."""
    for executor in list(_open):
        executor._lock = threading.Lock()
    _open.clear()
    _runs.clear()


os.register_at_fork(after_in_child=_forget_all)
# As the standard's executors: before the interpreter waits for threads.
threading._register_atexit(_shut_down_all)  # type: ignore[attr-defined]
