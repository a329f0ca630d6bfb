"""What a run tells of itself, as objects. docs/EVENTS.md describes the JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Tuple, Type, TypeVar

from . import failure_details
from .errors import RunFailed
from .failure_details import Told

T = TypeVar("T")


def _from_json(cls: Type[T], data: Mapping[str, Any], **others: Any) -> T:
    """An object of the members that this version knows; times end in _s in JSON."""
    known = dict(others)
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        for name in (item.name, item.name + "_s"):
            if name in data and item.name not in known:
                known[item.name] = data[name]
    return cls(**known)


@dataclass(frozen=True)
class Counts:
    """What became of a step's messages."""

    #: Messages that reached the step.
    received: int = 0
    #: Processed without a failure.
    done: int = 0
    #: Of those done, how many emitted nothing although there are next steps.
    filtered: int = 0
    #: The last attempt failed; kept in quarantine, or stopped the run.
    failed: int = 0
    #: Skipped after a failure, or left when the run was stopped.
    dropped: int = 0
    #: Attempts beyond the first.
    retried: int = 0
    #: Messages sent to next steps.
    emitted: int = 0


@dataclass(frozen=True)
class StepProgress(Counts):
    """Where one step stands. Times are in seconds."""

    name: str = ""
    #: Messages, and bytes, in its queue; the most messages that ever were.
    queued: int = 0
    queued_bytes: int = 0
    high_water: int = 0
    #: Workers that have work in hand, and workers in all.
    busy: int = 0
    workers: int = 0
    #: The time its workers have spent, summed; of one call the mean and the 99th percentile.
    busy_time: float = 0.0
    mean: float = 0.0
    p99: float = 0.0
    finished: bool = False


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Example:
        >>> for progress in run.progress():  # doctest: +SKIP
        ...     print(progress.elapsed, progress.step("CLEAN").queued)
    """

    #: Since the run's start, in seconds.
    elapsed: float
    #: In the order of the plan.
    steps: List[StepProgress]

    def step(self, name: str) -> StepProgress:
        """The step of this name.

        Raises:
            KeyError: if there is none.
        """
        return _named(self.steps, [step.name for step in self.steps], name)

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Progress:
        """What the event `progress` tells."""
        steps = [_from_json(StepProgress, step) for step in event["steps"]]
        return _from_json(cls, event, steps=steps)

    @classmethod
    def at_the_end(cls, event: Mapping[str, Any]) -> Progress:
        """Where the run stood when it ended, as the event `ended` tells."""
        last = {"queued": 0, "busy": 0, "finished": True}
        steps = [
            _from_json(StepProgress, step, high_water=step.get("queue_high_water", 0), **last)
            for step in event["steps"]
        ]
        return _from_json(cls, event, steps=steps)


@dataclass(frozen=True)
class FailedInput:
    """A message whose last attempt failed."""

    step: str
    #: Why, in sentences, the outermost first; a traceback may be the last.
    reasons: List[str]
    #: "failed", "panicked", "lost", "timed out" or "late".
    cause: str
    #: What the message descends from, such as a file's path.
    origin: Optional[str] = None
    #: The attempt that failed, from 1.
    attempt: int = 1
    worker: Optional[int] = None
    #: What was done with it: "stop", "skip" or "quarantine".
    policy: str = "quarantine"
    #: Its name in the quarantine, and its directory there: what `drpipe quarantine show` takes.
    entry: Optional[str] = None
    path: Optional[str] = None
    #: With `drpipe.run`, which of the producer's values it descends from, from 0.
    index: Optional[int] = None
    #: The exception's type, such as "builtins.ValueError", if a step in Python has raised one.
    kind: str = ""
    _told: Optional[Told] = field(default=None, repr=False, compare=False)

    @property
    def exception(self) -> Optional[BaseException]:
        """The exception that the step has raised, if it could be pickled. Its cause has the
        traceback in the worker.

        Example:
            >>> raise report.failures[0].exception  # doctest: +SKIP
        """
        return self._told.exception(self.reasons) if self._told is not None else None

    @property
    def value(self) -> Any:
        """What the step was given.

        Raises:
            LookupError: if it was not kept, or belongs to steps in Rust.

        Example:
            >>> again = [failed.value for failed in report.failures]  # doctest: +SKIP
        """
        return failure_details.value_of(self._told, self.path)

    @classmethod
    def from_event(
        cls,
        event: Mapping[str, Any],
        told: Optional[Told] = None,
        path: Optional[str] = None,
        numbered: bool = False,
    ) -> FailedInput:
        """What the event `failed` tells, and the worker besides. `numbered` says that the
        producer is one of `drpipe.run`."""
        origin = event.get("origin")
        index, origin = failure_details.numbered(origin) if numbered else (None, origin)
        kind = told.kind if told is not None else ""
        reasons = list(event["failure"]["chain"])
        others = {"index": index, "origin": origin, "kind": kind, "path": path, "_told": told}
        return _from_json(cls, event, reasons=reasons, **others)


@dataclass(frozen=True)
class StepReport(Counts):
    """What became of one step. Times are in seconds."""

    name: str = ""
    class_name: str = ""
    #: "producer", "stage" or "consumer".
    kind: str = ""
    workers: int = 0
    #: The part of the run's time that its workers were busy.
    busy_percent: float = 0.0
    mean: float = 0.0
    p99: float = 0.0
    queue_high_water: int = 0


@dataclass(frozen=True, repr=False)
class Report:
    """What became of a run. Printed, it is a table of the steps.

    Example:
        >>> report = pipeline.run()  # doctest: +SKIP
        >>> report.exit_code, report.step("CLEAN").failed  # doctest: +SKIP
        (1, 2)
    """

    #: "done", "some_failed", "stopped" or "interrupted".
    verdict: str
    #: 0, 1, 3 or 130, as the program's.
    exit_code: int
    #: Why it was stopped.
    reason: Optional[str] = None
    #: The name of the run, and the version of drpipe.
    run: str = ""
    version: str = ""
    #: From the start of the workers to the end, in seconds.
    elapsed: float = 0.0
    #: In the order of the plan; empty if the run was cancelled before it began.
    steps: List[StepReport] = field(default_factory=list)
    #: The step that was busiest.
    bottleneck: Optional[str] = None
    #: Items that earlier runs had done.
    skipped: int = 0
    finish_failures: List[str] = field(default_factory=list)
    #: The directory with the failed inputs, and how many it has.
    quarantine: Optional[str] = None
    quarantined: int = 0
    config_hash: str = ""
    #: The first 10 000 failed inputs.
    failures: List[FailedInput] = field(default_factory=list)
    #: What the last step has returned or sent and was not taken from `Run.results`; in the
    #: order of the producer's values, if the run is an ordered one.
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
        """The step of this name.

        Raises:
            KeyError: if there is none.
        """
        return _named(self.steps, [step.name for step in self.steps], name)

    def check(self) -> Report:
        """The report itself, if everything was done.

        Raises:
            RunFailed: if inputs failed, or the run was stopped or interrupted.
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
        """What the event `ended` tells."""
        steps = [
            _from_json(StepReport, step, class_name=step.get("class", ""))
            for step in event["steps"]
        ]
        return _from_json(cls, event, steps=steps, failures=failures, results=[])


def _named(steps: List[T], names: List[str], name: str) -> T:
    if name not in names:
        raise KeyError(f"there is no step {name!r}; the steps are {', '.join(names) or 'none'}")
    return steps[names.index(name)]
