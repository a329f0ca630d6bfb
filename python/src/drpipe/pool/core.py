"""The tasks of a pool between its users and its run.

The core keeps what does not fit into the run's window, gives tasks their numbers, and calls each
task's `end` once. It does no I/O: a `Link` carries tasks to the run and tells the core what comes
back.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from time import monotonic
from typing import Callable, Deque, Dict, Iterable, List, NamedTuple, Optional, Protocol, Set, Tuple

from ..protocol.batches import SingleOutput
from ..protocol.tags import PRIORITY_HIGH, PRIORITY_NORMAL
from .ending import CANCELLED, Ending, Outcome
from .payload import Payload
from .settings import Settings

_log = logging.getLogger("drpipe.pool")
#: A task that is back after less than the first time came back quickly, after more than the second
#: slowly, in seconds.
_QUICK, _SLOW = 0.03, 0.12


def _nothing(_: object) -> None:
    pass


class Task:
    """A task that is submitted once."""

    __slots__ = (
        "end",
        "forget",
        "is_high",
        "is_kept",
        "name",
        "number",
        "outcome",
        "payload",
        "sent",
        "size",
    )

    def __init__(
        self,
        payload: Payload,
        end: Callable[[Ending], None],
        name: Optional[str] = None,
        *,
        is_high: bool = False,
        forget: Callable[[str], None] = _nothing,
        is_kept: bool = False,
    ) -> None:
        """Creates a task.

        Args:
            payload: what travels.
            end: called once when the task has ended, in the link's thread; or in the thread
                that cancels the task before the run has it.
            name: the task's name in the log of the run.
            is_high: whether it goes before all tasks without priority that no worker has.
            forget: called instead of `end` in a fork of the process, with the reason, if the
                task is open. It must take no lock that another thread may have had.
            is_kept: whether `end` keeps the result for later, and `Core.release` follows. Until
                then, the run makes no more results than its window admits.
        """
        self.payload: Optional[Payload] = payload
        self.size = payload.size()
        self.end, self.forget = end, forget
        self.name = name
        self.is_high = is_high
        self.is_kept = is_kept
        #: Its number in the run; 0 before the run has it.
        self.number = 0
        #: When the run got it.
        self.sent = 0.0
        #: How it ended; None before.
        self.outcome: Optional[Outcome] = None

    def output(self) -> SingleOutput:
        """Returns what is sent to the run, and lets go of it."""
        assert self.payload is not None
        (header, buffers), self.payload = self.payload, None
        origin = None if self.name is None else self.name.encode("utf-8", "replace")
        priority = PRIORITY_HIGH if self.is_high else PRIORITY_NORMAL
        return SingleOutput(0, origin, bytes(header), buffers, self.number, priority)

    def finish(self, ending: Ending) -> None:
        """Calls `end`, and lets go of it: a future that its user drops is freed at once."""
        end, self.end, self.forget = self.end, _nothing, _nothing
        try:
            end(ending)
        except BaseException:
            # Such as SystemExit in a callback: the other tasks end all the same.
            _log.exception("the end of a task could not be told")


Backlog = OrderedDict[Task, None]


class Link(Protocol):
    """The way to a run. The core calls it from any thread."""

    def wake(self) -> None:
        """Asks the link's thread to call `Core.take`."""

    def cancel(self, number: int, running: bool) -> None:
        """Asks the run to cancel a task, which answers `Core.acknowledged` or
        `Core.not_cancelled`."""

    def is_running(self, number: int) -> bool:
        """Whether a worker is at a task."""

    def release(self, size: int) -> None:
        """Tells the run that so many bytes of results are let go."""

    def turn(self) -> None:
        """Waits for something from the run and hands it to the core. Called in the link's
        thread only."""


class Closed(RuntimeError):
    """A task was submitted after the pool was told to end."""


class Full(Exception):
    """There was no room for a task within the time."""


class Counts(NamedTuple):
    """How many tasks there are, by what has become of them."""

    submitted: int
    done: int
    failed: int
    cancelled: int
    #: How many have not ended.
    open: int


class Core:
    """The open tasks of a pool."""

    def __init__(self, settings: Settings) -> None:
        """Creates the core of a pool with these settings."""
        self._window, self._window_bytes = settings.window, settings.window_bytes
        self._most = settings.most
        #: How many tasks the run gets at least, and gets now: what takes it some ten milliseconds.
        #: To take back what it has, its answer is needed.
        self._least = self._width = min(settings.max_workers, self._window)
        self._link: Optional[Link] = None
        #: The thread that calls `take` and `acknowledged`.
        self.thread = 0
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        #: The tasks that the run does not have, those of high priority first. All counts are sizes
        #: of what has tasks: an interrupt may come between any two statements.
        self._backlogs: Tuple[Backlog, Backlog] = (OrderedDict(), OrderedDict())
        self._sent: Dict[int, Task] = {}
        self._sent_bytes = 0
        self._last_number = 0
        self._not_cancelled: Set[int] = set()
        #: The tasks that the run is asked to cancel, without anybody who waits for the answer.
        self._asked: Set[int] = set()
        self._ended: Deque[Tuple[Task, Ending]] = deque()
        self._is_ending = False
        self._is_closed = False
        self._counts = dict.fromkeys(Outcome, 0)
        #: Why the pool can do nothing more, if that is not because it was closed.
        self.broken: Optional[str] = None
        self.is_over = False

    def forget(self, why: str) -> None:
        """Gives all tasks up in a fork of the process, which has no part in the pool."""
        waiting = [task for line in self._backlogs for task in line]
        left = [*waiting, *self._sent.values(), *(task for task, _ in self._ended)]
        self._reset()
        self.broken = why
        for task in left:
            task.forget(why)

    def use(self, link: Link) -> None:
        """Connects the core with its link."""
        self._link = link

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    def submit(self, task: Task, timeout: Optional[float] = None) -> None:
        """Takes a task.

        Args:
            task: the task.
            timeout: how long to wait for room, in seconds; None for any time.

        Raises:
            Closed: after `close`, or if the pool is broken.
            Full: if there is no room within that time.
        """
        with self._lock:
            self._refuse()
            if self._most is not None and self.open() >= self._most:
                self._wait_for_room(timeout)
            self._backlogs[not task.is_high][task] = None
        self._wake()

    def _wait_for_room(self, timeout: Optional[float]) -> None:
        if self.is_links_thread():
            # A callback submits: only it could make room.
            return
        deadline = None if timeout is None else monotonic() + timeout
        while self._most is not None and self.open() >= self._most:
            rest = None if deadline is None else deadline - monotonic()
            if rest is not None and rest <= 0:
                raise Full("the queue is full")
            self._changed.wait(rest)
            self._refuse()

    def _refuse(self) -> None:
        if self.broken is not None:
            raise Closed(self.broken)
        if self._is_closed:
            raise Closed("the pool has been shut down")

    def open(self) -> int:
        """Returns how many tasks have not ended."""
        high, low = self._backlogs
        return len(high) + len(low) + len(self._sent)

    def is_links_thread(self) -> bool:
        """Whether the current thread is the one that ends tasks."""
        return threading.get_ident() == self.thread

    def is_full(self) -> bool:
        """Whether a submission would wait."""
        return self._most is not None and self.open() >= self._most

    def counts(self) -> Counts:
        """Returns how many tasks there are."""
        with self._lock:
            counts, open_tasks = dict(self._counts), self.open()
        cancelled = counts[Outcome.CANCELLED] + counts[Outcome.DROPPED]
        done = counts[Outcome.DONE]
        ended = sum(counts.values())
        failed = ended - cancelled - done
        return Counts(ended + open_tasks, done, failed, cancelled, open_tasks)

    def set_workers(self, settings: Settings) -> None:
        """Follows a change of the number of workers."""
        with self._lock:
            self._most = settings.most
            self._least = min(settings.max_workers, self._window)
            self._width = max(self._width, self._least)
            self._changed.notify_all()

    def cancel(self, task: Task, running: bool = False) -> bool:
        """Cancels a task. Returns whether it will have no other outcome.

        Args:
            task: the task.
            running: whether to end the worker that runs the task, if one does.
        """
        with self._lock:
            if task.outcome is not None:
                return task.outcome is Outcome.CANCELLED
            number = task.number
            if number == 0:
                self._end(task, CANCELLED)
                del self._backlogs[not task.is_high][task]
                self._changed.notify_all()
            else:
                self._not_cancelled.discard(number)
        if number == 0:
            task.finish(CANCELLED)
            self._wake()
            return True
        self._await_answer(task, running)
        return task.outcome is Outcome.CANCELLED

    def _await_answer(self, task: Task, running: bool) -> None:
        """Asks the run to cancel a task, and waits until it has ended, or the run has said that
        it goes on."""
        link = self._link
        assert link is not None
        link.cancel(task.number, running)

        def is_answered() -> bool:
            return task.outcome is not None or task.number in self._not_cancelled

        if self.is_links_thread():
            while not is_answered():
                link.turn()
        else:
            self.wait(is_answered)

    def is_running(self, task: Task) -> bool:
        """Whether a worker is at a task."""
        if self._link is None or task.number == 0 or task.outcome is not None:
            return False
        return self._link.is_running(task.number)

    def cancel_unbegun(self, spared: int = 0) -> None:
        """Cancels all tasks that no worker has.

        Args:
            spared: how many go on, of those that are next.
        """
        with self._lock:
            sent = list(self._sent)[spared:]
            self._asked.update(sent)
            left = self._cancel_unsent(max(0, spared - len(self._sent)))
        for task in left:
            task.finish(CANCELLED)
        if self._link is not None:
            for number in sent:
                self._link.cancel(number, False)

    def has_answers(self) -> bool:
        """Whether the run has answered all that `cancel_unbegun` has asked."""
        return not self._asked

    def _cancel_unsent(self, spared: int) -> List[Task]:
        """Cancels the tasks that the run does not have yet. Returns them: the caller ends them."""
        left = [task for line in self._backlogs for task in line if task.outcome is None]
        for task in left[spared:]:
            self._end(task, CANCELLED)
            del self._backlogs[not task.is_high][task]
        self._changed.notify_all()
        return left[spared:]

    def close(self) -> None:
        """Takes no more tasks. Those that are open go on."""
        with self._lock:
            self._is_closed = True
            self._changed.notify_all()
        self._wake()

    def abandon(self) -> None:
        """Does what `close` does, without a lock: the garbage collector may call it anywhere."""
        self._is_closed = True
        self._wake()

    def wait(self, is_so: Callable[[], bool], timeout: Optional[float] = None) -> bool:
        """Waits until something holds that changes with tasks. Returns whether it does."""
        with self._lock:
            return self._changed.wait_for(is_so, timeout)

    def is_idle(self) -> bool:
        """Whether no task is open."""
        return not self.open()

    # What the link calls.

    def take(self) -> List[Task]:
        """Returns the next tasks for the run, with their numbers."""
        taken: List[Task] = []
        with self._lock:
            self._take(taken, monotonic())
        self._call_ends()
        return taken

    def _take(self, taken: List[Task], now: float) -> None:
        # The run lets those of high priority overtake what it has.
        for line, most in zip(self._backlogs, (self._window, self._width)):
            while line and len(self._sent) < most:
                task = next(iter(line))
                if task.outcome is not None:
                    # The cancel was interrupted.
                    self._ended.append((task, CANCELLED))
                    del line[task]
                    continue
                if self._sent and self._sent_bytes + task.size > self._window_bytes:
                    return
                self._last_number += 1
                task.number = self._last_number
                task.sent = now
                # In this order, so that a fork sees it.
                self._sent[task.number] = task
                del line[task]
                self._sent_bytes += task.size
                taken.append(task)

    def is_closed(self) -> bool:
        """Whether there will be no more tasks."""
        return self._is_closed

    def is_finished(self) -> bool:
        """Whether there will be no more tasks, and all have ended."""
        with self._lock:
            return self._is_closed and self.is_idle()

    def acknowledged(self, endings: Iterable[Tuple[int, Ending]]) -> int:
        """Ends tasks, by their numbers. Returns how many bytes of results are let go by now."""
        released = 0
        with self._lock:
            task = None
            for number, ending in endings:
                size = ending.result.size() if ending.result is not None else 0
                task = self._sent.get(number)
                if task is None or not task.is_kept:
                    released += size
                if task is None:
                    continue
                self._not_cancelled.discard(number)
                self._asked.discard(number)
                self._end(task, ending)
                self._ended.append((task, ending))
                del self._sent[number]
                self._sent_bytes -= task.size
            if task is not None:
                self._adapt(monotonic() - task.sent)
            self._changed.notify_all()
        self._call_ends()
        return released

    def release(self, size: int) -> None:
        """Lets so many bytes of results go that were kept."""
        if self._link is not None and size:
            self._link.release(size)

    def _adapt(self, latency: float) -> None:
        """Lets the run have more tasks if they come back quickly, and fewer if they do not."""
        if latency < _QUICK:
            self._width = min(2 * self._width, self._window)
        elif latency > _SLOW:
            self._width = max(self._width // 2, self._least)

    def not_cancelled(self, number: int) -> None:
        """Says that a task goes on although it was to be cancelled."""
        with self._lock:
            self._asked.discard(number)
            if number in self._sent:
                self._not_cancelled.add(number)
            self._changed.notify_all()

    def over(self, broken: Optional[str] = None) -> None:
        """Ends the pool with all tasks that are open.

        Args:
            broken: why it ends, if it was not closed.
        """
        with self._lock:
            why = broken or "the pool has been shut down"
            ending = Ending(Outcome.DROPPED, texts=(why,))
            self.broken = self.broken or broken
            left = [*self._sent.values(), *(task for line in self._backlogs for task in line)]
            for task in left:
                if task.outcome is None:
                    self._end(task, ending)
                    self._ended.append((task, ending))
            self._sent.clear()
            self._asked.clear()
            for line in self._backlogs:
                line.clear()
            self.is_over = True
            self._changed.notify_all()
        self._call_ends()

    def _end(self, task: Task, ending: Ending) -> None:
        task.outcome = ending.outcome
        task.payload = None
        self._counts[ending.outcome] += 1

    def _call_ends(self) -> None:
        if self._is_ending:
            # An `end` waits for the answer to a cancel: the outer call goes on with these.
            return
        self._is_ending = True
        try:
            while self._ended:
                # It stays until it is told, so that a fork sees it.
                self._ended[0][0].finish(self._ended[0][1])
                self._ended.popleft()
        finally:
            self._is_ending = False
