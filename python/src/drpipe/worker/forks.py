"""Ends a child that a step forks as soon as it returns from the step's code: the socket and
the messages in hand belong to the parent."""

from __future__ import annotations

import os
import sys
from typing import Callable, List, NoReturn, Optional, TypeVar

Result = TypeVar("Result")

#: Not empty in a process that a step has forked.
forked: List[bool] = []

os.register_at_fork(after_in_child=lambda: forked.append(True))


def call(function: Callable[[], Result]) -> Result:
    """Calls a function. A child that the function forked ends here instead of returning."""
    try:
        result = function()
    except BaseException as error:
        if forked:
            leave(error)
        raise
    if forked:
        leave()
    return result


def leave(error: Optional[BaseException] = None) -> NoReturn:
    """Ends a forked child as Python would, but without calling exit functions."""
    code = 0
    if isinstance(error, SystemExit):
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)
