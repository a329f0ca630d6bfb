"""The signals of controllers: Qt's where Qt is, plain ones of the same names elsewhere."""

from __future__ import annotations

from typing import Any, Callable, List, Optional

try:
    from qtpy import QtCore
except Exception:  # qtpy is not installed, or finds no Qt.
    QtCore = None

#: The signals of a controller, with the types of what they carry.
_SIGNALS = {
    "sig_progress": (float,),
    "sig_results": (object, object),
    "sig_failed": (object, object),
    "sig_message_from_worker": (object,),
    "sig_final_app_state": (object,),
    "sig_post_run_called": (),
    "started": (),
    "finished": (),
}


class Signal:
    """A signal that calls its slots in the thread that emits it, in the order of connection.

    >>> signal = Signal()
    >>> signal.connect(print)
    >>> signal.emit(1, "result")
    1 result
    >>> signal.disconnect(print)
    >>> signal.emit(2, "result")
    """

    def __init__(self) -> None:
        self._slots: List[Callable[..., Any]] = []

    def connect(self, slot: Any) -> None:
        """Has a callable called, or another signal emitted, with what this one emits."""
        self._slots.append(slot.emit if isinstance(slot, Signal) else slot)

    def disconnect(self, slot: Optional[Any] = None) -> None:
        """Removes a slot, or all of them.

        Raises:
            TypeError: if it is not connected, or none is.
        """
        if slot is None and self._slots:
            self._slots.clear()
            return
        gone = slot.emit if isinstance(slot, Signal) else slot
        if gone not in self._slots:
            raise TypeError(f"{slot!r} is not connected")
        self._slots.remove(gone)

    def emit(self, *values: Any) -> None:
        """Calls the slots."""
        for slot in list(self._slots):
            slot(*values)


def _plain() -> type:
    def __init__(self: Any) -> None:
        for name in _SIGNALS:
            setattr(self, name, Signal())

    def deleteLater(self: Any) -> None:
        """Does nothing: Python deletes the object."""

    members = {"__init__": __init__, "deleteLater": deleteLater}
    return type("Signals", (), {**members, "__doc__": "An object with plain signals."})


def _of_qt() -> type:
    # The thread of Python that a controller has stays its only one. As a QThread, which is never
    # started, it is what Qt's programs take it for, and may be deleted at any time.
    made = {name: QtCore.Signal(*types) for name, types in _SIGNALS.items()}
    return type("Signals", (QtCore.QThread,), {**made, "__doc__": "A thread with Qt's signals."})


#: The base of controllers: an object with the signals above.
Signals: Any = _plain() if QtCore is None else _of_qt()
