"""A worker process of a pool: takes tasks from the router and reports what became of them."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections import deque
from dataclasses import dataclass
from threading import Lock
from time import monotonic_ns, sleep
from typing import Any, Callable, Deque, List, Optional

from ..protocol import failures, tags, wire
from ..protocol.batches import SingleOutput
from ..protocol.page import DEADLINE, MESSAGE, SINCE, Memory
from ..worker import forks
from ..worker.attached import Seat
from ..worker.surroundings import use_memory_again
from ..worker.task import Tally
from ..worker.worker import EXIT_FULL, EXIT_LOST, EXIT_RETIRED, tell_of, watch_over
from .board import Board
from .nursery import Place
from .task import EXCEPTION, Raised, Tasks, aside
from .task import MESSAGE as TOLD

#: Tasks are reported together: after this time, in nanoseconds, or once their results have this
#: many bytes.
_REPORT_AFTER = 1_000_000
_REPORT_BYTES = 1 << 20
#: The time between two looks for a long task, in seconds, at first and at last.
_LOOK, _RAREST_LOOK = 0.002, 0.1


@dataclass(frozen=True)
class Job:
    """What every worker of a pool does."""

    board: Board
    initializer: Optional[Callable[..., Any]] = None
    initargs: Any = ()
    #: The longest time that the initializer may take, in seconds; None for any time.
    initializer_timeout: Optional[float] = None
    #: How many tasks a worker does; None for any number.
    max_tasks: Optional[int] = None

    def __call__(self, place: Place, lifeline: socket.socket) -> int:
        """Is a worker. Returns its exit code."""
        forks.forked.clear()
        try:
            use_memory_again()
            seat = Seat(lifeline)
            watch_over(lifeline, seat.page, seat.post["directory"])
            code = _Worker(seat, place, self).serve()
            seat.link.close()
        except (OSError, wire.WireError):
            code = EXIT_LOST
        return code


#: The worker of this process, if it is one.
_own: List[_Worker] = []


def tell(content: Any) -> None:
    """Says something to the caller of the pool while a task runs in this process.

    Raises:
        RuntimeError: if this process runs no task.
        Exception: the error that pickle raises for what it cannot pickle.
    """
    if not _own or not _own[0].item:
        raise RuntimeError("this process runs no task of a pool")
    _own[0].tell(content)


class _Worker:
    def __init__(self, seat: Seat, place: Place, job: Job) -> None:
        self._link, self._words = seat.link, seat.page.words
        self._lifeline = seat.link.lifeline.socket.fileno()
        self._job, self._board, self._slot = job, job.board, place.worker
        # The one before may have died during a task.
        self._board.set(self._slot, 0)
        self._tasks = Tasks()
        self._lock = Lock()
        #: The tasks that have not begun.
        self._hand: Deque[wire.Message] = deque()
        self._tally = Tally()
        self._outputs: List[SingleOutput] = []
        self._bytes = 0
        #: Counts the calls, so that the flusher sees whether it is the same one still.
        self._calls = 0
        self._seen = -1
        #: The task that is running; 0 if none is.
        self.item = 0
        self._began = 0
        #: Messages other than WORK that came during a task.
        self._later: Deque[wire.Reader] = deque()
        self._has_work = threading.Event()
        limit = seat.post["memory_limit"]
        used = Memory().used
        self._is_over = (lambda: used() > limit) if limit is not None else None

    def serve(self) -> int:
        _own[:] = [self]
        error = self._initialize()
        if error is not None:
            self._link.send(wire.init_failed(failures.of(error)))
            return 0
        gc.enable()
        self._link.send(wire.ready())
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        code = None
        while code is None:
            message = self._later.popleft() if self._later else self._link.receive()
            code = self._handle(message)
        return code

    def _initialize(self) -> Optional[BaseException]:
        """Calls the initializer. Returns what it raises."""
        job = self._job
        if job.initializer is None:
            return None
        error: Optional[BaseException] = None
        is_first = Lock()
        limit = job.initializer_timeout
        timer = None
        if limit is not None:
            timer = threading.Timer(limit, self._give_up, [is_first, limit])
            timer.daemon = True
            timer.start()
        try:
            job.initializer(*job.initargs)
        except BaseException as raised:
            error = raised
        # If the time is over, this waits for the end of the process.
        is_first.acquire()
        if timer is not None:
            timer.cancel()
        return error

    def _give_up(self, is_first: Lock, limit: float) -> None:
        """Is called in another thread when the initializer has taken too long."""
        if is_first.acquire(blocking=False):
            why = f"the initializer took longer than its time limit of {limit:g} s"
            self._link.send(wire.init_failed(failures.Failure(False, [why])))
            self._link.close()
            os._exit(0)

    def _handle(self, message: wire.Reader) -> Optional[int]:
        kind = message.kind
        if kind == tags.WORK:
            with self._lock:
                self._hand.extend(message.messages())
            return self._work()
        message.end()
        if kind == tags.FINISH:
            self._link.send(wire.finished(None, []))
        elif kind == tags.STOP:
            return 0
        else:
            raise wire.WireError(f"message kind {kind} is not known")
        return None

    def _work(self) -> Optional[int]:
        """Runs the tasks in hand. Returns the exit code if the worker must end."""
        words, job = self._words, self._job
        self._has_work.set()
        reported = monotonic_ns()
        code = None
        while True:
            with self._lock:
                if not self._hand or code is not None:
                    break
                message = self._hand.popleft()
                self._calls += 1
            if self._is_over is not None and self._is_over():
                code = EXIT_FULL
                break
            self._began = monotonic_ns()
            self._run(message)
            now = monotonic_ns()
            if now - reported >= _REPORT_AFTER or self._bytes >= _REPORT_BYTES:
                with self._lock:
                    self._report()
                words[MESSAGE] = 0
                reported = now
            if job.max_tasks is not None and self._calls >= job.max_tasks:
                code = EXIT_RETIRED
        self._has_work.clear()
        with self._lock:
            self._report()
        # Not before: if the worker dies of what its latest task has done, that task is to blame.
        words[MESSAGE] = 0
        return code

    def _run(self, message: wire.Message) -> None:
        number, item, origin, header, buffers, _ = message
        words, began = self._words, self._began
        words[DEADLINE] = 0
        words[SINCE] = began
        words[MESSAGE] = number
        self.item = item
        self._board.set(self._slot, item)
        failure = output = None
        size = 0
        try:
            result = self._tasks.run(header, buffers, self._limit)
            if forks.forked:
                forks.leave()
            header, buffers = result
            output = SingleOutput(tags.RESULTS, origin, bytes(header), buffers, item)
            size = result.size()
        except BaseException as error:
            if forks.forked:
                forks.leave(error)
            failure = self._raised(item, error)
        # The task stays on the page until it is reported, but that time is not its own.
        words[DEADLINE] = 0
        words[SINCE] = monotonic_ns()
        self._check_files()
        self._board.set(self._slot, 0)
        self.item = 0
        with self._lock:
            if output is not None:
                self._outputs.append(output)
                self._bytes += size
            self._tally.add(number, failure is not None, monotonic_ns() - began, failure)

    def _check_files(self) -> None:
        """Ends the worker if the task has closed the worker's files: later, another task would
        be to blame."""
        try:
            os.fstat(self._lifeline)
        except OSError as error:
            tell_of(error)
            os._exit(EXIT_LOST)

    def _limit(self, seconds: float) -> None:
        self._words[DEADLINE] = self._began + int(seconds * 1e9)

    def _raised(self, item: int, error: BaseException) -> failures.Failure:
        raised = Raised.of(error)
        with self._lock:
            self._link.send(wire.aside(aside(EXCEPTION, item, tuple(raised))))
        return failures.of(error)

    def tell(self, content: Any) -> None:
        data = aside(TOLD, self.item, content)
        with self._lock:
            self._link.send(wire.aside(data))

    def _report(self) -> None:
        if self._tally:
            outputs, self._outputs = self._outputs, []
            self._bytes = 0
            self._link.send(wire.done(self._tally.take(), outputs, self._link.lifeline))

    def _watch(self) -> None:
        """Is a thread that looks for long tasks. The longer one takes, the rarer it looks."""
        pause = _LOOK
        while True:
            self._has_work.wait()
            sleep(pause)
            with self._lock:
                if self._seen != self._calls:
                    self._seen, pause = self._calls, _LOOK
                elif self.item:
                    try:
                        self._give_back()
                    except Exception as error:
                        tell_of(error)
                        os._exit(EXIT_LOST)
                    pause = min(2 * pause, _RAREST_LOOK)

    def _give_back(self) -> None:
        """During a long task, reports those before it, and returns those behind it."""
        self._report()
        # The main thread is in the task, and does not use the socket.
        while True:
            message = self._link.receive_now()
            if message is None:
                break
            if message.kind == tags.WORK:
                self._hand.extend(message.messages())
            else:
                self._later.append(message)
        if self._hand:
            self._link.send(wire.returned(self._hand[0][0], len(self._hand)))
            self._hand.clear()
