"""Starts the program and stays attached to the run: the caller's side of docs/ATTACH.md.

A caller provides the workers of the steps of class `Caller`. For each it gets a `Start`, whose
`lifeline` it hands to the process that becomes the worker: a process of its own, or itself. There
`drpipe.worker.attached` does the rest.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import os
import select
import shutil
import socket
import subprocess
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from ..api.report import RunError
from ..protocol import control
from ..protocol.control import Answer, Welcome
from ..protocol.failures import Failure
from . import program
from .pipes import is_ready

#: How long the run may take to answer HELLO, in seconds: it reads its configuration first.
PATIENCE = 120.0
#: How long a frame may wait for room in the socket, in seconds.
_ROOM = 10.0
_SPACE = socket.CMSG_SPACE(4 * array.array("i").itemsize)


class Start:
    """A worker that the caller must start. Answer it with `Attachment.started` or `not_started`.

    Attributes:
        worker: the worker's number in the run.
        incarnation: counts the workers that have had this number.
        step: the name of the step.
        feeds: whether the worker feeds the run: its step is the producer.
        lifeline: the worker's end of its lifeline. Close it when the worker's process has it.
    """

    def __init__(self, frame: control.Start, lifeline: socket.socket) -> None:
        self.worker, self.incarnation, self.step, self.feeds = frame
        self.lifeline = lifeline


class Over:
    """The run is over. Nothing comes after this.

    Attributes:
        exit_code: the exit code of the program.
        report: the report, as docs/EVENTS.md describes it; None if there is none.
    """

    def __init__(self, exit_code: int, report: Optional[Dict[str, Any]]) -> None:
        self.exit_code, self.report = exit_code, report


#: What comes from a run.
Received = Union[Start, Answer, Over]


class Attachment:
    """A run that this process has started and provides workers for.

    Any thread may send; one thread receives. The socket is closed in processes that this one
    starts, but not in its forks: a fork must call `forget`.
    """

    def __init__(
        self,
        config: str,
        arguments: Sequence[str] = (),
        *,
        name: str = "",
        environment: Optional[Mapping[str, str]] = None,
        pass_fds: Sequence[int] = (),
        stderr: Any = None,
    ) -> None:
        """Starts the program, which begins the run, and waits until it has.

        Args:
            config: the configuration's file, such as `/dev/fd/N` for one in `pass_fds`.
            arguments: further arguments of `drpipe run`.
            name: what the run calls this program.
            environment: the program's environment variables; by default this process's.
            pass_fds: descriptors that the program gets.
            stderr: the program's standard error, as for `subprocess.Popen`.

        Raises:
            ProgramNotFound: if there is no program.
            RunError: if the run refuses, with its reason.
        """
        command = [program.find(), "run", "--quiet", "--config", config]
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests = itertools.count(1)
        try:
            self.process = subprocess.Popen(
                [*command, *arguments, "--attach"],
                stdin=theirs.fileno(),
                stderr=stderr,
                env=dict(program.environment() if environment is None else environment),
                pass_fds=pass_fds,
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._socket.setblocking(False)
        #: The run's name, the program's version, and where workers connect.
        self.welcome: Optional[Welcome] = None
        try:
            self._send(control.hello(os.getpid(), name or os.path.basename(sys.argv[0])))
            self.welcome = self._receive_welcome()
        except BaseException as error:
            self.close()
            if isinstance(error, (EOFError, OSError)):
                code = self.process.returncode
                reason = f"the run ended before it began, with exit code {code}"
                raise RunError(reason + program.other_version(command[0])) from error
            if isinstance(error, RunError):
                raise RunError(f"{error}{program.other_version(command[0])}") from error
            raise

    def _receive_welcome(self) -> Welcome:
        if not is_ready(self._socket, PATIENCE):
            raise RunError(f"the run has not begun within {PATIENCE:g} s")
        frame, fds = self._receive()
        for fd in fds:
            os.close(fd)
        if isinstance(frame, control.Refused):
            raise RunError("; ".join(frame.failure.texts))
        if not isinstance(frame, Welcome):
            raise control.ControlError("the run has not welcomed its caller")
        return frame

    def fileno(self) -> int:
        """Returns the descriptor of the socket, for `poll`: readable if `receive` has something."""
        return self._socket.fileno()

    def receive(self, timeout: Optional[float] = 0.0) -> Optional[Received]:
        """Returns what comes next from the run.

        Args:
            timeout: how long to wait, in seconds; None for any time.

        Returns:
            None if nothing comes within that time.

        Raises:
            EOFError: if the run has died.
            RunError: if the run cannot go on, with its reason.
        """
        if not is_ready(self._socket, timeout):
            return None
        try:
            frame, fds = self._receive()
        except ConnectionError as error:
            raise EOFError("the run has died") from error
        files = list(fds)
        try:
            if isinstance(frame, control.Start):
                return Start(frame, socket.socket(fileno=files.pop(0)))
            if isinstance(frame, control.Over):
                return Over(frame.exit_code, _report(files.pop(0)) if files else None)
        finally:
            for fd in files:
                os.close(fd)
        if isinstance(frame, Answer):
            return frame
        if isinstance(frame, control.Refused):
            raise RunError("; ".join(frame.failure.texts))
        raise control.ControlError("the run has sent what comes only at its beginning")

    def _receive(self) -> tuple[control.Frame, array.array[int]]:
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        data, ancillary, _, _ = self._socket.recvmsg(control.LONGEST, _SPACE, flags)
        fds = array.array("i")
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
        if not data:
            raise ConnectionResetError("the run has died")
        return control.read(data), fds

    def started(
        self, start: Start, pid: int, manner: int = control.PROCESS, pidfd: Optional[int] = None
    ) -> None:
        """Says which process is the worker now.

        Args:
            start: what is answered.
            pid: the process. It must still exist, or a `pidfd` of it must come with it.
            manner: `control.CALLER` for this process itself, whose end nobody can force;
                `control.PROCESS`; or `control.GROUP` for the leader of a process group, whose
                starter ends the group's rest before it waits for the leader.
            pidfd: a descriptor of the process, which the caller goes on owning.
        """
        frame = control.started(start.worker, start.incarnation, pid, manner)
        self._send(frame, [] if pidfd is None else [pidfd])

    def not_started(self, start: Start, failure: Failure) -> None:
        """Says that there will be no worker. The run asks again, a few times."""
        self._send(control.not_started(start.worker, start.incarnation, failure))

    def ended(self, start: Start, status: int) -> None:
        """Says how a worker's process has ended, with the status that `os.waitpid` returned."""
        self._send(control.ended(start.worker, start.incarnation, status))

    def pause(self, step: Optional[str] = None) -> int:
        """Asks to begin nothing new. Returns the number of the request, which `Answer` has."""
        return self._steer(control.PAUSE, step)

    def resume(self, step: Optional[str] = None) -> int:
        """Asks to go on after `pause`. Returns the number of the request."""
        return self._steer(control.RESUME, step)

    def set_workers(self, step: str, workers: int) -> int:
        """Asks for another number of workers. Returns the number of the request."""
        return self._steer(control.WORKERS, step, workers)

    def drain(self) -> int:
        """Asks to take no more input. Returns the number of the request."""
        return self._steer(control.DRAIN)

    def stop(self) -> int:
        """Asks to stop at once. Returns the number of the request."""
        return self._steer(control.STOP)

    def cancel(self, origin: str, running: bool = False) -> int:
        """Asks to give up all that descends from an origin. Returns the number of the request.

        Args:
            origin: the name that the producer has given to the item.
            running: whether a worker may be at it, too; then what it makes of it is not taken.
        """
        return self._ask(lambda request: control.cancel(request, origin, running))

    def _steer(self, verb: int, step: Optional[str] = None, workers: int = 0) -> int:
        return self._ask(lambda request: control.steer(request, verb, step, workers))

    def _ask(self, frame: Callable[[int], bytes]) -> int:
        # Several threads may ask.
        request = next(self._requests)
        self._send(frame(request))
        return request

    def _send(self, frame: bytes, fds: Sequence[int] = ()) -> None:
        rights: List[Any] = []
        if fds:
            rights.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds)))
        while True:
            try:
                self._socket.sendmsg([frame], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                return
            except ConnectionError as error:
                raise EOFError("the run has died") from error
            except BlockingIOError:
                if not is_ready(self._socket, _ROOM, select.POLLOUT):
                    raise EOFError(f"the run has read nothing for {_ROOM:g} s") from None

    def close(self) -> None:
        """Leaves the run and waits for the program's end. A run that is not over ends."""
        self._socket.close()
        self.process.wait()
        if self.process.returncode < 0 and self.welcome is not None:
            # A run that was killed leaves its private directory, if no worker was left either.
            directory = os.path.dirname(self.welcome.endpoint.partition("://")[2])
            shutil.rmtree(directory, ignore_errors=True)

    def abandon(self) -> None:
        """Ends the run by force, with its workers."""
        self.process.kill()
        self.close()

    def forget(self) -> None:
        """Closes the socket in a fork of the caller, which is not attached."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _report(fd: int) -> Optional[Dict[str, Any]]:
    with open(fd, "rb") as file:
        file.seek(0)
        report: Optional[Dict[str, Any]] = json.loads(file.read())
        return report
