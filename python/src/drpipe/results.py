"""The stable name of the step that hands results over, as `RESULTS_MODULE` has it."""

from .driving.results import Deliver

__all__ = ["Deliver"]
