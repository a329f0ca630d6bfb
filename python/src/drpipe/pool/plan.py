"""The configuration of a pool's run, and the start of the program with it."""

from __future__ import annotations

import json
import os
from typing import Any, Dict

from ..driving import logging_bridge
from ..driving.attach import Attachment
from .settings import Settings

#: The steps of the run.
TASKS, WORK = "TASKS", "WORK"


def has_main(context: Any) -> bool:
    """Whether workers have, or import, the main module of this process."""
    import __main__

    if context.get_start_method() == "fork":
        return True
    return getattr(__main__, "__file__", None) is not None or bool(
        getattr(__main__, "__spec__", None)
    )


def _configuration(settings: Settings) -> Dict[str, Any]:
    """Returns the configuration of a pool's run."""
    work: Dict[str, Any] = {
        "name": WORK,
        "class": "Caller",
        "results": True,
        "on_error": "tell",
        "nb_process": settings.min_workers,
        "retries": settings.retries,
        # The death of a worker counts as a retry like any other failure.
        "lost_retries": 0,
        "grace": settings.grace,
        "queue_limit": max(settings.window, 1),
        "queue_bytes": settings.window_bytes,
    }
    if settings.timeout is not None:
        work["timeout"] = settings.timeout
    if settings.memory_limit is not None:
        work["memory_limit"] = settings.memory_limit
    return {
        "version": 1,
        "producer": {
            "name": TASKS,
            "class": "Caller",
            "window": settings.window,
            "window_bytes": settings.window_bytes,
        },
        "consumer": work,
    }


def attach(settings: Settings, log: int) -> Attachment:
    """Starts the program.

    Args:
        settings: the workers and their limits.
        log: a descriptor for its log.

    Raises:
        ProgramNotFound: if there is no drpipe program.
        RunError: if the run refuses, with its reason.
    """
    config = os.memfd_create("drpipe-pool", 0)
    try:
        os.write(config, json.dumps(_configuration(settings)).encode())
        os.lseek(config, 0, os.SEEK_SET)
        options = [part for option in logging_bridge.options().items() for part in option]
        return Attachment(
            f"/dev/fd/{config}", options, name=settings.name, pass_fds=(config,), stderr=log
        )
    finally:
        os.close(config)
