"""What a step makes known about its work, apart from what it emits."""

from __future__ import annotations

import os
from typing import List, Optional, Tuple, Union

from .names import name_of_path

#: What the current call has made known.
pending: List[bytes] = []
#: The products of calls that have ended well, with what they were made from.
_told: List[Tuple[bytes, Optional[bytes]]] = []


class _Process:
    """What is known of this process."""

    #: Whether it is a worker: elsewhere nobody is to be told.
    is_worker = False


def product(path: Union[str, os.PathLike[str]]) -> None:
    """Makes known that the step which is running has made the file `path`.

    Those who watch the run see it, and a journal records which input it came from.
    Nothing is read or moved. If the call fails, it has made nothing known. Outside of
    a pipeline it does nothing.

    Example:
        >>> class Save(drpipe.Consumer):  # doctest: +SKIP
        ...     def run(self, frame):
        ...         path = self.directory / f"{frame.name}.npy"
        ...         np.save(path, frame.pixels)
        ...         drpipe.product(path)
    """
    if _Process.is_worker:
        pending.append(name_of_path(path).encode())


def listen(somebody: bool = True) -> None:
    """From here on somebody is told, or nobody any more."""
    _Process.is_worker = somebody
    if not somebody:
        pending.clear()
        _told.clear()


def settle(origin: Optional[bytes]) -> None:
    """The call has ended well: what it made known stands."""
    _told.extend((path, origin) for path in pending)
    pending.clear()


def take() -> List[Tuple[bytes, Optional[bytes]]]:
    """All that is to be told; nothing is left."""
    if not _told:
        return []
    taken = list(_told)
    _told.clear()
    return taken
