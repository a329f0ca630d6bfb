"""The objects that describe a run's progress and outcome, and the errors that hold a report.

docs/EVENTS.md describes the JSON that the objects are made of.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Tuple, Type, TypeVar

from ..protocol.driver import split_origin
from . import failure_details
from .errors import DrpipeError
from .failure_details import FailureDetails

T = TypeVar("T")


def _from_json(cls: Type[T], data: Mapping[str, Any], **others: Any) -> T:
    """Creates an object from the members that this version knows; JSON times end in _s."""
    known = dict(others)
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        for name in (item.name, item.name + "_s"):
            if name in data and item.name not in known:
                known[item.name] = data[name]
    return cls(**known)


@dataclass(frozen=True)
class ActionCounts:
    """How often an action was executed; see `drpipe.count_action`.

    Attributes:
        name: the name of the action.
        done: executions that did something.
        skipped: executions that had nothing to do.
        failed: executions that failed.
        deferred: executions that could not be done yet.
        busy: the time of all executions, in seconds.
    """

    name: str
    done: int = 0
    skipped: int = 0
    failed: int = 0
    deferred: int = 0
    busy: float = 0.0


def _actions(step: Mapping[str, Any]) -> List[ActionCounts]:
    return [_from_json(ActionCounts, action) for action in step.get("actions", ())]


@dataclass(frozen=True)
class Counts:
    """The numbers of a step's messages by outcome.

    At the end of a run `received == done + failed + dropped`.

    Attributes:
        received: messages that reached the step.
        done: messages that were processed without a failure.
        filtered: messages, of those done, that emitted nothing although the step has next
            steps.
        failed: messages whose last attempt failed, and that went to quarantine or stopped
            the run.
        dropped: messages that were skipped after a failure, or left over when the run was
            stopped.
        retried: attempts beyond the first.
        deferred: how often messages were put off.
        emitted: messages that were sent to next steps.
        results: values that were handed back to a producer that is told what became of its items.
        actions: the actions that the step has counted, in the order of their first execution.
    """

    received: int = 0
    done: int = 0
    filtered: int = 0
    failed: int = 0
    dropped: int = 0
    retried: int = 0
    deferred: int = 0
    emitted: int = 0
    results: int = 0
    actions: List[ActionCounts] = field(default_factory=list)


@dataclass(frozen=True)
class StepProgress(Counts):
    """The progress of one step.

    Attributes:
        name: the step's name.
        queued: messages in its queue.
        queued_bytes: bytes in its queue.
        high_water: the most messages that its queue has had.
        busy: workers that have messages in hand.
        workers: all workers of the step.
        busy_time: the running time of all calls, in seconds.
        mean: the mean running time of a call, in seconds.
        p99: the 99th percentile of the running time of a call, in seconds.
        finished: whether the step has ended.
    """

    name: str = ""
    queued: int = 0
    queued_bytes: int = 0
    high_water: int = 0
    busy: int = 0
    workers: int = 0
    busy_time: float = 0.0
    mean: float = 0.0
    p99: float = 0.0
    finished: bool = False


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        elapsed: the time since the run's start, in seconds.
        steps: the steps, in the order of the plan.

    Example:
        >>> for progress in run.progress():  # doctest: +SKIP
        ...     print(progress.elapsed, progress.step("CLEAN").queued)
    """

    elapsed: float
    steps: List[StepProgress]

    def step(self, name: str) -> StepProgress:
        """Returns the step with this name.

        Raises:
            KeyError: if there is none.
        """
        return _named(self.steps, [step.name for step in self.steps], name)

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Progress:
        """Reads the event `progress`."""
        steps = [_from_json(StepProgress, step, actions=_actions(step)) for step in event["steps"]]
        return _from_json(cls, event, steps=steps)

    @classmethod
    def at_the_end(cls, event: Mapping[str, Any]) -> Progress:
        """Reads the run's last progress from the event `ended`."""
        last = {"queued": 0, "busy": 0, "finished": True}
        steps = []
        for step in event["steps"]:
            more = {"high_water": step.get("queue_high_water", 0), "actions": _actions(step)}
            steps.append(_from_json(StepProgress, step, **last, **more))
        return _from_json(cls, event, steps=steps)


@dataclass(frozen=True)
class FailedInput:
    """A message whose last attempt failed.

    Attributes:
        step: the name of the step that failed on it.
        reasons: why it failed, in sentences, the outermost first. The last one may be a
            traceback.
        cause: "failed", "panicked", "lost", "timed out", "late", "cancelled" or "in vain".
        origin: what the message descends from, such as the path of a file.
        attempt: the number of the last attempt, from 1.
        worker: the number of the worker that it failed in.
        policy: what was done with the message: "stop", "skip" or "quarantine".
        entry: its name in the quarantine, if it is kept there.
        path: its directory in the quarantine, which `drpipe quarantine show` takes.
        index: with `drpipe.run`, the number of the producer's value that it descends from,
            from 0.
        kind: the type of the exception that a step in Python has raised, such as
            "builtins.ValueError"; empty for other failures.
    """

    step: str
    reasons: List[str]
    cause: str
    origin: Optional[str] = None
    attempt: int = 1
    worker: Optional[int] = None
    policy: str = "quarantine"
    entry: Optional[str] = None
    path: Optional[str] = None
    index: Optional[int] = None
    kind: str = ""
    _details: Optional[FailureDetails] = field(default=None, repr=False, compare=False)

    @property
    def exception(self) -> Optional[BaseException]:
        """The exception that the step raised; None if it could not be pickled.

        Its `__cause__` has the traceback in the worker, as text. With mode="inline" it is the
        exception itself, with its own traceback.

        Example:
            >>> raise report.failures[0].exception  # doctest: +SKIP
        """
        return self._details.exception(self.reasons) if self._details is not None else None

    @property
    def value(self) -> Any:
        """The value that the step was given, loaded again at each access.

        Raises:
            LookupError: if it was not kept, or belongs to Rust steps.

        Example:
            >>> again = [failed.value for failed in report.failures]  # doctest: +SKIP
        """
        return failure_details.value_of(self._details, self.path)

    @classmethod
    def from_event(
        cls,
        event: Mapping[str, Any],
        details: Optional[FailureDetails] = None,
        path: Optional[str] = None,
        numbered: bool = False,
    ) -> FailedInput:
        """Reads the event `failed`.

        Args:
            event: the event.
            details: the details that the worker left.
            path: the directory in the quarantine.
            numbered: whether the producer is one of `drpipe.run`, whose origins have numbers.
        """
        origin = event.get("origin")
        index, origin = split_origin(origin) if numbered else (None, origin)
        kind = details.kind if details is not None else ""
        reasons = list(event["failure"]["chain"])
        others = {"index": index, "origin": origin, "kind": kind, "path": path}
        return _from_json(cls, event, reasons=reasons, _details=details, **others)


@dataclass(frozen=True)
class StepReport(Counts):
    """The outcome of one step.

    Attributes:
        name: the step's name.
        class_name: the name of its class.
        kind: "producer", "stage" or "consumer".
        workers: the number of its workers.
        busy_percent: the percentage of the run's time that its workers were busy.
        mean: the mean running time of a call, in seconds.
        p99: the 99th percentile of the running time of a call, in seconds.
        queue_high_water: the most messages that its queue has had.
    """

    name: str = ""
    class_name: str = ""
    kind: str = ""
    workers: int = 0
    busy_percent: float = 0.0
    mean: float = 0.0
    p99: float = 0.0
    queue_high_water: int = 0


@dataclass(frozen=True, repr=False)
class Report:
    """The outcome of a run. `str(report)` is a table of the steps.

    Attributes:
        verdict: "done", "some_failed", "stopped" or "interrupted".
        exit_code: the exit code of the program: 0, 1, 3 or 130.
        reason: why the run was stopped.
        run: the name of the run.
        version: the version of drpipe.
        elapsed: the time from the start of the workers to the end, in seconds.
        steps: the steps, in the order of the plan; empty if the run was cancelled before it
            began.
        bottleneck: the name of the busiest step.
        skipped: items that earlier runs had done.
        finish_failures: why a `finish` failed.
        quarantine: the directory with the failed inputs.
        quarantined: the number of failed inputs in it.
        config_hash: the hash of the configuration.
        failures: the first 10,000 failed inputs.
        results: what the last step returned or sent, without the values that `Run.results`
            yielded. They are in the order of the producer's values if the run is ordered.

    Example:
        >>> report = pipeline.run()  # doctest: +SKIP
        >>> report.exit_code, report.step("CLEAN").failed  # doctest: +SKIP
        (1, 2)
    """

    verdict: str
    exit_code: int
    reason: Optional[str] = None
    run: str = ""
    version: str = ""
    elapsed: float = 0.0
    steps: List[StepReport] = field(default_factory=list)
    bottleneck: Optional[str] = None
    skipped: int = 0
    finish_failures: List[str] = field(default_factory=list)
    quarantine: Optional[str] = None
    quarantined: int = 0
    config_hash: str = ""
    failures: List[FailedInput] = field(default_factory=list)
    results: List[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed inputs" if self.failures else ""
        return (
            f"<Report: {self.verdict} in {self.elapsed:.3g} s, exit code {self.exit_code}{failed}>"
        )

    def __str__(self) -> str:
        titles = ("step", "received", "done", "failed", "dropped", "emitted", "busy %")
        rows: List[Tuple[str, ...]] = [titles]
        for step in self.steps:
            counts = (step.received, step.done, step.failed, step.dropped, step.emitted)
            rows.append((step.name, *map(str, counts), f"{step.busy_percent:.0f}"))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        reason = f": {self.reason}" if self.reason else ""
        return "\n".join([*lines, f"{self.verdict} in {self.elapsed:.3g} s{reason}"])

    def step(self, name: str) -> StepReport:
        """Returns the step with this name.

        Raises:
            KeyError: if there is none.
        """
        return _named(self.steps, [step.name for step in self.steps], name)

    def check(self) -> Report:
        """Returns the report itself if the run succeeded completely.

        Raises:
            RunFailed: if inputs failed, or the run was stopped or interrupted. Its cause is
                the exception of the first failure, if there is one.
        """
        if self.exit_code == 0:
            return self
        what = f"the run ended with the verdict {self.verdict!r}, exit code {self.exit_code}"
        if self.reason:
            what += f": {self.reason}"
        if self.failures:
            first = self.failures[0]
            origin = f" ({first.origin})" if first.origin else ""
            what += f"; first at the step {first.step}{origin}: {first.reasons[0]}"
        if self.quarantine:
            what += f"; {self.quarantined} failed inputs are in {self.quarantine}"
        raise RunFailed(what, self) from (self.failures[0].exception if self.failures else None)

    @classmethod
    def from_event(cls, event: Mapping[str, Any], failures: List[FailedInput]) -> Report:
        """Reads the event `ended`."""
        steps = [
            _from_json(StepReport, step, class_name=step.get("class", ""), actions=_actions(step))
            for step in event["steps"]
        ]
        return _from_json(cls, event, steps=steps, failures=failures, results=[])


def _named(steps: List[T], names: List[str], name: str) -> T:
    if name not in names:
        raise KeyError(f"there is no step {name!r}; the steps are {', '.join(names) or 'none'}")
    return steps[names.index(name)]


class RunError(DrpipeError):
    """A run could not be started, or broke off without a report.

    Attributes:
        report: what is known of the run, with its results and failed inputs so far; None if
            the run had not begun.
    """

    __module__ = "drpipe.errors"

    report: Optional[Report] = None


class RunFailed(DrpipeError):
    """A run ended with an exit code other than 0. Raised by `Report.check`.

    Attributes:
        report: the run's report.

    Example:
        >>> try:
        ...     pipeline.run().check()  # doctest: +SKIP
        ... except drpipe.RunFailed as error:
        ...     print(error.report.failures)
    """

    __module__ = "drpipe.errors"

    report: Report

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (str(self), self.report)


class RunStopped(RunFailed, RunError):  # type: ignore[misc]
    """A run was stopped before its end.

    A producer or an `init` failed, an input failed at a step with the policy `stop`, or a signal
    arrived. The `__cause__` is the exception that stopped the run, if one did.

    Example:
        >>> try:
        ...     drpipe.run(frames(), measure)  # doctest: +SKIP
        ... except drpipe.RunStopped as stopped:
        ...     print(stopped.__cause__, len(stopped.report.results))
    """

    __module__ = "drpipe.errors"


class RunInterrupted(KeyboardInterrupt):
    """A run was interrupted by Ctrl-C and has ended.

    Attributes:
        report: what is known of the run; None if it had not begun.

    Example:
        >>> try:
        ...     drpipe.run(frames(), measure)  # doctest: +SKIP
        ... except KeyboardInterrupt as interrupted:
        ...     print(len(interrupted.report.results))
    """

    __module__ = "drpipe.errors"

    def __init__(self, report: Optional[Report] = None) -> None:
        super().__init__()
        self.report = report
