"""Starts, waits for and cancels runs."""

from __future__ import annotations

import atexit
import dataclasses
import os
import re
import signal
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Type

from ..api import failure_details
from ..api.errors import DrpipeError
from ..api.failure_details import FailureDetails, Occasion
from ..api.report import Progress, Report, RunError, RunInterrupted, RunStopped
from . import logging_bridge, program
from .exchange import Feeder, Results
from .observer import Observer
from .private_directory import PrivateDirectory
from .process import Process

if TYPE_CHECKING:
    from .forking import Fork
    from .inline import Host

#: How long an abandoned run may take to end when Python exits, in seconds.
_PATIENCE = 10.0
#: How long after an interrupt a run may finish work in progress, in seconds, by default.
_DRAIN = 3.0


class Run:
    """A run in progress, as returned by `Pipeline.start` and `drpipe.start`.

    A run is a context manager: leaving its block waits for the run to end. An exception in the
    block cancels the run at once. Other threads may call `cancel` and iterate over `progress`,
    `events` and `results` while one thread waits.

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
        private: PrivateDirectory,
        results: Optional[Results] = None,
        feeder: Optional[Feeder] = None,
        host: Optional[Host] = None,
        drain_limit: Optional[float] = None,
        numbered: bool = False,
        fork: Optional[Fork] = None,
    ) -> None:
        self._private, self._results, self._feeder = private, results, feeder
        self._host, self._served = host, False
        self._drain = _DRAIN if drain_limit is None else drain_limit
        self._cancelled = self._dropped = False
        self._observer = Observer(self._take_details, numbered)
        if feeder is not None:
            self._observer.on_stopping = feeder.stop
        self._driver = os.getpid()
        atexit.register(self._abandon)
        try:
            driver = ["--driver", str(self._driver), "--driver-directory", private.path]
            observer = self._observer
            self._process = Process(
                [*command, *driver],
                environment,
                observer.on_event,
                observer.on_text,
                self._end,
                fork,
            )
            # Not before the fork.
            for end in (results, feeder):
                if end is not None:
                    end.begin()
            self._process.begin()
        except BaseException:
            self._end(program.USAGE)
            raise

    @property
    def report(self) -> Optional[Report]:
        """The report of an ended run; None while the run goes on, or if it gave no report."""
        outcome = self._observer.outcome
        return outcome if isinstance(outcome, Report) else None

    def progress(self) -> Iterator[Progress]:
        """Yields the run's progress a few times a second, and finally its last progress.

        Waits for the next progress. A slow caller misses some, but never the last.

        Raises:
            RuntimeError: with mode="inline", before `wait` is called.

        Example:
            >>> for progress in run.progress():  # doctest: +SKIP
            ...     bar.update(progress.step("SAVE").done)
        """
        self._needs_workers()
        return self._observer.progress()

    def events(self) -> Iterator[Dict[str, Any]]:
        """Yields every event from the beginning, except progress, until the run ends.

        docs/EVENTS.md describes the events. The run keeps the latest 100,000.

        Raises:
            RuntimeError: with mode="inline", before `wait` is called.

        Example:
            >>> for event in run.events():  # doctest: +SKIP
            ...     if event["event"] == "failed":
            ...         print(event["step"], event["origin"])
        """
        self._needs_workers()
        return self._observer.events()

    def results(self) -> Iterator[Any]:
        """Yields what the last step returns or sends, each value once, until the run ends.

        If the run is ordered, the values are in the producer's order. During an iteration, the
        pipeline runs ahead of it by at most 100 values and its queues. `Report.results` has the
        values that no iteration takes.

        Raises:
            ValueError: if the run was not started with `results=True`.
            RuntimeError: with mode="inline", before `wait` is called.

        Example:
            >>> with pipeline.start(results=True) as run:  # doctest: +SKIP
            ...     total = sum(run.results())
        """
        if self._results is None:
            raise ValueError("there are no results: start the run with results=True")
        self._needs_workers()
        return self._results.iterate()

    def _needs_workers(self) -> None:
        if self._host is not None and not self._served:
            raise RuntimeError('with mode="inline" nothing runs before wait() is called')

    def cancel(self, now: bool = False) -> None:
        """Asks the run to end and returns at once. `wait` waits for the end.

        The run takes no more input and finishes work in progress.

        Args:
            now: whether to drop work in progress instead.

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
            # Use another signal: the kernel may merge two pending signals of one kind.
            self._process.signal(signal.SIGTERM)

    def wait(self) -> Report:
        """Waits for the end of the run and returns its report.

        Failed inputs raise nothing: see `Report.check`. An interrupt (Ctrl-C) cancels the run
        and is raised when the run has ended. Work in progress may finish within 3 s, or within
        the given drain limit; a second interrupt drops it.

        Raises:
            ConfigError: if the configuration is wrong.
            RunStopped: if the run was stopped before its end; the exception has the report.
            RunError: if the run could not be started, or broke off without a report.
            RunInterrupted: a KeyboardInterrupt that has the report, when the run has ended.

        Example:
            >>> report = run.wait().check()  # doctest: +SKIP
        """
        interrupted = self._wait(0)
        outcome = self._observer.outcome
        if interrupted:
            raise RunInterrupted(self._last_report())
        if isinstance(outcome, DrpipeError):
            raise outcome
        assert outcome is not None
        cancelled = outcome.verdict == "interrupted" and self._cancelled
        if outcome.verdict in ("stopped", "interrupted") and not cancelled:
            raise self._stopped(outcome)
        return outcome

    def _last_report(self) -> Optional[Report]:
        """Returns what is known of an ended run, whatever its outcome."""
        outcome = self._observer.outcome
        return outcome.report if isinstance(outcome, RunError) else self.report

    def _stopped(self, report: Report) -> RunStopped:
        fed = self._feeder.error if self._feeder is not None else None
        cause, reason = fed or self._observer.cause, report.reason
        if cause is not None and reason:
            # The exception's cause already has the traceback.
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
            # Other interrupts get the report as `RunInterrupted` does.
            error.report = self._last_report()  # type: ignore[attr-defined]

    def _wait(self, interrupts: int) -> bool:
        """Waits for the end. Returns whether it was interrupted.

        Args:
            interrupts: how many interrupts count as received. The third one kills the program.
        """
        before = handled = interrupts
        until: Optional[float] = None
        while True:
            try:
                # The loop is within the try statement, so that no interrupt escapes the wait.
                while handled < interrupts:
                    self._interrupt(handled + 1)
                    handled += 1
                    until = time.monotonic() + self._drain if handled == 1 else None
                if self._host is not None and not self._served:
                    self._serve()
                if self._results is not None:
                    self._results.keep_all()
                if not self._observer.wait(until):
                    interrupts = max(interrupts, 2)
                    continue
                self._take_results()
                return interrupts > before
            except KeyboardInterrupt:
                interrupts += 1

    def _serve(self) -> None:
        """Does the work of all steps on this thread."""
        self._served = True
        assert self._host is not None
        try:
            self._host.serve()
        except BaseException as error:
            self._observer.cause = error
            # The interrupted call cannot continue, so work in progress cannot finish.
            self.cancel(now=True)
            self._observer.wait()
            raise
        finally:
            self._host.close()

    def _interrupt(self, count: int) -> None:
        if count <= 2 and self._dropped:
            return
        if count == 1:
            logging_bridge.LOGGER.warning(
                "interrupted: work in progress has %g s to finish; interrupt again to drop it",
                self._drain,
            )
            self.cancel()
        elif count == 2:
            self.cancel(now=True)
        else:
            self._process.kill()

    def _take_results(self) -> None:
        outcome = self._observer.outcome
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
        self._observer.outcome = outcome if isinstance(outcome, RunError) else report

    def _take_details(self, occasion: Occasion) -> Optional[FailureDetails]:
        if self._host is not None:
            return self._host.details.take(occasion)
        return failure_details.take(self._private.path, occasion)

    def _end(self, code: int) -> None:
        """Handles the end of the program."""
        outcome = self._observer.judge(code, self._cancelled)
        try:
            if self._feeder is not None:
                self._feeder.close()
            if self._results is not None:
                self._results.close()
            self._private.remove()
            if self._host is not None:
                self._host.end()
        finally:
            self._observer.on_end(outcome)
            atexit.unregister(self._abandon)

    def _abandon(self) -> None:
        """Ends a run that is still going when Python exits."""
        if os.getpid() != self._driver:
            return  # This is a forked child.
        self.cancel(now=True)
        self._process.join(_PATIENCE)
        self._process.kill()
