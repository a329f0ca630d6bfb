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
from typing import Any, Callable, Dict, List, NoReturn, Optional

from . import failures, notes, wire
from .page import Memory, Page
from .segments import Lifeline
from .task import Task

#: Exit codes: the router cannot be talked to; the memory limit is reached.
EXIT_LOST, EXIT_FULL = 113, 114

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
    from . import shadows

    shadows.rehearse(sys.argv[2:])


def _work() -> int:
    sys.argv = sys.argv[:1]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    lifeline = _take_standard_input()
    text, fd = lifeline.receive_post()
    page = Page(fd)
    os.close(fd)
    page.beat()
    post = json.loads(text)
    _watch_over(lifeline.socket, page, post["directory"])
    _set_up_output()
    sys.path[1:1] = post["python"]["paths"]
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
        self._socket = socket

    def send(self, frames: List[wire.Frame]) -> None:
        """Sends a message to the router."""
        send = self._socket.send
        for frame in frames[:-1]:
            send(frame, self._sndmore)
        send(frames[-1])

    def receive(self) -> wire.Reader:
        """The router's next message."""
        socket = self._socket
        head = socket.recv()
        frames = []
        while socket.getsockopt(self._more):
            frames.append(socket.recv(copy=False).buffer)
        return wire.Reader(head, frames, self.lifeline.receive)

    def close(self) -> None:
        """Waits a moment until what was sent has left."""
        self._socket.close()
        self._context.term()


def _serve(post: Dict[str, Any], link: Link, page: Page) -> int:
    task = _make_task(post, link)
    if task is None:
        return 0
    lifeline = link.lifeline
    link.send(wire.ready())
    _begin_notes(post, link, task)
    limit = post["memory_limit"]
    is_over = _beyond(limit) if limit is not None else None

    def tell() -> None:
        # Before the report: what the run's end waits for comes last.
        products = notes.take()
        if products:
            link.send(wire.notes(products=products))

    def report(completions: List[wire.Completion], outputs: List[Any]) -> None:
        tell()
        link.send(wire.done(completions, outputs, lifeline))

    while True:
        message = link.receive()
        kind = message.kind
        if kind == wire.WORK:
            if not task.work(message.messages(), page, is_over, report):
                return EXIT_FULL
        elif kind == wire.GRANT:
            produced = task.produce(message.grant())
            tell()
            link.send(wire.produced(*produced, lifeline=lifeline))
            del produced
        elif kind == wire.FINISH:
            finished = task.finish()
            tell()
            link.send(wire.finished(*finished, lifeline=lifeline))
            del finished
        elif kind == wire.STOP:
            return 0
        else:
            raise wire.WireError(f"message kind {kind} is not known")
        # Neither it nor its frames are held while the next one is waited for.
        del message


def _begin_notes(post: Dict[str, Any], link: Link, task: Task) -> None:
    """From here on what the step makes known is told; first how much it will emit."""
    notes.listen()
    expected = task.expected() if post["python"]["role"] == "producer" else None
    if expected is not None:
        link.send(wire.notes(expected))


def _make_task(post: Dict[str, Any], link: Link) -> Optional[Task]:
    """The step, ready to work; none if it cannot, and the router was told why."""
    from . import log
    from .build import build
    from .emit import Emitter

    python, context = post["python"], post["context"]
    step, next_steps = context["step"], list(context["next_steps"])
    log.install()
    emitter = Emitter(step, next_steps, python["to_python"])
    try:
        instance = build(
            python["module"],
            post["class"],
            post["params"],
            step=step,
            connections=next_steps,
            send=emitter.send_msg,
            log=log.of_step(step),
            whole=python.get("configuration"),
        )
    except BaseException as error:
        link.send(wire.init_failed(failures.of(error)))
        return None
    gc.enable()
    task = Task(instance, emitter)
    failure = task.init()
    if failure is not None:
        link.send(wire.init_failed(failure))
        return None
    return task


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
    ends = select.poll()
    ends.register(lifeline, 0)

    def watch() -> None:
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

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _end(code: int) -> NoReturn:
    """Ends the process as Python does, without taking the interpreter apart."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
