"""What can go wrong when pipelines are run from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .report import Report


class DrpipeError(Exception):
    """The base of all errors of running pipelines."""


class ProgramNotFound(DrpipeError):
    """There is no drpipe program."""


class ConfigError(DrpipeError):
    """A configuration is wrong. The text has everything that is, with file and line."""


class RunError(DrpipeError):
    """A run could not be started, or had to be given up: there is no report."""


class NotCarried(DrpipeError):
    """A function, class or instance cannot be given to the workers of a run."""


class RunFailed(DrpipeError):
    """A run ended with another exit code than 0. Raised by `Report.check` only.

    Example:
        >>> try:
        ...     pipeline.run().check()  # doctest: +SKIP
        ... except drpipe.RunFailed as error:
        ...     print(error.report.failures)
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report
