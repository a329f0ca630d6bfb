"""Steps whose work is done by a function, an iterable or an object that the
driver of the run has given."""

from __future__ import annotations

import logging
import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from ..api import failure_details
from ..api.stage import Producer, may_change_arrays
from ..protocol.failures import CodecError, summary
from ..worker import build
from ..worker.emit import natural_origin
from . import channel, pickling


class Given(NamedTuple):
    """What a step is made of."""

    #: A class, an instance, a function or, of a producer, an iterable.
    thing: Any
    #: The parameters of a class.
    params: Dict[str, Any]


#: What runs in the driver's own process needs no pickle: what was given, by its file.
here: Dict[str, Given] = {}


def has_run(thing: Any) -> bool:
    """Whether it is a step by itself: a class, or an instance, with a method `run`."""
    return callable(getattr(thing, "run", None))


class _Adapter:
    """What both kinds have in common."""

    #: The file that has what was given.
    file: str = ""
    #: There is one next step at most: no value says where it goes.
    one_way = True

    name: str
    connections: List[str]
    log: logging.Logger
    send_msg: Callable[..., None]

    def _load(self) -> Any:
        """What was given; of a class, an instance with all that a step has."""
        found = here.get(self.file)
        given: Given = pickling.load(self.file) if found is None else found
        thing, rest = given.thing, given.params
        if isinstance(thing, type) and has_run(thing):
            thing, rest = build.make(thing, rest)
        if has_run(thing):
            build.prepare(thing, self.name, self.connections, self.send_msg, self.log)
            build.set_params(thing, rest)
        return thing

    def _init(self, made: Any) -> None:
        init = getattr(made, "init", None)
        if has_run(made) and init is not None and init() is False:
            raise RuntimeError(f"init of {type(made).__name__} returned False: it cannot work")


class Step(_Adapter):
    """A stage or a consumer."""

    def init(self) -> None:
        """Puts what was given in this step's place: nothing stands in between."""
        made = self._load()
        own: Dict[str, Any] = {"run": made.run if has_run(made) else made}
        own["writable_arrays"] = may_change_arrays(made)
        finish = getattr(made, "finish", None)
        if has_run(made) and finish is not None:
            own["finish"] = finish
        self.__dict__.update(own)
        self._init(made)

    def run(self, msg: Any) -> Any:
        """Replaced by what was given."""
        raise NotImplementedError("init comes first")


class KeepingStep(Step):
    """One that keeps something of its messages for its `finish`."""

    gathers = True


class Source(_Adapter, Producer):
    """A producer. Without a file, the driver sends it its items."""

    single = True
    gathers = False
    _made: Any = None
    _count = 0

    def init(self) -> None:
        """Gets what was given."""
        if self.file:
            self._made = self._load()
            self._init(self._made)
        else:
            self._made = _received(channel.connect(channel.ITEMS))

    def run(self) -> Any:
        """What the given producer's `run` does, or the items."""
        made = self._made
        if has_run(made):
            return made.run()
        if callable(made):
            made = made()
        if made is None:
            return iter(())
        return iter(made)

    def finish(self) -> Any:
        """As the given one's."""
        finish = getattr(self._made, "finish", None)
        return finish() if has_run(self._made) and finish is not None else None

    def origin(self, value: Any) -> Optional[Any]:
        """The value's number, and what the given producer calls it."""
        own = getattr(self._made, "origin", None)
        has_own = has_run(self._made) and callable(own)
        natural: Any = own(value) if has_own and own is not None else natural_origin(value)
        number, self._count = self._count, self._count + 1
        if hasattr(natural, "__fspath__"):
            natural = os.fspath(natural)
        if isinstance(natural, bytes):
            natural = natural.decode("utf-8", "backslashreplace")
        return failure_details.origin_of(number, None if natural is None else str(natural))


def _received(driver: channel.Channel) -> Iterator[Any]:
    # Always one portion ahead of what is worked on.
    driver.ask()
    while True:
        for _ in range(channel.PORTION):
            try:
                value = driver.receive()
            except channel.End:
                return
            except channel.Failed as failure:
                # In the words of the driver.
                raise CodecError(str(failure)) from None
            except (AttributeError, ImportError) as error:
                raise CodecError(
                    f"an item cannot be loaded in a worker: {summary(error)}; put its class into "
                    "a module, or install cloudpickle"
                ) from error
            yield value
        driver.ask()
