"""Decides whether several workers may be forked from one interpreter with their module imported.

Each worker must behave as if it had imported the module itself. Processes cannot share a thread
or the position in an open file, and a random generator or a name made for one process must not
be the same in all.
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
    """An observer of what modules do while they are imported."""

    def __init__(self) -> None:
        """Starts to observe. `leave` stops it."""
        self._files = _open_files()
        self._random = random.getstate()
        #: Whether the step's own module has asked for values that differ between processes.
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

    def trust(self) -> None:
        """Stops observing: `may_be_shared` has looked at this process."""
        self.leave()
        self._allows = [True]

    def leave(self) -> None:
        """Stops observing. Called after the import."""
        for name, function in self._functions.items():
            setattr(os, name, function)

    def allows_forks(self, files: List[int]) -> bool:
        """Whether workers forked from this process share nothing that they must not share.

        Args:
            files: open files that do not belong to the modules.
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
            and may_be_shared()
        )

    def make_independent(self) -> None:
        """Reseeds numpy in a forked process. The module `random` reseeds itself."""
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed()


def may_be_shared() -> bool:
    """Whether forks of this process share no memory, random numbers or threads with it."""
    return (
        not _shares_memory()
        and not _generators()
        and _numpy_is_as_it_began()
        and _is_alone_after_a_fork()
    )


def _open_files() -> Set[Tuple[str, str]]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        # One of them was open only while the directory was listed.
        with contextlib.suppress(OSError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def _is_called_by_a_module_itself(frame: Any) -> bool:
    """Whether a module outside installed packages makes this call while it is imported."""
    while frame is not None and frame.f_code.co_name != "<module>":
        if frame.f_globals.get("__name__", "").startswith("importlib."):
            # An extension module.
            return False
        frame = frame.f_back
    return frame is not None and not _is_installed(frame.f_code.co_filename)


def _is_installed(file: str) -> bool:
    home = os.path.dirname(os.path.abspath(os.__file__))
    in_packages = any(part.endswith("-packages") for part in file.split(os.sep))
    return in_packages or file.startswith((home + os.sep, "<frozen"))


def _shares_memory() -> bool:
    """Whether this process has writable memory that a forked process would share."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return any(line.split(None, 2)[1][1::2] == "ws" for line in file)


def _generators() -> List[Any]:
    """Returns the random generators that modules have created for themselves."""
    numpy_random: Any = sys.modules.get("numpy.random")
    kinds: List[type] = [random.Random]
    # That of temporary names is another one after a fork.
    temporary = getattr(sys.modules.get("tempfile"), "_name_sequence", None)
    known: List[Any] = [random._inst, getattr(temporary, "_rng", None)]
    if numpy_random is not None:
        kinds += [numpy_random.Generator, numpy_random.RandomState, numpy_random.BitGenerator]
        known += [numpy_random.mtrand._rand, numpy_random.mtrand._rand._bit_generator]
    of_generators: Set[type] = set(kinds)
    while kinds:
        derived: Set[type] = set(kinds.pop().__subclasses__()) - of_generators
        of_generators |= derived
        kinds += derived
    of_generators.discard(random.SystemRandom)
    return [
        one
        for one in gc.get_objects()
        if type(one) in of_generators and not any(one is other for other in known)
    ]


def _numpy_is_as_it_began() -> bool:
    """Whether no code has seeded numpy's global generator or drawn from it."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is None:
        return True
    try:
        bits = numpy_random.mtrand._rand._bit_generator
        anew = type(bits)(numpy_random.SeedSequence(bits._seed_seq.entropy))
        now, then = bits.state["state"], anew.state["state"]
        return bool(now["pos"] == then["pos"] and (now["key"] == then["key"]).all())
    except (AttributeError, KeyError, TypeError, ValueError):
        # Some code has seeded or replaced the generator.
        return False


def _is_alone_after_a_fork() -> bool:
    """Whether this process has only one thread when it forks.

    Libraries such as OpenBLAS end their threads before a fork and start them again later.
    """
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return len(os.listdir("/proc/self/task")) == 1
