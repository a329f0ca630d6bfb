"""The steps of a run in one process, one message after the other: where pdb, coverage and
whatever else looks into a process finds them.

The run is as any other that has one worker a step: the program has the queues and all
decisions, and starts a process for each step in Python. But that process hands the step's
place to this one, and only stands for it: values, order and failures are those of all modes.
"""

from __future__ import annotations

import bdb
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any, Dict, List, NoReturn, Optional

from ..api import announce
from ..api.failure_details import Here
from ..protocol.page import Page
from ..protocol.path_names import path_of_name
from ..protocol.segments import Lifeline
from ..worker.forks import forked
from ..worker.worker import EXIT_LOST, HOST, Link, Seat
from .adapters import Given, here
from .private_directory import Private

#: What is no failure of a step, but ends the run: an interrupt, and pdb's `q`.
ENDS = (KeyboardInterrupt, bdb.BdbQuit)
#: After its end, the last words of the program are waited for so long, in seconds.
_PATIENCE = 1.0
#: The name of the socket in the private directory.
_NAME = "seats"


class Host:
    """Takes the places of a run's workers in Python."""

    def __init__(self, directory: str, given: Optional[Dict[str, Given]] = None) -> None:
        self._given = given or {}
        #: What the steps have raised.
        self.told = Here()
        self._path = os.path.join(directory, _NAME)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self._path)
        self._listener.listen(64)
        self._seats: Dict[Any, _Taken] = {}
        self._paths: List[str] = []
        self._end, self._ended = socket.socketpair()

    def environment(self) -> Dict[str, str]:
        """What the program's workers need to know."""
        return {HOST: self._path}

    def end(self) -> None:
        """From any thread: the run has ended."""
        with contextlib.suppress(OSError):  # It has been closed.
            self._ended.send(b"\0")

    def serve(self) -> None:
        """Does the work of all steps, on this thread, until the run has ended.

        Raises:
            BaseException: one of `ENDS`, as it comes from a step.
        """
        # This process may itself be one that another has forked.
        forked.clear()
        here.update(self._given)
        before, Here.current = Here.current, self.told
        try:
            self._serve()
        finally:
            Here.current = before
            announce.listen(before is not None)

    def _serve(self) -> None:
        import zmq

        poller = zmq.Poller()
        for waited in (self._end, self._listener):
            poller.register(waited, zmq.POLLIN)
        while True:
            for ready, _ in poller.poll():
                if ready == self._end.fileno():
                    return
                if ready == self._listener.fileno():
                    taken = _Taken(self._listener)
                    self._look_in([*map(path_of_name, taken.post["python"]["paths"])])
                    self._seats[taken.link.socket] = taken
                    poller.register(taken.link.socket, zmq.POLLIN)
                    if taken.begin():
                        continue
                elif self._seats[ready].handle():
                    continue
                else:
                    taken = self._seats[ready]
                poller.unregister(taken.link.socket)
                self._seats.pop(taken.link.socket).close()

    def _look_in(self, paths: List[str]) -> None:
        """Modules are looked for there until the end."""
        new = [path for path in paths if path not in sys.path]
        self._paths += new
        sys.path[1:1] = new

    def close(self) -> None:
        """Gives all places up."""
        for path in self._paths:
            with contextlib.suppress(ValueError):  # A step has taken it out.
                sys.path.remove(path)
        self._paths.clear()
        for file in self._given:
            here.pop(file, None)
        for taken in self._seats.values():
            taken.close(EXIT_LOST)
        self._seats.clear()
        for end in (self._listener, self._end, self._ended):
            end.close()


class _Taken:
    """The place of one worker."""

    def __init__(self, listener: socket.socket) -> None:
        self._process, _ = listener.accept()
        size, fds, _, _ = socket.recv_fds(self._process, 8, 2)
        text = _read(self._process, int.from_bytes(size, "little"))
        self.post = json.loads(text)
        self._page = Page(fds[1])
        os.close(fds[1])
        self.link = Link(self.post, Lifeline(socket.socket(fileno=fds[0])))
        self._seat = Seat(self.post, self.link, self._page, ENDS)
        self._code = 0

    def begin(self) -> bool:
        """Makes the step ready; whether there is more to do."""
        return self._goes_on(self._seat.begin())

    def handle(self) -> bool:
        """Does what the router says; whether there is more to do."""
        Page.own = self._page
        return self._goes_on(self._seat.handle(self.link.receive()))

    def close(self, code: int = 0) -> None:
        """Gives the place up: the process that stands for it ends, too."""
        self.link.close()
        self.link.lifeline.socket.close()
        with contextlib.suppress(OSError):  # It was killed.
            self._process.send(bytes([code or self._code]))
        self._process.close()

    def _goes_on(self, code: Any) -> bool:
        self._code = code or 0
        return code is None


def _read(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        if not more:
            raise EOFError("the worker has ended")
        data += more
    return data


def main(arguments: List[str]) -> NoReturn:
    """`drpipe run --inline`: this process is the workers in Python, and the program, started
    by it with the same arguments, is all else."""
    sys.argv = arguments[:1]
    private = Private()
    host = Host(private.path)
    driver = ["--driver", str(os.getpid()), "--driver-directory", private.path]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    try:
        process = subprocess.Popen(
            [*arguments[:end], "--mode", "sequential", *driver, *arguments[end:]],
            env={**os.environ, **host.environment()},
            # The terminal is for the steps: its keys, Ctrl-C and the cursor are not the program's.
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        code = _attend(host, process)
    finally:
        host.close()
        private.remove()
    sys.exit(code)


def _attend(host: Host, process: subprocess.Popen[bytes]) -> int:
    import threading

    def listen() -> None:
        for line in process.stderr or ():
            sys.stderr.buffer.write(line)
            sys.stderr.flush()

    def wait() -> None:
        process.wait()
        listener.join(_PATIENCE)
        host.end()

    listener = threading.Thread(target=listen, name="drpipe-log", daemon=True)
    listener.start()
    threading.Thread(target=wait, name="drpipe-program", daemon=True).start()
    try:
        host.serve()
    except ENDS:
        for number in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
    return process.wait()
