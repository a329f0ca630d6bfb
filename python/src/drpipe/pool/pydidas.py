"""The pools of pydidas, and how its programs get these."""

from __future__ import annotations

import sys

from .app_runner import AppRunner
from .controller import WorkerController

__all__ = ["AppRunner", "WorkerController", "install"]


def install() -> None:
    """Puts the classes of this module in the place of those of `pydidas.multiprocessing`.

    All modules of pydidas get them. Other modules that have imported the classes before keep
    theirs.
    """
    import pydidas.multiprocessing as theirs

    own = sys.modules["pydidas.multiprocessing.app_runner"]
    for made in (WorkerController, AppRunner):
        name = made.__name__
        old = getattr(theirs, name)
        for module in [module for key, module in sys.modules.items() if _is_of_pydidas(key)]:
            # What has kept pydidas' own AppRunner needs pydidas' own base of it.
            is_base = module is own and made is WorkerController
            if vars(module).get(name) is old and not is_base:
                setattr(module, name, made)


def _is_of_pydidas(name: str) -> bool:
    return name.partition(".")[0] == "pydidas"
