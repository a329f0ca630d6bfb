"""What several tests use."""

import pytest

from router import Router


@pytest.fixture
def start(tmp_path):
    """Starts a worker with the class of this name, and its router."""
    routers = []

    def start(cls, module="styles", **options):
        routers.append(Router(tmp_path, module=module, cls=cls, **options))
        return routers[-1]

    yield start
    for router in routers:
        router.__exit__()
