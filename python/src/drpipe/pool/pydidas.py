"""The pools of pydidas, and how its programs get these."""

from __future__ import annotations

import sys

from .app_runner import AppRunner
from .controller import WorkerController

__all__ = ["AppRunner", "WorkerController", "install"]


def install() -> None:
    """Puts the classes of this module in the place of those of `pydidas.multiprocessing`.

    Modules that have imported the classes before keep theirs.
    """
    import pydidas.multiprocessing as theirs

    for module in (
        theirs,
        sys.modules["pydidas.multiprocessing.worker_controller"],
        sys.modules["pydidas.multiprocessing.app_runner"],
    ):
        for made in (WorkerController, AppRunner):
            if hasattr(module, made.__name__):
                setattr(module, made.__name__, made)
