"""Runs that are fed by this program: `Pipeline.feed`."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import weakref
from collections import deque
from time import monotonic
from types import TracebackType
from typing import Any, Deque, Dict, Iterator, List, Optional, Sequence, Type

from ..api.acknowledgement import Acknowledgement, size_of_results
from ..api.decoding import decoder
from ..api.report import Report, RunError, RunStopped
from ..protocol import control, tags, wire
from ..protocol.batches import SingleOutput, priority_of, size_of
from ..protocol.failures import Failure
from ..protocol.values import Encoder
from ..worker.attached import Seat
from ..worker.emit import natural_origin
from . import pipes
from .attach import Attachment, Over, Start

#: The time between two signs of life, in milliseconds.
_BEAT = 1000
#: How long a run that is stopped may take to end before it is killed, in seconds.
_PATIENCE = 10.0


class Feed:
    """A run whose items come from this program, and that tells it what became of each.

    The pipeline's producer has the class `Caller`. A feed is a context manager: leaving its block
    finishes it, and waits for the run to end; an exception in the block stops the run. Any thread
    may use it.

    Example:
        >>> with drpipe.Pipeline.load("open.json").feed() as feed:  # doctest: +SKIP
        ...     for path in paths:
        ...         feed.put(path)
        ...     for item in feed.acknowledgements():
        ...         print(item.origin, item.outcome, item.results)
    """

    def __init__(self, config: str, arguments: Sequence[str]) -> None:
        """Starts the run: see `Pipeline.feed`."""
        #: The report of the run when it has ended; None if it gave none.
        self.report: Optional[Report] = None
        self._changed = threading.Condition()
        #: Encoders are for one thread at a time.
        self._encoding = threading.Lock()
        self._encoder: Optional[Encoder] = None
        self._seat: Optional[Seat] = None
        self._window, self._window_bytes = 0, 0.0
        #: The priority of items that are put without one.
        self._priority = tags.PRIORITY_NORMAL
        #: What the run does not have yet, and the origins and sizes of all items under way.
        self._unsent: Deque[SingleOutput] = deque()
        self._cancels: Deque[tuple[int, bool]] = deque()
        self._open: Dict[int, tuple[Optional[bytes], int]] = {}
        self._bytes = self._number = 0
        #: What was not read yet, and the sizes of results that are let go when they are read.
        self._told: Deque[Acknowledgement] = deque()
        self._held: Dict[int, int] = {}
        self._released = self._putting = 0
        self._is_read = self._is_finished = self._has_said_so = False
        #: Why nothing can be put any more, if the run has ended.
        self._over: Optional[str] = None
        self._reason: Optional[str] = None
        self._process = os.getpid()
        self._reader = self._writer = self._log = -1
        self._thread = threading.Thread(target=self._attend, name="drpipe-feed", daemon=True)
        self._start(config, arguments)

    def _start(self, config: str, arguments: Sequence[str]) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(self._close_files)
            self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._log, theirs = os.pipe2(os.O_CLOEXEC)
            self._lines = pipes.of_log(self._log)
            try:
                self._attachment = Attachment(config, arguments, stderr=theirs)
            finally:
                os.close(theirs)
            undo.callback(self._attachment.abandon)
            _open.add(self)
            # It raises if no thread is left.
            self._thread.start()
            undo.pop_all()

    def _close_files(self) -> None:
        for file in (self._reader, self._writer, self._log):
            if file >= 0:
                os.close(file)
        self._reader = self._writer = self._log = -1

    def put(
        self,
        value: Any,
        origin: Optional[str] = None,
        *,
        priority: Optional[str] = None,
        block: bool = True,
        timeout: Optional[float] = None,
    ) -> int:
        """Gives an item to the run.

        Args:
            value: the item. The caller may change it afterward.
            origin: the item's name in the log and the journal; by default, the path of a file
                or the source of a frame has one.
            priority: "high" to go before all items of normal priority that wait; by default, that
                of the producer's key `priority`.
            block: whether to wait while as many items are under way as the window lets be.
            timeout: how long to wait, in seconds; None for any time.

        Returns:
            The item's number, which its acknowledgement has, too: 1 for the first.

        Raises:
            queue.Full: if there is no room within that time.
            RunError: if the run has ended, with the reason; a `RunStopped` if it was stopped.
            RuntimeError: after `finish`, and in a fork of the process.
            ValueError: if there is no such priority.
            Permanent: if the value cannot be sent.

        Example:
            >>> feed.put("raw/n7_0042.fits", timeout=10)  # doctest: +SKIP
            1
        """
        self._refuse_forks()
        tag = None if priority is None else priority_of(priority)
        until = None if timeout is None else monotonic() + timeout
        if not block:
            until = 0.0
        with self._changed:
            self._wait(lambda: self._encoder is not None, until)
        assert self._encoder is not None
        with self._encoding:
            header, buffers = self._encoder.encode(value)
        name = natural_origin(value) if origin is None else origin
        text = None if name is None else os.fspath(name)
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        size = size_of(header, buffers)
        with self._changed:
            self._putting += 1
            try:
                self._release_all()
                self._wait(lambda: self._has_room(size), until)
            finally:
                self._putting -= 1
            self._number = number = self._number + 1
            self._open[number] = (data, size)
            self._bytes += size
            tag = self._priority if tag is None else tag
            self._unsent.append(SingleOutput(0, data, bytes(header), buffers, number, tag))
        self._wake()
        return number

    def _refuse_forks(self) -> None:
        # Before any lock is taken: in a fork, the thread that holds it may not exist.
        if os.getpid() != self._process:
            raise RuntimeError("the feed belongs to the process that has forked this one")

    def _has_room(self, size: int) -> bool:
        if not self._open:
            return True
        return len(self._open) < self._window and self._bytes + size <= self._window_bytes

    def _wait(self, is_so: Any, until: Optional[float]) -> None:
        while True:
            if self._is_finished:
                raise RuntimeError("the feed has finished")
            if self._over is not None:
                raise self._ended()
            if is_so():
                return
            rest = None if until is None else until - monotonic()
            if rest is not None and rest <= 0:
                raise queue.Full
            self._changed.wait(rest)

    def acknowledgements(self, until_finished: bool = False) -> Iterator[Acknowledgement]:
        """Yields what became of each item, once, in the order in which items end.

        It waits for the next item that ends, and is over when none is under way. If the run ends
        before an item does, the item is "dropped", with the reason.

        Results that were not read yet hold back the steps that make more, unless a `put` waits.

        Args:
            until_finished: whether to wait for more items, also if none is under way, until
                `finish` or the end of the run: for a thread that reads while others put.

        Example:
            >>> for item in feed.acknowledgements():  # doctest: +SKIP
            ...     if item.outcome != "done":
            ...         print(item.origin, item.reasons)
        """
        self._refuse_forks()
        self._is_read = True
        while True:
            with self._changed:
                while not self._told:
                    is_idle = not self._open and (self._is_finished or not until_finished)
                    if is_idle or self._over is not None:
                        return
                    self._changed.wait()
                item = self._told.popleft()
                size = self._held.pop(item.number, 0)
                self._released += size
            if size:
                self._wake()
            yield item

    def cancel(self, number: int, running: bool = False) -> None:
        """Gives an item up. What waits of it is dropped, and it is acknowledged as "cancelled".

        Args:
            number: what `put` has returned.
            running: whether to give it up even if a worker has it. A worker process is ended.
        """
        self._refuse_forks()
        with self._changed:
            self._cancels.append((number, running))
        self._wake()

    def finish(self) -> None:
        """Says that there will be no more items. The run ends when all items have ended."""
        self._refuse_forks()
        with self._changed:
            self._is_finished = True
            # Nobody needs to read what is left: the run could otherwise not end.
            self._release_all()
            self._changed.notify_all()
        self._wake()

    def stop(self) -> None:
        """Stops the run at once. Items that are under way are dropped."""
        self._refuse_forks()
        # It may just have ended.
        with contextlib.suppress(OSError, EOFError):
            self._attachment.stop()

    def wait(self) -> Optional[Report]:
        """Waits for the end of the run, and returns its report.

        Failed items raise nothing: see `Report.check`.

        Raises:
            RunStopped: if the run was stopped before its end; the exception has the report.
            RunError: if it broke off without a report.
        """
        self._refuse_forks()
        self._thread.join()
        if self.report is None or self.report.verdict == "stopped":
            raise self._ended()
        return self.report

    def _ended(self) -> RunError:
        report = self.report
        if report is not None and report.verdict == "stopped":
            return RunStopped(f"the run was stopped before its end: {self._over}", report)
        return RunError(f"the run has ended: {self._over}")

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if kind is None:
            self.finish()
            try:
                self.wait()
            except KeyboardInterrupt:
                self._end()
                raise
            return
        self._end()

    def _end(self) -> None:
        self.finish()
        self.stop()
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            self._attachment.process.kill()
            self._thread.join()

    def _wake(self) -> None:
        # The descriptor is not another's meanwhile.
        with self._changed, contextlib.suppress(OSError):
            os.write(self._writer, b"!")

    def _release_all(self) -> None:
        """Lets the results go that were not read, and that may hold back the run's steps."""
        if self._held:
            self._released += sum(self._held.values())
            self._held.clear()
            self._wake()

    # The thread.

    def _attend(self) -> None:
        try:
            self._serve()
        except (EOFError, RunError) as error:
            self._reason = str(error)
        except BaseException as error:
            self._reason = f"{type(error).__name__}: {error}"
        finally:
            self._leave()

    def _leave(self) -> None:
        try:
            if self._seat is not None:
                self._seat.close()
            self._attachment.close()
            _open.discard(self)
            self._lines.read_rest()
        finally:
            with self._changed:
                self._over = self._reason or "it has ended"
                for number, (origin, _) in self._open.items():
                    self._tell(wire.Acknowledgement(number, origin, tags.ITEM_DROPPED, (), None))
                self._open.clear()
                self._unsent.clear()
                self._changed.notify_all()
                self._close_files()

    def _tell(self, item: wire.Acknowledgement) -> None:
        told = Acknowledgement(item, _decode)
        if item.outcome == tags.ITEM_DROPPED:
            told.reasons = [self._over or ""]
        self._told.append(told)

    def _serve(self) -> None:
        poller = select.poll()
        for partner in (self._reader, self._log, self._attachment.fileno()):
            poller.register(partner, select.POLLIN)
        is_watched = False
        while True:
            if self._seat is not None:
                if not is_watched:
                    poller.register(self._seat.link, select.POLLIN)
                    is_watched = True
                self._send(self._seat)
            ready = dict(poller.poll(_BEAT))
            if self._reader in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._reader, 1 << 16)
            if self._log in ready and not self._lines.read():
                poller.unregister(self._log)
            if self._seat is not None:
                self._seat.page.beat()
                if self._hear_link(self._seat):
                    poller.unregister(self._seat.link)
                    self._seat.close()
                    self._seat = None
            if self._attachment.fileno() in ready and self._hear_control():
                return

    def _send(self, seat: Seat) -> None:
        with self._changed:
            outputs = list(self._unsent)
            self._unsent.clear()
            cancels = list(self._cancels)
            self._cancels.clear()
            released, self._released = self._released, 0
            is_last = self._is_finished and not self._has_said_so
            self._has_said_so |= is_last
        link = seat.link
        if released:
            link.send(wire.released(released))
        if outputs:
            link.send(wire.produced(len(outputs), 0, tags.RESULT_MORE, outputs, link.lifeline))
        for number, running in cancels:
            link.send(wire.cancel(number, running))
        if is_last:
            link.send(wire.produced(0, 0, tags.RESULT_NO_MORE, []))

    def _hear_link(self, seat: Seat) -> bool:
        """Takes what the router has sent. Returns whether it was the last."""
        while True:
            message = seat.link.receive_now()
            if message is None:
                # The control socket says why the router has gone.
                return seat.link.is_over()
            if message.kind == tags.ACKNOWLEDGED:
                self._hear_ends(message.acknowledgements())
            elif message.kind == tags.FINISH:
                message.end()
                seat.link.send(wire.finished(None, []))
            elif message.kind == tags.STOP:
                return True

    def _hear_ends(self, items: List[wire.Acknowledgement]) -> None:
        with self._changed:
            for item in items:
                if item.outcome == tags.ITEM_DROPPED:
                    # The end of the run says why.
                    continue
                _, size = self._open.pop(item.number)
                self._bytes -= size
                self._tell(item)
                results = size_of_results([item])
                if self._is_read and not self._putting and not self._is_finished:
                    self._held[item.number] = results
                else:
                    self._released += results
            self._changed.notify_all()

    def _hear_control(self) -> bool:
        """Takes what has come over the control socket. Returns whether the run is over."""
        while True:
            frame = self._attachment.receive()
            if frame is None:
                return False
            if isinstance(frame, Start):
                self._begin(frame)
            elif isinstance(frame, Over):
                if frame.report is not None:
                    self.report = Report.from_event(frame.report, [])
                    self._reason = self.report.reason or None
                return True

    def _begin(self, start: Start) -> None:
        if not start.feeds:
            start.lifeline.close()
            why = f"the program feeds the run, but does no work of the step {start.step}"
            self._attachment.not_started(start, Failure(False, [why]))
            return
        seat = Seat(start.lifeline, feeds=True)
        seat.link.send(wire.ready())
        self._attachment.started(start, os.getpid(), control.CALLER)
        python = seat.post["python"]
        with self._changed:
            self._seat = seat
            self._window, most = python["window"]
            self._priority = priority_of(seat.post["context"].get("priority", "normal"))
            self._window_bytes = float("inf") if most is None else most
            self._encoder = Encoder(python["to_python"][0])
            self._changed.notify_all()


#: The feeds of this process whose runs may not be over.
_open: weakref.WeakSet[Feed] = weakref.WeakSet()


def _forget_all() -> None:
    for feed in list(_open):
        feed._attachment.forget()
    _open.clear()


# A fork has no part in a run. It would keep the run's socket open.
os.register_at_fork(after_in_child=_forget_all)


def _decode(header: Any, buffers: Sequence[Any]) -> Any:
    # Any thread may read results, and a decoder is for one at a time.
    return decoder(True).decode(header, buffers)
