"""Steps that wrap a function, an iterable or an object of the driver."""

from __future__ import annotations

import logging
import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from ..api.stage import Producer, may_change_arrays
from ..protocol.driver import origin_of
from ..protocol.failures import CodecError, summary
from ..worker import build
from ..worker.emit import natural_origin
from . import channel, pickling


class Given(NamedTuple):
    """The object that the driver gave for one step, with its parameters."""

    #: A class, an instance, a function or, for a producer, an iterable.
    thing: Any
    #: The parameters of a class.
    params: Dict[str, Any]


#: What was given for the steps that run in this process, by name. No file of such a name is
#: written.
here: Dict[str, Given] = {}


def has_run(thing: Any) -> bool:
    """Whether something is itself a step: a class or an instance with a method `run`."""
    return callable(getattr(thing, "run", None))


class _Adapter:
    """The common base of adapters for producers and for stages."""

    #: The name of what was given, and of its file in the driver's directory.
    given: str = ""
    #: What it is, for the journal: its products are its own.
    what: str = ""
    params: Any = None
    #: There is at most one next step, so values are not routed by their content.
    one_way = True

    name: str
    connections: List[str]
    log: logging.Logger
    send_msg: Callable[..., None]
    set_priority: Callable[[str], None]

    def _load(self) -> Any:
        """Returns what was given. Creates an instance of a class, with a step's attributes."""
        found = here.get(self.given)
        if found is None:
            found = pickling.load(os.path.join(channel.directory(), self.given))
        thing, rest = found.thing, found.params
        if isinstance(thing, type) and has_run(thing):
            thing, rest = build.make(thing, rest)
        if has_run(thing):
            send, set_priority = self.send_msg, self.set_priority
            build.prepare(
                thing, self.name, self.connections, self.log, send=send, set_priority=set_priority
            )
            build.set_params(thing, rest)
        return thing

    def _init(self, made: Any) -> None:
        init = getattr(made, "init", None)
        if has_run(made) and init is not None and init() is False:
            raise RuntimeError(f"init of {type(made).__name__} returned False: it cannot work")


class Step(_Adapter):
    """A stage or a consumer."""

    def init(self) -> None:
        """Replaces this object's `run` and `finish` with those of what was given."""
        made = self._load()
        own: Dict[str, Any] = {"run": made.run if has_run(made) else made}
        own["writable_arrays"] = may_change_arrays(made)
        finish = getattr(made, "finish", None)
        if has_run(made) and finish is not None:
            own["finish"] = finish
        self.__dict__.update(own)
        self._init(made)

    def run(self, msg: Any) -> Any:
        """Raises an error until `init` replaces this method."""
        raise NotImplementedError("call init first")


class KeepingStep(Step):
    """A step that keeps data from its messages for its `finish`."""

    stateful = True


class Source(_Adapter, Producer):
    """A producer. If it has no file, the driver sends the items."""

    singleton = True
    stateful = False
    _made: Any = None
    _count = 0

    def init(self) -> None:
        """Loads what was given, or connects to the driver."""
        if self.given:
            self._made = self._load()
            self._init(self._made)
        else:
            self._made = _received(channel.connect(channel.ITEMS))

    def run(self) -> Any:
        """Returns what the given `run` returns, or an iterator of the items."""
        made = self._made
        if has_run(made):
            return made.run()
        if callable(made):
            made = made()
        if made is None:
            return iter(())
        return iter(made)

    def finish(self) -> Any:
        """Calls the `finish` of what was given."""
        finish = getattr(self._made, "finish", None)
        return finish() if has_run(self._made) and finish is not None else None

    def origin(self, value: Any) -> Optional[Any]:
        """Returns an origin with the value's number, and its name if it has one."""
        own = getattr(self._made, "origin", None)
        has_own = has_run(self._made) and callable(own)
        name: Any = own(value) if has_own and own is not None else natural_origin(value)
        number, self._count = self._count, self._count + 1
        if hasattr(name, "__fspath__"):
            name = os.fspath(name)
        if isinstance(name, bytes):
            name = name.decode("utf-8", "backslashreplace")
        return origin_of(number, None if name is None else str(name))


class ToldSource(Source):
    """A producer that is told what became of its items."""

    acknowledges = True

    def acknowledge(self, items: Any) -> None:
        """Calls the `acknowledge` of what was given."""
        self._made.acknowledge(items)


def _received(driver: channel.Channel) -> Iterator[Any]:
    """Yields the items that the driver sends."""
    # Ask for one portion ahead, so that the driver pickles it while this one is processed.
    driver.ask()
    while True:
        for _ in range(channel.PORTION):
            try:
                value = driver.receive()
            except channel.End:
                return
            except channel.Failed as failure:
                # A report of a CodecError has only its message, which comes from the driver here.
                raise CodecError(str(failure)) from None
            except (AttributeError, ImportError) as error:
                raise CodecError(
                    f"an item cannot be loaded in a worker: {summary(error)}; put its class into "
                    "a module, or install cloudpickle"
                ) from error
            yield value
        driver.ask()
