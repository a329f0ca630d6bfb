"""Waits for a file."""

from __future__ import annotations

import select
from typing import Any, Optional


def is_ready(file: Any, timeout: Optional[float], event: int = select.POLLIN) -> bool:
    """Returns whether something can be read from a file, or done with it, within so many seconds.

    Unlike `select.select`, it takes descriptors of any number.
    """
    poll = select.poll()
    poll.register(file, event)
    return bool(poll.poll(None if timeout is None else 1000 * timeout))
