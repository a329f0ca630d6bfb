"""Converts file names to Unicode strings that preserve every byte, and back."""

from __future__ import annotations

import codecs
import os
import re
from typing import Tuple, Union

#: A backslash before text that looks like the code of a byte.
_LIKE_A_CODE = re.compile(rb"\\(?=x[0-9A-F]{2})")


def _as_codes(error: UnicodeError) -> Tuple[str, int]:
    """Replaces bytes that are not UTF-8 with their codes."""
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    return "".join(f"\\x{byte:02X}" for byte in wrong), error.end


codecs.register_error("drpipe.names", _as_codes)


_CODE = re.compile(rb"\\x([0-9A-F]{2})")


def path_of_name(name: str) -> str:
    """Returns the path that `name_of_path` converted to this string.

    Example:
        >>> path_of_name("raw/a.fits")
        'raw/a.fits'
    """
    raw = _CODE.sub(lambda code: bytes([int(code[1], 16)]), name.encode())
    return os.fsdecode(raw)


def name_of_path(path: Union[str, bytes, os.PathLike[str]]) -> str:
    r"""Returns a string that represents this path and no other.

    A byte that is not UTF-8 becomes a code such as ``\xE9``. A backslash that would look like
    the start of a code becomes ``\x5C``.

    Example:
        >>> print(name_of_path(b"raw/\xe9toile.fits"))
        raw/\xE9toile.fits
    """
    raw = _LIKE_A_CODE.sub(rb"\\x5C", os.fsencode(path))
    return raw.decode("utf-8", "drpipe.names")
