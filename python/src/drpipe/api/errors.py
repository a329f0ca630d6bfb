"""The errors before a run starts. Errors that have a report are in `report`."""

from __future__ import annotations


class DrpipeError(Exception):
    """The base of all errors of running pipelines."""

    __module__ = "drpipe.errors"


class ProgramNotFound(DrpipeError):
    """The drpipe program was not found. The message says where drpipe looked for it."""

    __module__ = "drpipe.errors"


class ConfigError(DrpipeError):
    """A configuration is wrong. The message lists every error, with file and line."""

    __module__ = "drpipe.errors"


class NotCarried(DrpipeError):
    """A function, class or instance cannot be given to the workers of a run."""

    __module__ = "drpipe.errors"
