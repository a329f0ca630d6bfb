"""Fixtures."""

import pytest

import runs
from router import Router


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts a router and a worker with a class of this name."""
    routers = []

    def start(cls, module="styles", **options):
        routers.append(Router(tmp_path, module=module, cls=cls, **options))
        return routers[-1]

    yield start
    for router in routers:
        router.__exit__()


@pytest.fixture
def the_program(monkeypatch, tmp_path):
    """Tells the package which program to test, and works in a directory of the test's own."""
    monkeypatch.setenv("DRPIPE", str(runs.program()))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def temporary_files_here(the_program, monkeypatch, tmp_path):
    """Has the package and the program make their temporary files in the test's directory, too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
