"""Runs all Python steps of an inline run in one process, one message at a time.

There pdb, coverage and profilers see the steps. The program still keeps the queues, makes all
decisions and starts a process for each step, as in any run with one worker per step. Each of
these processes lends its connection to this process and only sends heartbeats. Values, order
and failures are therefore the same as in all other modes.
"""

from __future__ import annotations

import bdb
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from typing import Any, Dict, List, NoReturn, Optional

from ..api import announce
from ..api.failure_details import LocalDetails
from ..protocol.page import Page
from ..protocol.path_names import path_of_name
from ..protocol.segments import Lifeline
from ..worker.forks import forked
from ..worker.worker import EXIT_LOST, HOST, Link, Worker
from .adapters import Given, here
from .private_directory import PrivateDirectory

#: The exceptions that end the run instead of failing a step: an interrupt, and pdb's `q`.
ENDS = (KeyboardInterrupt, bdb.BdbQuit)
#: How long to wait for the program's last lines after its end, in seconds.
_PATIENCE = 1.0
#: The name of the socket in the private directory.
_NAME = "seats"


class Host:
    """A host that does the work of a run's Python workers."""

    def __init__(self, directory: str, given: Optional[Dict[str, Given]] = None) -> None:
        """Listens for workers.

        Args:
            directory: the driver's private directory.
            given: the objects that the adapters wrap, by name.
        """
        self._given = given or {}
        #: The exceptions that the steps raised.
        self.details = LocalDetails()
        self._path = os.path.join(directory, _NAME)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self._path)
        self._listener.listen(64)
        self._workers: Dict[int, _LentWorker] = {}
        self._paths: List[str] = []
        self._end, self._ended = socket.socketpair()

    def environment(self) -> Dict[str, str]:
        """Returns the environment variables through which workers find this process."""
        return {HOST: self._path}

    def end(self) -> None:
        """Ends `serve`. May be called from any thread."""
        with contextlib.suppress(OSError):  # The host is already closed.
            self._ended.send(b"\0")

    def serve(self) -> None:
        """Does the work of all steps on this thread until the run ends.

        Raises:
            BaseException: one of `ENDS`, if a step raises it.
        """
        # This process may itself be a fork, but no step forked it.
        forked.clear()
        others = dict(here)
        here.update(self._given)
        before, LocalDetails.current = LocalDetails.current, self.details
        try:
            self._serve()
        finally:
            LocalDetails.current = before
            here.clear()
            here.update(others)
            announce.listen(before is not None)

    def _serve(self) -> None:
        poller = select.poll()
        for waited in (self._end, self._listener):
            poller.register(waited, select.POLLIN)
        while True:
            for ready, _ in poller.poll():
                if ready == self._end.fileno():
                    return
                if ready == self._listener.fileno():
                    worker = _LentWorker(self._listener)
                    self._search_in([*map(path_of_name, worker.post["python"]["paths"])])
                    self._workers[worker.link.fileno()] = worker
                    poller.register(worker.link, select.POLLIN)
                    if worker.begin():
                        continue
                elif self._workers[ready].handle():
                    continue
                else:
                    worker = self._workers[ready]
                poller.unregister(worker.link)
                self._workers.pop(worker.link.fileno()).close()

    def _search_in(self, paths: List[str]) -> None:
        """Makes modules in these directories importable until the host is closed."""
        new = [path for path in paths if path not in sys.path]
        self._paths += new
        sys.path[1:1] = new

    def close(self) -> None:
        """Ends all workers."""
        for path in self._paths:
            with contextlib.suppress(ValueError):  # A step has removed it.
                sys.path.remove(path)
        self._paths.clear()
        for worker in self._workers.values():
            worker.close(EXIT_LOST)
        self._workers.clear()
        for end in (self._listener, self._end, self._ended):
            end.close()


class _LentWorker:
    """A worker whose process has lent its connection to this process."""

    def __init__(self, listener: socket.socket) -> None:
        self._process, _ = listener.accept()
        size, fds, _, _ = socket.recv_fds(self._process, 8, 2)
        text = _read(self._process, int.from_bytes(size, "little"))
        self.post = json.loads(text)
        Page.own = self._page = Page(fds[1])
        os.close(fds[1])
        self.link = Link(self.post, Lifeline(socket.socket(fileno=fds[0])))
        self._worker = Worker(self.post, self.link, self._page, ENDS)
        self._code = 0

    def begin(self) -> bool:
        """Prepares the step for work. Returns whether the worker goes on."""
        return self._goes_on(self._worker.begin())

    def handle(self) -> bool:
        """Handles what the router has sent. Returns whether the worker goes on."""
        Page.own = self._page
        while True:
            message = self.link.receive_now()
            if message is None:
                return not self.link.is_over()
            if not self._goes_on(self._worker.handle(message)):
                return False

    def close(self, code: int = 0) -> None:
        """Ends the worker and its process."""
        self.link.close()
        self.link.lifeline.socket.close()
        with contextlib.suppress(OSError):  # The process was killed.
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
    """Runs `drpipe run --inline`, with this process as all Python workers.

    Starts the program with the same arguments for everything else.
    """
    sys.argv = arguments[:1]
    private = PrivateDirectory()
    host = Host(private.path)
    driver = ["--driver", str(os.getpid()), "--driver-directory", private.path]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    try:
        process = subprocess.Popen(
            [*arguments[:end], "--mode", "sequential", *driver, *arguments[end:]],
            env={**os.environ, **host.environment()},
            # Leave the terminal's keys, Ctrl-C and cursor to the steps.
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
