"""Collects a step's announcements about its work, and its actions, apart from what it emits."""

from __future__ import annotations

import os
import threading
from typing import Callable, Dict, List, Optional, Tuple, Union

from ..protocol.path_names import name_of_path

#: The products that the current call has announced.
pending: List[bytes] = []
#: The products of successful calls, each with the origin of the input that it was made from.
_settled: List[Tuple[bytes, Optional[bytes]]] = []

#: How the execution of an action may end, in the order of the counts.
_OUTCOMES = ("done", "skipped", "failed", "deferred")
#: The most actions that are counted apart between two reports.
_MOST_ACTIONS = 500
_OTHERS = "other actions"
#: The executions of each action since the last report: one count for each outcome, and the time
#: of all in nanoseconds.
_actions: Dict[str, List[int]] = {}
_counting = threading.Lock()


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


def count_action(name: str, outcome: str = "done", busy_s: float = 0.0) -> None:
    """Counts one execution of an action: a part of the running step's work.

    Displays, metrics and the report of the run show the counts of each step beside its ledger.
    They are of executions, also in calls that fail or are repeated, while the ledger is of
    messages. A step counts 500 actions apart, and all others together as "other actions". Any
    thread may count. Outside a pipeline, the function does nothing.

    Args:
        name: the name of the action.
        outcome: "done", "skipped" (there was nothing to do), "failed", or "deferred" (it cannot
            be done yet).
        busy_s: the time that it has taken, in seconds.

    Example:
        >>> class Reduce(drpipe.Stage):  # doctest: +SKIP
        ...     def run(self, frame):
        ...         start = time.perf_counter()
        ...         self.subtract_bias(frame)
        ...         drpipe.count_action("subtract_bias", "done", time.perf_counter() - start)
        ...         return frame
    """
    if outcome not in _OUTCOMES:
        raise ValueError(f"found the outcome {outcome!r}; expected one of {', '.join(_OUTCOMES)}")
    nanoseconds = int(busy_s * 1e9)
    if nanoseconds < 0:
        raise ValueError(f"found a busy_s of {busy_s!r}; expected seconds, 0 or more")
    if not _Process.is_worker:
        return
    with _counting:
        if name not in _actions and len(_actions) >= _MOST_ACTIONS:
            name = _OTHERS
        counts = _actions.setdefault(str(name), [0, 0, 0, 0, 0])
        counts[_OUTCOMES.index(outcome)] += 1
        counts[4] += nanoseconds


def take_actions() -> List[Tuple[str, List[int]]]:
    """Removes and returns the executions of actions since the last call."""
    if not _actions:
        return []
    with _counting:
        taken = list(_actions.items())
        _actions.clear()
    return taken


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
        take_actions()


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
