"""How a task ends."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional, Tuple

from .payload import Payload
from .task import Raised


class Outcome(Enum):
    """How a task ended."""

    DONE = "done"
    FAILED = "failed"
    #: Its time limit was passed.
    TIMED_OUT = "timed out"
    #: Its worker ended during the task.
    LOST = "lost"
    CANCELLED = "cancelled"
    #: The pool ended before the task.
    DROPPED = "dropped"


class Ending(NamedTuple):
    """How a task ended, with its result or the reason."""

    outcome: Outcome
    result: Optional[Payload] = None
    #: Why there is no result: the outermost text first.
    texts: Tuple[str, ...] = ()
    #: What the task raised, if it did.
    raised: Optional[Raised] = None


CANCELLED = Ending(Outcome.CANCELLED)
