"""The stable name of the errors of running pipelines, as their `__module__` has it."""

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
