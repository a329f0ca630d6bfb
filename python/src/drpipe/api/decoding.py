"""Decodes messages with the classes that represent the built-in steps' types."""

from __future__ import annotations

from typing import Any

from ..protocol.values import Decoder


def decoder(writable: bool = False, opens_pickles: bool = True) -> Decoder:
    """Returns a decoder that makes a `Frame`, `Picture`, `FitsPath` or `Record` of a value
    with the name of its type.

    Args:
        writable: whether the arrays of a value can be changed. Those of a pickle always can.
        opens_pickles: whether pickles are loaded. Otherwise they are passed on unopened.
    """
    return Decoder(writable, opens_pickles, _from_wire)


def _from_wire(name: Any, value: Any) -> Any:
    # Import it with the first such value: a worker that never gets one starts faster.
    from . import frames

    return frames.from_wire(name, value)
