"""An interpreter that describes the classes of a module and then becomes a worker of one.

This way the module is imported only once: after its answer the interpreter waits until the
program hands it a worker's files. Until then the interpreter may fork other workers, each of
which becomes a child of the program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from typing import Any, Callable, Dict, List, NoReturn

from ..api import announce
from . import shadowing, surroundings

#: What the program asks for when it sends a worker's files. `src/base/prepared.rs` has the same.
_FORK, _BECOME = b"F", b"B"
_STANDARD = 3
#: How much to raise a worker's score for the kernel's out-of-memory killer above the
#: program's, because a worker can be replaced; and the highest score that the kernel accepts.
_MORE_LIKELY, _MOST = 300, 1000
_PR_SET_PDEATHSIG = 1

#: Not empty if the description may have changed the classes.
_spoilt: List[bool] = []


def spoil() -> None:
    """Records that the description has run code of a class that a worker must run itself."""
    _spoilt.append(True)


def children() -> List[int]:
    """Returns the processes that this process has started and not waited for."""
    found: List[int] = []
    for thread in os.listdir("/proc/self/task"):
        children = f"/proc/self/task/{thread}/children"
        with contextlib.suppress(OSError), open(children, encoding="ascii") as file:
            found += map(int, file.read().split())
    return found


class Line:
    """The connection to the program."""

    def __init__(self, fd: int) -> None:
        """Takes the descriptor of the connection."""
        self.fd = fd

    @classmethod
    def of_standard_input(cls) -> Line:
        """Moves the connection off standard input, where modules could read it."""
        line = cls(os.dup(0))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return line

    def read(self) -> bytes:
        """Returns the first line, or all of the input if no line ends."""
        text = bytearray()
        while not text.endswith(b"\n"):
            more = os.read(self.fd, 1 << 16)
            if not more:
                break
            text += more
        return bytes(text)


class Candidate:
    """The state of this process, recorded from before it imports modules."""

    def __init__(self, is_shared: bool = False) -> None:
        """Sets up everything that a worker sets up before it imports its module.

        Args:
            is_shared: whether this process is a fork of the driver and `sharing.may_be_shared`.
        """
        from . import log, sharing

        surroundings.set_up_output()
        self._log = log.keep()
        announce.listen(True, lambda: False)
        self._program = os.getppid()
        self._directory = _directory()
        self._witness = sharing.Witness()
        if is_shared:
            self._witness.trust()

    def may_stay(self, request: Dict[str, Any], answer: Dict[str, Any]) -> bool:
        """Whether this process is in the same state as a worker that has imported its module."""
        self._witness.leave()
        modules = {wanted["module"] for wanted in request["classes"]}
        # Another step's module may have changed shared state, such as numpy's error handling
        # or a random seed.
        own = {module for module in modules if module.split(".")[0] != "drpipe"}
        is_usable = not answer["missing"] and all("ok" in one for one in answer["classes"])
        return (
            is_usable
            and len(own) <= 1
            and not _spoilt
            and not announce.take()
            and not announce.take_actions()
            and self._directory == _directory() != ""
            and not children()
            and _can_bind()
        )

    def wait(self, line: Line, leave: Callable[[], None]) -> None:
        """Serves the program's requests. Returns when the program does not need this process.

        Args:
            line: the connection to the program.
            leave: called once the system is set to end this process together with the program.
        """
        end_with(self._program)
        leave()
        load_worker()
        end = socket.socket(fileno=line.fd)
        while True:
            asked, files, _, _ = socket.recv_fds(end, 1, _STANDARD, socket.MSG_CMSG_CLOEXEC)
            if asked == _BECOME:
                end.close()
                self._become_worker(files)
            elif asked == _FORK:
                end.sendall(self._fork(files, end).to_bytes(4, "little"))
            else:
                return

    def _fork(self, files: List[int], end: socket.socket) -> int:
        """Forks a worker and returns its process ID, or 0 if that is not possible."""
        number = 0
        if self._witness.allows_forks(files):
            with contextlib.suppress(OSError):
                reader, writer = os.pipe()
                middle = _forked()
                if middle == 0:
                    os.close(reader)
                    self._fork_again(files, end, writer)
                os.close(writer)
                number = int.from_bytes(os.read(reader, 4), "little")
                os.close(reader)
                os.waitpid(middle, 0)
        for file in files:
            os.close(file)
        return number

    def _fork_again(self, files: List[int], end: socket.socket, writer: int) -> NoReturn:
        """Forks the worker, which becomes a child of the program when this process ends."""
        try:
            middle = os.getpid()
            worker = _forked()
            if worker == 0:
                os.close(writer)
                end.close()
                while os.getppid() == middle:
                    time.sleep(0.0002)
                self._begin_anew(files)
            # Set this before the program learns of the worker: it ends workers by process group.
            os.setpgid(worker, worker)
            os.write(writer, worker.to_bytes(4, "little"))
        finally:
            os._exit(0)

    def _begin_anew(self, files: List[int]) -> NoReturn:
        from .forks import forked

        end_with(self._program)
        self._witness.make_independent()
        # The program asked for this fork; the step did not.
        forked.clear()
        self._become_worker(files)

    def _become_worker(self, files: List[int]) -> NoReturn:
        from . import log, worker

        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        _offer_to_the_memory_killer()
        log.join(self._log)
        worker.main(is_prepared=True)


def _forked() -> int:
    """Forks and returns what `os.fork` returns."""
    import warnings

    with warnings.catch_warnings():
        # The witness has already checked for threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def load_worker() -> None:
    """Imports what a worker needs while the program prepares the run."""
    import importlib

    for name in (*shadowing.OF_A_WORKER, ".worker", ".forks"):
        # Some of them import numpy, which not all workers need.
        if "arrays" not in name or "numpy" in sys.modules:
            importlib.import_module(name, __package__)


def _directory() -> str:
    """Returns the current directory, or an empty string if it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _can_bind() -> bool:
    try:
        import ctypes

        return hasattr(ctypes.CDLL(None), "prctl")
    except (ImportError, OSError):
        return False


def end_with(program: int) -> None:
    """Makes the system end this process with its parent, the program."""
    import ctypes

    bound = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if bound != 0 or os.getppid() != program:
        os._exit(1)


def _offer_to_the_memory_killer() -> None:
    # If the kernel refuses, it may kill the program as readily as the worker.
    score = "/proc/self/oom_score_adj"
    with contextlib.suppress(OSError, ValueError), open(score, "r+", encoding="ascii") as file:
        likely = min(int(file.read()) + _MORE_LIKELY, _MOST)
        file.seek(0)
        file.write(str(likely))
