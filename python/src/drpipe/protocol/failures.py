"""Why a message could not be processed, as the run is told."""

from __future__ import annotations

import importlib
import os
from typing import Iterable, List, NamedTuple, Optional

#: A traceback beyond this many characters loses its beginning.
_LONGEST_TRACEBACK = 20_000
#: Where the code is that calls and imports a step's own.
_NOT_THEIRS = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(importlib.__file__) + os.sep,
    "<frozen importlib",
)


class Permanent(Exception):
    """Raised by a step: every attempt on this input would fail, so it is not retried."""


class CodecError(Permanent):
    """A value that cannot be sent, or a message that cannot be read."""


class Unsendable(CodecError):
    """What a codec cannot carry as it is; where it stands is not known yet."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} cannot be sent{': ' + hint if hint else ''}")
        self.what = what
        self.hint = hint


class SetupError(Exception):
    """A step that cannot be built as it is configured."""

    def __init__(
        self,
        what: str,
        message: str,
        hint: str = "",
        known: Iterable[str] = (),
        cause: Optional[BaseException] = None,
    ) -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        #: "module", "class", "import" or "parameters".
        self.what = what
        self.message = message
        self.hint = hint
        #: The names of the classes that could have been meant.
        self.known = list(known)
        self.__cause__ = cause


class Failure(NamedTuple):
    """A chain of texts, the outermost first."""

    retryable: bool
    texts: List[str]


def of(error: BaseException) -> Failure:
    """The failure that an exception of a step means."""
    texts = [summary(error)]
    if isinstance(error, ValueError) and "read-only" in texts[0]:
        texts.append(
            "a received array cannot be changed here: change a copy() of it, or set "
            "writable_arrays = True in the step's class"
        )
    cause = error.__cause__ if isinstance(error, SetupError) else error
    trace = traceback_of(cause) if cause is not None else ""
    if trace:
        texts.append(trace)
    return Failure(not isinstance(error, (Permanent, SetupError)), texts)


def summary(error: BaseException) -> str:
    """The type and the message in one line."""
    try:
        text = str(error)
    except Exception as second:
        text = f"<its text cannot be had: {type(second).__name__}>"
    if isinstance(error, (CodecError, SetupError)):
        return text
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def traceback_of(error: BaseException) -> str:
    """The traceback from the step's own code on; empty if it was not in any."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_NOT_THEIRS):
        trace = trace.tb_next
    if trace is None and error.__cause__ is None:
        return ""
    import traceback

    text = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    return text if len(text) <= _LONGEST_TRACEBACK else "..." + text[-_LONGEST_TRACEBACK:]


def nearest(name: str, known: Iterable[str]) -> Optional[str]:
    """The known name that was most likely meant."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)
