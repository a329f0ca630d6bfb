"""Where what a step emits goes, and what of it is kept until its call has ended."""

from __future__ import annotations

import mmap
import os
import threading
from types import GeneratorType
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ..protocol.batches import Gathered
from ..protocol.failures import Permanent, nearest
from ..protocol.segments import Buffer
from ..protocol.values import Encoder
from . import call_context
from .forks import forked

#: Values of these types are never routed by what they contain.
_PLAIN = frozenset([int, float, str, bool, bytes, dict, list])
_NONE: Tuple[Buffer, ...] = ()

#: So many refusals are told in the log.
_TOLD = 10

Emitted = Tuple[int, Optional[bytes], bytes, Sequence[Buffer]]


class Emitter:
    """Takes values for the next steps. What a failed call has emitted is dropped."""

    def __init__(self, step: str, next_steps: List[str], to_python: Sequence[bool]) -> None:
        self._step = step
        self._routes: Dict[str, int] = {name: index for index, name in enumerate(next_steps)}
        encoders = {kind: Encoder(kind) for kind in set(to_python)}
        #: How each route's values are encoded.
        self.encoders: List[Encoder] = [encoders[kind] for kind in to_python]
        #: What the current call has emitted so far.
        self.pending: List[Emitted] = []
        #: What the outputs of the current input carry.
        self.origin: Optional[bytes] = None
        #: Says the origin of a value where there is no input.
        self.origin_of: Optional[Callable[[Any], Optional[bytes]]] = None
        #: Called when a value has been sent without an input: a producer may wait in the
        #: midst of its call.
        self.sent: Callable[[], None] = lambda: None
        #: Whether the last item of a tuple may say where it goes.
        self.tuples_have_routes = True
        #: The call that may send; 0 between calls.
        self.call = 0
        #: The number of a new call.
        self.next_call: Callable[[], int] = call_context.next_call
        #: Held where a call ends, and where another thread than that of the calls sends.
        self.lock = threading.Lock()
        self._thread = threading.get_ident()
        # Shared with the processes that the step forks.
        self._refused = memoryview(mmap.mmap(-1, 8)).cast("Q")
        self._begun = False
        call_context.follow(self)

    def send_msg(
        self, msg: Any, dest: Optional[str] = None, destination_step_name: Optional[str] = None
    ) -> None:
        """Sends a value to the next step of this name, or to the default one.

        Raises:
            RuntimeError: in `init`, when the call that the thread works for has returned, and
                in a process that the step has forked.
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

    @property
    def refused(self) -> int:
        """How many values were refused because the call that they belong to had returned, or
        because another process wanted to send them."""
        return int(self._refused[0])

    def ready(self) -> None:
        """From here on there are calls."""
        self._begun = True

    def call_of_this_thread(self) -> int:
        """The call that the current thread works for; 0 for none."""
        if threading.get_ident() == self._thread:
            return self.call
        return call_context.of_this_thread()

    def settle(self, result: Any) -> Optional[bytes]:
        """Emits what a call has returned. If that is all that it emits, and the usual, it
        is given back in the form in which it is to be gathered."""
        kind = type(result)
        if self.pending or kind not in _PLAIN or not self.encoders:
            self.result(result)
        elif kind is int or kind is float:
            try:
                return self.encoders[0].pack_plain(result)
            except Exception:  # An integer of more than 64 bits.
                self.pending.append((0, self.origin, *self.encoders[0].encode(result)))
        else:
            header, buffers = self.encoders[0].encode(result)
            if not buffers:
                return header
            self.pending.append((0, self.origin, header, buffers))
        return None

    def result(self, result: Any) -> None:
        """Emits what a call has returned: a value, or those of a generator."""
        if result is None:
            return
        if isinstance(result, GeneratorType) or (self.encoders and _is_iterator(result)):
            for value in result:
                if value is not None:
                    self.value(value)
        else:
            self.value(result)

    def value(self, value: Any) -> None:
        """Emits a value where its last item says, or to the default next step."""
        route = 0
        # Not a namedtuple: that is a value of its own.
        if self.tuples_have_routes and type(value) is tuple and len(value) > 1:
            name = value[-1]
            if isinstance(name, str) and name in self._routes:
                route = self._routes[name]
                value = value[0] if len(value) == 2 else value[:-1]
        if self.encoders:
            self._emit(route, value)

    def flush(self, gathered: Gathered) -> None:
        """Lets what is pending go. Other threads may add to it meanwhile."""
        pending = self.pending
        taken = pending[:]
        del pending[: len(taken)]
        for route, origin, header, buffers in taken:
            gathered.push(route, origin, header, buffers)

    def _emit(self, route: int, value: Any) -> None:
        header, buffers = self.encoders[route].encode(value)
        if threading.get_ident() == self._thread:
            self._append(route, value, header, buffers)
            return
        with self.lock:
            # The call may have ended since it was looked at.
            self._check()
            self._append(route, value, header, buffers)

    def _append(self, route: int, value: Any, header: bytes, buffers: Sequence[Buffer]) -> None:
        origin = self.origin
        if origin is None and self.origin_of is not None:
            origin = self.origin_of(value)
        self.pending.append((route, origin, header, buffers))
        if self.origin_of is not None:
            self.sent()

    def _check(self) -> None:
        """Nothing may be sent for another call than the present one."""
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
        if self.refused <= _TOLD:
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
    """How the origin of what a producer makes is found: its method `origin`, the
    source of a frame, or the path of a file."""
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
    """What a value is called, where its producer does not say."""
    if isinstance(value, (int, float)):
        return None
    if isinstance(value, str) or hasattr(type(value), "__fspath__"):
        is_known = hasattr(type(value), "_to_wire")
        return os.fspath(value) if is_known or os.path.isfile(value) else None
    return getattr(value, "source", None) if hasattr(type(value), "_to_wire") else None
