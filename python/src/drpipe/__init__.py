"""Steps of a drpipe pipeline, written in Python, and pipelines run from Python."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        ConfigError,
        DrpipeError,
        NotCarried,
        ProgramNotFound,
        RunError,
        RunFailed,
        RunInterrupted,
        RunStopped,
    )
    from .failures import Permanent
    from .frames import FitsPath, Frame, Picture, Record
    from .notes import product
    from .pipeline import Pipeline
    from .report import FailedInput, Progress, Report, StepProgress, StepReport
    from .running import Run
    from .script import run, start, step
    from .stage import IDLE, Consumer, Producer, Stage

__version__ = "0.1.0"

__all__ = [
    "IDLE",
    "ConfigError",
    "Consumer",
    "DrpipeError",
    "FailedInput",
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
    "product",
    "run",
    "start",
    "step",
]

# Imported when they are asked for: a worker starts with what it needs.
_HOMES = {
    "IDLE": "stage",
    "ConfigError": "errors",
    "Consumer": "stage",
    "DrpipeError": "errors",
    "FailedInput": "report",
    "FitsPath": "frames",
    "Frame": "frames",
    "NotCarried": "errors",
    "Permanent": "failures",
    "Picture": "frames",
    "Pipeline": "pipeline",
    "Producer": "stage",
    "ProgramNotFound": "errors",
    "Progress": "report",
    "Record": "frames",
    "Report": "report",
    "Run": "running",
    "RunError": "errors",
    "RunFailed": "errors",
    "RunInterrupted": "errors",
    "RunStopped": "errors",
    "Stage": "stage",
    "StepProgress": "report",
    "StepReport": "report",
    "product": "notes",
    "run": "script",
    "start": "script",
    "step": "script",
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
