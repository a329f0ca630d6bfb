"""Collects a step's announcements about its work, apart from the values that it emits."""

from __future__ import annotations

import os
from typing import Callable, List, Optional, Tuple, Union

from ..protocol.path_names import name_of_path

#: The products that the current call has announced.
pending: List[bytes] = []
#: The products of successful calls, each with the origin of the input that it was made from.
_settled: List[Tuple[bytes, Optional[bytes]]] = []


class _Process:
    """The state of this process."""

    #: Whether a run listens.
    is_worker = False

    #: Whether the current thread works for the current call.
    is_in_its_call: Callable[[], bool] = staticmethod(lambda: True)


def product(path: Union[str, os.PathLike[str]]) -> None:
    """Announces that the running step made a file.

    Displays of the run show the file, and a journal records which input it was made from. drpipe
    neither reads nor moves it. A failed call's announcements are dropped. In a thread that
    outlives its call, the file is announced without an input. Outside a pipeline, the function
    does nothing.

    Args:
        path: the file, absolute or relative to the current directory.

    Example:
        >>> class Save(drpipe.Consumer):  # doctest: +SKIP
        ...     def run(self, frame):
        ...         path = self.directory / f"{frame.name}.npy"
        ...         np.save(path, frame.pixels)
        ...         drpipe.product(path)
    """
    if _Process.is_worker:
        data = name_of_path(path).encode()
        if _Process.is_in_its_call():
            pending.append(data)
        else:
            _settled.append((data, None))


def listen(listens: bool = True, is_in_its_call: Callable[[], bool] = lambda: True) -> None:
    """Starts to collect announcements, or stops and drops the remaining ones.

    Args:
        listens: whether to collect announcements.
        is_in_its_call: returns whether the current thread works for the current call.
    """
    _Process.is_worker = listens
    _Process.is_in_its_call = staticmethod(is_in_its_call)
    if not listens:
        pending.clear()
        _settled.clear()


def settle(origin: Optional[bytes]) -> None:
    """Confirms the announcements of a successful call."""
    _settled.extend((path, origin) for path in pending)
    pending.clear()


def take() -> List[Tuple[bytes, Optional[bytes]]]:
    """Removes and returns the confirmed announcements."""
    if not _settled:
        return []
    taken = list(_settled)
    # Another thread may have added one meanwhile.
    del _settled[: len(taken)]
    return taken
