"""The stable module name of the exceptions of steps, used in their `__module__`."""

from .protocol.failures import CodecError, Deferred, Permanent, SetupError, Unsendable

__all__ = ["CodecError", "Deferred", "Permanent", "SetupError", "Unsendable"]
