"""Whether several workers may be forked from one interpreter that has imported their module.

Each of them must be as one that has imported it alone: a thread or an open file is none of
several processes, and a random generator or a name that was made for one process must not be
the same in all.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import threading
from typing import Any, Callable, List, Set, Tuple


class Witness:
    """Sees what modules do when they are imported."""

    def __init__(self) -> None:
        """Begins to look. `leave` ends that."""
        self._files = _open_files()
        self._random = random.getstate()
        #: Whether the step's own module has asked for what differs from process to process.
        self._is_individual = False
        self._functions = {name: getattr(os, name) for name in ("getpid", "urandom")}
        for name, function in self._functions.items():
            setattr(os, name, self._noting(function))
        self._allows: List[bool] = []

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any) -> Any:
            if _is_called_by_a_module_itself(sys._getframe(1)):
                self._is_individual = True
            return function(*arguments)

        return noting

    def leave(self) -> None:
        """Ends what was begun, after the import."""
        for name, function in self._functions.items():
            setattr(os, name, function)

    def allows_forks(self, files: List[int]) -> bool:
        """Whether workers that are forked from this process do not share what they must not.

        Args:
            files: open files that are not the modules'.
        """
        if not self._allows:
            self._allows.append(self._looks(files))
        return self._allows[0]

    def _looks(self, files: List[int]) -> bool:
        others = _open_files() - self._files
        return (
            not self._is_individual
            and threading.active_count() == 1
            and self._random == random.getstate()
            and {int(number) for number, _ in others} <= set(files)
            and not _shares_memory()
            and not _generators()
            and _numpy_is_as_it_began()
            and _is_alone_after_a_fork()
        )

    def make_independent(self) -> None:
        """Gives a forked process what it must not share. The module `random` sees to itself."""
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed()


def _open_files() -> Set[Tuple[str, str]]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        # One of them was open for the list only.
        with contextlib.suppress(OSError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def _is_called_by_a_module_itself(frame: Any) -> bool:
    """Whether the code of a module that is no installed package runs, and calls."""
    while frame is not None and frame.f_code.co_name != "<module>":
        if frame.f_globals.get("__name__", "").startswith("importlib."):
            # A module in C.
            return False
        frame = frame.f_back
    return frame is not None and not _is_installed(frame.f_code.co_filename)


def _is_installed(file: str) -> bool:
    home = os.path.dirname(os.path.abspath(os.__file__))
    in_packages = any(part.endswith("-packages") for part in file.split(os.sep))
    return in_packages or file.startswith((home + os.sep, "<frozen"))


def _shares_memory() -> bool:
    """Whether there is memory that a forked process would share and could write to."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return any(line.split(None, 2)[1][1::2] == "ws" for line in file)


def _generators() -> List[Any]:
    """Returns the random generators that modules have made for themselves."""
    numpy_random: Any = sys.modules.get("numpy.random")
    kinds: List[type] = [random.Random]
    known: List[Any] = [random._inst]
    if numpy_random is not None:
        kinds += [numpy_random.Generator, numpy_random.RandomState, numpy_random.BitGenerator]
        known += [numpy_random.mtrand._rand, numpy_random.mtrand._rand._bit_generator]
    objects = gc.get_objects()
    of_generators = {
        kind
        for kind in set(map(type, objects))
        if issubclass(kind, tuple(kinds)) and not issubclass(kind, random.SystemRandom)
    }
    return [
        one
        for one in objects
        if type(one) in of_generators and not any(one is other for other in known)
    ]


def _numpy_is_as_it_began() -> bool:
    """Whether nobody has seeded numpy's own generator, or drawn from it."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is None:
        return True
    try:
        bits = numpy_random.mtrand._rand._bit_generator
        anew = type(bits)(numpy_random.SeedSequence(bits._seed_seq.entropy))
        now, then = bits.state["state"], anew.state["state"]
        return bool(now["pos"] == then["pos"] and (now["key"] == then["key"]).all())
    except (AttributeError, KeyError, TypeError, ValueError):
        # It was seeded, or another generator was put in its place.
        return False


def _is_alone_after_a_fork() -> bool:
    """Whether this process has only one thread when it forks.

    Libraries such as OpenBLAS end their threads before a fork, and start them again later.
    """
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return len(os.listdir("/proc/self/task")) == 1
