"""The stable module name of the errors of running pipelines, used in their `__module__`."""

from .api.errors import ConfigError, DrpipeError, NotCarried, ProgramNotFound
from .api.report import RunError, RunFailed, RunInterrupted, RunStopped

__all__ = [
    "ConfigError",
    "DrpipeError",
    "NotCarried",
    "ProgramNotFound",
    "RunError",
    "RunFailed",
    "RunInterrupted",
    "RunStopped",
]
