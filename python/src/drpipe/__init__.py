"""Steps of drpipe pipelines in Python, and runs of pipelines from Python.

Steps are classes with a method `run`, such as those derived from `Producer`, `Stage` and
`Consumer`. `Pipeline` runs a pipeline configured by a file; `run` and `start` run functions
and classes without a file.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.acknowledgement import Acknowledgement
    from .api.announce import count_action, product
    from .api.errors import ConfigError, DrpipeError, NotCarried, ProgramNotFound
    from .api.frames import FitsPath, Frame, Picture, Record
    from .api.report import (
        FailedInput,
        Progress,
        Report,
        RunError,
        RunFailed,
        RunInterrupted,
        RunStopped,
        StepProgress,
        StepReport,
    )
    from .api.stage import BARRIER, IDLE, Consumer, Producer, Stage
    from .driving.feed import Feed
    from .driving.pipeline import Pipeline
    from .driving.running import Run
    from .driving.script import run, start, step
    from .protocol.failures import Deferred, Permanent

__version__ = "0.1.0"

__all__ = [
    "BARRIER",
    "IDLE",
    "Acknowledgement",
    "ConfigError",
    "Consumer",
    "Deferred",
    "DrpipeError",
    "FailedInput",
    "Feed",
    "FitsPath",
    "Frame",
    "NotCarried",
    "Permanent",
    "Picture",
    "Pipeline",
    "Producer",
    "ProgramNotFound",
    "Progress",
    "Record",
    "Report",
    "Run",
    "RunError",
    "RunFailed",
    "RunInterrupted",
    "RunStopped",
    "Stage",
    "StepProgress",
    "StepReport",
    "count_action",
    "product",
    "run",
    "start",
    "step",
]

# The modules of the public names. Each is imported when one of its names is first used, so that
# a worker imports only what it needs.
_HOMES = {
    "BARRIER": "api.stage",
    "IDLE": "api.stage",
    "Acknowledgement": "api.acknowledgement",
    "ConfigError": "errors",
    "Consumer": "api.stage",
    "Deferred": "failures",
    "DrpipeError": "errors",
    "FailedInput": "api.report",
    "Feed": "driving.feed",
    "FitsPath": "api.frames",
    "Frame": "api.frames",
    "NotCarried": "errors",
    "Permanent": "failures",
    "Picture": "api.frames",
    "Pipeline": "driving.pipeline",
    "Producer": "api.stage",
    "ProgramNotFound": "errors",
    "Progress": "api.report",
    "Record": "api.frames",
    "Report": "api.report",
    "Run": "driving.running",
    "RunError": "errors",
    "RunFailed": "errors",
    "RunInterrupted": "errors",
    "RunStopped": "errors",
    "Stage": "api.stage",
    "StepProgress": "api.report",
    "StepReport": "api.report",
    "count_action": "api.announce",
    "product": "api.announce",
    "run": "driving.script",
    "start": "driving.script",
    "step": "driving.script",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
