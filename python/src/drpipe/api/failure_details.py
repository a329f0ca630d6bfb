"""Failures of workers, as the Python that drives their run is told of them.

A worker writes the exception and the value that it failed on into its driver's directory
before it reports the failure, and the driver reads them when it hears of that. What pickle
does not take, or is too large for this, is left out: the failure's texts come in any case.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from typing import Any, ClassVar, Dict, List, NamedTuple, Optional, Tuple, Union

from ..driving import channel, pickling

#: A value beyond this many bytes is read from the quarantine.
_LONGEST = 1 << 18
#: The exceptions of so many failures in this process keep their tracebacks.
_MOST_TRACEBACKS = 100

#: The message's number; where there was none what was called: init, produce or finish.
Occasion = Union[int, str]


class RemoteTraceback(Exception):
    """The traceback of an exception in the worker where it was raised: its cause here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class Told(NamedTuple):
    """What a worker has told of a failure; empty where it could not."""

    kind: str
    #: Pickled, or the exception itself if the step was at work in this process.
    error: Union[bytes, BaseException]
    value: bytes

    def exception(self, reasons: List[str]) -> Optional[BaseException]:
        """The exception, with the worker's traceback as its cause."""
        if isinstance(self.error, BaseException):
            return self.error
        error = _loaded(self.error)
        if not isinstance(error, BaseException):
            return None
        if len(reasons) > 1:
            error.__cause__ = RemoteTraceback(reasons[-1])
        return error


class Here:
    """What is told where the workers are this process."""

    #: Those whose steps are at work.
    current: ClassVar[Optional[Here]] = None

    def __init__(self) -> None:
        self._told: Dict[Occasion, Told] = {}
        self._with_traceback = 0

    def tell(self, occasion: Occasion, told: Told, error: BaseException) -> None:
        """Keeps an exception."""
        self._with_traceback += 1
        if self._with_traceback > _MOST_TRACEBACKS:
            # It holds all that the step had at hand.
            error = error.with_traceback(None)
        self._told[occasion] = told._replace(error=error)

    def heard(self, occasion: Occasion) -> Optional[Told]:
        """What was told, which is then forgotten here."""
        return self._told.pop(occasion, None)


def tell(occasion: Occasion, error: BaseException, value: Any = None) -> None:
    """In a worker: tells the driver, if the run has one."""
    directory, here = os.environ.get(channel.VARIABLE), Here.current
    if here is None and not directory:
        return
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if here is not None:
        here.tell(occasion, Told(kind, b"", _dumped(value)), error)
        return
    told = (kind, _dumped(error), _dumped(value))
    # The failure itself is reported all the same.
    with contextlib.suppress(OSError), open(_file(str(directory), occasion), "wb") as file:
        pickle.dump(told, file)


def heard(directory: str, occasion: Occasion) -> Optional[Told]:
    """In the driver: what was told, which is then forgotten there."""
    path = _file(directory, occasion)
    try:
        with open(path, "rb") as file:
            told = Told(*pickle.load(file))
        os.unlink(path)
    except Exception:
        # None was told, or its worker died in the midst of it.
        return None
    return told


def value_of(told: Optional[Told], entry: Optional[str]) -> Any:
    """The value that an attempt failed on: as it was told, or as the quarantine has it.

    Raises:
        LookupError: if it is in neither.
    """
    if told is not None and told.value:
        with contextlib.suppress(Exception):
            return pickling.loads(told.value)
    if entry is None:
        raise LookupError("the value was not kept: the quarantine has no entry of it")
    return _kept(entry)


def _kept(entry: str) -> Any:
    import json

    from ..protocol.values import Decoder

    try:
        with open(os.path.join(entry, "reason.json"), encoding="utf-8") as file:
            reason = json.load(file)
        with open(os.path.join(entry, "header.bin"), "rb") as header:
            buffers = [
                _content(os.path.join(entry, f"buffer-{number}.bin"))
                for number in range(reason["buffers"])
            ]
            if reason.get("codec") == "messagepack":
                return Decoder().decode(header.read(), buffers)
    except Exception as error:
        raise LookupError(f"{entry} cannot be read: {error}") from error
    raise LookupError(f"it is a value of steps in Rust: drpipe quarantine show {entry}")


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _dumped(thing: Any) -> bytes:
    try:
        # The usual large ones need not be pickled to know that.
        data = pickling.dumps(thing) if getattr(thing, "nbytes", 0) <= _LONGEST else b""
    except Exception:
        return b""
    return data if len(data) <= _LONGEST else b""


def _loaded(data: bytes) -> Any:
    try:
        return pickling.loads(data)
    except Exception:
        # Its class cannot be had here, or cannot be made of what was pickled.
        return None


def _file(directory: str, occasion: Occasion) -> str:
    return os.path.join(directory, f"failed-{occasion}")


#: How `drpipe.run` calls a value: its number, and what a person calls it, if they do.
_NUMBERED = re.compile(r"\[(\d+)\](?: (.*))?", re.DOTALL)


def origin_of(number: int, natural: Optional[str]) -> str:
    """What the producer's value of this number is called.

    >>> origin_of(3, "raw/a.fits"), origin_of(4, None)
    ('[3] raw/a.fits', '[4]')
    """
    return f"[{number}]" if natural is None else f"[{number}] {natural}"


def numbered(origin: Optional[str]) -> Tuple[Optional[int], Optional[str]]:
    """The number, and what the value is called.

    >>> numbered("[3] raw/a.fits"), numbered("[4]"), numbered("raw/[5].fits")
    ((3, 'raw/a.fits'), (4, '[4]'), (None, 'raw/[5].fits'))
    """
    found = _NUMBERED.fullmatch(origin or "")
    if found is None:
        return None, origin
    return int(found[1]), found[2] if found[2] is not None else origin
