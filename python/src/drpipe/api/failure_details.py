"""Details of failures that a worker leaves for the Python process that drives the run.

A worker writes the exception, and the value that the step failed on, into its driver's
directory before it reports the failure. The driver reads them when it learns of the failure.
The worker omits objects that are too large or cannot be pickled: the report has the failure's
texts in any case.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import Any, ClassVar, Dict, List, NamedTuple, Optional, Union

from ..protocol import session_pickles
from ..protocol.driver import DIRECTORY_VARIABLE

#: The longest pickle that a worker writes, in bytes. The quarantine has larger values.
_LONGEST = 1 << 18
#: The most exceptions of this process that keep their traceback, which holds on to all that
#: the step had in its variables.
_MOST_TRACEBACKS = 100

#: The number of the message that a call failed on or, if there was none, the name of the
#: call: "init", "produce" or "finish".
Occasion = Union[int, str]


class RemoteTraceback(Exception):
    """The cause of an exception raised in a worker: its traceback there, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class FailureDetails(NamedTuple):
    """The details that a driver gets about a failure besides its event."""

    #: The type of the exception, with its module.
    kind: str
    #: The pickled exception, empty if it could not be pickled; or the exception itself, if
    #: the step ran in this process.
    error: Union[bytes, BaseException]
    #: The pickled value, empty if it could not be pickled.
    value: bytes

    def exception(self, reasons: List[str]) -> Optional[BaseException]:
        """Returns the exception, or None if it cannot be loaded.

        Args:
            reasons: the texts of the failure. The last one becomes the exception's cause, if
                it is a traceback.
        """
        if isinstance(self.error, BaseException):
            return self.error
        error = _load(self.error)
        if not isinstance(error, BaseException):
            return None
        if len(reasons) > 1:
            error.__cause__ = RemoteTraceback(reasons[-1])
        return error


class LocalDetails:
    """The details of failures of steps that run in the driver's process."""

    #: The details of the run whose steps are running.
    current: ClassVar[Optional[LocalDetails]] = None

    def __init__(self) -> None:
        self._details: Dict[Occasion, FailureDetails] = {}
        self._tracebacks = 0

    def record(self, occasion: Occasion, details: FailureDetails, error: BaseException) -> None:
        """Keeps the details of one failure."""
        self._tracebacks += 1
        if self._tracebacks > _MOST_TRACEBACKS:
            error = error.with_traceback(None)
        self._details[occasion] = details._replace(error=error)

    def take(self, occasion: Occasion) -> Optional[FailureDetails]:
        """Removes and returns the details of one failure."""
        return self._details.pop(occasion, None)


def record(occasion: Occasion, error: BaseException, value: Any = None) -> None:
    """Leaves the details of a failure for the driver. Does nothing if the run has none."""
    directory, local = os.environ.get(DIRECTORY_VARIABLE), LocalDetails.current
    if local is None and not directory:
        return
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if local is not None:
        local.record(occasion, FailureDetails(kind, b"", _dump(value)), error)
        return
    details = (kind, _dump(error), _dump(value))
    # The failure itself is still reported.
    with contextlib.suppress(OSError), open(_file(str(directory), occasion), "wb") as file:
        pickle.dump(details, file)


def take(directory: str, occasion: Occasion) -> Optional[FailureDetails]:
    """Removes and returns the details of one failure from the driver's directory.

    Returns None if there are none: the worker may have died while it wrote them.
    """
    path = _file(directory, occasion)
    try:
        with open(path, "rb") as file:
            details = FailureDetails(*pickle.load(file))
        os.unlink(path)
    except Exception:
        return None
    return details


def value_of(details: Optional[FailureDetails], entry: Optional[str]) -> Any:
    """Returns the value that an attempt failed on.

    Args:
        details: the first place to look for the value.
        entry: the failed input's directory in the quarantine, the second place to look.

    Raises:
        LookupError: if it is in neither.
    """
    if details is not None and details.value:
        with contextlib.suppress(Exception):
            return session_pickles.loads(details.value)
    if entry is None:
        raise LookupError("the value was not kept: the quarantine has no entry of it")
    return _from_quarantine(entry)


def _from_quarantine(entry: str) -> Any:
    import json

    from .decoding import decoder

    try:
        with open(os.path.join(entry, "reason.json"), encoding="utf-8") as file:
            reason = json.load(file)
        with open(os.path.join(entry, "header.bin"), "rb") as header:
            buffers = [
                _content(os.path.join(entry, f"buffer-{number}.bin"))
                for number in range(reason["buffers"])
            ]
            if reason.get("codec") == "messagepack":
                return decoder().decode(header.read(), buffers)
    except Exception as error:
        raise LookupError(f"{entry} cannot be read: {error}") from error
    raise LookupError(f"it is a value of steps in Rust: drpipe quarantine show {entry}")


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _dump(thing: Any) -> bytes:
    try:
        # Arrays know their size, so no large array is pickled in vain.
        is_small = getattr(thing, "nbytes", 0) <= _LONGEST
        data = session_pickles.dumps(thing) if is_small else b""
    except Exception:
        return b""
    return data if len(data) <= _LONGEST else b""


def _load(data: bytes) -> Any:
    try:
        return session_pickles.loads(data)
    except Exception:
        # This process lacks the class, or its constructor takes other arguments.
        return None


def _file(directory: str, occasion: Occasion) -> str:
    return os.path.join(directory, f"failed-{occasion}")
