"""The stable module name of the exceptions of steps, used in their `__module__`."""

from .protocol.failures import CodecError, Permanent, SetupError, Unsendable

__all__ = ["CodecError", "Permanent", "SetupError", "Unsendable"]
