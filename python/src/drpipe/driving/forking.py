"""Workers that are forks of this process, and so know what it has imported and defined.

The program asks an interpreter about the classes of steps, and has it fork their workers
(`worker.prepared`). This interpreter may be a fork of this process. It must be a child of the
program: the process that becomes the program forks it before it does.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import json
import logging
import os
import resource
import signal
import socket
import stat
import sys
import threading
import warnings
from typing import Any, List, Mapping, NoReturn

from ..protocol import session_pickles
from ..protocol.path_names import path_of_name
from ..worker import prepared, sharing, surroundings
from ..worker.describe import answer
from ..worker.forks import forked
from . import adapters

#: The standard streams of this process, which its forks must not flush.
_streams: List[Any] = []


def is_safe() -> bool:
    """Whether workers may be forked from this process: whether they would share nothing with it
    that must not be shared."""
    return (
        sys.platform == "linux"
        and threading.active_count() == 1
        and all(_may_be_shared(file) for file in _files())
        and sharing.may_be_shared()
    )


def _files() -> List[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        # One of them was open only while the directory was listed.
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            found.append(int(name))
    return found


def _may_be_shared(file: int) -> bool:
    """Whether an open file may be open in several processes."""
    try:
        status = os.fstat(file)
        is_own = fcntl.fcntl(file, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        is_appended = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_APPEND
    except OSError:
        return True
    if file <= 2 or not is_own:
        # Those that this process was started with belong to other processes as well.
        return True
    # Others have a position, or a partner.
    return stat.S_ISCHR(status.st_mode) or (stat.S_ISREG(status.st_mode) and bool(is_appended))


class Fork:
    """A fork of this process, from which the program forks its workers."""

    def __init__(self) -> None:
        """Prepares the fork, which gets no files that are opened from now on."""
        #: The objects that the adapters of the workers wrap, by name.
        self.given: Mapping[str, adapters.Given] = {}
        self._files = set(_files())
        #: The end of the connection that is the program's standard input.
        self.line, self._theirs = socket.socketpair()

    def close(self) -> None:
        """Closes the connection in this process."""
        self.line.close()
        self._theirs.close()

    def begin(self, environment: Mapping[str, str]) -> None:
        """Forks in the process that is about to become the program.

        Args:
            environment: the environment variables of the program.
        """
        program = os.getpid()
        with warnings.catch_warnings():
            # This process has one thread, or they end for a fork: `is_safe` has tried it.
            warnings.simplefilter("ignore", DeprecationWarning)
            is_program = os.fork() != 0
        if is_program:
            return
        try:
            self._serve(program, environment)
        finally:
            # Never return into the code of the caller.
            os._exit(1)

    def _serve(self, program: int, environment: Mapping[str, str]) -> NoReturn:
        prepared.end_with(program)
        os.setpgid(0, 0)
        line = os.dup(self._theirs.fileno())
        self._close_files({line})
        _leave_the_caller()
        os.environ.update(environment)
        os.write(line, os.getpid().to_bytes(4, "little"))
        # While the program starts.
        prepared.load_worker()
        # The collector of workers need not look at what they share.
        gc.freeze()
        request = json.loads(prepared.Line(line).read())
        for name, value in request["environment"].items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = path_of_name(value)
        adapters.here.update(self.given)
        candidate = prepared.Candidate(is_shared=True)
        found = answer(request)
        found["stays"] = True
        text = json.dumps(found).encode()
        os.write(line, len(text).to_bytes(4, "little") + text)
        candidate.wait(prepared.Line(line), lambda: None)
        os._exit(0)

    def _close_files(self, kept: set[int]) -> None:
        """Closes the files of the process that becomes the program, and of the run."""
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for file in set(_files()) - self._files - kept - {0, 1, 2}:
            with contextlib.suppress(OSError):
                os.close(file)


def _leave_the_caller() -> None:
    """Takes off what the caller has set up for itself."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) and number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
    # As Python has it. The process that becomes the program has taken it back.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    surroundings.set_up()
    atexit._clear()
    forked.clear()
    session_pickles.share_main()
    _renew_streams()
    # As much as the program, which raises its own limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _renew_streams() -> None:
    """Gives the process standard streams of its own. The caller's may hold text."""
    olds = (sys.stdin, sys.stdout, sys.stderr)
    _streams.extend((*olds, sys.__stdin__, sys.__stdout__, sys.__stderr__))
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", closefd=False)  # type: ignore[misc]
    # The log of a worker goes to the run.
    logging.root.handlers.clear()
    for reference in logging._handlerList:  # type: ignore[attr-defined]
        handler = reference()
        if isinstance(handler, logging.StreamHandler) and handler.stream in olds:
            handler.stream = sys.stdout if handler.stream is olds[1] else sys.stderr
