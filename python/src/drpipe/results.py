"""The stable module name of the step that delivers results, as `RESULTS_MODULE` gives it."""

from .driving.results import Deliver

__all__ = ["Deliver"]
