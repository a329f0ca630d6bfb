"""What a step makes known about its work, apart from what it emits."""

from __future__ import annotations

import os
from typing import Callable, List, Optional, Tuple, Union

from ..protocol.path_names import name_of_path

#: What the current call has made known.
pending: List[bytes] = []
#: The products of calls that have ended well, with what they were made from.
_told: List[Tuple[bytes, Optional[bytes]]] = []


class _Process:
    """What is known of this process."""

    #: Whether it is a worker: elsewhere nobody is to be told.
    is_worker = False

    #: Whether the current thread works for the present call.
    is_in_its_call: Callable[[], bool] = staticmethod(lambda: True)


def product(path: Union[str, os.PathLike[str]]) -> None:
    """Makes known that the step which is running has made the file `path`.

    Those who watch the run see it, and a journal records which input it came from.
    Nothing is read or moved. If the call fails, it has made nothing known. A thread that
    goes on after its call has returned makes the file known without the input that it came
    from. Outside of a pipeline it does nothing.

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
            _told.append((data, None))


def listen(somebody: bool = True, is_in_its_call: Callable[[], bool] = lambda: True) -> None:
    """From here on somebody is told, or nobody any more. The second argument says whether
    the current thread works for the present call."""
    _Process.is_worker = somebody
    _Process.is_in_its_call = staticmethod(is_in_its_call)
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
    # A thread may have added one meanwhile.
    del _told[: len(taken)]
    return taken
