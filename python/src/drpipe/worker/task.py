"""Calls a step: passes messages in, takes values out, and handles failures."""

from __future__ import annotations

from time import monotonic_ns
from types import GeneratorType
from typing import Any, Callable, Iterator, List, Optional, Protocol, Tuple, Type, Union

from ..api import announce
from ..api.acknowledgement import Acknowledgement, size_of_results
from ..api.decoding import decoder
from ..api.stage import Idle, Signal, acknowledges, may_change_arrays
from ..protocol import failures, wire
from ..protocol.batches import OutputBuffer
from ..protocol.failures import Failure
from ..protocol.page import MESSAGE, SINCE, Page
from ..protocol.tags import (
    PICKLE_MARK,
    RESULT_AT_WORK,
    RESULT_BARRIER,
    RESULT_MORE,
    RESULT_NO_MORE,
)
from .emit import Emitter, origin_finder
from .flusher import Flusher
from .forks import call, forked, leave

#: A batch is reported in parts: after this time, in nanoseconds, or once this much has been
#: emitted. Larger parts keep the next step waiting; smaller parts cost more.
_REPORT_AFTER = 1_000_000
_REPORT_OUTPUTS = 1024
_REPORT_BYTES = 1 << 20
#: The number of bits of the shortest running time in nanoseconds that is told apart: 2
#: microseconds.
_SHORTEST = 11


class Reports(Protocol):
    """A sender of a task's reports to the router. Only one thread at a time calls it."""

    def done(self, completions: List[wire.Completion], outputs: List[Any]) -> None:
        """Reports the outcomes of messages and what the step emitted for them."""

    def produced(self, calls: int, busy: int, result: wire.Result, outputs: List[Any]) -> None:
        """Reports how often a producer was called, for how long, and with what result."""

    def finished(self, failure: Optional[Failure], outputs: List[Any]) -> None:
        """Reports the end of `finish` and what it emitted."""

    def released(self, size: int) -> None:
        """Reports that results of this size, in bytes, were handed on."""


class Task:
    """An instance of a step and the calls of its methods.

    The task reports many short calls together. During a long call, the flusher reports the
    calls before it. The task holds back what a call of a stage emits until the call ends, so a
    failed call emits nothing. It does not hold back what a producer emits, because a producer
    that fails is not called again.
    """

    def __init__(
        self,
        instance: Any,
        emitter: Emitter,
        reports: Reports,
        ends: Tuple[Type[BaseException], ...] = (),
    ) -> None:
        """Creates a task.

        Args:
            instance: the step.
            emitter: the object that takes the step's values.
            reports: the object that sends the task's reports.
            ends: exceptions that are raised here instead of failing the step.
        """
        self._instance = instance
        self._ends = ends
        self._emitter = emitter
        self._reports = reports
        self._outputs = OutputBuffer()
        self._decoder = decoder()
        self._iterator: Optional[Iterator[Any]] = None
        self._origin_of = origin_finder(instance)
        self._tally = Tally()
        self._lock = emitter.lock
        self._flusher = Flusher(self._flush)
        emitter.on_sent = self._flusher.wake
        #: Whether a grant is in use.
        self._is_producing = False
        #: For the grant in use: the calls not yet reported; the running time of all calls, and
        #: how much of it is reported; and the number of outputs reported.
        self._calls = self._busy = self._busy_reported = self._outputs_reported = 0
        #: How often the producer was called.
        self._produce_calls = 0
        #: What `acknowledge` has raised.
        self._untold: Optional[BaseException] = None
        #: The calls in progress at the flusher's latest look.
        self._seen = (0, 0)

    def init(self) -> Optional[Failure]:
        """Calls the step's `init`. Returns why the step cannot work, or None if it can."""
        try:
            init = getattr(self._instance, "init", None)
            result = call(init) if init is not None else None
        except BaseException as error:
            return self._failed("init", error)
        if result is False or (type(result).__module__ == "numpy" and result == False):  # noqa: E712
            name = type(self._instance).__name__
            return Failure(False, [f"init of {name} returned False: it cannot work"])
        opens_pickles = getattr(self._instance, "opens_pickles", True) is not False
        self._decoder = decoder(may_change_arrays(self._instance), opens_pickles)
        self._emitter.ready()
        return None

    def is_in_its_call(self) -> bool:
        """Whether the current thread works for the current call."""
        emitter = self._emitter
        return bool(emitter.call) and emitter.call == emitter.call_of_this_thread()

    def expected(self) -> Optional[int]:
        """Returns how many values a producer expects to emit: its `expected`, a number or a
        method."""
        expected = getattr(self._instance, "expected", None)
        try:
            expected = call(expected) if callable(expected) else expected
            return None if expected is None else max(0, min(int(expected), 2**64 - 1))
        except BaseException as error:
            from . import log

            # Only displays use the number, so a wrong one does not end the run.
            log.of_step(type(self._instance).__name__).warning(
                "the number of expected values is not known: %s", failures.summary(error)
            )
            return None

    def work(
        self,
        messages: Iterator[wire.Message],
        page: Page,
        is_over: Optional[Callable[[], bool]],
    ) -> bool:
        """Processes messages in order and reports them in parts.

        Args:
            messages: the messages.
            page: records the message in progress.
            is_over: called before each message; returns whether the worker must end.

        Returns:
            Whether all messages were processed.
        """
        self._flusher.wake()
        is_done = self._work_on(messages, page, is_over)
        page.rest()
        with self._lock:
            self._report_done()
        return is_done

    def _work_on(
        self,
        messages: Iterator[wire.Message],
        page: Page,
        is_over: Optional[Callable[[], bool]],
    ) -> bool:
        words, lock, run = page.words, self._lock, self._instance.run
        emitter, outputs = self._emitter, self._outputs
        encode, next_call, pending = emitter.encode_result, emitter.next_call, emitter.pending
        route = emitter.default_route
        push, add, announced = outputs.push, self._tally.add, announce.pending
        decode, unpack = self._decoder.decode, self._decoder.unpack()
        began = reported = monotonic_ns()
        for number, item, origin, header, buffers, priority in messages:
            if is_over is not None and is_over():
                return False
            words[SINCE], words[MESSAGE] = began, number
            emitter.origin, emitter.item, emitter.priority = origin, item, priority
            emitter.call = this_call = next_call()
            failure = packed = None
            reading = True
            try:
                is_plain = not buffers and header[0] != PICKLE_MARK
                value = unpack(header) if is_plain else decode(header, buffers)
                reading = False
                result = run(value)
                if forked:
                    leave()
                # Free the memory for the next message.
                value = None
                packed = None if result is None else encode(result)
                result = None
            except BaseException as error:
                if forked:
                    leave(error)
                value = result = packed = None
                failure = self._message_failed(error, number, header, buffers, reading)
            del buffers
            if self._seen[0] == this_call:
                # The flusher may have fallen asleep during the call; the next may be long, too.
                self._flusher.wake()
            with lock:
                emitter.call = 0
                if packed is not None:
                    push(route, origin, packed, (), item, priority=emitter.priority)
                is_silent = packed is None and (failure is not None or not pending)
                if pending or announced:
                    self._settle(origin, failure)
                now = monotonic_ns()
                add(number, is_silent, now - began, failure)
                began = now
                if (
                    now - reported >= _REPORT_AFTER
                    or outputs.count >= _REPORT_OUTPUTS
                    or outputs.bytes >= _REPORT_BYTES
                ):
                    page.rest()
                    self._report_done()
                    began = reported = monotonic_ns()
        return True

    def _settle(self, origin: Optional[bytes], failure: Optional[Failure]) -> None:
        """Commits what the step emitted and announced for a message; drops it after a failure."""
        if failure is None:
            self._emitter.flush(self._outputs)
            announce.settle(origin)
        else:
            self._emitter.pending.clear()
            announce.pending.clear()

    def _report_done(self) -> None:
        if self._tally:
            self._reports.done(self._tally.take(), self._outputs.take())

    def _flush(self) -> bool:
        """Reports finished calls if the current call takes long.

        Returns whether another look soon is worthwhile.
        """
        with self._lock:
            under_way = (self._emitter.call, self._produce_calls)
            if self._seen != under_way:
                self._seen = under_way
                return True
            self._report_done()
            if self._is_producing:
                self._emitter.flush(self._outputs)
                if self._calls or self._outputs.count:
                    self._outputs_reported += self._outputs.count
                    self._report_production(RESULT_AT_WORK)
                    return True
            return False

    def _message_failed(
        self, error: BaseException, number: int, header: Any, buffers: Any, reading: bool
    ) -> Failure:
        value = None
        try:
            # Decode again: the step may have changed the value, and the faster decoder does not
            # say why it cannot decode a message.
            value = self._decoder.decode(header, buffers)
        except Exception as reason:
            if reading:
                return failures.of(reason)
        return self._failed(number, error, value)

    def _failed(
        self, occasion: Union[int, str], error: BaseException, value: Any = None
    ) -> Failure:
        """Returns the failure of a call and leaves its details for the driver."""
        if isinstance(error, self._ends):
            # Report nothing more of this call.
            with self._lock:
                self._tally.take()
                self._is_producing = False
            raise error
        from ..api import failure_details

        failure_details.record(occasion, error, value)
        return failures.of(error)

    def produce(self, count: int) -> None:
        """Calls a producer for about `count` items and reports them."""
        emitter, outputs = self._emitter, self._outputs
        emitter.origin, emitter.item, emitter.origin_of = None, 0, self._origin_of
        emitter.numbers_items = acknowledges(self._instance)
        # Production counts as one call: threads that it starts may send until it ends.
        emitter.call = emitter.call or emitter.next_call()
        self._calls = self._busy = self._busy_reported = self._outputs_reported = 0
        self._is_producing = True
        self._flusher.wake()
        start = monotonic_ns()
        calls = 0
        result: wire.Result = RESULT_MORE
        while True:
            calls += 1
            emitter.priority = emitter.default_priority
            try:
                result = call(self._advance)
            except BaseException as error:
                # The producer cannot go on: what it has yet to emit is unknown.
                announce.pending.clear()
                self._iterator = iter(())
                result = self._failed("produce", error)._replace(retryable=False)
            is_last = isinstance(result, Failure) or result == RESULT_NO_MORE
            with self._lock:
                if is_last:
                    emitter.call = 0
                emitter.flush(outputs)
                announce.settle(None)
                self._calls += 1
                self._produce_calls += 1
                self._busy = monotonic_ns() - start
                if (
                    result != RESULT_MORE
                    or calls >= count
                    or self._outputs_reported + outputs.count >= count
                    or self._busy >= _REPORT_AFTER
                    or outputs.bytes >= _REPORT_BYTES
                ):
                    self._is_producing = False
                    self._report_production(result)
                    return

    def _report_production(self, result: wire.Result) -> None:
        calls, self._calls = self._calls, 0
        busy, self._busy_reported = self._busy - self._busy_reported, self._busy
        self._reports.produced(calls, busy, result, self._outputs.take())

    def acknowledge(self, items: List[wire.Acknowledgement]) -> None:
        """Tells a producer what became of its items, and lets their results go."""
        told = [Acknowledgement(item, self._decoder.decode) for item in items]
        try:
            call(lambda: self._instance.acknowledge(told))
        except BaseException as error:
            if isinstance(error, self._ends):
                raise
            self._untold = self._untold or error
        size = size_of_results(items)
        if size:
            with self._lock:
                self._reports.released(size)

    def _advance(self) -> Union[int, wire.Wait]:
        if self._untold is not None:
            error, self._untold = self._untold, None
            raise error
        if self._iterator is None:
            made = self._instance.run()
            if isinstance(made, Signal):
                return _result_of(made)
            if not isinstance(made, GeneratorType) and not hasattr(type(made), "__next__"):
                self._iterator = iter(())
                self._emitter.result(made)
                return RESULT_NO_MORE
            self._iterator = made
        for value in self._iterator:
            if isinstance(value, Signal):
                return _result_of(value)
            if value is not None:
                self._emitter.value(value)
            return RESULT_MORE
        return RESULT_NO_MORE

    def finish(self) -> None:
        """Calls the step's `finish` and reports the outcome."""
        emitter, outputs = self._emitter, self._outputs
        emitter.origin, emitter.item, emitter.origin_of = None, 0, self._origin_of
        emitter.priority = emitter.default_priority
        with self._lock:
            # A producer's threads may have sent something since its latest grant.
            emitter.flush(outputs)
            emitter.call = emitter.next_call()
            emitter.item, emitter.numbers_items = 0, False
        failure = None
        try:
            if self._untold is not None:
                raise self._untold
            finish = getattr(self._instance, "finish", None)
            if finish is not None:
                # A generator runs while its values are emitted.
                call(lambda: emitter.result(finish()))
        except BaseException as error:
            failure = self._failed("finish", error)
        with self._lock:
            emitter.call = 0
            if failure is not None:
                emitter.pending.clear()
                announce.pending.clear()
            emitter.flush(outputs)
            announce.settle(None)
            self._reports.finished(failure, outputs.take())


def _result_of(signal: Signal) -> Union[int, wire.Wait]:
    return wire.Wait(signal.wait) if isinstance(signal, Idle) else RESULT_BARRIER


class Tally:
    """The outcomes of the messages of a batch.

    Successive messages that are done and took about the same time share one completion.
    """

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
        """Removes and returns all completions."""
        self._close()
        taken, self._completions = self._completions, []
        return taken

    def _close(self) -> None:
        if self._count:
            done = wire.Completion(self._first, self._count, self._silent, self._busy, None)
            self._completions.append(done)
            self._count = self._size = 0
