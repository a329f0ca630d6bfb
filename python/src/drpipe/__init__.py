"""Steps of a drpipe pipeline, written in Python."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .failures import Permanent
    from .frames import FitsPath, Frame, Picture, Record
    from .stage import Consumer, Producer, Stage

__version__ = "0.1.0"

__all__ = [
    "Consumer",
    "FitsPath",
    "Frame",
    "Permanent",
    "Picture",
    "Producer",
    "Record",
    "Stage",
]

# Imported when they are asked for: a worker starts with what it needs.
_HOMES = {
    "Consumer": "stage",
    "FitsPath": "frames",
    "Frame": "frames",
    "Permanent": "failures",
    "Picture": "frames",
    "Producer": "stage",
    "Record": "frames",
    "Stage": "stage",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
