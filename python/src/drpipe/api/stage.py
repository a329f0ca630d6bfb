"""The classes that steps may be derived from.

They only say what a step can have: a class with a `run` of its own works
without them. What is set before `init` is called:

- `name`: the step's name;
- `connections`: the names of its next steps, the default one first;
- `log`: a logger whose records join the run's log;
- `send_msg(msg, step=None)`, also as `send`.

`name`, `log` and `send` are left alone where a class has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Iterator, List, Optional

if TYPE_CHECKING:
    import logging

# Not `object` in an annotation's place: `init` and `run` of subclasses are free
# in what they take and return.


class _Step:
    """What the three kinds have in common."""

    #: At most one worker may run it.
    single: ClassVar[bool] = False
    #: What it emits depends on more than one input: it keeps a state between
    #: messages that its `finish` or a later `run` sends.
    gathers: ClassVar[bool] = False
    #: Whether it may change the arrays that it is given; otherwise they are read-only
    #: views. In a class that is not derived from these they can be changed, unless it has
    #: this attribute and says otherwise.
    writable_arrays: ClassVar[bool] = False

    name: str
    connections: List[str]
    log: logging.Logger

    def validate(self) -> None:
        """Called when the configuration is checked, with the parameters, `name` and
        `connections` set, and without `init`: raises what is wrong with them, such as a
        parameter that should name a next step and does not. Must not do any work.
        """

    def init(self) -> Any:
        """Called once before any message. Returning False, or raising, ends the run."""

    def finish(self) -> Any:
        """Called once, after the last message of its worker; may return, yield or send values."""

    def send_msg(self, msg: Any, dest: Optional[str] = None) -> None:
        """Sends a value to the next step of this name, or to the default one.

        Threads that a call starts may send, too, as long as that call lasts.

        Raises:
            RuntimeError: outside of a pipeline, in `init`, and from a thread when the call
                that has started it has returned.
        """
        raise RuntimeError("send_msg works in run and finish of a step of a running pipeline")

    def send(self, msg: Any, dest: Optional[str] = None) -> None:
        """The same as `send_msg`."""
        self.send_msg(msg, dest)


class Idle:
    """What a producer says when it has nothing at the moment: it is asked again after a
    tenth of a second. Use `drpipe.IDLE`."""

    #: When it is asked again, in seconds.
    wait: ClassVar[float] = 0.1

    def __repr__(self) -> str:
        return "drpipe.IDLE"

    def __reduce__(self) -> str:
        return "IDLE"


#: What a producer yields, or returns from `run`, when it has nothing at the moment.
IDLE = Idle()


class Producer(_Step):
    """The beginning of a pipeline."""

    def run(self) -> Iterator[Any]:
        """Yields what the pipeline is to work on, one value after the other.

        It is advanced as the pipeline has room. What it has yielded or sent goes on within
        a few milliseconds, also while it waits for more. One that yields `drpipe.IDLE` has
        nothing at the moment, and is advanced again a tenth of a second later: a run that is
        asked to end need not wait for it then. A plain function may send values, or return
        one; if it returns `drpipe.IDLE` it is called again.
        """
        raise NotImplementedError("a producer needs a method run(self)")


class Stage(_Step):
    """A step in between."""

    def run(self, msg: Any) -> Any:
        """Works on one message. Returns, yields or sends values; None sends nothing.

        A tuple whose last item is the name of a next step goes there, without
        the name. An exception makes the message a failed one, and nothing that
        was sent for it leaves the step; raise `drpipe.Permanent` if another
        attempt would fail too.
        """
        raise NotImplementedError("a stage needs a method run(self, msg)")


class Consumer(_Step):
    """The end of a pipeline."""

    def run(self, msg: Any) -> Any:
        """Takes one message; what it returns is ignored."""
        raise NotImplementedError("a consumer needs a method run(self, msg)")


def may_change_arrays(step: Any) -> bool:
    """Whether the arrays that a step is given can be changed."""
    return bool(getattr(step, "writable_arrays", True))


#: What a class is not taken to have defined itself.
BASES = (_Step, Producer, Stage, Consumer)
