"""The stable name of the exceptions of steps, as their `__module__` has it."""

from .protocol.failures import CodecError, Permanent, SetupError, Unsendable

__all__ = ["CodecError", "Permanent", "SetupError", "Unsendable"]
