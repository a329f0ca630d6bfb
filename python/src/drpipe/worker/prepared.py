"""An interpreter that has described the classes of a module, and becomes a worker with one.

The module is imported once: the interpreter stays when it has answered, and the program hands
it the files of a worker. Before that it may fork others, each of which becomes a child of the
program.
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

#: What the program asks for, with the files of a worker. `src/base/prepared.rs` has them, too.
_FORK, _BECOME = b"F", b"B"
_STANDARD = 3
#: How much more likely than the program the system ends a worker when memory runs out, which
#: can be replaced, and the most that it can be told.
_MORE_LIKELY, _MOST = 300, 1000
_PR_SET_PDEATHSIG = 1

#: Not empty if what was done for the description may have changed the classes.
_spoilt: List[bool] = []


def spoil() -> None:
    """Says that code of a class has run which runs in a worker again."""
    _spoilt.append(True)


def children() -> List[int]:
    """Returns the processes that this one has started and that it has not waited for."""
    found: List[int] = []
    for thread in os.listdir("/proc/self/task"):
        children = f"/proc/self/task/{thread}/children"
        with contextlib.suppress(OSError), open(children, encoding="ascii") as file:
            found += map(int, file.read().split())
    return found


class Line:
    """The connection to the program, away from standard input, where modules could read it."""

    def __init__(self) -> None:
        """Takes standard input's place."""
        self.fd = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)

    def read(self) -> bytes:
        """Returns the first line, or everything if there is no end of a line."""
        text = bytearray()
        while not text.endswith(b"\n"):
            more = os.read(self.fd, 1 << 16)
            if not more:
                break
            text += more
        return bytes(text)


class Candidate:
    """This process, from before it imports modules on."""

    def __init__(self) -> None:
        """Sets up what a worker sets up before it imports its module."""
        from . import log, sharing

        surroundings.set_up_output()
        self._log = log.keep()
        announce.listen(True, lambda: False)
        self._program = os.getppid()
        self._directory = _directory()
        self._witness = sharing.Witness()

    def may_stay(self, request: Dict[str, Any], answer: Dict[str, Any]) -> bool:
        """Whether this process is now as a worker is that has imported its module."""
        self._witness.leave()
        modules = {wanted["module"] for wanted in request["classes"]}
        # Another step's module may have changed what this one's finds: numpy's treatment of
        # errors, a seed.
        own = {module for module in modules if module.split(".")[0] != "drpipe"}
        is_usable = not answer["missing"] and all("ok" in one for one in answer["classes"])
        return (
            is_usable
            and len(own) <= 1
            and not _spoilt
            and not announce.take()
            and self._directory == _directory() != ""
            and not children()
            and _can_bind()
        )

    def wait(self, line: Line, leave: Callable[[], None]) -> None:
        """Does what the program asks for. Returns when the program does not need this process.

        Args:
            line: the connection to the program.
            leave: is called when the system ends this process together with the program.
        """
        _end_with(self._program)
        leave()
        _load_worker()
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
        """Forks a worker and returns its number; 0 if that is not possible."""
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
        """Forks the worker. It becomes a child of the program when this process has ended."""
        try:
            middle = os.getpid()
            worker = _forked()
            if worker == 0:
                os.close(writer)
                end.close()
                while os.getppid() == middle:
                    time.sleep(0.0002)
                self._begin_anew(files)
            # Before the program hears of it: it ends workers by their process groups.
            os.setpgid(worker, worker)
            os.write(writer, worker.to_bytes(4, "little"))
        finally:
            os._exit(0)

    def _begin_anew(self, files: List[int]) -> NoReturn:
        from .forks import forked

        _end_with(self._program)
        self._witness.make_independent()
        # The program has forked this process, not the step.
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
    """Forks, and returns as `os.fork` does."""
    import warnings

    with warnings.catch_warnings():
        # The witness has looked for threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _load_worker() -> None:
    """Imports what a worker needs, while the program gets the run ready."""
    import importlib

    for name in (*shadowing.OF_A_WORKER, ".worker", ".forks"):
        # Some need numpy, which workers may do without.
        if "arrays" not in name or "numpy" in sys.modules:
            importlib.import_module(name, __package__)
    importlib.import_module("zmq")


def _directory() -> str:
    """Returns the current directory; nothing if it has been removed."""
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


def _end_with(program: int) -> None:
    """Lets the system end this process with its parent, the program."""
    import ctypes

    bound = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if bound != 0 or os.getppid() != program:
        os._exit(1)


def _offer_to_the_memory_killer() -> None:
    # If the system refuses, the worker is only as likely a victim as the program.
    score = "/proc/self/oom_score_adj"
    with contextlib.suppress(OSError, ValueError), open(score, "r+", encoding="ascii") as file:
        likely = min(int(file.read()) + _MORE_LIKELY, _MOST)
        file.seek(0)
        file.write(str(likely))
