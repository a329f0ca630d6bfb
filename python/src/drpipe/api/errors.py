"""What can go wrong when pipelines are run from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Tuple

if TYPE_CHECKING:
    from .report import Report


class DrpipeError(Exception):
    """The base of all errors of running pipelines."""


class ProgramNotFound(DrpipeError):
    """There is no drpipe program."""


class ConfigError(DrpipeError):
    """A configuration is wrong. The text has everything that is, with file and line."""


class RunError(DrpipeError):
    """A run could not be started, or ended before its end."""

    #: What there is of a run that had begun: its results and failed inputs so far.
    report: Optional[Report] = None


class NotCarried(DrpipeError):
    """A function, class or instance cannot be given to the workers of a run."""


class RunFailed(DrpipeError):
    """A run ended with another exit code than 0. Raised by `Report.check`.

    Example:
        >>> try:
        ...     pipeline.run().check()  # doctest: +SKIP
        ... except drpipe.RunFailed as error:
        ...     print(error.report.failures)
    """

    report: Report

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (str(self), self.report)


class RunStopped(RunFailed, RunError):  # type: ignore[misc]
    """A run was stopped before its end: by a producer or an `init` that failed, by a step's
    policy, or by somebody else. Its cause is the exception that stopped it, if one did.

    Example:
        >>> try:
        ...     drpipe.run(frames(), measure)  # doctest: +SKIP
        ... except drpipe.RunStopped as stopped:
        ...     print(stopped.__cause__, len(stopped.report.results))
    """


class RunInterrupted(KeyboardInterrupt):
    """A run was interrupted by Ctrl-C and has ended.

    Example:
        >>> try:
        ...     drpipe.run(frames(), measure)  # doctest: +SKIP
        ... except KeyboardInterrupt as interrupted:
        ...     print(len(interrupted.report.results))
    """

    def __init__(self, report: Optional[Report] = None) -> None:
        super().__init__()
        #: What was done; none if nothing had begun.
        self.report = report
