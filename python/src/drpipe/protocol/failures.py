"""Failures of a step in the form of reports, and the exceptions behind them."""

from __future__ import annotations

import importlib
import os
from typing import Iterable, List, NamedTuple, Optional

#: The most characters of a traceback to report. A longer one loses its beginning, because its
#: end names the exception.
_LONGEST_TRACEBACK = 20_000
#: The most characters of a message to report.
_LONGEST_MESSAGE = 20_000
#: A wait in seconds that fits into a message as nanoseconds.
_LONGEST_WAIT = 1e9
#: The places of code that is not the step's own: this package and the import system.
_NOT_OF_STEPS = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(importlib.__file__) + os.sep,
    "<frozen importlib",
)


class Permanent(Exception):
    """Raised by a step if no further attempt can succeed.

    The input has failed and is not tried again, whatever the step's `retries`.

    Example:
        >>> class Read(drpipe.Stage):  # doctest: +SKIP
        ...     def run(self, path):
        ...         if os.path.getsize(path) == 0:
        ...             raise drpipe.Permanent(f"{path} is empty")
    """

    __module__ = "drpipe.failures"


class Deferred(Exception):
    """Raised by a stage or a consumer if something that other work of the run brings is missing.

    It is no failure yet: the input is put off and tried again, first after a tenth of a second,
    then after ever longer waits up to a minute, and anew from a tenth of a second whenever another
    message has ended. Nothing is charged, and what was sent for the input is dropped. Keep nothing
    of an input that you defer: it comes again. When nothing else can happen in the run, the input
    has waited in vain and fails, as the step's `on_error` says.

    For what comes from outside the run, another exception and `retries` are right. A producer,
    `init` and `finish` cannot defer: there this is a failure.

    Example:
        >>> class Divide(drpipe.Stage):  # doctest: +SKIP
        ...     def run(self, frame):
        ...         flat = Path(f"flats/{frame.night}.npy")
        ...         if not flat.exists():
        ...             raise drpipe.Deferred(f"{flat} is not there yet")

    Attributes:
        wait: the first wait in seconds; None for a tenth of a second.
    """

    __module__ = "drpipe.failures"

    def __init__(self, why: str, wait: Optional[float] = None) -> None:
        super().__init__(why)
        if wait is not None and not 0 <= wait < _LONGEST_WAIT:
            raise ValueError(f"wait is {wait}, expected a number of seconds from 0")
        self.wait = wait


class CodecError(Permanent):
    """A value cannot be encoded, or a message cannot be decoded."""

    __module__ = "drpipe.failures"


class Unsendable(CodecError):
    """A part of a value cannot be encoded. The encoder adds the part's place."""

    __module__ = "drpipe.failures"

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} cannot be sent{': ' + hint if hint else ''}")
        self.what = what
        self.hint = hint


class SetupError(Exception):
    """A step cannot be built as it is configured.

    Attributes:
        what: "module", "class", "import" or "parameters".
        message: what is wrong.
        hint: what to do about it; may be empty.
        known: the names of the classes that the configuration could have meant.
    """

    __module__ = "drpipe.failures"

    def __init__(
        self,
        what: str,
        message: str,
        hint: str = "",
        known: Iterable[str] = (),
        cause: Optional[BaseException] = None,
    ) -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.what = what
        self.message = message
        self.hint = hint
        self.known = list(known)
        self.__cause__ = cause


class Failure(NamedTuple):
    """A failure in the form of a report: a chain of texts, the outermost first.

    `wait` says that the input is deferred, and for how long at first, in seconds; 0 leaves that to
    the router.
    """

    retryable: bool
    texts: List[str]
    wait: Optional[float] = None


def of(error: BaseException) -> Failure:
    """Returns the failure that represents an exception of a step."""
    if isinstance(error, Deferred):
        return Failure(True, [str(error)], error.wait or 0.0)
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
    """Returns the type and message of an exception on one line."""
    try:
        text = str(error)
    except Exception as second:
        text = f"<its message raises {type(second).__name__}>"
    if len(text) > _LONGEST_MESSAGE:
        text = text[:_LONGEST_MESSAGE] + "..."
    if isinstance(error, (CodecError, SetupError)):
        return text
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def traceback_of(error: BaseException) -> str:
    """Returns the traceback from the step's own code on, or an empty string if it has none."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_NOT_OF_STEPS):
        trace = trace.tb_next
    if trace is None and error.__cause__ is None:
        return ""
    import traceback

    text = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    return text if len(text) <= _LONGEST_TRACEBACK else "..." + text[-_LONGEST_TRACEBACK:]


def nearest(name: str, known: Iterable[str]) -> Optional[str]:
    """Returns the most similar known name, if one is similar enough."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)
