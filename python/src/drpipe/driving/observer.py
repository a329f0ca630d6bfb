"""Collects what a driver learns about its run: events, log lines, failures and the outcome."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Union

from ..api.errors import ConfigError, DrpipeError
from ..api.failure_details import FailureDetails, Occasion
from ..api.report import FailedInput, Progress, Report, RunError
from . import logging_bridge, program

#: The most events that are kept for `Run.events`, and the most failures for the report, so
#: that a long run does not use up the driver's memory.
_MOST_EVENTS, _MOST_FAILURES = 100_000, 10_000
#: The most bytes of failed values that are kept. The quarantine has the rest.
_MOST_VALUE_BYTES = 64 << 20
#: The most log lines that an error quotes if the program gave no report.
_MOST_LINES = 30
#: The events that report a failure, each with the name of the call if there was no message.
_FAILURES = {"failed": "", "init_failed": "init", "producer_failed": "produce"}
#: The program's exit code after a signal.
_INTERRUPTED = 130

Outcome = Union[Report, DrpipeError]


class Observer:
    """A record of what the program reports. Only one thread calls the `on_...` methods."""

    def __init__(
        self,
        take_details: Callable[[Occasion], Optional[FailureDetails]],
        numbered: bool,
    ) -> None:
        """Creates an observer.

        Args:
            take_details: returns and removes the details that a worker left about a failure.
            numbered: whether the producer is one of `drpipe.run`, whose origins have numbers.
        """
        self._take_details, self._numbered = take_details, numbered
        #: Called when the run begins to stop before its producer has ended.
        self.on_stopping: Callable[[], None] = lambda: None
        self._changed = threading.Condition()
        self._progress: Optional[Progress] = None
        self._progress_count = 0
        self._events: Deque[Dict[str, Any]] = deque(maxlen=_MOST_EVENTS)
        self._event_count = 0
        self._failures: List[FailedInput] = []
        self._value_bytes = 0
        self._opened: Dict[str, Any] = {}
        self._last: Dict[str, Any] = {}
        #: The exception of the step that stopped the run.
        self.cause: Optional[BaseException] = None
        self._lines: Deque[str] = deque(maxlen=_MOST_LINES)
        #: The log lines from before the run begins. If it never begins, the exception quotes them.
        self._held: Optional[List[str]] = []
        #: The outcome of the run; None while it goes on.
        self.outcome: Optional[Outcome] = None

    def progress(self) -> Iterator[Progress]:
        """Yields the latest progress each time it changes, until the run ends."""
        seen = 0
        while True:
            with self._changed:
                while self._progress_count == seen and self.outcome is None:
                    self._changed.wait()
                if self._progress_count == seen or self._progress is None:
                    return
                seen, now = self._progress_count, self._progress
            yield now

    def events(self) -> Iterator[Dict[str, Any]]:
        """Yields every kept event, then each new one, until the run ends."""
        seen = 0
        while True:
            with self._changed:
                while seen == self._event_count and self.outcome is None:
                    self._changed.wait()
                if seen == self._event_count:
                    return
                missing = min(self._event_count - seen, len(self._events))
                new = list(self._events)[-missing:]
                seen = self._event_count
            yield from new

    def wait(self, until: Optional[float] = None) -> bool:
        """Waits for the outcome until this `time.monotonic` time. Returns whether it arrived."""
        with self._changed:
            while self.outcome is None:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def on_event(self, event: Dict[str, Any]) -> None:
        """Records an event of the program."""
        kind = event.get("event")
        if kind == "opened":
            self._opened = event
            self._begin()
        elif kind == "said":
            # The run goes on even if nothing can be printed.
            with contextlib.suppress(Exception):
                logging_bridge.of_step(event)
        elif kind in _FAILURES:
            self._record_failure(event)
        elif kind == "stopping":
            self.on_stopping()
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

    def on_text(self, line: str) -> None:
        """Records a line of the program's log."""
        if self._held is not None:
            self._held.append(line)
        else:
            self._lines.append(logging_bridge.of_run(line))

    def on_end(self, outcome: Outcome) -> None:
        """Records the outcome of the run."""
        with self._changed:
            self.outcome = outcome
            self._changed.notify_all()

    def _begin(self) -> None:
        held, self._held = self._held or [], None
        for line in held:
            logging_bridge.of_run(line)

    def _record_failure(self, event: Dict[str, Any]) -> None:
        # Take the details now: the next attempt at the message replaces them.
        details = self._take_details(_FAILURES[event["event"]] or event["message"])
        if event["event"] != "failed":
            reasons = event["failure"]["chain"]
            self.cause = details.exception(reasons) if details is not None else None
            return
        details = details if event["cause"] in ("failed", "in vain") else None
        entry = event.get("entry")
        path = None
        if entry is not None:
            directory = os.path.join(self._opened["quarantine"], self._opened["run"])
            path = os.path.abspath(os.path.join(directory, entry))
        if details is not None:
            self._value_bytes += len(details.value)
            if self._value_bytes > _MOST_VALUE_BYTES:
                details = details._replace(value=b"")
        failed = FailedInput.from_event(event, details, path, self._numbered)
        if failed.policy == "stop":
            self.cause = failed.exception
        if len(self._failures) < _MOST_FAILURES:
            self._failures.append(failed)

    def judge(self, code: int, cancelled: bool) -> Outcome:
        """Returns the outcome of a run whose program has ended.

        Args:
            code: the program's exit code.
            cancelled: whether the driver sent the program a signal.
        """
        try:
            return self._judge(code, cancelled)
        except Exception as error:
            return RunError(f"the program's report cannot be read: {error}")

    def _judge(self, code: int, cancelled: bool) -> Outcome:
        if self._last.get("event") == "ended":
            return Report.from_event(self._last, self._failures)
        if self._last.get("event") == "error":
            return self._given_up(str(self._last.get("reason", "")))
        text = "\n".join(self._held or self._lines)
        if code == program.USAGE:
            return ConfigError(text)
        signals = (-signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)
        by_signal = code in signals and cancelled
        if code == _INTERRUPTED or by_signal:
            return Report("interrupted", _INTERRUPTED, failures=self._failures)
        how = f"was ended by the signal {-code}" if code < 0 else f"ended with exit code {code}"
        said = f"; its last lines:\n{text}" if text else ""
        return self._given_up(f"the drpipe program {how} without a report{said}")

    def _given_up(self, reason: str) -> RunError:
        error = RunError(reason)
        if self._opened:
            run, version = self._opened.get("run", ""), self._opened.get("version", "")
            error.report = Report("stopped", 3, reason, run, version, failures=self._failures)
        return error
