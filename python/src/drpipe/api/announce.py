"""Announcements of a step about its work, apart from what it emits."""

from __future__ import annotations

import os
from typing import Callable, List, Optional, Tuple, Union

from ..protocol.path_names import name_of_path

#: The products that the current call has announced.
pending: List[bytes] = []
#: The products of calls that have ended well, each with the origin of what it was made from.
_settled: List[Tuple[bytes, Optional[bytes]]] = []


class _Process:
    """The state of this process."""

    #: Whether a run listens.
    is_worker = False

    #: Whether the current thread works for the present call.
    is_in_its_call: Callable[[], bool] = staticmethod(lambda: True)


def product(path: Union[str, os.PathLike[str]]) -> None:
    """Announces that the running step has made a file.

    Displays of the run show it, and a journal records which input it was made from. The file
    is neither read nor moved. The announcements of a call that fails are dropped. In a thread
    that outlives its call the file is announced without an input. Outside of a pipeline the
    function does nothing.

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
    """Begins to collect announcements, or ends it and drops those that are left.

    Args:
        listens: whether announcements are collected.
        is_in_its_call: whether the current thread works for the present call.
    """
    _Process.is_worker = listens
    _Process.is_in_its_call = staticmethod(is_in_its_call)
    if not listens:
        pending.clear()
        _settled.clear()


def settle(origin: Optional[bytes]) -> None:
    """Confirms the announcements of a call that has ended well."""
    _settled.extend((path, origin) for path in pending)
    pending.clear()


def take() -> List[Tuple[bytes, Optional[bytes]]]:
    """Removes and returns the confirmed announcements."""
    if not _settled:
        return []
    taken = list(_settled)
    # Another thread may add one meanwhile.
    del _settled[: len(taken)]
    return taken
