"""The worker's process: it does what the router says, until it says stop."""

from __future__ import annotations

import atexit
import faulthandler
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple, Type

from ..api import announce
from ..protocol import failures, wire
from ..protocol.page import Memory, Page
from ..protocol.path_names import path_of_name
from ..protocol.segments import Lifeline
from .task import Result, Task

Ends = Tuple[Type[BaseException], ...]

#: Exit codes: the router cannot be talked to; the memory limit is reached; values were
#: sent after the call that they belong to had returned, or by a process that was forked.
EXIT_LOST, EXIT_FULL, EXIT_LATE = 113, 114, 115

#: Say how many values were refused because they were sent too late, or by another process.
_refusals: List[Callable[[], int]] = []

#: Names the socket of the process that is the workers of an inline run, all but those
#: of this module.
HOST = "DRPIPE_INLINE"
_RESULTS = "drpipe.results"
#: The time between two signs of life, in milliseconds.
_BEAT = 1000
#: What was sent has so long to leave the process, in milliseconds.
_LINGER = 1000


def main() -> NoReturn:
    """Runs this process as a worker, to its end."""
    try:
        code = _work()
    except Exception as error:
        print(f"the worker ends: {failures.summary(error)}", file=sys.stderr)
        if not isinstance(error, (OSError, wire.WireError)):
            # A fault of this package.
            import traceback

            traceback.print_exc()
        code = EXIT_LOST
    _end(code)


def rehearse() -> NoReturn:
    """Tries whether a worker can start with the arguments as directories of modules."""
    from . import shadowing

    shadowing.rehearse(sys.argv[2:])


def _work() -> int:
    sys.argv = sys.argv[:1]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    lifeline = _take_standard_input()
    text, fd = lifeline.receive_post()
    page = Page(fd)
    page.beat()
    post = json.loads(text)
    _watch_over(lifeline.socket, page, post["directory"])
    host = os.environ.get(HOST)
    if host and post["python"]["module"] != _RESULTS:
        return _lend(host, text, [lifeline.socket.fileno(), fd])
    os.close(fd)
    _set_up_output()
    sys.path[1:1] = map(path_of_name, post["python"]["paths"])
    link = Link(post, lifeline)
    try:
        return _serve(post, link, page)
    finally:
        link.close()


class Link:
    """The worker's end of the connection to the router."""

    def __init__(self, post: Dict[str, Any], lifeline: Lifeline) -> None:
        import zmq

        self.lifeline = lifeline
        self._more = zmq.RCVMORE
        self._sndmore = zmq.SNDMORE
        self._context = zmq.Context()
        socket = self._context.socket(zmq.DEALER)
        socket.linger = _LINGER
        socket.sndhwm = socket.rcvhwm = 0
        place = post["place"]
        socket.setsockopt(zmq.IDENTITY, wire.identity(place["worker"], place["incarnation"]))
        socket.connect(f"ipc://{post['directory']}/router")
        #: The connection.
        self.socket = socket

    def send(self, frames: List[wire.Frame]) -> None:
        """Sends a message to the router."""
        send = self.socket.send
        for frame in frames[:-1]:
            send(frame, self._sndmore)
        send(frames[-1])

    def receive(self) -> wire.Reader:
        """The router's next message."""
        socket = self.socket
        head = socket.recv()
        frames = []
        while socket.getsockopt(self._more):
            frames.append(socket.recv(copy=False).buffer)
        return wire.Reader(head, frames, self.lifeline.receive)

    def close(self) -> None:
        """Waits a moment until what was sent has left."""
        self.socket.close()
        self._context.term()


class Reports:
    """Tells the router what the step has done. One thread at a time may."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def done(self, completions: List[wire.Completion], outputs: List[Any]) -> None:
        """What became of messages, and what they emitted."""
        self._tell()
        self._link.send(wire.done(completions, outputs, self._link.lifeline))

    def produced(self, calls: int, busy: int, result: Result, outputs: List[Any]) -> None:
        """How often a producer was called, the time that took, what came of it."""
        self._tell()
        self._link.send(wire.produced(calls, busy, result, outputs, self._link.lifeline))

    def finished(self, failure: Optional[failures.Failure], outputs: List[Any]) -> None:
        """Why finishing failed, if so, and what it emitted."""
        self._tell()
        self._link.send(wire.finished(failure, outputs, self._link.lifeline))

    def _tell(self) -> None:
        # Before the report: what the run's end waits for comes last.
        products = announce.take()
        if products:
            self._link.send(wire.notes(products=products))


def _serve(post: Dict[str, Any], link: Link, page: Page) -> int:
    seat = Seat(post, link, page)
    code = seat.begin()
    while code is None:
        code = seat.handle(link.receive())
    return code


class Seat:
    """A worker's place: it answers what the router says."""

    def __init__(self, post: Dict[str, Any], link: Link, page: Page, ends: Ends = ()) -> None:
        """`ends` are exceptions that are no failure of a step but end this process's work."""
        self._post, self._link, self._page, self._ends = post, link, page, ends
        self._task: Optional[Task] = None
        self._is_over: Optional[Callable[[], bool]] = None

    def begin(self) -> Optional[int]:
        """Makes the step ready for work; the exit code if it cannot be."""
        self._task = task = _make_task(self._post, self._link, self._ends)
        if task is None:
            return 0
        self._link.send(wire.ready())
        _begin_notes(self._post, self._link, task)
        limit = self._post["memory_limit"]
        # It is no limit of a process that is more than this worker.
        self._is_over = _beyond(limit) if limit is not None and not self._ends else None
        return None

    def handle(self, message: wire.Reader) -> Optional[int]:
        """Does what the router says; the exit code at the end."""
        task = self._task
        assert task is not None
        kind = message.kind
        if kind == wire.WORK:
            if not task.work(message.messages(), self._page, self._is_over):
                return EXIT_FULL
        elif kind == wire.GRANT:
            task.produce(message.grant())
        elif kind == wire.FINISH:
            message.end()
            task.finish()
        elif kind == wire.STOP:
            message.end()
            return 0
        else:
            raise wire.WireError(f"message kind {kind} is not known")
        return None


def _begin_notes(post: Dict[str, Any], link: Link, task: Task) -> None:
    """Sends what the step has announced so far, and how much a producer will emit."""
    announce.listen(True, task.is_in_its_call)
    expected = task.expected() if post["python"]["role"] == "producer" else None
    products = announce.take()
    if expected is not None or products:
        link.send(wire.notes(expected, products))


def _make_task(post: Dict[str, Any], link: Link, ends: Ends) -> Optional[Task]:
    """The step, ready to work; none if it cannot, and the router was told why."""
    # What the step announces before its first call stands if the step can work.
    announce.listen(True, lambda: False)
    task = _build_task(post, link, ends)
    if task is None:
        announce.take()
    return task


def _build_task(post: Dict[str, Any], link: Link, ends: Ends) -> Optional[Task]:
    import logging

    from . import log
    from .build import build
    from .emit import Emitter

    python, context = post["python"], post["context"]
    step, next_steps = context["step"], list(context["next_steps"])
    hosted = bool(ends)
    if not hosted:
        log.install()
    emitter = Emitter(step, next_steps, python["to_python"])
    _refusals.append(lambda: emitter.refused)
    try:
        instance = build(
            python["module"],
            post["class"],
            post["params"],
            step=step,
            connections=next_steps,
            send=emitter.send_msg,
            log=logging.getLogger(f"drpipe.run.{step}") if hosted else log.of_step(step),
            whole=python.get("configuration"),
        )
    except BaseException as error:
        if isinstance(error, ends):
            raise
        link.send(wire.init_failed(failures.of(error)))
        return None
    gc.enable()
    emitter.tuples_have_routes = not getattr(instance, "one_way", False)
    task = Task(instance, emitter, Reports(link), ends)
    failure = task.init()
    if failure is not None:
        link.send(wire.init_failed(failure))
        return None
    return task


def _lend(host: str, post: bytes, fds: List[int]) -> int:
    """This process stands for a worker that is another process: it gives the signs of life,
    and ends when that says so."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.connect(host)
    socket.send_fds(connected, [len(post).to_bytes(8, "little")], fds)
    connected.sendall(post)
    code = connected.recv(1)
    return code[0] if code else EXIT_LOST


def _beyond(limit: int) -> Callable[[], bool]:
    used = Memory().used
    return lambda: used() > limit


def _take_standard_input() -> Lifeline:
    """The lifeline, which no step and no program that a step starts gets at."""
    end = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return Lifeline(end)


def _set_up_output() -> None:
    """What a step prints appears at once, and what kills it leaves a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()


def _watch_over(lifeline: socket.socket, page: Page, directory: str) -> None:
    """Gives signs of life, and ends this process, and all that it has started,
    when the program has died."""

    def watch(lifeline: socket.socket) -> None:
        # Held here: threads may go on when the worker's last work is done.
        ends = select.poll()
        ends.register(lifeline, 0)
        while True:
            page.beat()
            if ends.poll(_BEAT):
                break
        import shutil

        # What the program would have removed itself.
        shutil.rmtree(directory, ignore_errors=True)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        faulthandler.disable()
        os.abort()

    threading.Thread(target=watch, args=(lifeline,), name="lifeline", daemon=True).start()


def _end(code: int) -> NoReturn:
    """Ends the process as Python does, without taking the interpreter apart: threads
    that are no daemons are waited for, and then come the exit functions."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if code == 0 and any(refused() for refused in _refusals):
            code = EXIT_LATE
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
