"""Runs the worker process, which follows the router's messages until one says stop."""

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
from time import sleep
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple, Type

from ..api import announce
from ..protocol import failures, tags, wire
from ..protocol.driver import RESULTS_MODULE
from ..protocol.page import Memory, Page
from ..protocol.path_names import path_of_name
from ..protocol.segments import Lifeline
from ..protocol.zmtp import Dealer, identity
from . import surroundings
from .task import Task

Ends = Tuple[Type[BaseException], ...]
Make = Optional[Callable[[], Any]]

#: Exit codes from docs/WIRE.md: the connection to the router was lost; the memory limit was
#: reached; values were sent after their call had returned, or by a forked process; the worker has
#: done as many messages as its caller lets it do.
EXIT_LOST, EXIT_FULL, EXIT_LATE, EXIT_RETIRED = 113, 114, 115, 116

#: Functions that return how many values each step's emitter has refused.
_refusals: List[Callable[[], int]] = []

#: The environment variable that names the socket of an inline run's host. The host does the
#: work of all workers except the one that delivers results, because delivery may block.
HOST = "DRPIPE_INLINE"
#: The time between two heartbeats, in milliseconds; docs/WIRE.md allows a second.
_BEAT = 1000
#: How long a worker outlives its router at most, in seconds.
_LAST = 1.0


def main(is_prepared: bool = False) -> NoReturn:
    """Runs this process as a worker and ends it.

    Args:
        is_prepared: whether `prepared` has imported the step's module and set up the log.
    """
    try:
        code = _work(is_prepared)
    except Exception as error:
        tell_of(error)
        code = EXIT_LOST
    end(code)


def tell_of(error: Exception) -> None:
    """Prints the exception that ends this worker."""
    print(f"the worker ends: {failures.summary(error)}", file=sys.stderr)
    if not isinstance(error, (OSError, wire.WireError)):
        # A bug in this package.
        import traceback

        traceback.print_exc()


def rehearse() -> NoReturn:
    """Tries to start a worker that searches the directories in the arguments for modules."""
    from . import shadowing

    shadowing.rehearse(sys.argv[2:])


def _work(is_prepared: bool) -> int:
    if not is_prepared:
        surroundings.set_up()
    surroundings.use_memory_again()
    lifeline = _take_standard_input()
    text, fd = lifeline.receive_post()
    Page.own = page = Page(fd)
    page.beat()
    post = json.loads(text)
    watch_over(lifeline.socket, page, post["directory"])
    host = os.environ.get(HOST)
    if host and post["python"]["module"] != RESULTS_MODULE:
        return _lend(host, text, [lifeline.socket.fileno(), fd])
    os.close(fd)
    if not is_prepared:
        surroundings.set_up_output()
        sys.path[1:1] = map(path_of_name, post["python"]["paths"])
    link = Link(post, lifeline)
    try:
        return _serve(post, link, page, is_prepared)
    finally:
        link.close()


class Link:
    """The worker's end of the connection to the router."""

    def __init__(self, post: Dict[str, Any], lifeline: Lifeline) -> None:
        self.lifeline = lifeline
        place = post["place"]
        name = identity(place["worker"], place["incarnation"])
        self._dealer = Dealer(os.path.join(post["directory"], "router"), name)

    def fileno(self) -> int:
        """Returns the descriptor, for `poll`. Call `receive_now` until it returns None before
        that."""
        return self._dealer.fileno()

    def is_over(self) -> bool:
        """Whether the router has gone."""
        return self._dealer.is_over

    def send(self, frames: List[wire.Frame]) -> None:
        """Sends a message to the router."""
        self._dealer.send(frames)

    def receive(self) -> wire.Reader:
        """Waits for the router's next message and returns it.

        Raises:
            OSError: if the router has gone.
            WireError: if the message is empty.
        """
        frames = self._dealer.receive(True)
        if frames is None:
            # The program has died. The thread that knows it removes the private directory.
            sleep(_LAST)
            raise ConnectionResetError("the router has gone")
        return self._reader(frames)

    def receive_now(self) -> Optional[wire.Reader]:
        """Returns the router's next message if it is there.

        Raises:
            WireError: if it is empty.
        """
        frames = self._dealer.receive(False)
        return None if frames is None else self._reader(frames)

    def _reader(self, frames: List[bytearray]) -> wire.Reader:
        head, *rest = frames
        return wire.Reader(
            bytes(head), [memoryview(frame) for frame in rest], self.lifeline.receive
        )

    def close(self) -> None:
        """Closes the connection. The router gets what was sent."""
        self._dealer.close()


class Reports:
    """A sender of reports to the router. Only one thread at a time may call it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def done(self, completions: List[wire.Completion], outputs: List[Any]) -> None:
        """Reports the outcomes of messages and what the step emitted for them."""
        self._send_notes()
        self._link.send(wire.done(completions, outputs, self._link.lifeline))

    def produced(self, calls: int, busy: int, result: wire.Result, outputs: List[Any]) -> None:
        """Reports how often a producer was called, for how long, and with what result."""
        self._send_notes()
        self._link.send(wire.produced(calls, busy, result, outputs, self._link.lifeline))

    def finished(self, failure: Optional[failures.Failure], outputs: List[Any]) -> None:
        """Reports the end of `finish` and what it emitted."""
        self._send_notes()
        self._link.send(wire.finished(failure, outputs, self._link.lifeline))

    def released(self, size: int) -> None:
        """Reports that results of this size, in bytes, were handed on."""
        self._link.send(wire.released(size))

    def _send_notes(self) -> None:
        # Send these before the report, because the report may end the run.
        products, actions = announce.take(), announce.take_actions()
        if products or actions:
            self._link.send(wire.notes(products=products, actions=actions))


def _serve(post: Dict[str, Any], link: Link, page: Page, is_prepared: bool) -> int:
    if not is_prepared:
        from . import log

        log.install()
    worker = Worker(post, link, page)
    code = worker.begin()
    while code is None:
        code = worker.handle(link.receive())
    return code


class Worker:
    """A worker: one step and its connection to the router."""

    def __init__(
        self,
        post: Dict[str, Any],
        link: Link,
        page: Page,
        ends: Ends = (),
        make: Make = None,
    ) -> None:
        """Creates a worker.

        Args:
            post: what the worker is to do, as docs/WIRE.md describes it.
            link: the connection to the router.
            page: the page that is shared with the supervisor.
            ends: exceptions that end this process's work instead of failing the step.
            make: makes the step's instance; by default, the instance is that of the post's class.
        """
        self._post, self._link, self._page, self._ends = post, link, page, ends
        self._make = make
        self._task: Optional[Task] = None
        self._is_over: Optional[Callable[[], bool]] = None

    def begin(self) -> Optional[int]:
        """Prepares the step for work. Returns the worker's exit code if that fails."""
        self._task = task = _make_task(self._post, self._link, self._ends, self._make)
        if task is None:
            return 0
        self._link.send(wire.ready())
        _begin_notes(self._post, self._link, task)
        limit = self._post["memory_limit"]
        # The memory of a process that hosts an inline run is not this worker's alone.
        self._is_over = _beyond(limit) if limit is not None and not self._ends else None
        return None

    def handle(self, message: wire.Reader) -> Optional[int]:
        """Handles a message from the router. Returns the exit code once the worker must end.

        Raises:
            WireError: if the message violates the protocol.
        """
        task = self._task
        assert task is not None
        # In an inline run, another worker of this process may have made the latest call.
        announce.listen(True, task.is_in_its_call)
        kind = message.kind
        if kind == tags.WORK:
            if not task.work(message.messages(), self._page, self._is_over):
                return EXIT_FULL
        elif kind == tags.GRANT:
            task.produce(message.grant())
        elif kind == tags.ACKNOWLEDGED:
            task.acknowledge(message.acknowledgements())
        elif kind == tags.FINISH:
            message.end()
            task.finish()
        elif kind == tags.STOP:
            message.end()
            return 0
        else:
            raise wire.WireError(f"message kind {kind} is not known")
        return None


def _begin_notes(post: Dict[str, Any], link: Link, task: Task) -> None:
    """Sends the step's announcements so far and the number of values a producer expects to emit."""
    announce.listen(True, task.is_in_its_call)
    expected = task.expected() if post["python"]["role"] == "producer" else None
    products, actions = announce.take(), announce.take_actions()
    if expected is not None or products or actions:
        link.send(wire.notes(expected, products, actions))


def _make_task(post: Dict[str, Any], link: Link, ends: Ends, make: Make) -> Optional[Task]:
    """Builds the step and calls its `init`.

    If the step cannot work, sends the router the reason and returns None.
    """
    # The step's announcements before its first call count if the step can work.
    announce.listen(True, lambda: False)
    task = _build_task(post, link, ends, make)
    if task is None:
        announce.take()
        announce.take_actions()
    return task


def _build_task(post: Dict[str, Any], link: Link, ends: Ends, make: Make) -> Optional[Task]:
    from .emit import Emitter

    python, context = post["python"], post["context"]
    step, next_steps = context["step"], list(context["next_steps"])
    hands_back = context.get("results") is not None
    priority = context.get("priority", "normal")
    emitter = Emitter(step, next_steps, python["to_python"], hands_back, priority)
    _refusals.append(lambda: emitter.refused)
    try:
        instance = make() if make is not None else _build(post, emitter, hosted=bool(ends))
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


def _build(post: Dict[str, Any], emitter: Any, hosted: bool) -> Any:
    """Builds an instance of the post's class."""
    import logging

    from . import log
    from .build import build

    python, context = post["python"], post["context"]
    step = context["step"]
    return build(
        python["module"],
        post["class"],
        post["params"],
        step=step,
        connections=list(context["next_steps"]),
        send=emitter.send_msg,
        set_priority=emitter.set_priority,
        log=logging.getLogger(f"drpipe.run.{step}") if hosted else log.of_step(step),
        whole=python.get("configuration"),
    )


def _lend(host: str, post: bytes, fds: List[int]) -> int:
    """Lends this worker's connection to the host of an inline run.

    This process keeps sending heartbeats. Returns the exit code that the host sends.
    """
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
    """Moves the lifeline away from standard input, where a step could read it."""
    end = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return Lifeline(end)


def watch_over(lifeline: socket.socket, page: Page, directory: str) -> None:
    """Starts a thread that sends heartbeats and, when the program ends, ends this process and
    all processes that it has started."""

    def watch(lifeline: socket.socket) -> None:
        # The argument keeps the socket open: the step's threads may outlive the worker.
        ends = select.poll()
        ends.register(lifeline, 0)
        while True:
            page.beat()
            if ends.poll(_BEAT):
                break
        import shutil

        # The program, which normally removes the directory, has ended.
        shutil.rmtree(directory, ignore_errors=True)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        faulthandler.disable()
        os.abort()

    threading.Thread(target=watch, args=(lifeline,), name="lifeline", daemon=True).start()


def end(code: int) -> NoReturn:
    """Ends the process as Python does, but without shutting down the interpreter.

    Waits for non-daemon threads and calls the exit functions.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if code == 0 and any(refused() for refused in _refusals):
            code = EXIT_LATE
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
