"""What a producer, or a program that feeds a pipeline, is told of its items."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence

from ..protocol import tags, wire
from ..protocol.batches import size_of

#: The words for the ends of items and for the causes of failures.
_OUTCOMES = {
    tags.ITEM_DONE: "done",
    tags.ITEM_FAILED: "failed",
    tags.ITEM_DROPPED: "dropped",
    tags.ITEM_CANCELLED: "cancelled",
}
_CAUSES = {
    tags.CAUSE_FAILED: "failed",
    tags.CAUSE_PANICKED: "panicked",
    tags.CAUSE_LOST: "lost",
    tags.CAUSE_TIMED_OUT: "timed out",
    tags.CAUSE_LATE: "late",
    tags.CAUSE_CANCELLED: "cancelled",
    tags.CAUSE_IN_VAIN: "in vain",
}

Decode = Callable[[Any, Sequence[Any]], Any]


class Acknowledgement:
    """What became of one item: of a value that was emitted, and of all that was made of it.

    Attributes:
        number: the item; the first value has the number 1.
        origin: the item's name, if it has one.
        outcome: "done"; "failed", as soon as one message of it has failed for good; "dropped" if
            messages of it were left when the run ended; or "cancelled".
        step: the step in which it failed, else None.
        cause: how the last attempt went wrong: "failed", "panicked", "lost", "timed out", "late",
            "cancelled", or "in vain" if it was deferred until nothing could help; else None.
        reasons: why it failed, the outermost text first; or why it was dropped.
        attempts: how many attempts there were at the message that has failed.
        entry: its entry in the quarantine, if it is kept there.
    """

    __slots__ = (
        *("attempts", "cause", "entry", "number", "origin", "outcome", "reasons", "step"),
        *("_decode", "_payloads", "_results"),
    )

    def __init__(self, item: wire.Acknowledgement, decode: Decode) -> None:
        """Reads what the router says.

        Args:
            item: what it says.
            decode: returns the value of a payload.
        """
        origin, failure = item.origin, item.failure
        self.number: int = item.number
        self.origin: Optional[str] = None if origin is None else origin.decode("utf-8", "replace")
        self.outcome: str = _OUTCOMES[item.outcome]
        self.step: Optional[str] = None if failure is None else failure.step
        self.cause: Optional[str] = None if failure is None else _CAUSES[failure.cause]
        self.reasons: List[str] = [] if failure is None else list(failure.failure.texts)
        self.attempts: int = 0 if failure is None else failure.attempts
        self.entry: Optional[str] = None if failure is None else failure.entry
        self._payloads, self._decode = item.results, decode
        self._results: Optional[List[Any]] = None

    @property
    def results(self) -> List[Any]:
        """What the steps with `results` have made of the item.

        Raises:
            Exception: if a value cannot be read.
        """
        if self._results is None:
            self._results = [self._decode(*payload) for payload in self._payloads]
        return self._results

    def __repr__(self) -> str:
        more = f" in {self.step}: {self.reasons[0]}" if self.step and self.reasons else ""
        name = f" {self.origin!r}" if self.origin is not None else ""
        return f"<Acknowledgement {self.number}{name} {self.outcome}{more}>"


def size_of_results(items: Sequence[wire.Acknowledgement]) -> int:
    """Returns the number of bytes of all results."""
    return sum(size_of(header, buffers) for item in items for header, buffers in item.results)
