"""The run behind a pool, and the thread that talks with it.

The thread has four partners: the run's control socket, which asks for workers; the nursery, which
starts them; the link of the feed, over which tasks go and their ends come; and the threads of the
pool's users, which wake it. Nobody else touches the link.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import weakref
from collections import deque
from time import monotonic
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from ..api.report import RunError
from ..driving import pipes
from ..driving.attach import Over, Start
from ..protocol import control, tags, wire
from ..protocol.failures import summary
from ..worker.attached import Seat
from .board import Board
from .core import Core
from .ending import Ending, Outcome
from .nursery import Nursery, Workers, to_the_living
from .payload import Payload
from .plan import WORK, attach
from .settings import Settings
from .task import EXCEPTION, Raised, read_aside
from .worker import Job

_log = logging.getLogger("drpipe.pool")

#: The time between two signs of life, in milliseconds.
_BEAT = 1000
#: The time after which a request is made again that came too early, in milliseconds.
_AGAIN = 10
#: How long a run may take to end by itself when nothing is left to do, in seconds: a worker that
#: still begins is not awaited. The pool then ends within the two seconds that docs/POOLS.md names.
_END = 1.9
#: How long an interpreter that exits waits for a pool that it has told to end, in seconds.
_EXIT = 5.0

_OUTCOMES = {
    tags.CAUSE_LOST: Outcome.LOST,
    tags.CAUSE_TIMED_OUT: Outcome.TIMED_OUT,
}
#: The runs that are not over.
_open: weakref.WeakSet[PoolRun] = weakref.WeakSet()
_is_exiting = threading.Event()


def _ignore(*_: Any) -> None:
    pass


def begin(
    core: Core,
    settings: Settings,
    on_told: Callable[[Any], None] = _ignore,
    on_over: Callable[[], None] = _ignore,
) -> PoolRun:
    """Starts a run and connects it with a core.

    Args:
        core: the tasks.
        settings: the workers and their limits.
        on_told: called by the run's thread with what a task says while it runs.
        on_over: called by the run's thread when the run is over and all tasks have ended.

    Raises:
        ProgramNotFound: if there is no drpipe program.
        RunError: if the run refuses, with its reason.
        RuntimeError: if the interpreter exits, or has no thread left.
    """
    if _is_exiting.is_set():
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")
    return PoolRun(core, settings, on_told, on_over)


class PoolRun:
    """A run of the program with one step, whose workers the nursery starts."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        on_told: Callable[[Any], None],
        on_over: Callable[[], None],
    ) -> None:
        """Starts the nursery, the program and the thread: see `begin`."""
        self._core, self._settings = core, settings
        self._on_told, self._on_over = on_told, on_over
        #: The report of the run, once it is over.
        self.report: Optional[Dict[str, Any]] = None
        self._reason: Optional[str] = None
        self._is_over = False
        self._reader = self._writer = self._log = -1
        self._seat: Optional[Seat] = None
        self._is_finishing = self._is_paused = self._is_stopped = False
        #: When the run was told that nothing is left to do.
        self._finished_at = 0.0
        #: The limits of the number of workers, the number that the run has, the one that it was
        #: asked for, and the number of that request, unless it is answered.
        self._least, self._most = settings.min_workers, settings.max_workers
        self._has = self._asked = settings.min_workers
        self._request = 0
        #: When there was something to do last.
        self._busy_at = monotonic()
        #: What tasks have raised, until their ends come.
        self._raised: Dict[int, Raised] = {}
        self._cancels: Deque[Tuple[int, bool]] = deque()
        self._released: Deque[int] = deque()
        self._is_woken = self._is_asleep = False
        self._wait = _BEAT
        self._thread = threading.Thread(target=self._attend, name="drpipe-pool", daemon=True)
        self._start()
        core.use(self)
        _open.add(self)

    def _start(self) -> None:
        with contextlib.ExitStack() as undo:
            self._board = Board()
            undo.callback(self._close_files)
            # A fork of this process has the fewest threads now.
            nursery = Nursery(self._settings.context, _job(self._board, self._settings))
            undo.callback(nursery.close)
            self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._log, theirs = os.pipe2(os.O_CLOEXEC)
            self._lines = pipes.of_log(self._log)
            try:
                self._attachment = attach(self._settings, theirs)
            finally:
                os.close(theirs)
            undo.callback(self._attachment.abandon)
            self._workers = Workers(nursery, self._attachment)
            self._poller = select.poll()
            #: The descriptor of the nursery's socket.
            self._nursery = nursery.socket.fileno()
            for partner in (self._reader, self._log, self._nursery, self._attachment.fileno()):
                self._poller.register(partner, select.POLLIN)
            # It raises if no thread is left, or the interpreter exits.
            self._thread.start()
            undo.pop_all()

    # What users' threads call.

    def wake(self) -> None:
        """Has the thread look for tasks."""
        self._is_woken = True
        if self._is_asleep:
            self._is_asleep = False
            with contextlib.suppress(OSError):
                os.write(self._writer, b"!")

    def cancel(self, number: int, running: bool) -> None:
        """Asks the run to cancel a task."""
        self._cancels.append((number, running))
        self.wake()

    def release(self, size: int) -> None:
        """Tells the run that so many bytes of results are let go."""
        self._released.append(size)
        self.wake()

    def is_running(self, number: int) -> bool:
        """Whether a worker is at a task."""
        return self._board.runs(number)

    def is_busy(self) -> bool:
        """Whether any worker is at a task."""
        return self._board.is_used()

    def workers(self) -> int:
        """Returns the number of worker processes."""
        return len(self._workers)

    def pause(self) -> None:
        """Begins no task until `resume`."""
        self._is_paused = True
        self._steer(lambda: self._attachment.pause(WORK))

    def resume(self) -> None:
        """Begins tasks again."""
        self._is_paused = False
        self._steer(lambda: self._attachment.resume(WORK))

    def set_workers(self, count: int) -> None:
        """Changes the number of workers, which no longer follows the tasks."""
        self._least = self._most = count
        self.wake()

    def stop(self) -> None:
        """Ends the run at once. Tasks that are open are dropped."""
        self._steer(self._attachment.stop)

    def _steer(self, ask: Callable[[], object]) -> None:
        with to_the_living():
            ask()

    def end(self) -> None:
        """Ends the run: at once if tasks are in workers, and by force if that does not help."""
        self._core.cancel_unbegun()
        self._core.close()
        if not self._core.is_idle():
            self.stop()
        if not self.join(_EXIT):
            self.kill()

    def kill(self) -> None:
        """Ends the run by force if it is not over. Its workers end with it."""
        if self._thread.is_alive():
            self._attachment.process.kill()
            self._thread.join()

    def join(self, timeout: Optional[float] = None) -> bool:
        """Waits for the end. Returns whether it has come."""
        if self._thread is threading.current_thread():
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def forget(self) -> None:
        """Gives the run up in a fork of this process, which has no part in it."""
        self._core.forget("the pool belongs to the process that has forked this one")
        self._attachment.forget()
        if self._workers.nursery is not None:
            self._workers.nursery.socket.close()

    # The thread.

    def _attend(self) -> None:
        self._core.thread = threading.get_ident()
        try:
            while not self._is_over:
                self.turn()
        except EOFError as error:
            self._reason = str(error)
        except BaseException as error:
            _log.exception("the pool ends")
            self._reason = f"{type(error).__name__}: {error}"
        finally:
            self._finish()

    def _finish(self) -> None:
        try:
            if self._seat is not None:
                self._seat.close()
            self._attachment.close()
            self._lines.read_rest()
            self._close_files()
            self._workers.close()
        finally:
            # Whatever cannot be closed: nobody waits for ever.
            _open.discard(self)
            if not self._is_finishing and self._reason is None:
                self._reason = "the run has ended"
            self._core.over(self._reason)
            self._on_over()

    def _close_files(self) -> None:
        with contextlib.ExitStack() as rest:
            # Each, whatever becomes of the others.
            for file in (self._reader, self._writer, self._log):
                if file >= 0:
                    rest.callback(os.close, file)
            rest.callback(self._board.close)

    def turn(self) -> None:
        """Sends what there is, waits for something, and hands it on."""
        self._is_woken = False
        if self._seat is not None:
            self._send()
        self._is_asleep = True
        events = dict(self._poller.poll(0 if self._is_woken else self._longest_wait()))
        self._is_asleep = False
        if self._seat is not None:
            self._seat.page.beat()
        if self._reader in events:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 1 << 16)
        if self._log in events and not self._lines.read():
            self._poller.unregister(self._log)
        if self._nursery in events:
            self._workers.hear()
            if self._workers.nursery is None:
                self._poller.unregister(self._nursery)
        if self._attachment.fileno() in events:
            self._hear_control()
        if self._seat is not None:
            self._hear_link()

    def _longest_wait(self) -> float:
        """Returns how long to wait for something, in milliseconds."""
        if not self._is_finishing or self._is_stopped:
            return self._wait
        left = 1000 * (self._finished_at + _END - monotonic())
        return max(0, min(self._wait, left))

    def _send(self) -> None:
        link = self._link()
        while self._cancels:
            link.send(wire.cancel(*self._cancels.popleft()))
        while self._released:
            link.send(wire.released(self._released.popleft()))
        while True:
            tasks = self._core.take()
            if not tasks:
                break
            outputs, refused = [], []
            for task in tasks:
                try:
                    outputs.append(task.output())
                except Exception as error:
                    _log.exception("a task cannot be sent")
                    refused.append((task.number, Ending(Outcome.FAILED, texts=(summary(error),))))
            link.send(wire.produced(len(outputs), 0, tags.RESULT_MORE, outputs, link.lifeline))
            if refused:
                self._core.acknowledged(refused)
        self._fit_workers()
        if self._is_paused and self._core.is_closed():
            # What was submitted goes on to its end.
            self.resume()
        if not self._is_finishing and self._core.is_finished():
            self._is_finishing, self._finished_at = True, monotonic()
            link.send(wire.produced(0, 0, tags.RESULT_NO_MORE, []))
        is_late = self._is_finishing and monotonic() - self._finished_at >= _END
        if is_late and not self._is_stopped:
            self._is_stopped = True
            self.stop()

    def _fit_workers(self) -> None:
        """Has a worker for each open task, within the limits."""
        open_tasks, now = self._core.open(), monotonic()
        if open_tasks:
            self._busy_at = now
        wanted = min(max(self._asked, open_tasks, self._least), self._most)
        idle, limit = now - self._busy_at, self._settings.shrink_after
        if limit is not None and idle >= limit:
            wanted = self._least
        if wanted != self._asked and not self._request:
            with to_the_living():
                self._request = self._attachment.set_workers(WORK, wanted)
            self._asked = wanted

    def _hear_answer(self, answer: control.Answer) -> None:
        if answer.request == self._request:
            self._request, self._wait = 0, _BEAT
            if answer.error is None:
                self._has = self._asked
            elif not self._is_finishing:
                # The run has not begun yet.
                self._asked, self._wait = self._has, _AGAIN

    def _link(self) -> Any:
        assert self._seat is not None
        return self._seat.link

    # The control socket.

    def _hear_control(self) -> None:
        """Takes all that has come over the control socket."""
        while not self._is_over:
            try:
                frame = self._attachment.receive()
            except RunError as error:
                self._reason = str(error)
                return
            if frame is None:
                return
            if isinstance(frame, Start):
                self._begin(frame)
            elif isinstance(frame, control.Answer):
                self._hear_answer(frame)
            elif isinstance(frame, Over):
                self._over(frame)

    def _begin(self, start: Start) -> None:
        if start.feeds:
            self._seat = Seat(start.lifeline, feeds=True)
            link = self._link()
            link.send(wire.ready())
            self._poller.register(link, select.POLLIN)
            with to_the_living():
                self._attachment.started(start, os.getpid(), control.CALLER)
            return
        self._workers.begin(start)

    def _hear_aside(self, data: bytes) -> None:
        try:
            kind, item, content = read_aside(data)
            if kind == EXCEPTION:
                self._raised[item] = Raised(*content)
            else:
                self._on_told(content)
        except BaseException:
            # What is loaded may raise anything.
            _log.exception("what a task has said cannot be heard")

    def _over(self, over: Over) -> None:
        self._is_over = True
        self.report = over.report
        if not self._is_finishing or self._core.counts().open:
            reason = (over.report or {}).get("reason")
            self._reason = self._reason or reason or f"the run ended with code {over.exit_code}"

    # The link.

    def _hear_link(self) -> None:
        link = self._link()
        while self._seat is not None:
            message = link.receive_now()
            if message is None and not link.is_over():
                return
            if message is None or message.kind == tags.STOP:
                self._leave()
            elif message.kind == tags.ACKNOWLEDGED:
                self._hear_ends(message.acknowledgements())
            elif message.kind == tags.NOT_CANCELLED:
                self._core.not_cancelled(message.not_cancelled())
            elif message.kind == tags.TOLD:
                self._hear_aside(bytes(message.told()))
            elif message.kind == tags.FINISH:
                message.end()
                link.send(wire.finished(None, []))

    def _leave(self) -> None:
        assert self._seat is not None
        self._poller.unregister(self._seat.link)
        self._seat.close()
        self._seat = None

    def _hear_ends(self, items: List[wire.Acknowledgement]) -> None:
        endings = []
        for item in items:
            if item.outcome == tags.ITEM_DROPPED:
                # The run is about to end, and then says why.
                continue
            endings.append((item.number, self._ending(item)))
        released = self._core.acknowledged(endings)
        if released and self._seat is not None:
            self._link().send(wire.released(released))

    def _ending(self, item: wire.Acknowledgement) -> Ending:
        raised = self._raised.pop(item.number, None) if self._raised else None
        if item.outcome == tags.ITEM_DONE:
            if len(item.results) == 1:
                return Ending(Outcome.DONE, Payload(*item.results[0]))
            return Ending(Outcome.FAILED, texts=("the run has lost the result",))
        if item.failure is not None:
            outcome = _OUTCOMES.get(item.failure.cause, Outcome.FAILED)
            raised = raised if outcome is Outcome.FAILED else None
            return Ending(outcome, texts=tuple(item.failure.failure.texts), raised=raised)
        return Ending(Outcome.CANCELLED)


def _job(board: Board, settings: Settings) -> Job:
    return Job(
        board,
        settings.initializer,
        settings.initargs,
        settings.initializer_timeout,
        settings.max_tasks,
    )


def _forget_all() -> None:
    for run in list(_open):
        run.forget()
    _open.clear()


def _end_all() -> None:
    """Ends what is open when the interpreter exits: the executors have been shut down before."""
    _is_exiting.set()
    for run in list(_open):
        run.end()


os.register_at_fork(after_in_child=_forget_all)
# Called in reverse order of registration, so after executors.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
