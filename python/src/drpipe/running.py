"""A run that is under way."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import signal
import threading
from collections import deque
from types import TracebackType
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional, Type, Union

from . import program, speech
from .errors import ConfigError, DrpipeError, RunError
from .exchange import Feeder, Results
from .process import Process
from .report import FailedInput, Progress, Report

#: So many of the last events, and of the first failures, are kept.
_MOST_EVENTS, _MOST_FAILURES = 100_000, 10_000
#: So many of the last lines of a program that gave no report are quoted.
_MOST_LINES = 30
#: The program's exit code after a signal.
_INTERRUPTED = 130
#: When Python ends, a run that was left alone has so long to end, in seconds.
_PATIENCE = 10.0


class Run:
    """A run that is under way. Made by `Pipeline.start`.

    It is a context manager: the block is left when the run has ended. If it is left
    by an exception, the run is cancelled at once.

    Example:
        >>> with Pipeline.load("night.json").start() as run:  # doctest: +SKIP
        ...     for progress in run.progress():
        ...         print(progress.elapsed, progress.step("CLEAN").done)
        >>> run.wait().exit_code  # doctest: +SKIP
        0
    """

    def __init__(
        self,
        command: List[str],
        environment: Mapping[str, str],
        *,
        results: Optional[Results] = None,
        feeder: Optional[Feeder] = None,
        clean_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._results, self._feeder, self._clean_up = results, feeder, clean_up
        self._changed = threading.Condition()
        self._progress: Optional[Progress] = None
        self._progress_count = 0
        self._events: Deque[Dict[str, Any]] = deque(maxlen=_MOST_EVENTS)
        self._event_count = 0
        self._failures: List[FailedInput] = []
        self._last: Dict[str, Any] = {}
        self._lines: Deque[str] = deque(maxlen=_MOST_LINES)
        #: What was said before the run began: if it never does, the exception says it.
        self._held: Optional[List[str]] = []
        self._cancelled = False
        self._outcome: Union[Report, DrpipeError, None] = None
        atexit.register(self._abandon)
        try:
            self._process = Process(command, environment, self._hear, self._note, self._end)
        except BaseException:
            self._end(program.USAGE)
            raise

    @property
    def report(self) -> Optional[Report]:
        """What became of it; none as long as it goes on."""
        outcome = self._outcome
        return outcome if isinstance(outcome, Report) else None

    def progress(self) -> Iterator[Progress]:
        """Where the run stands, a few times a second, until it ends. Whoever is slow
        is told less often.

        Example:
            >>> for progress in run.progress():  # doctest: +SKIP
            ...     bar.update(progress.step("SAVE").done)
        """
        seen = 0
        while True:
            with self._changed:
                while self._progress_count == seen and self._outcome is None:
                    self._changed.wait()
                if self._progress_count == seen or self._progress is None:
                    return
                seen, now = self._progress_count, self._progress
            yield now

    def events(self) -> Iterator[Dict[str, Any]]:
        """Every event from the beginning on, as docs/EVENTS.md describes them, but for
        progress, until the run ends. The last 100 000 are kept for this.

        Example:
            >>> for event in run.events():  # doctest: +SKIP
            ...     if event["event"] == "failed":
            ...         print(event["step"], event["origin"])
        """
        told = 0
        while True:
            with self._changed:
                while told == self._event_count and self._outcome is None:
                    self._changed.wait()
                if told == self._event_count:
                    return
                missing = min(self._event_count - told, len(self._events))
                new = list(self._events)[-missing:]
                told = self._event_count
            yield from new

    def results(self) -> Iterator[Any]:
        """What the last step returns or sends, each value once, until the run ends; in no
        promised order. While somebody iterates, the pipeline does not run ahead of
        them by more than 100 values and its queues. Arrays are read-only, as in steps.

        Raises:
            ValueError: if the run was not started with `results=True`.

        Example:
            >>> with pipeline.start(results=True) as run:  # doctest: +SKIP
            ...     total = sum(run.results())
        """
        if self._results is None:
            raise ValueError("there are no results: start the run with results=True")
        return self._results.iterate()

    def cancel(self, now: bool = False) -> None:
        """Takes no more input, and lets what was begun be finished; with `now`, drops it.
        It returns at once: `wait` waits for the end.

        Example:
            >>> run.cancel()  # doctest: +SKIP
            >>> run.wait().verdict  # doctest: +SKIP
            'interrupted'
        """
        if not self._cancelled:
            if self._feeder is not None:
                self._feeder.stop()
            self._process.signal(signal.SIGINT)
            self._cancelled = True
        if now:
            # Another one, so that the two are not taken for one.
            self._process.signal(signal.SIGTERM)

    def wait(self) -> Report:
        """Waits for the end. That inputs failed is no error: see `Report.check`.

        An interrupt (Ctrl-C) cancels the run and is raised when that has ended; a second
        one drops what was begun.

        Raises:
            ConfigError: if the configuration is wrong.
            RunError: if the run could not be started, or had to be given up.
            KeyboardInterrupt: when the run has ended.

        Example:
            >>> report = run.wait().check()  # doctest: +SKIP
        """
        interrupted = self._wait(0)
        if interrupted:
            raise KeyboardInterrupt
        if isinstance(self._outcome, DrpipeError):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if kind is None:
            self.wait()
        else:
            self.cancel(now=True)
            self._wait(2)

    def _wait(self, interrupts: int) -> bool:
        """Whether it was interrupted; after that many, one more kills."""
        before = heeded = interrupts
        while True:
            try:
                # Here, so that one more interrupt does not end the wait.
                while heeded < interrupts:
                    self._interrupt(heeded + 1)
                    heeded += 1
                if self._results is not None:
                    self._results.keep_all()
                with self._changed:
                    while self._outcome is None:
                        self._changed.wait()
                self._take_results()
                return interrupts > before
            except KeyboardInterrupt:
                interrupts += 1

    def _interrupt(self, count: int) -> None:
        if count == 1:
            speech.LOGGER.warning(
                "interrupted: what was begun is finished first; interrupt again to drop it"
            )
            self.cancel()
        elif count == 2:
            self.cancel(now=True)
        else:
            self._process.kill()

    def _take_results(self) -> None:
        outcome = self._outcome
        if self._results is None or not isinstance(outcome, Report):
            return
        try:
            rest = self._results.rest()
        except Exception as error:
            self._outcome = RunError(f"a result cannot be read: {type(error).__name__}: {error}")
            self._outcome.__cause__ = error
            return
        if rest:
            self._outcome = dataclasses.replace(outcome, results=outcome.results + rest)

    def _hear(self, event: Dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "opened":
            self._begin()
        elif kind == "said":
            # Where nothing can be printed, the run goes on.
            with contextlib.suppress(Exception):
                speech.of_step(event)
        with self._changed:
            if kind == "progress":
                self._progress = Progress.from_event(event)
                self._progress_count += 1
            else:
                self._events.append(event)
                self._event_count += 1
            if kind == "failed" and len(self._failures) < _MOST_FAILURES:
                self._failures.append(FailedInput.from_event(event))
            elif kind in ("ended", "error"):
                self._last = event
            self._changed.notify_all()

    def _note(self, line: str) -> None:
        if self._held is not None:
            self._held.append(line)
        else:
            self._lines.append(speech.of_run(line))

    def _begin(self) -> None:
        held, self._held = self._held or [], None
        for line in held:
            speech.of_run(line)

    def _end(self, code: int) -> None:
        try:
            outcome: Union[Report, DrpipeError] = self._judge(code)
        except Exception as error:
            outcome = RunError(f"the program's report cannot be read: {error}")
        try:
            if self._feeder is not None:
                self._feeder.close()
            if self._results is not None:
                self._results.close()
            self._clean_up()
        finally:
            with self._changed:
                self._outcome = outcome
                self._changed.notify_all()
            atexit.unregister(self._abandon)

    def _judge(self, code: int) -> Union[Report, DrpipeError]:
        if self._last.get("event") == "ended":
            return Report.from_event(self._last, self._failures)
        if self._last.get("event") == "error":
            return RunError(str(self._last.get("reason", "")))
        text = "\n".join(self._held or self._lines)
        if code == program.USAGE:
            return ConfigError(text)
        signals = (-signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)
        by_signal = code in signals and self._cancelled
        if code == _INTERRUPTED or by_signal:
            return Report("interrupted", _INTERRUPTED, failures=self._failures)
        how = f"was ended by the signal {-code}" if code < 0 else f"ended with exit code {code}"
        said = f"; the last that it said:\n{text}" if text else ""
        return RunError(f"the drpipe program {how} without a report{said}")

    def _abandon(self) -> None:
        """Python ends, and nobody waits for the run."""
        self.cancel(now=True)
        self._process.join(_PATIENCE)
        self._process.kill()
