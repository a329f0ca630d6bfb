"""The calls of a step: what goes in, what comes out, and what becomes of a failure."""

from __future__ import annotations

from time import monotonic_ns
from types import GeneratorType
from typing import Any, Callable, Iterator, List, Optional, Tuple, Type, Union

from . import failures, notes, wire
from .emit import Emitter, origin_finder
from .failures import Failure
from .forks import call, forked, leave
from .gather import Gathered
from .page import MESSAGE, SINCE, Page
from .pickles import MARK
from .stage import may_change_arrays
from .values import Decoder

#: A batch is reported in parts after this much time, in nanoseconds, or when
#: this much has gathered.
_REPORT_AFTER = 1_000_000
_REPORT_OUTPUTS = 1024
_REPORT_BYTES = 1 << 20
#: Below this a running time is not told from a shorter one, in bits of nanoseconds.
_SHORTEST = 11


class Task:
    """One instance of a step, and what it is called with."""

    def __init__(
        self, instance: Any, emitter: Emitter, ends: Tuple[Type[BaseException], ...] = ()
    ) -> None:
        """`ends` are exceptions that are no failure: they are raised."""
        self._instance = instance
        self._ends = ends
        self._emitter = emitter
        self._gathered = Gathered()
        self._decoder = Decoder()
        self._produced: Optional[Iterator[Any]] = None
        self._origin_of = origin_finder(instance)

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
        self._decoder = Decoder(may_change_arrays(self._instance))
        self._emitter.is_open = True
        return None

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
        report: Callable[[List[wire.Completion], List[Any]], None],
    ) -> bool:
        """Works on the messages in order, and reports what is done when it is
        time to. False if `is_over` said so before a message."""
        words = page.words
        emitter, gathered = self._emitter, self._gathered
        pending = emitter.pending
        made = notes.pending
        run: Callable[[Any], Any] = self._instance.run
        decode, unpack = self._decoder.decode, self._decoder.unpack()
        settle = emitter.settle
        is_full = False
        tally = Tally()
        began = reported = monotonic_ns()
        for number, origin, header, buffers in messages:
            if is_over is not None and is_over():
                is_full = True
                break
            words[SINCE] = began
            words[MESSAGE] = number
            emitter.origin = origin
            before = gathered.count
            failure = None
            reading = True
            try:
                value = decode(header, buffers) if buffers or header[0] == MARK else unpack(header)
                reading = False
                result = run(value)
                if forked:
                    leave()
                # The next message needs the room.
                value = None
                if result is not None or pending:
                    settle(result, gathered)
                    result = None
                if made:
                    notes.settle(origin)
            except BaseException as error:
                if forked:
                    leave(error)
                pending.clear()
                made.clear()
                value = result = None
                failure = self._failure(error, number, header, buffers, reading)
            del buffers
            now = monotonic_ns()
            tally.add(number, gathered.count == before, now - began, failure)
            began = now
            if (
                now - reported >= _REPORT_AFTER
                or gathered.count >= _REPORT_OUTPUTS
                or gathered.bytes >= _REPORT_BYTES
            ):
                page.rest()
                report(tally.take(), gathered.take())
                began = reported = monotonic_ns()
        page.rest()
        if tally:
            report(tally.take(), gathered.take())
        return not is_full

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
            raise error
        from . import remote

        remote.tell(occasion, error, value)
        return failures.of(error)

    def produce(self, count: int) -> Tuple[int, int, Union[int, Failure], List[Any]]:
        """Asks for about `count` items: how often it was asked, the time that
        took, what came of it, and the outputs."""
        emitter, gathered = self._emitter, self._gathered
        emitter.origin, emitter.origin_of = None, self._origin_of
        start = monotonic_ns()
        calls = 0
        result: Union[int, Failure] = wire.MORE
        while True:
            calls += 1
            try:
                result = call(self._advance)
            except BaseException as error:
                # It cannot be continued: what it has left is not known.
                emitter.pending.clear()
                notes.pending.clear()
                self._produced = iter(())
                result = self.failed("produce", error)._replace(retryable=False)
            emitter.flush(gathered)
            notes.settle(None)
            busy = monotonic_ns() - start
            if (
                result != wire.MORE
                or calls >= count
                or gathered.count >= count
                or busy >= _REPORT_AFTER
                or gathered.bytes >= _REPORT_BYTES
            ):
                return calls, busy, result, gathered.take()

    def _advance(self) -> int:
        if self._produced is None:
            made = self._instance.run()
            if not isinstance(made, GeneratorType) and not hasattr(type(made), "__next__"):
                self._produced = iter(())
                self._emitter.result(made)
                return wire.NO_MORE
            self._produced = made
        for value in self._produced:
            if value is not None:
                self._emitter.value(value)
            return wire.MORE
        return wire.NO_MORE

    def finish(self) -> Tuple[Optional[Failure], List[Any]]:
        """Why finishing failed, if so, and the outputs."""
        emitter, gathered = self._emitter, self._gathered
        emitter.origin, emitter.origin_of = None, self._origin_of
        try:
            finish = getattr(self._instance, "finish", None)
            if finish is not None:
                # What it yields is made while it is emitted.
                call(lambda: emitter.result(finish()))
        except BaseException as error:
            emitter.pending.clear()
            notes.pending.clear()
            return self.failed("finish", error), []
        emitter.flush(gathered)
        notes.settle(None)
        return None, gathered.take()


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
