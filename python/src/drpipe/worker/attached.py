"""Attached workers: workers of steps of class `Caller`, in processes that the caller provides.

A worker process gets its lifeline and calls `serve`. A caller that works itself opens a `Seat`
and handles the router's messages in a loop of its own.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Callable, Dict, NoReturn, Optional

from ..api import announce
from ..protocol.page import Page
from ..protocol.segments import Lifeline
from .forks import forked
from .surroundings import use_memory_again
from .worker import EXIT_LOST, Ends, Link, Worker, end, tell_of, watch_over

#: Makes the instance whose `run` does the work, given the step's post.
Make = Callable[[Dict[str, Any]], Any]


class Seat:
    """The place of a worker in a run: what it is to do, its page, and its link to the router.

    Attributes:
        post: what the worker is to do, as docs/WIRE.md describes it.
        page: the page that is shared with the run.
        link: the connection to the router. Its `fileno` is for `poll`.
    """

    def __init__(self, lifeline: socket.socket, feeds: bool = False) -> None:
        """Takes the worker's place.

        Args:
            lifeline: the worker's end of its lifeline.
            feeds: whether this process only feeds the run. It may be at work for another run, as
                the worker of a step, and goes on with that.

        Raises:
            OSError: if the run has ended.
        """
        self._feeds = feeds
        self._lifeline = Lifeline(lifeline)
        text, fd = self._lifeline.receive_post()
        self.post: Dict[str, Any] = json.loads(text)
        self.page = Page(fd)
        os.close(fd)
        if not feeds:
            # This process may itself be a fork, but no step forked it.
            forked.clear()
            Page.own = self.page
        self.page.beat()
        self.link = Link(self.post, self._lifeline)

    def worker(self, make: Make, ends: Ends = ()) -> Worker:
        """Returns a worker whose instance `make` makes when the worker begins.

        Args:
            make: makes the instance.
            ends: exceptions that end this process's work instead of failing the step.
        """
        return Worker(self.post, self.link, self.page, ends, lambda: make(self.post))

    def close(self) -> None:
        """Leaves the place: the run knows then that the worker has ended."""
        self.link.close()
        self._lifeline.socket.close()
        if not self._feeds:
            # What this process goes on with is no step's work.
            announce.listen(False)


def serve(lifeline: socket.socket, make: Make) -> NoReturn:
    """Runs this process as an attached worker and ends it.

    The process must have no other work: it ends at once, with its process group if it leads one,
    when the run has died.
    """
    code: Optional[int] = None
    try:
        use_memory_again()
        seat = Seat(lifeline)
        watch_over(lifeline, seat.page, seat.post["directory"])
        worker = seat.worker(make)
        code = worker.begin()
        while code is None:
            code = worker.handle(seat.link.receive())
        seat.link.close()
    except Exception as error:
        tell_of(error)
        code = EXIT_LOST
    finally:
        # Not even an interrupt lets a fork go on with the caller's code.
        end(EXIT_LOST if code is None else code)
