"""Pools of worker processes for calls that arrive while the program goes on.

`Executor` is an executor of `concurrent.futures`. `ProcessPool` is DIRAC's, `WorkerController` and
`AppRunner` are pydidas'. In all of them a task that raises, hangs or dies costs itself only.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app_runner import AppRunner
    from .controller import WorkerController
    from .dirac import FAST_PROCESS_POOL, S_ERROR, S_OK, ProcessPool, ProcessTask
    from .errors import RemoteError, TaskFailed, TaskTimeout, WorkerLost
    from .executor import Executor

__all__ = [
    "FAST_PROCESS_POOL",
    "S_ERROR",
    "S_OK",
    "AppRunner",
    "Executor",
    "ProcessPool",
    "ProcessTask",
    "RemoteError",
    "TaskFailed",
    "TaskTimeout",
    "WorkerController",
    "WorkerLost",
]

# Each module is imported when one of its names is first used: programs without Qt, numpy or DIRAC
# load none of them.
_HOMES = {
    "FAST_PROCESS_POOL": "dirac",
    "S_ERROR": "dirac",
    "S_OK": "dirac",
    "AppRunner": "app_runner",
    "Executor": "executor",
    "ProcessPool": "dirac",
    "ProcessTask": "dirac",
    "RemoteError": "errors",
    "TaskFailed": "errors",
    "TaskTimeout": "errors",
    "WorkerController": "controller",
    "WorkerLost": "errors",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted(set(globals()) | set(_HOMES))
