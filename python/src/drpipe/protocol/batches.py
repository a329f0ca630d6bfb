"""What a step has emitted, on its way: short messages travel in packs."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

from .segments import Buffer

#: Headers above this size, in bytes, are not packed.
PACK_UP_TO = 20_000
#: A pack of this size, in bytes, takes no further message.
_PACK_FULL = 256 << 10
#: The prefixes of the shortest messages.
_PREFIXES = [length.to_bytes(2, "little") for length in range(512)]


class One(NamedTuple):
    """One message for the next step with this index."""

    route: int
    origin: Optional[bytes]
    header: bytes
    buffers: Sequence[Buffer]


class Many:
    """A pack of messages for the next step with this index."""

    __slots__ = ("count", "parts", "route", "size")

    def __init__(self, route: int, prefix: bytes, header: bytes) -> None:
        self.route = route
        self.count = 1
        self.parts: List[bytes] = [prefix, header]
        self.size = 2 + len(header)


class Gathered:
    """Everything is in the order in which it was emitted: a pack has only what was
    emitted one after the other for the same next step."""

    def __init__(self) -> None:
        self._outputs: List[One | Many] = []
        #: The pack that takes more, if the latest output is one.
        self._open: Optional[Many] = None
        #: How many messages have gathered, and their size in bytes.
        self.count = 0
        self.bytes = 0

    def push(
        self, route: int, origin: Optional[bytes], header: bytes, buffers: Sequence[Buffer]
    ) -> None:
        """Adds one message."""
        length = len(header)
        self.count += 1
        self.bytes += length
        if origin is not None or buffers or length > PACK_UP_TO:
            for buffer in buffers:
                self.bytes += len(buffer)
            self._outputs.append(One(route, origin, header, buffers))
            self._open = None
            return
        prefix = _PREFIXES[length] if length < 512 else length.to_bytes(2, "little")
        pack = self._open
        if pack is not None and pack.route == route and pack.size < _PACK_FULL:
            parts = pack.parts
            parts.append(prefix)
            parts.append(header)
            pack.count += 1
            pack.size += 2 + length
        else:
            self._open = pack = Many(route, prefix, header)
            self._outputs.append(pack)

    def take(self) -> List[One | Many]:
        """What has gathered; nothing is left."""
        outputs, self._outputs = self._outputs, []
        self._open = None
        self.count = self.bytes = 0
        return outputs
