"""The classes that steps may be derived from.

They say what a step can have. A class with a method `run` works without them. Before `init`
is called a step is given:

- `name`: the step's name;
- `connections`: the names of its next steps, the default one first;
- `log`: a `logging.Logger` whose records join the run's log;
- `send_msg(msg, dest=None)`, also as `send`.

A class that has a `name`, `log` or `send` of its own keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Iterator, List, Optional

if TYPE_CHECKING:
    import logging

# `Any`, not `object`: subclasses choose what `init` and `run` take and return.


class _Step:
    """What producers, stages and consumers have in common.

    Attributes:
        singleton: whether the step has one worker at most. Also read by its former name,
            `single`.
        stateful: whether the step keeps something of its messages that its `finish` or a
            later `run` emits. Its worker cannot be replaced without a loss, so the run stops
            if it dies. Without this attribute the code of the class decides. Also read by its
            former name, `gathers`.
        writable_arrays: whether the step may change the arrays that it is given. Otherwise
            they are read-only views. In a class that is not derived from these they can be
            changed, unless the class has this attribute.
        shares_import: whether the module may be imported once for several workers, which are
            then forked. Without it each worker imports the module, as also where forks would
            share what belongs to one process: threads, open files, random generators.
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

        It is called with the parameters, `name` and `connections` set, and without `init`. It
        raises what is wrong, such as a parameter that should name a next step and does not.
        It must not do any work.
        """

    def init(self) -> Any:
        """Prepares the step. It is called once in each worker, before any message.

        The run ends if it raises, or returns False.
        """

    def finish(self) -> Any:
        """Ends the work of one worker. It is called once, after the worker's last message.

        It may return, yield or send values, as `run` may. A pool that shrinks finishes workers
        before the end of the run.
        """

    def send_msg(self, msg: Any, dest: Optional[str] = None) -> None:
        """Sends a value to a next step.

        What a call sends leaves the step when the call has ended well. Threads that `run` or
        `finish` has started may send, too, until it returns.

        Args:
            msg: the value. It may be changed afterwards.
            dest: the name of the next step; without it the default one.

        Raises:
            RuntimeError: outside of a running pipeline, in `init`, in a process that the step
                has forked, and in a thread when the call that has started it has returned.
            Permanent: if there is no such next step, or the value cannot be sent.
        """
        raise RuntimeError("send_msg works in run and finish of a step of a running pipeline")

    def send(self, msg: Any, dest: Optional[str] = None) -> None:
        """The same as `send_msg`."""
        self.send_msg(msg, dest)


class Idle:
    """The type of `drpipe.IDLE`, by which a producer says that it has nothing at the moment."""

    #: The time after which the producer is called again, in seconds.
    wait: ClassVar[float] = 0.1

    def __repr__(self) -> str:
        return "drpipe.IDLE"

    def __reduce__(self) -> str:
        return "IDLE"


#: Yielded, or returned from `run`, by a producer that has nothing at the moment.
IDLE = Idle()


class Producer(_Step):
    """The first step of a pipeline.

    Example:
        >>> class Numbers(drpipe.Producer):  # doctest: +SKIP
        ...     last: int = 10
        ...
        ...     def run(self):
        ...         yield from range(self.last)
    """

    def run(self) -> Iterator[Any]:
        """Yields the values that the pipeline works on.

        The generator is advanced as the pipeline has room. It may block; what it has yielded
        or sent before goes on within a few milliseconds. If it yields `drpipe.IDLE` it is
        advanced again a tenth of a second later, and a run that is asked to end need not wait
        for it.

        A function that is no generator may send values, or return one. It is called once; if
        it returns `drpipe.IDLE` it is called again.
        """
        raise NotImplementedError("a producer needs a method run(self)")


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
        `drpipe.Permanent`.
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
        """Works on one message. What it returns is ignored; what it raises is as for a stage."""
        raise NotImplementedError("a consumer needs a method run(self, msg)")


def is_singleton(step: Any) -> bool:
    """Whether a step, or its class, says that it has one worker at most."""
    return any(getattr(step, name, False) is True for name in ("singleton", "single"))


def may_change_arrays(step: Any) -> bool:
    """Whether a step may change the arrays that it is given."""
    return bool(getattr(step, "writable_arrays", True))


def shares_import(step: Any) -> bool:
    """Whether a class, or its instance, lets workers share one import of its module."""
    return getattr(step, "shares_import", True) is not False


#: Classes whose attributes no class counts as having defined itself.
BASES = (_Step, Producer, Stage, Consumer)
