"""Takes the values that a step emits and holds them until the call has ended."""

from __future__ import annotations

import mmap
import os
import threading
from types import GeneratorType
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ..protocol.batches import OutputBuffer, priority_of
from ..protocol.failures import Permanent, nearest
from ..protocol.segments import Buffer
from ..protocol.tags import RESULTS
from ..protocol.values import Encoder
from . import call_context
from .forks import forked

#: The content of values of these types never selects the next step.
_PLAIN = frozenset([int, float, str, bool, bytes, dict, list])
_NONE: Tuple[Buffer, ...] = ()

#: The most refused values that the log mentions: a thread may keep sending forever.
_MOST_LOGGED = 10

Emitted = Tuple[int, Optional[bytes], bytes, Sequence[Buffer], int, int]


class Emitter:
    """An encoder of values for the next steps. It drops what a failed call has emitted."""

    def __init__(
        self,
        step: str,
        next_steps: List[str],
        to_python: Sequence[bool],
        hands_back: bool = False,
        priority: str = "normal",
    ) -> None:
        """Creates an emitter.

        Args:
            step: the name of the step.
            next_steps: the names of the next steps.
            to_python: for each next step, whether it takes pickles; where the step hands its
                values back, whether the producer does.
            hands_back: whether the step's values go back to the producer.
            priority: the priority of what the step emits without an input.
        """
        self._step = step
        #: The route of values that name no next step.
        self.default_route = RESULTS if hands_back else 0
        self._routes: Dict[str, int] = {name: index for index, name in enumerate(next_steps)}
        encoders = {kind: Encoder(kind) for kind in set(to_python)}
        #: How each route's values are encoded.
        self.encoders: List[Encoder] = [encoders[kind] for kind in to_python]
        #: What the current call has emitted so far.
        self.pending: List[Emitted] = []
        #: The origin and the item of the current input, which its outputs carry.
        self.origin: Optional[bytes] = None
        self.item = 0
        #: The priority of what the current call emits, and of what a call without an input does.
        self.default_priority = priority_of(priority)
        self.priority = self.default_priority
        #: Whether each value without an input is an item; and the number of the latest one.
        self.numbers_items = False
        self._items = 0
        #: Finds the origin of a value if there is no input.
        self.origin_of: Optional[Callable[[Any], Optional[bytes]]] = None
        #: Called after a value is sent without an input, since a producer may then block in
        #: its call.
        self.on_sent: Callable[[], None] = lambda: None
        #: Whether the last item of a tuple may name a next step.
        self.tuples_have_routes = True
        #: The call that may send; 0 between calls.
        self.call = 0
        #: Returns the number of a new call.
        self.next_call: Callable[[], int] = call_context.next_call
        #: Held while a call ends, and while a thread other than that of the calls sends.
        self.lock = threading.Lock()
        self._thread = threading.get_ident()
        # In memory shared with the processes that the step forks.
        self._refused = memoryview(mmap.mmap(-1, 8)).cast("Q")
        self._begun = False
        call_context.follow(self)

    def send_msg(
        self, msg: Any, dest: Optional[str] = None, destination_step_name: Optional[str] = None
    ) -> None:
        """Sends a value to the next step with this name, or to the default one.

        Args:
            msg: the value.
            dest: the name of the next step.
            destination_step_name: ctapipe's name for `dest`.

        Raises:
            RuntimeError: in `init`, in a process that the step has forked, or in a thread
                whose call has returned.
            Permanent: if there is no such next step, or the value cannot be sent.
        """
        self._check()
        name = destination_step_name if dest is None else dest
        if name is None:
            self.value(msg)
        elif name in self._routes:
            self._emit(self._routes[name], msg)
        else:
            raise Permanent(self._unknown(name))

    def set_priority(self, priority: str) -> None:
        """Sets the priority of what the current call emits from here on.

        Args:
            priority: "high" or "normal".

        Raises:
            ValueError: if it is neither.
            RuntimeError: outside a call.
        """
        tag = priority_of(priority)
        if not self.call or self.call != self.call_of_this_thread() or forked:
            raise RuntimeError("set_priority works in run and finish, for what they emit")
        self.priority = tag

    @property
    def refused(self) -> int:
        """The number of values refused because they arrived after their call had returned, or
        came from a forked process."""
        return int(self._refused[0])

    def ready(self) -> None:
        """Records that `init` has returned."""
        self._begun = True

    def call_of_this_thread(self) -> int:
        """Returns the call that the current thread works for, or 0 if there is none."""
        if threading.get_ident() == self._thread:
            return self.call
        return call_context.of_this_thread()

    def encode_result(self, result: Any) -> Optional[bytes]:
        """Emits what a call returned, or returns its header for the default next step.

        It returns the header in the most common case: the call has emitted nothing else, and
        the payload has no buffers.
        """
        kind = type(result)
        if self.pending or kind not in _PLAIN or not self.encoders:
            self.result(result)
        elif kind is int or kind is float:
            try:
                return self.encoders[0].pack_plain(result)
            except Exception:  # An integer of more than 64 bits.
                encoded = self.encoders[0].encode(result)
                self.pending.append((0, self.origin, *encoded, self.item, self.priority))
        else:
            header, buffers = self.encoders[0].encode(result)
            if not buffers:
                return header
            self.pending.append((0, self.origin, header, buffers, self.item, self.priority))
        return None

    def result(self, result: Any) -> None:
        """Emits what a call returned: a value, or the values of a generator."""
        if result is None:
            return
        if isinstance(result, GeneratorType) or (self.encoders and _is_iterator(result)):
            for value in result:
                if value is not None:
                    self.value(value)
        else:
            self.value(result)

    def value(self, value: Any) -> None:
        """Emits a value to the next step that its last item names, or to the default next step."""
        route = 0
        # A namedtuple is one value, so its last item names no step.
        if self.tuples_have_routes and type(value) is tuple and len(value) > 1:
            name = value[-1]
            if isinstance(name, str) and name in self._routes:
                route = self._routes[name]
                value = value[0] if len(value) == 2 else value[:-1]
        if self.encoders:
            self._emit(route, value)

    def flush(self, outputs: OutputBuffer) -> None:
        """Moves pending values to the outputs. Other threads may add values meanwhile."""
        pending = self.pending
        taken = pending[:]
        del pending[: len(taken)]
        for route, origin, header, buffers, item, priority in taken:
            to = route or self.default_route
            outputs.push(to, origin, header, buffers, item, priority=priority)

    def _emit(self, route: int, value: Any) -> None:
        header, buffers = self.encoders[route].encode(value)
        if threading.get_ident() == self._thread and not self.numbers_items:
            self._append(route, value, header, buffers)
            return
        with self.lock:
            # Check again: the call may have ended meanwhile.
            self._check()
            self._append(route, value, header, buffers)

    def _append(self, route: int, value: Any, header: bytes, buffers: Sequence[Buffer]) -> None:
        origin = self.origin
        if origin is None and self.origin_of is not None:
            origin = self.origin_of(value)
        if self.numbers_items:
            self._items += 1
            self.item = self._items
        self.pending.append((route, origin, header, buffers, self.item, self.priority))
        if self.origin_of is not None:
            self.on_sent()

    def _check(self) -> None:
        """Refuses to send for any call but the current one."""
        if self.call and self.call == self.call_of_this_thread() and not forked:
            return
        if not self._begun and threading.get_ident() == self._thread:
            raise RuntimeError("send_msg works in run and finish, not before")
        if forked:
            text = (
                "send_msg works in the worker's own process, not in one that the step has forked: "
                "the value is not sent. Hand it back to run, which can send it"
            )
        else:
            thread = threading.current_thread().name
            text = (
                f"send_msg of the thread {thread} comes after the call that it belongs to has "
                "returned: the value is not sent. Wait in run for what its threads send, or keep "
                "it for finish"
            )
        self._refused[0] += 1
        if self.refused <= _MOST_LOGGED:
            from . import log

            log.of_step(self._step).error(text)
        raise RuntimeError(text)

    def _unknown(self, name: Any) -> str:
        known = list(self._routes)
        near = nearest(str(name), known)
        others = f"they are {', '.join(known)}" if known else "it has none"
        hint = (
            f'did you mean "{near}"?'
            if near
            else f'add it to the next_steps of "{self._step}" in the configuration'
        )
        return f'"{name}" is not among the next steps of "{self._step}": {others}; {hint}'


def _is_iterator(value: Any) -> bool:
    return type(value) not in _PLAIN and hasattr(type(value), "__next__")


def origin_finder(instance: Any) -> Callable[[Any], Optional[bytes]]:
    """Returns a function that finds the origin of a producer's value: from the producer's
    method `origin` if it has one, else from the value."""
    own = getattr(instance, "origin", None)
    ask = own if callable(own) else None

    def origin_of(value: Any) -> Optional[bytes]:
        origin = ask(value) if ask is not None else natural_origin(value)
        if origin is None:
            return None
        text = os.fspath(origin) if hasattr(origin, "__fspath__") else str(origin)
        return text.encode("utf-8", "replace") if isinstance(text, str) else text

    return origin_of


def natural_origin(value: Any) -> Any:
    """Returns the source of a frame or the path of a file, and None for other values."""
    if isinstance(value, (int, float)):
        return None
    if isinstance(value, str) or hasattr(type(value), "__fspath__"):
        is_known = hasattr(type(value), "_to_wire")
        return os.fspath(value) if is_known or os.path.isfile(value) else None
    return getattr(value, "source", None) if hasattr(type(value), "_to_wire") else None
