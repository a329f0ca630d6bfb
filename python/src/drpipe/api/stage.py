"""The classes that steps may be derived from.

They define what a step can have. A class with a method `run` works without them. Before the
call of `init`, a step gets these attributes:

- `name`: the step's name;
- `connections`: the names of its next steps, the default one first;
- `log`: a `logging.Logger` whose records join the run's log;
- `send_msg(msg, dest=None)`, also as `send`;
- `set_priority(priority)`.

A class that has a `name`, `log`, `send` or `set_priority` of its own keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Iterator, List, Optional, Sequence

if TYPE_CHECKING:
    import logging

    from .acknowledgement import Acknowledgement

# `Any`, not `object`: subclasses choose what `init` and `run` take and return.


class _Step:
    """The common base of producers, stages and consumers.

    Attributes:
        singleton: whether the step has at most one worker. The former name `single` also
            works.
        stateful: whether the step keeps data from its messages that its `finish` or a later
            `run` emits. Replacing its worker would lose this data, so the run stops if the
            worker dies. Without this attribute, the code of the class decides. The former name
            `gathers` also works.
        writable_arrays: whether the step may change the arrays that it is given. Otherwise
            they are read-only views. A class that is not derived from these base classes may
            change its arrays unless it sets this attribute.
        shares_import: whether the module may be imported once for several workers, which are
            then forked. Otherwise each worker imports the module. Each worker also does so if
            forks would share what belongs to one process: threads, open files, random generators.
        name: the step's name.
        connections: the names of the next steps, the default one first.
        log: the step's logger.
    """

    singleton: ClassVar[bool] = False
    stateful: ClassVar[bool] = False
    writable_arrays: ClassVar[bool] = False
    shares_import: ClassVar[bool] = True

    name: str
    connections: List[str]
    log: logging.Logger

    def validate(self) -> None:
        """Checks the parameters when the configuration is checked.

        Called with the parameters, `name` and `connections` set, but without `init`. Raises an
        exception if something is wrong, such as a parameter that should name a next step but
        does not. It must not do any work.
        """

    def init(self) -> Any:
        """Prepares the step. Called once in each worker, before any message.

        The run ends if it raises an exception or returns False.
        """

    def finish(self) -> Any:
        """Ends the work of one worker. Called once, after the worker's last message.

        It may return, yield or send values, as `run` may. A pool that shrinks finishes workers
        before the end of the run.
        """

    def send_msg(self, msg: Any, dest: Optional[str] = None) -> None:
        """Sends a value to a next step.

        The values that a call sends leave the step when the call succeeds. Threads that `run` or
        `finish` starts may send, too, until it returns.

        Args:
            msg: the value. The caller may change it afterward.
            dest: the name of the next step; the default is the first of `connections`.

        Raises:
            RuntimeError: outside a running pipeline, in `init`, in a process that the step has
                forked, or in a thread after the call that started it has returned.
            Permanent: if there is no such next step, or the value cannot be sent.
        """
        raise RuntimeError("send_msg works in run and finish of a step of a running pipeline")

    def send(self, msg: Any, dest: Optional[str] = None) -> None:
        """Does the same as `send_msg`."""
        self.send_msg(msg, dest)

    def set_priority(self, priority: str) -> None:
        """Sets the priority of what this call emits from here on.

        Before that, it is the priority of the message; for a producer that of its key `priority`.
        A call of a producer that yields ends with what it yields next. At each step, messages of
        high priority go before all of normal priority that wait there.

        Args:
            priority: "high" or "normal".

        Raises:
            ValueError: if it is neither.
            RuntimeError: outside `run` and `finish`.
        """
        raise RuntimeError("set_priority works in run and finish of a step of a running pipeline")


class Signal:
    """The base of what a producer yields or returns instead of a value."""


class Idle(Signal):
    """The type of `drpipe.IDLE`, with which a producer says that it has nothing now."""

    #: The time after which the producer is called again, in seconds.
    wait: ClassVar[float] = 0.1

    def __repr__(self) -> str:
        return "drpipe.IDLE"

    def __reduce__(self) -> str:
        return "IDLE"


#: A producer that has nothing now yields this or returns it from `run`.
IDLE = Idle()


class Barrier(Signal):
    """The type of `drpipe.BARRIER`, with which a producer waits for the end of what it emitted."""

    def __repr__(self) -> str:
        return "drpipe.BARRIER"

    def __reduce__(self) -> str:
        return "BARRIER"


#: A producer that yields this or returns it from `run` is called again when everything that it
#: has emitted so far, with all that descends from it, is done, has failed or was dropped.
BARRIER = Barrier()


class Producer(_Step):
    """The first step of a pipeline.

    Attributes:
        acknowledges: whether `acknowledge` is told what became of each item.

    Example:
        >>> class Numbers(drpipe.Producer):  # doctest: +SKIP
        ...     last: int = 10
        ...
        ...     def run(self):
        ...         yield from range(self.last)
    """

    acknowledges: ClassVar[bool] = False

    def run(self) -> Iterator[Any]:
        """Yields the values that the pipeline works on.

        The generator is advanced as the pipeline has room. It may block; earlier values still move
        on within a few milliseconds. If it yields `drpipe.IDLE`, it is advanced again a tenth of
        a second later, and a run that is asked to end need not wait for it. If it yields
        `drpipe.BARRIER`, it is advanced again when everything that it has emitted so far has
        come to its end: done, failed or dropped.

        A method that is not a generator may send values or return one. It is called once; if it
        returns `drpipe.IDLE` or `drpipe.BARRIER`, it is called again.
        """
        raise NotImplementedError("a producer needs a method run(self)")

    def acknowledge(self, items: Sequence[Acknowledgement]) -> None:
        """Is told what became of items, if the class says `acknowledges = True`.

        Each value that the producer emits is an item, and is told of once, when no message of it
        is queued or in work: all before `finish`, unless the run is stopped at once. It is called
        between two advances of `run`. At most `window` items are under way.

        An exception ends production.
        """


class Stage(_Step):
    """A step in the middle of a pipeline.

    Example:
        >>> class Square(drpipe.Stage):  # doctest: +SKIP
        ...     offset: float = 0.0
        ...
        ...     def run(self, msg):
        ...         return msg * msg + self.offset
    """

    def run(self, msg: Any) -> Any:
        """Works on one message.

        It returns a value, yields several, or sends them. None sends nothing. A tuple whose
        last item is the name of a next step goes there, without the name.

        If it raises, the message has failed, and nothing that was sent for it leaves the step.
        The message is tried again if the step has `retries`, unless the exception is a
        `drpipe.Permanent`. A `drpipe.Deferred` is no failure: the message is put off until other
        work of the run has brought what it needs.
        """
        raise NotImplementedError("a stage needs a method run(self, msg)")


class Consumer(_Step):
    """The last step of a pipeline.

    Example:
        >>> class Total(drpipe.Consumer):  # doctest: +SKIP
        ...     def init(self):
        ...         self.total = 0
        ...
        ...     def run(self, msg):
        ...         self.total += msg
        ...
        ...     def finish(self):
        ...         self.log.info("the sum is %g", self.total)
    """

    def run(self, msg: Any) -> Any:
        """Works on one message. The return value is ignored; exceptions count as for a stage."""
        raise NotImplementedError("a consumer needs a method run(self, msg)")


def is_singleton(step: Any) -> bool:
    """Whether a step or its class declares that it has at most one worker."""
    return any(getattr(step, name, False) is True for name in ("singleton", "single"))


def acknowledges(step: Any) -> bool:
    """Whether a producer or its class wants to be told what became of its items."""
    return getattr(step, "acknowledges", False) is True


def may_change_arrays(step: Any) -> bool:
    """Whether a step may change the arrays that it is given."""
    return bool(getattr(step, "writable_arrays", True))


def shares_import(step: Any) -> bool:
    """Whether a class or its instance lets workers share one import of its module."""
    return getattr(step, "shares_import", True) is not False


#: The base classes. A derived class does not count as having defined their attributes itself.
BASES = (_Step, Producer, Stage, Consumer)
