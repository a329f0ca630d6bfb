"""Decides whether a class is stateful: whether it keeps data from messages for its `finish`.

Replacing the worker of a stateful class loses this data.
"""

from __future__ import annotations

import dis
from types import FunctionType
from typing import Any, Collection, Set

from ..api.stage import BASES

_GENERATOR = 0x20
_SENDING = frozenset(["send", "send_msg"])
_GIVEN = _SENDING | {"connections", "log", "name"}


def is_stateful(cls: Any, role: str, parameters: Collection[str]) -> bool:
    """Whether a class is stateful.

    The attribute `stateful` or `gathers` decides. If the class has neither, its code does: a
    consumer is stateful if `run` and `finish` both use an attribute that is not a parameter; a
    stage, if its `finish` also emits something.

    >>> class Sum:
    ...     def run(self, value): self.sum = self.sum + value
    ...     def finish(self): self.send_msg(self.sum)
    >>> is_stateful(Sum, "stage", [])
    True
    """
    for base in cls.__mro__:
        for name in ("stateful", "gathers"):
            if base not in BASES and name in base.__dict__:
                return base.__dict__[name] is True
    run, finish = getattr(cls, "run", None), getattr(cls, "finish", None)
    if not isinstance(run, FunctionType) or not isinstance(finish, FunctionType):
        return False
    common = _attributes(run) & _attributes(finish) - _GIVEN - set(parameters)
    kept = {name for name in common if not callable(getattr(cls, name, None))}
    return bool(kept) and (role == "consumer" or _emits(finish))


def _attributes(function: FunctionType) -> Set[str]:
    """Returns the attributes of `self` that a function uses."""
    code = function.__code__
    own = code.co_varnames[0] if code.co_argcount else None
    found = set()
    is_self = False
    for step in dis.get_instructions(code):
        if is_self and step.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR"):
            found.add(step.argval)
        if step.opname in ("COPY", "DUP_TOP"):
            # `self.sum += 1` copies `self` before it loads the attribute.
            continue
        is_self = step.opname.startswith("LOAD_FAST") and _loaded(step.argval) == own
    return found


def _loaded(argument: Any) -> Any:
    """Returns the variable that a load leaves on top. Python 3.13 merges two loads into one."""
    return argument[-1] if isinstance(argument, tuple) else argument


def _emits(finish: FunctionType) -> bool:
    if finish.__code__.co_flags & _GENERATOR or _attributes(finish) & _SENDING:
        return True
    last: Any = None
    for step in dis.get_instructions(finish):
        returns = step.opname == "RETURN_VALUE" and last is not None
        if returns and not (last.opname == "LOAD_CONST" and last.argval is None):
            return True
        last = step
    return False
