"""Names that a run's workers share with the driver, the Python process that drives the run."""

from __future__ import annotations

import re
from typing import Optional, Tuple

#: The environment variable that names the driver's private directory.
DIRECTORY_VARIABLE = "DRPIPE_DRIVER"
#: The module of the step that delivers results to the driver. The journal hashes the name:
#: changing it would make earlier runs impossible to resume.
RESULTS_MODULE = "drpipe.results"

#: The origin that `drpipe.run` gives a value: its number, and its name if it has one.
_NUMBERED = re.compile(r"\[(\d+)\](?: (.*))?", re.DOTALL)


def origin_of(number: int, name: Optional[str]) -> str:
    """Returns the origin of the producer's value with this number.

    >>> origin_of(3, "raw/a.fits"), origin_of(4, None)
    ('[3] raw/a.fits', '[4]')
    """
    return f"[{number}]" if name is None else f"[{number}] {name}"


def split_origin(origin: Optional[str]) -> Tuple[Optional[int], Optional[str]]:
    """Returns the number and the name that `origin_of` put into an origin.

    The number is None for an origin that `origin_of` did not make.

    >>> split_origin("[3] raw/a.fits"), split_origin("[4]"), split_origin("raw/[5].fits")
    ((3, 'raw/a.fits'), (4, '[4]'), (None, 'raw/[5].fits'))
    """
    found = _NUMBERED.fullmatch(origin or "")
    if found is None:
        return None, origin
    return int(found[1]), found[2] if found[2] is not None else origin
