"""Names of files as texts that keep every byte."""

from __future__ import annotations

import codecs
import os
import re
from typing import Tuple, Union

#: A text that looks like the code of a byte.
_LIKE_A_CODE = re.compile(rb"\\(?=x[0-9A-F]{2})")


def _as_codes(error: UnicodeError) -> Tuple[str, int]:
    """Bytes that are not UTF-8 as their codes."""
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    return "".join(f"\\x{byte:02X}" for byte in wrong), error.end


codecs.register_error("drpipe.names", _as_codes)


_CODE = re.compile(rb"\\x([0-9A-F]{2})")


def path_of_name(name: str) -> str:
    """The path of which `name_of_path` has made this text.

    Example:
        >>> path_of_name("raw/a.fits")
        'raw/a.fits'
    """
    raw = _CODE.sub(lambda code: bytes([int(code[1], 16)]), name.encode())
    return os.fsdecode(raw)


def name_of_path(path: Union[str, bytes, os.PathLike[str]]) -> str:
    r"""The path as a text that names no other path: bytes that are not UTF-8 are
    written as ``\xE9``, and a backslash that would look like one as ``\x5C``.

    Example:
        >>> print(name_of_path(b"raw/\xe9toile.fits"))
        raw/\xE9toile.fits
    """
    raw = _LIKE_A_CODE.sub(rb"\\x5C", os.fsencode(path))
    return raw.decode("utf-8", "drpipe.names")
