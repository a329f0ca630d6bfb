"""What the system says about pages, and what it saves."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest

from drpipe.protocol import arrays, pagemap, segments
from drpipe.protocol.segments import SHARED_FROM

PAGES = SHARED_FROM // mmap.PAGESIZE


@pytest.fixture
def array():
    """An array on a private mapping of a segment, as a step gets it."""
    made = segments.make(bytes(range(256)) * (SHARED_FROM // 256))
    mapping = made.map(True)
    value = np.frombuffer(mapping, np.uint8)
    arrays.remember([mapping])
    return value


def has_own_pages(array):
    return pagemap.has_own_pages(arrays._address(array), array.nbytes)


def test_a_page_is_a_process_own_once_it_was_written_to(array):
    assert not has_own_pages(array)
    assert array.sum() and not has_own_pages(array), "reading copies nothing"
    for page in (PAGES - 1, 0):
        part = array[page * mmap.PAGESIZE :]
        assert not has_own_pages(part[: mmap.PAGESIZE])
        part[5] = 7
        assert has_own_pages(part[: mmap.PAGESIZE]) and has_own_pages(array)


def test_an_array_without_own_pages_is_passed_on_without_being_read(array, monkeypatch):
    monkeypatch.setattr(np, "array_equal", None)
    array.sum()
    assert arrays.known(array) is not None


def test_what_was_written_is_compared(array):
    array[9] = array[9]
    assert has_own_pages(array)
    assert arrays.known(array) is not None, "it is as it was"
    array[-1] ^= 1
    assert arrays.known(array) is None


def test_without_an_answer_of_the_system_everything_is_compared(array, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "pread", lambda fd, count, at: b"")
    assert has_own_pages(array) and arrays.known(array) is not None
    array[-1] ^= 1
    assert arrays.known(array) is None
    monkeypatch.setattr(os, "open", refuse)
    assert has_own_pages(array) and arrays.known(array) is None
