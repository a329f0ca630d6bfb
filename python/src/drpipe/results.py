"""The name under which configurations have the step that hands results over. A journal is
of one configuration: under another name no earlier one would be resumed."""

from .driving.results import Deliver

__all__ = ["Deliver"]
