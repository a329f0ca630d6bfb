"""The nursery: a process that starts the workers of a pool.

It has one thread, so it can fork whatever threads the caller has by then. `multiprocessing` makes
it, and it makes the workers with `multiprocessing`: they are the caller's descendants, with its
authentication key, resource tracker and main module.

The caller sends requests over a socket pair, each with the lifeline of a worker. The nursery
answers with the worker's process id and pidfd, later with the status that it ended with.
"""

from __future__ import annotations

import array
import contextlib
import multiprocessing
import os
import select
import signal
import socket
import struct
import sys
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    List,
    NamedTuple,
    NoReturn,
    Optional,
    Set,
    Tuple,
    Union,
)

from ..driving.attach import Attachment, Start
from ..protocol import control
from ..protocol.failures import Failure, summary

#: What a worker process runs. It gets its place and its lifeline, and returns its exit code.
Main = Callable[["Place", socket.socket], int]

#: The kinds of messages: one of the caller, three of the nursery.
_START, _STARTED, _NOT_STARTED, _ENDED = range(4)
_MESSAGE = struct.Struct("<BIIi")
_LONGEST = 1 << 12
#: How long the caller waits for the nursery's end before it kills it, in seconds.
_PATIENCE = 1.0


class Place(NamedTuple):
    """A worker's place in the run."""

    worker: int
    incarnation: int


class Started(NamedTuple):
    """A worker has been started. The receiver closes the pidfd."""

    place: Place
    pid: int
    pidfd: int


class NotStarted(NamedTuple):
    """A worker could not be started."""

    place: Place
    why: str


class Ended(NamedTuple):
    """A worker has ended, with this status of `os.waitpid`."""

    place: Place
    status: int


Answer = Union[Started, NotStarted, Ended]


class Nursery:
    """The caller's side."""

    def __init__(self, context: Any, main: Main) -> None:
        """Starts the nursery.

        Args:
            context: the context of `multiprocessing`, which says how the nursery is started.
            main: what each worker runs; it returns the exit code.

        Raises:
            OSError: if it cannot be started.
        """
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        is_fork = context.get_start_method() == "fork"
        arguments = (theirs, main, os.getpid(), self.socket.fileno() if is_fork else -1)
        try:
            self._process = context.Process(target=_run, args=arguments, name="drpipe-nursery")
            self._process.start()
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """The nursery's process id."""
        return int(self._process.pid)

    def request(self, place: Place, lifeline: socket.socket) -> None:
        """Asks for a worker. The caller may close the lifeline afterwards.

        Raises:
            OSError: if the nursery has ended.
        """
        self.socket.sendmsg(
            [_MESSAGE.pack(_START, *place, 0)], _rights(lifeline.fileno()), socket.MSG_NOSIGNAL
        )

    def answer(self) -> Optional[Answer]:
        """Returns the next answer, waiting for one. Returns None if the nursery has ended."""
        try:
            data, files = _receive(self.socket)
        except ConnectionError:
            return None
        if not data:
            return None
        kind, worker, incarnation, value = _MESSAGE.unpack_from(data)
        place = Place(worker, incarnation)
        if kind == _STARTED:
            return Started(place, value, files[0])
        if kind == _ENDED:
            return Ended(place, value)
        return NotStarted(place, data[_MESSAGE.size :].decode("utf-8", "replace"))

    def close(self) -> None:
        """Ends the nursery. Workers that live go on."""
        self.socket.close()
        # Not the sentinel of multiprocessing, which workers and what they fork hold open.
        end = select.poll()
        end.register(self._pidfd, select.POLLIN)
        if not end.poll(1000 * _PATIENCE):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            end.poll()
        os.close(self._pidfd)
        if self._process.exitcode is None:
            # Somebody else has taken its status: SIGCHLD is ignored, or the server of
            # multiprocessing has not told it yet.
            self._process._popen.returncode = 0
        self._process.close()


class Workers:
    """The workers of a run, which its nursery starts. Tells the run what becomes of them."""

    def __init__(self, nursery: Nursery, attachment: Attachment) -> None:
        #: The nursery; None if it has ended.
        self.nursery: Optional[Nursery] = nursery
        self._attachment = attachment
        self._starts: Dict[Place, Start] = {}
        self._alive: Set[Place] = set()

    def __len__(self) -> int:
        return len(self._alive)

    def begin(self, start: Start) -> None:
        """Has a worker started."""
        place = Place(start.worker, start.incarnation)
        with start.lifeline:
            try:
                if self.nursery is None:
                    raise OSError(_DEAD)
                self.nursery.request(place, start.lifeline)
            except OSError as error:
                self._refuse(start, str(error))
            else:
                self._starts[place] = start

    def hear(self) -> None:
        """Takes an answer of the nursery."""
        assert self.nursery is not None
        answer = self.nursery.answer()
        if isinstance(answer, Started):
            start = self._starts[answer.place]
            self._alive.add(answer.place)
            with to_the_living():
                self._attachment.started(start, answer.pid, control.GROUP, answer.pidfd)
            os.close(answer.pidfd)
        elif isinstance(answer, Ended):
            self._alive.discard(answer.place)
            with to_the_living():
                self._attachment.ended(self._starts.pop(answer.place), answer.status)
        elif isinstance(answer, NotStarted):
            self._refuse(self._starts.pop(answer.place), answer.why)
        else:
            self.close()
            for place in [place for place in self._starts if place not in self._alive]:
                self._refuse(self._starts.pop(place), _DEAD)

    def _refuse(self, start: Start, why: str) -> None:
        with to_the_living():
            self._attachment.not_started(start, Failure(False, [why]))

    def close(self) -> None:
        """Ends the nursery. Workers that live go on."""
        if self.nursery is not None:
            self.nursery.close()
            self.nursery = None


def to_the_living() -> ContextManager[None]:
    """Sends to a run that may just have ended, which the receiver of its frames notices."""
    return contextlib.suppress(OSError, EOFError)


_DEAD = "the process that starts the pool's workers has ended"


def _rights(file: int) -> List[Tuple[int, int, Any]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))]


def _receive(end: socket.socket) -> Tuple[bytes, List[int]]:
    space = socket.CMSG_SPACE(array.array("i").itemsize)
    data, ancillary, _, _ = end.recvmsg(_LONGEST, space, socket.MSG_CMSG_CLOEXEC)
    files = array.array("i")
    for level, kind, rights in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(rights[: len(rights) - len(rights) % files.itemsize])
    return data, list(files)


def _run(end: socket.socket, main: Main, caller: int, inherited: int) -> NoReturn:
    """Is the nursery's process.

    Args:
        end: this process's end of the connection.
        main: what each worker runs.
        caller: the caller's process id.
        inherited: the caller's end of the connection if this is a fork of the caller, else -1.
    """
    _leave_the_caller(inherited)
    code = _Nursery(end, main, caller).serve()
    # Not through `multiprocessing`, which would wait for the workers.
    os._exit(code)


def _leave_the_caller(inherited: int) -> None:
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    # What the caller does on signals must not happen here, nor in workers.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if inherited >= 0:
        # Here it would never be seen to close.
        os.close(inherited)


class _Nursery:
    def __init__(self, end: socket.socket, main: Main, caller: int) -> None:
        self._end, self._main = end, main
        self._fork = multiprocessing.get_context("fork")
        #: The workers by their pidfds.
        self._workers: Dict[int, Tuple[Place, int, Any]] = {}
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        # Another fork of the caller may hold the other end open for longer than the caller lives.
        self._caller = os.pidfd_open(caller)
        self._poll.register(self._caller, select.POLLIN)

    def serve(self) -> int:
        while True:
            for file, _ in self._poll.poll():
                if file == self._caller or (file == self._end.fileno() and not self._take()):
                    return 0
                if file in self._workers:
                    self._bury(file)

    def _take(self) -> bool:
        """Takes a request. Returns False if the caller has closed the connection."""
        try:
            data, files = _receive(self._end)
        except ConnectionError:
            return False
        if not data:
            return False
        _, worker, incarnation, _ = _MESSAGE.unpack(data)
        place = Place(worker, incarnation)
        try:
            with socket.socket(fileno=files[0]) as lifeline:
                self._begin(place, lifeline)
        except Exception as error:
            why = summary(error).encode()[: _LONGEST - _MESSAGE.size]
            self._say(_MESSAGE.pack(_NOT_STARTED, *place, 0) + why)
        return True

    def _begin(self, place: Place, lifeline: socket.socket) -> None:
        name = f"drpipe-worker-{place.worker}"
        process = self._fork.Process(target=self._work, args=(place, lifeline), name=name)
        process.start()
        # Not the sentinel of multiprocessing, which what a worker forks may hold open.
        pid = int(process.pid or -1)
        pidfd = os.pidfd_open(pid)
        self._workers[pidfd] = (place, pid, process)
        self._poll.register(pidfd, select.POLLIN)
        self._say(_MESSAGE.pack(_STARTED, *place, pid), _rights(pidfd))

    def _say(self, data: bytes, rights: Any = ()) -> None:
        # The caller may just have ended, which the next poll tells.
        with contextlib.suppress(ConnectionError):
            self._end.sendmsg([data], rights, socket.MSG_NOSIGNAL)

    def _bury(self, pidfd: int) -> None:
        place, pid, process = self._workers.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        # What the worker has started ends with it. Until `join`, no other group has its number.
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        process.join()
        code = process.exitcode
        process.close()
        status = -code if code < 0 else code << 8
        self._say(_MESSAGE.pack(_ENDED, *place, status))

    def _work(self, place: Place, lifeline: socket.socket) -> NoReturn:
        """Is a worker's process."""
        self._end.close()
        os.close(self._caller)
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(self._main(place, lifeline))
