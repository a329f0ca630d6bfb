"""The calls of a step: what goes in, what comes out, and what becomes of a failure."""

from __future__ import annotations

from time import monotonic_ns
from types import GeneratorType
from typing import Any, Callable, Iterator, List, Optional, Protocol, Tuple, Type, Union

from ..api import announce
from ..api.stage import Idle, may_change_arrays
from ..protocol import failures, wire
from ..protocol.batches import Gathered
from ..protocol.failures import Failure
from ..protocol.page import MESSAGE, SINCE, Page
from ..protocol.pickles import MARK
from ..protocol.values import Decoder
from .emit import Emitter, origin_finder
from .flusher import Handover
from .forks import call, forked, leave

#: What a producer's call comes to.
Result = Union[int, Idle, Failure]

#: A batch is reported in parts after this much time, in nanoseconds, or when
#: this much has gathered.
_REPORT_AFTER = 1_000_000
_REPORT_OUTPUTS = 1024
_REPORT_BYTES = 1 << 20
#: Below this a running time is not told from a shorter one, in bits of nanoseconds.
_SHORTEST = 11


class Reports(Protocol):
    """Where a task tells what it has done."""

    def done(self, completions: List[wire.Completion], outputs: List[Any]) -> None:
        """What became of messages, and what they emitted."""

    def produced(self, calls: int, busy: int, result: Result, outputs: List[Any]) -> None:
        """How often a producer was called, the time that took, what came of it."""

    def finished(self, failure: Optional[Failure], outputs: List[Any]) -> None:
        """Why finishing failed, if so, and what it emitted."""


class Task:
    """One instance of a step, and what it is called with.

    What many short calls have done is reported together. When a call takes long, a
    second thread reports what the calls before it have done. What a call of a stage
    emits is its own until it has ended: if it fails, it has emitted nothing. What a
    producer has sent is sent, for a producer that fails is not asked again.
    """

    def __init__(
        self,
        instance: Any,
        emitter: Emitter,
        reports: Reports,
        ends: Tuple[Type[BaseException], ...] = (),
    ) -> None:
        """`ends` are exceptions that are no failure: they are raised."""
        self._instance = instance
        self._ends = ends
        self._emitter = emitter
        self._reports = reports
        self._gathered = Gathered()
        self._decoder = Decoder()
        self._produced: Optional[Iterator[Any]] = None
        self._origin_of = origin_finder(instance)
        self._tally = Tally()
        self._lock = emitter.lock
        self._handover = Handover(self._look)
        emitter.sent = self._handover.wake
        #: Whether a grant is in use; its calls that are not reported yet, the time that
        #: all took, how much of that is reported, and how many outputs are.
        self._is_producing = False
        self._calls = self._busy = self._told = self._handed = 0
        #: How often a producer was asked.
        self._asked = 0
        #: What was going on at the latest look.
        self._seen = (0, 0)

    def init(self) -> Optional[Failure]:
        """Why the step cannot work, if so."""
        try:
            init = getattr(self._instance, "init", None)
            result = call(init) if init is not None else None
        except BaseException as error:
            return self.failed("init", error)
        if result is False or (type(result).__module__ == "numpy" and result == False):  # noqa: E712
            name = type(self._instance).__name__
            return Failure(False, [f"init of {name} returned False: it cannot work"])
        opens = getattr(self._instance, "opens_pickles", True) is not False
        self._decoder = Decoder(may_change_arrays(self._instance), opens)
        self._emitter.ready()
        return None

    def is_in_its_call(self) -> bool:
        """Whether the current thread works for the present call."""
        emitter = self._emitter
        return bool(emitter.call) and emitter.call == emitter.call_of_this_thread()

    def expected(self) -> Optional[int]:
        """How much a producer says that it will emit: its `expected`, a number or a method."""
        said = getattr(self._instance, "expected", None)
        try:
            said = call(said) if callable(said) else said
            return None if said is None else max(0, min(int(said), 2**64 - 1))
        except BaseException as error:
            from . import log

            # It is for those who watch the run only.
            log.of_step(type(self._instance).__name__).warning(
                "what is expected is not known: %s", failures.summary(error)
            )
            return None

    def work(
        self,
        messages: Iterator[wire.Message],
        page: Page,
        is_over: Optional[Callable[[], bool]],
    ) -> bool:
        """Works on the messages in order, and reports what is done when it is
        time to. False if `is_over` said so before a message."""
        words, lock, run = page.words, self._lock, self._instance.run
        emitter, gathered = self._emitter, self._gathered
        settle, next_call, pending = emitter.settle, emitter.next_call, emitter.pending
        push, tell, made = gathered.push, self._tally.add, announce.pending
        decode, unpack, is_done = self._decoder.decode, self._decoder.unpack(), False
        self._handover.wake()
        began = reported = monotonic_ns()
        for number, origin, header, buffers in messages:
            if is_over is not None and is_over():
                break
            words[SINCE], words[MESSAGE] = began, number
            emitter.origin = origin
            emitter.call = this_call = next_call()
            failure = packed = None
            reading = True
            try:
                value = decode(header, buffers) if buffers or header[0] == MARK else unpack(header)
                reading = False
                result = run(value)
                if forked:
                    leave()
                # The next message needs the room.
                value = None
                packed = None if result is None else settle(result)
                result = None
            except BaseException as error:
                if forked:
                    leave(error)
                value = result = packed = None
                failure = self._failure(error, number, header, buffers, reading)
            del buffers
            if self._seen[0] == this_call:
                # It took long enough for the other thread to fall asleep; so may the next.
                self._handover.wake()
            with lock:
                emitter.call = 0
                if packed is not None:
                    push(0, origin, packed, ())
                is_silent = packed is None and (failure is not None or not pending)
                if pending or made:
                    self._settle(origin, failure)
                now = monotonic_ns()
                tell(number, is_silent, now - began, failure)
                began = now
                if (
                    now - reported >= _REPORT_AFTER
                    or gathered.count >= _REPORT_OUTPUTS
                    or gathered.bytes >= _REPORT_BYTES
                ):
                    page.rest()
                    self._report_done()
                    began = reported = monotonic_ns()
        else:
            is_done = True
        page.rest()
        with lock:
            self._report_done()
        return is_done

    def _settle(self, origin: Optional[bytes], failure: Optional[Failure]) -> None:
        """What was emitted and made known for a message stands, unless it has failed."""
        if failure is None:
            self._emitter.flush(self._gathered)
            announce.settle(origin)
        else:
            self._emitter.pending.clear()
            announce.pending.clear()

    def _report_done(self) -> None:
        if self._tally:
            self._reports.done(self._tally.take(), self._gathered.take())

    def _look(self) -> bool:
        """Reports what calls have done if the present one takes long; true if it may not."""
        with self._lock:
            going_on = (self._emitter.call, self._asked)
            if self._seen != going_on:
                self._seen = going_on
                return True
            self._report_done()
            if self._is_producing:
                self._emitter.flush(self._gathered)
                if self._calls or self._gathered.count:
                    self._handed += self._gathered.count
                    self._report_production(wire.AT_WORK)
                    return True
            return False

    def _failure(
        self, error: BaseException, number: int, header: Any, buffers: Any, reading: bool
    ) -> Failure:
        value = None
        try:
            # Anew: the step may have changed it. And the quick way does not say what is
            # the matter with what cannot be read.
            value = self._decoder.decode(header, buffers)
        except Exception as reason:
            if reading:
                return failures.of(reason)
        return self.failed(number, error, value)

    def failed(self, occasion: Union[int, str], error: BaseException, value: Any = None) -> Failure:
        """What a failed call is for the run; its driver is told more."""
        if isinstance(error, self._ends):
            # What lies here is nobody's any more.
            with self._lock:
                self._tally.take()
                self._is_producing = False
            raise error
        from ..api import failure_details

        failure_details.tell(occasion, error, value)
        return failures.of(error)

    def produce(self, count: int) -> None:
        """Asks for about `count` items, and reports them."""
        emitter, gathered = self._emitter, self._gathered
        emitter.origin, emitter.origin_of = None, self._origin_of
        # Production is one call: whoever it starts may send until it ends.
        emitter.call = emitter.call or emitter.next_call()
        self._calls = self._busy = self._told = self._handed = 0
        self._is_producing = True
        self._handover.wake()
        start = monotonic_ns()
        calls = 0
        result: Result = wire.MORE
        while True:
            calls += 1
            try:
                result = call(self._advance)
            except BaseException as error:
                # It cannot be continued: what it has left is not known.
                announce.pending.clear()
                self._produced = iter(())
                result = self.failed("produce", error)._replace(retryable=False)
            is_last = isinstance(result, Failure) or result == wire.NO_MORE
            with self._lock:
                if is_last:
                    emitter.call = 0
                emitter.flush(gathered)
                announce.settle(None)
                self._calls += 1
                self._asked += 1
                self._busy = monotonic_ns() - start
                if (
                    result != wire.MORE
                    or calls >= count
                    or self._handed + gathered.count >= count
                    or self._busy >= _REPORT_AFTER
                    or gathered.bytes >= _REPORT_BYTES
                ):
                    self._is_producing = False
                    self._report_production(result)
                    return

    def _report_production(self, result: Result) -> None:
        calls, self._calls = self._calls, 0
        busy, self._told = self._busy - self._told, self._busy
        self._reports.produced(calls, busy, result, self._gathered.take())

    def _advance(self) -> Union[int, Idle]:
        if self._produced is None:
            made = self._instance.run()
            if isinstance(made, Idle):
                return made
            if not isinstance(made, GeneratorType) and not hasattr(type(made), "__next__"):
                self._produced = iter(())
                self._emitter.result(made)
                return wire.NO_MORE
            self._produced = made
        for value in self._produced:
            if isinstance(value, Idle):
                return value
            if value is not None:
                self._emitter.value(value)
            return wire.MORE
        return wire.NO_MORE

    def finish(self) -> None:
        """Lets the step finish, and reports it."""
        emitter, gathered = self._emitter, self._gathered
        emitter.origin, emitter.origin_of = None, self._origin_of
        with self._lock:
            # What a producer's threads have sent since its latest grant.
            emitter.flush(gathered)
            emitter.call = emitter.next_call()
        failure = None
        try:
            finish = getattr(self._instance, "finish", None)
            if finish is not None:
                # What it yields is made while it is emitted.
                call(lambda: emitter.result(finish()))
        except BaseException as error:
            failure = self.failed("finish", error)
        with self._lock:
            emitter.call = 0
            if failure is not None:
                emitter.pending.clear()
                announce.pending.clear()
            emitter.flush(gathered)
            announce.settle(None)
            self._reports.finished(failure, gathered.take())


class Tally:
    """What became of the messages of a batch. Successive ones that are done and
    took about as long are told as one."""

    def __init__(self) -> None:
        self._completions: List[wire.Completion] = []
        self._first = self._count = self._silent = self._busy = self._size = 0

    def __bool__(self) -> bool:
        return bool(self._count or self._completions)

    def add(self, number: int, silent: bool, busy: int, failure: Optional[Failure]) -> None:
        """Adds one message."""
        size = busy.bit_length()
        size = max(size, _SHORTEST)
        if failure is None and size == self._size and number == self._first + self._count:
            self._count += 1
            self._silent += silent
            self._busy += busy
            return
        self._close()
        if failure is not None:
            self._completions.append(wire.Completion(number, 1, int(silent), busy, failure))
            return
        self._first, self._count, self._silent = number, 1, int(silent)
        self._busy, self._size = busy, size

    def take(self) -> List[wire.Completion]:
        """All so far; nothing is left."""
        self._close()
        taken, self._completions = self._completions, []
        return taken

    def _close(self) -> None:
        if self._count:
            done = wire.Completion(self._first, self._count, self._silent, self._busy, None)
            self._completions.append(done)
            self._count = self._size = 0
