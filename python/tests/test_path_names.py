"""Names of files keep every byte."""

from __future__ import annotations

import os

import pytest

from drpipe.protocol.path_names import name_of_path, path_of_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("raw/a.fits", "raw/a.fits"),
        ("étoile", "étoile"),
        (b"t\xe9", r"t\xE9"),
        (r"t\xE9", r"t\x5CxE9"),
        (r"t\xe9", r"t\xe9"),
        (b"\\\xe9", r"\\xE9"),
    ],
)
def test_no_two_paths_have_one_name(path: str | bytes, name: str) -> None:
    assert name_of_path(path) == name
    assert os.fsencode(path_of_name(name)) == os.fsencode(path)
