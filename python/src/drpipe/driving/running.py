"""A run that is under way."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import re
import signal
import threading
import time
from collections import deque
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Deque,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Type,
    Union,
)

from ..api import failure_details
from ..api.errors import ConfigError, DrpipeError, RunError, RunInterrupted, RunStopped
from ..api.report import FailedInput, Progress, Report
from . import logging_bridge, program
from .exchange import Feeder, Results
from .private_directory import Private
from .process import Process

if TYPE_CHECKING:
    from .inline import Host

#: So many of the last events, and of the first failures, are kept.
_MOST_EVENTS, _MOST_FAILURES = 100_000, 10_000
#: So many bytes of their values are.
_MOST_TOLD = 64 << 20
#: So many of the last lines of a program that gave no report are quoted.
_MOST_LINES = 30
#: The events of failures, and as what the workers have told of them.
_FAILURES = {"failed": "", "init_failed": "init", "producer_failed": "produce"}
#: The program's exit code after a signal.
_INTERRUPTED = 130
#: When Python ends, a run that was left alone has so long to end, in seconds.
_PATIENCE = 10.0
#: So long an interrupt lets what was begun be finished, in seconds, if nothing else was asked for.
_DRAIN = 3.0


class Run:
    """A run that is under way. Made by `Pipeline.start` and `drpipe.start`.

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
        private: Private,
        results: Optional[Results] = None,
        feeder: Optional[Feeder] = None,
        host: Optional[Host] = None,
        drain_limit: Optional[float] = None,
        numbered: bool = False,
    ) -> None:
        self._private, self._results, self._feeder = private, results, feeder
        self._host, self._waited = host, False
        self._numbered = numbered
        self._drain = _DRAIN if drain_limit is None else drain_limit
        self._changed = threading.Condition()
        self._progress: Optional[Progress] = None
        self._progress_count = 0
        self._events: Deque[Dict[str, Any]] = deque(maxlen=_MOST_EVENTS)
        self._event_count = 0
        self._failures: List[FailedInput] = []
        self._told_bytes = 0
        self._opened: Dict[str, Any] = {}
        self._last: Dict[str, Any] = {}
        #: What a step has raised that stopped the run.
        self._cause: Optional[BaseException] = None
        self._lines: Deque[str] = deque(maxlen=_MOST_LINES)
        #: What was said before the run began: if it never does, the exception says it.
        self._held: Optional[List[str]] = []
        self._cancelled = self._dropped = False
        self._outcome: Union[Report, DrpipeError, None] = None
        self._driver = os.getpid()
        atexit.register(self._abandon)
        try:
            driver = ["--driver", str(self._driver), "--driver-directory", private.path]
            self._process = Process(
                [*command, *driver], environment, self._hear, self._note, self._end
            )
        except BaseException:
            self._end(program.USAGE)
            raise

    @property
    def report(self) -> Optional[Report]:
        """What became of it; none as long as it goes on."""
        outcome = self._outcome
        return outcome if isinstance(outcome, Report) else None

    def progress(self) -> Iterator[Progress]:
        """Where the run stands, a few times a second, and where it stood at its end. Whoever
        is slow is told less often.

        Example:
            >>> for progress in run.progress():  # doctest: +SKIP
            ...     bar.update(progress.step("SAVE").done)
        """
        self._needs_workers()
        return self._follow()

    def _follow(self) -> Iterator[Progress]:
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
        self._needs_workers()
        return self._retell()

    def _retell(self) -> Iterator[Dict[str, Any]]:
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
        """What the last step returns or sends, each value once, until the run ends; in the
        order of the producer's values, if the run is an ordered one. While somebody
        iterates, the pipeline does not run ahead of them by more than 100 values and its queues.

        Raises:
            ValueError: if the run was not started with `results=True`.

        Example:
            >>> with pipeline.start(results=True) as run:  # doctest: +SKIP
            ...     total = sum(run.results())
        """
        if self._results is None:
            raise ValueError("there are no results: start the run with results=True")
        self._needs_workers()
        return self._results.iterate()

    def _needs_workers(self) -> None:
        if self._host is not None and not self._waited:
            raise RuntimeError('with mode="inline" nothing is done before wait() is called')

    def cancel(self, now: bool = False) -> None:
        """Takes no more input, and lets what was begun be finished; with `now`, drops it.
        It returns at once: `wait` waits for the end.

        Example:
            >>> run.cancel()  # doctest: +SKIP
            >>> run.wait().verdict  # doctest: +SKIP
            'interrupted'
        """
        if not self._cancelled:
            self._process.signal(signal.SIGINT)
            self._cancelled = True
        if now:
            self._dropped = True
            # Another one, so that the two are not taken for one.
            self._process.signal(signal.SIGTERM)

    def wait(self) -> Report:
        """Waits for the end. That inputs failed is no error: see `Report.check`.

        An interrupt (Ctrl-C) cancels the run and is raised when that has ended. It lets what
        was begun be finished within 3 s, or the drain limit that was given; a second one
        drops it.

        Raises:
            ConfigError: if the configuration is wrong.
            RunStopped: if it was stopped before its end; the exception has the report.
            RunError: if the run could not be started, or had to be given up.
            RunInterrupted: a KeyboardInterrupt that has the report, when the run has ended.

        Example:
            >>> report = run.wait().check()  # doctest: +SKIP
        """
        interrupted = self._wait(0)
        outcome = self._outcome
        if interrupted:
            raise RunInterrupted(self._known())
        if isinstance(outcome, DrpipeError):
            raise outcome
        assert outcome is not None
        cancelled = outcome.verdict == "interrupted" and self._cancelled
        if outcome.verdict in ("stopped", "interrupted") and not cancelled:
            raise self._stopped(outcome)
        return outcome

    def _known(self) -> Optional[Report]:
        """What there is to know of a run that has ended, however it did."""
        outcome = self._outcome
        return outcome.report if isinstance(outcome, RunError) else self.report

    def _stopped(self, report: Report) -> RunStopped:
        fed = self._feeder.error if self._feeder is not None else None
        cause, reason = fed or self._cause, report.reason
        if cause is not None and reason:
            # The cause has the traceback.
            reason = re.split(r":?\sTraceback \(most recent", reason, maxsplit=1)[0]
        why = f": {reason}" if reason else ""
        stopped = RunStopped(f"the run was {report.verdict} before its end{why}", report)
        stopped.__cause__ = cause
        return stopped

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
            return
        self.cancel(now=True)
        self._wait(2)
        if isinstance(error, KeyboardInterrupt):
            # As that of `wait` has it.
            error.report = self._known()  # type: ignore[attr-defined]

    def _wait(self, interrupts: int) -> bool:
        """Whether it was interrupted; after that many, one more kills."""
        before = heeded = interrupts
        until: Optional[float] = None
        while True:
            try:
                # Here, so that one more interrupt does not end the wait.
                while heeded < interrupts:
                    self._interrupt(heeded + 1)
                    heeded += 1
                    until = time.monotonic() + self._drain if heeded == 1 else None
                if self._host is not None and not self._waited:
                    self._serve()
                if self._results is not None:
                    self._results.keep_all()
                if not self._await_outcome(until):
                    interrupts = max(interrupts, 2)
                    continue
                self._take_results()
                return interrupts > before
            except KeyboardInterrupt:
                interrupts += 1

    def _await_outcome(self, until: Optional[float]) -> bool:
        """Whether it has come in time."""
        with self._changed:
            while self._outcome is None:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _serve(self) -> None:
        """Does the work of the steps here."""
        self._waited = True
        assert self._host is not None
        try:
            self._host.serve()
        except BaseException as error:
            self._cause = error
            # The call that it ended has no end of its own: nothing can be finished any more.
            self.cancel(now=True)
            self._await_outcome(None)
            raise
        finally:
            self._host.close()

    def _interrupt(self, count: int) -> None:
        if count <= 2 and self._dropped:
            return
        if count == 1:
            logging_bridge.LOGGER.warning(
                "interrupted: what was begun has %g s to be finished; interrupt again to drop it",
                self._drain,
            )
            self.cancel()
        elif count == 2:
            self.cancel(now=True)
        else:
            self._process.kill()

    def _take_results(self) -> None:
        outcome = self._outcome
        report = outcome.report if isinstance(outcome, RunError) else outcome
        if self._results is None or not isinstance(report, Report):
            return
        rest, error = self._results.rest()
        if rest:
            report = dataclasses.replace(report, results=report.results + rest)
        if error is not None:
            outcome = RunError(f"a result cannot be read: {type(error).__name__}: {error}")
            outcome.__cause__ = error
        if isinstance(outcome, RunError):
            outcome.report = report
        self._outcome = outcome if isinstance(outcome, RunError) else report

    def _hear(self, event: Dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "opened":
            self._opened = event
            self._begin()
        elif kind == "said":
            # Where nothing can be printed, the run goes on.
            with contextlib.suppress(Exception):
                logging_bridge.of_step(event)
        elif kind in _FAILURES:
            self._note_failure(event)
        elif kind == "stopping" and self._feeder is not None:
            # Not before: a run whose items have ended is done.
            self._feeder.stop()
        with self._changed:
            if kind == "progress":
                self._progress = Progress.from_event(event)
                self._progress_count += 1
            else:
                self._events.append(event)
                self._event_count += 1
            if kind == "ended" and "steps" in event:
                self._progress = Progress.at_the_end(event)
                self._progress_count += 1
            if kind in ("ended", "error"):
                self._last = event
            self._changed.notify_all()

    def _hear_worker(self, occasion: failure_details.Occasion) -> Optional[failure_details.Told]:
        return failure_details.heard(self._private.path, occasion)

    def _note_failure(self, event: Dict[str, Any]) -> None:
        """What its worker has told besides is read at once: it may be told of more."""
        occasion = _FAILURES[event["event"]] or event["message"]
        hear = self._host.told.heard if self._host is not None else self._hear_worker
        told = hear(occasion)
        if event["event"] != "failed":
            reasons = event["failure"]["chain"]
            self._cause = told.exception(reasons) if told is not None else None
            return
        told = told if event["cause"] == "failed" else None
        entry = event.get("entry")
        path = None
        if entry is not None:
            directory = os.path.join(self._opened["quarantine"], self._opened["run"])
            path = os.path.abspath(os.path.join(directory, entry))
        if told is not None:
            self._told_bytes += len(told.value)
            if self._told_bytes > _MOST_TOLD:
                # The quarantine has it.
                told = told._replace(value=b"")
        failed = FailedInput.from_event(event, told, path, self._numbered)
        if failed.policy == "stop":
            self._cause = failed.exception
        if len(self._failures) < _MOST_FAILURES:
            self._failures.append(failed)

    def _note(self, line: str) -> None:
        if self._held is not None:
            self._held.append(line)
        else:
            self._lines.append(logging_bridge.of_run(line))

    def _begin(self) -> None:
        held, self._held = self._held or [], None
        for line in held:
            logging_bridge.of_run(line)

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
            self._private.remove()
            if self._host is not None:
                self._host.end()
        finally:
            with self._changed:
                self._outcome = outcome
                self._changed.notify_all()
            atexit.unregister(self._abandon)

    def _judge(self, code: int) -> Union[Report, DrpipeError]:
        if self._last.get("event") == "ended":
            return Report.from_event(self._last, self._failures)
        if self._last.get("event") == "error":
            return self._given_up(str(self._last.get("reason", "")))
        text = "\n".join(self._held or self._lines)
        if code == program.USAGE:
            return ConfigError(text)
        signals = (-signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)
        by_signal = code in signals and self._cancelled
        if code == _INTERRUPTED or by_signal:
            return Report("interrupted", _INTERRUPTED, failures=self._failures)
        how = f"was ended by the signal {-code}" if code < 0 else f"ended with exit code {code}"
        said = f"; the last that it said:\n{text}" if text else ""
        return self._given_up(f"the drpipe program {how} without a report{said}")

    def _given_up(self, reason: str) -> RunError:
        error = RunError(reason)
        if self._opened:
            run, version = self._opened.get("run", ""), self._opened.get("version", "")
            error.report = Report("stopped", 3, reason, run, version, failures=self._failures)
        return error

    def _abandon(self) -> None:
        """Python ends, and nobody waits for the run."""
        if os.getpid() != self._driver:
            return  # It is a child that was forked.
        self.cancel(now=True)
        self._process.join(_PATIENCE)
        self._process.kill()
