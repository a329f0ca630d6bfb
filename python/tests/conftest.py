"""Fixtures."""

import pytest

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
