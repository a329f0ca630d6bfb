"""A run of a pool within the test's process: threads are its workers.

It keeps to the rules of a real run: it takes tasks by window, answers each cancel, and ends each
task once. A test may hold its workers, and end one during a task.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import select
import signal
import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Set

import pytest

from drpipe.driving import program as finder
from drpipe.pool import run, worker
from drpipe.pool.core import Core
from drpipe.pool.ending import CANCELLED, Ending, Outcome
from drpipe.pool.task import Raised, Tasks
from runs import needs_program, program


class Gate:
    """An event that forks share, and that no killed process can spoil."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK)

    def set(self) -> None:
        """Opens the gate."""
        os.write(self._in, b"!")

    def wait(self, timeout: float) -> bool:
        """Waits until the gate is open. Returns whether it is."""
        return bool(select.select([self._out], [], [], timeout)[0])

    def clear(self) -> None:
        """Closes the gate."""
        while self.wait(0):
            os.read(self._out, 1 << 16)


#: The longest wait, in seconds. Only a hang takes longer.
PATIENCE = 20.0


def until(is_so: Callable[[], Any]) -> None:
    """Waits for a state that no event tells of."""
    pause = threading.Event()
    for _ in range(2000):
        if is_so():
            return
        pause.wait(0.01)
    raise AssertionError("it never came about")


class Spy:
    """Notes what signals emit, in their order."""

    def __init__(self, controller: Any, *names: str) -> None:
        self.told: List[Any] = []
        self.changed = threading.Condition()
        every = ("sig_results", "sig_failed", "sig_progress", "started", "finished")
        for name in names or every:
            getattr(controller, name).connect(functools.partial(self.note, name))

    def note(self, name: str, *values: Any) -> None:
        with self.changed:
            self.told.append((name, *values))
            self.changed.notify_all()

    def wait(self, name: str, count: int = 1) -> List[List[Any]]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.of(name)) >= count, PATIENCE), self.told
        return self.of(name)

    def of(self, name: str) -> List[List[Any]]:
        return [values for found, *values in self.told if found == name]


class WorkerDied(BaseException):
    """Raised by a task of a test: its worker, a thread, dies."""


def die() -> None:
    """Ends the worker."""
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    raise WorkerDied


#: Both kinds of runs.
RUNS = ["threads", pytest.param("processes", marks=needs_program)]


def use(kind: str, monkeypatch: Any) -> None:
    """Has pools use runs of this kind."""
    if kind == "threads":
        monkeypatch.setattr(run, "begin", ThreadRun)
        monkeypatch.setattr(finder, "find", lambda: "drpipe")
    else:
        monkeypatch.setenv("DRPIPE", str(program()))


class ThreadRun:
    """The link of a core, and its run."""

    def __init__(
        self,
        core: Core,
        settings: Any,
        on_told: Callable[[Any], None] = lambda content: None,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        self.core, self.settings = core, settings
        self.on_told, self.on_over = on_told, on_over
        self.report = {"workers": settings.max_workers}
        self.is_paused = False
        self.is_over = False
        self.running: Set[int] = set()
        self.attempts: Dict[int, int] = {}
        self.names: Dict[int, str] = {}
        #: The largest number of tasks that the run had at a time.
        self.most = 0
        self._queue: Deque[Any] = deque()
        self._open = 0
        self._inbox: Deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        core.use(self)
        threads = [threading.Thread(target=self._work) for _ in range(settings.max_workers)]
        self._threads: List[threading.Thread] = [threading.Thread(target=self._attend), *threads]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    # The link.

    def wake(self) -> None:
        self._put(lambda: None)

    def cancel(self, number: int, running: bool) -> None:
        self._put(lambda: self._cancel(number))

    def is_running(self, number: int) -> bool:
        return number in self.running

    def release(self, size: int) -> None:
        pass

    def turn(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._inbox, 20), "nothing came from the run"
            message = self._inbox.popleft()
        message()

    # The run.

    def pause(self) -> None:
        self._set_paused(True)

    def resume(self) -> None:
        self._set_paused(False)

    def set_workers(self, count: int) -> None:
        self.settings = dataclasses.replace(self.settings, max_workers=count)

    def is_busy(self) -> bool:
        return bool(self.running)

    def workers(self) -> int:
        return int(self.settings.max_workers)

    def join(self, timeout: float = 20) -> bool:
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        self._put(lambda: self._end("the run was stopped"))

    def kill(self) -> None:
        pass

    def die(self) -> None:
        """The program is killed."""
        self._put(self._die)

    def _die(self) -> None:
        self._end("the run has died")

    def _put(self, message: Callable[[], None]) -> None:
        with self._changed:
            self._inbox.append(message)
            self._changed.notify_all()

    def _set_paused(self, value: bool) -> None:
        with self._changed:
            self.is_paused = value
            self._changed.notify_all()

    def _attend(self) -> None:
        self.core.thread = threading.get_ident()
        while not self.is_over:
            self.turn()
            taken = self.core.take()
            with self._changed:
                for task in taken:
                    urgent = sum(is_high for *_, is_high in self._queue)
                    place = urgent if task.is_high else len(self._queue)
                    self._queue.insert(place, (task.number, task.payload, task.is_high))
                    self.names[task.number] = task.name or ""
                self._open += len(taken)
                self.most = max(self.most, self._open)
                self._changed.notify_all()
            if self.core.is_finished():
                self._end(None)

    def _end(self, broken: Any) -> None:
        with self._changed:
            self.is_over = True
            self._changed.notify_all()
        self.core.over(broken)
        self.on_over()

    def _cancel(self, number: int) -> None:
        with self._changed:
            found = [entry for entry in self._queue if entry[0] == number]
            for entry in found:
                self._queue.remove(entry)
            self._open -= len(found)
        if found:
            self.core.acknowledged([(number, CANCELLED)])
        else:
            self.core.not_cancelled(number)

    def _work(self) -> None:
        tasks = Tasks()
        if self.settings.initializer is not None:
            self.settings.initializer(*self.settings.initargs)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.is_over or (self._queue and not self.is_paused))
                if self.is_over:
                    return
                number, (header, buffers), _ = self._queue.popleft()
                self.running.add(number)
            ending = self._run(tasks, number, header, buffers)
            with self._changed:
                self.running.discard(number)
                self._open -= 1
            self._put(lambda n=number, e=ending: self.core.acknowledged([(n, e)]))

    def tell(self, content: Any) -> None:
        self._put(lambda: self.on_told(content))

    def _run(self, tasks: Tasks, number: int, header: Any, buffers: Any) -> Ending:
        attempts = 0
        # Tasks of this run say what they say to this object.
        worker._own[:] = [self]  # type: ignore[list-item]
        self.item = number
        while True:
            attempts += 1
            self.attempts[number] = attempts
            try:
                result = tasks.run(header, buffers, lambda seconds: None)
                return Ending(Outcome.DONE, result)
            except WorkerDied:
                ending = Ending(Outcome.LOST, texts=("the worker was killed by signal 9",))
            except BaseException as error:
                raised = Raised.of(error)
                ending = Ending(Outcome.FAILED, texts=tuple(raised.texts), raised=raised)
            if attempts > self.settings.retries:
                return ending
