"""Collects a step's outputs for a report: short messages travel in packed batches."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Sized, Union

from .segments import Buffer
from .tags import PRIORITY_HIGH, PRIORITY_NORMAL

#: The longest header that is packed, in bytes. Copying a longer one costs more than a frame.
PACK_UP_TO = 20_000
#: The size at which a batch is full, in bytes.
_BATCH_FULL = 256 << 10
#: The length prefixes of the shortest headers.
_PREFIXES = [length.to_bytes(2, "little") for length in range(512)]


#: The priorities by their names.
_PRIORITIES = {"normal": PRIORITY_NORMAL, "high": PRIORITY_HIGH}


def priority_of(name: str) -> int:
    """Returns the tag of a priority.

    Raises:
        ValueError: if there is none of this name.
    """
    if name not in _PRIORITIES:
        raise ValueError(f'found the priority {name!r}; expected "high" or "normal"')
    return _PRIORITIES[name]


def size_of(header: Sized, buffers: Sequence[Sized]) -> int:
    """Returns the number of bytes of a payload."""
    return len(header) + sum(map(len, buffers))


class SingleOutput(NamedTuple):
    """A single message for the next step with the index `route`.

    `item` is the number of the item that it descends from, or 0; `priority` is one of the tags
    `PRIORITY_...`.
    """

    route: int
    origin: Optional[bytes]
    header: bytes
    buffers: Sequence[Buffer]
    item: int = 0
    priority: int = PRIORITY_NORMAL


class PackedBatch:
    """Short, consecutive messages of one priority for the next step with the index `route`."""

    __slots__ = ("count", "parts", "priority", "route", "size")

    def __init__(self, route: int, priority: int, prefix: bytes, header: bytes) -> None:
        self.route = route
        self.priority = priority
        self.count = 1
        self.parts: List[bytes] = [prefix, header]
        self.size = 2 + len(header)


Output = Union[SingleOutput, PackedBatch]


class OutputBuffer:
    """A buffer of outputs for all next steps, in the order in which the step emitted them."""

    def __init__(self) -> None:
        self._outputs: List[Output] = []
        #: The latest output, if it is a batch that can take more messages.
        self._open: Optional[PackedBatch] = None
        #: The number of messages and their size in bytes.
        self.count = 0
        self.bytes = 0

    def push(
        self,
        route: int,
        origin: Optional[bytes],
        header: bytes,
        buffers: Sequence[Buffer],
        item: int = 0,
        *,
        priority: int = PRIORITY_NORMAL,
    ) -> None:
        """Adds one message."""
        length = len(header)
        self.count += 1
        self.bytes += length
        if origin is not None or item or buffers or length > PACK_UP_TO:
            for buffer in buffers:
                self.bytes += len(buffer)
            self._outputs.append(SingleOutput(route, origin, header, buffers, item, priority))
            self._open = None
            return
        prefix = _PREFIXES[length] if length < 512 else length.to_bytes(2, "little")
        batch = self._open
        if (
            batch is not None
            and batch.route == route
            and batch.priority == priority
            and batch.size < _BATCH_FULL
        ):
            parts = batch.parts
            parts.append(prefix)
            parts.append(header)
            batch.count += 1
            batch.size += 2 + length
        else:
            self._open = batch = PackedBatch(route, priority, prefix, header)
            self._outputs.append(batch)

    def take(self) -> List[Output]:
        """Removes and returns all outputs."""
        outputs, self._outputs = self._outputs, []
        self._open = None
        self.count = self.bytes = 0
        return outputs
