"""Fixtures for tests that run a whole house."""

from __future__ import annotations

import pytest

from tests.rig.events import emptied
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """An empty broker, of each kind in turn."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return emptied(server.url.rpartition("/")[0] + "/5")
    rabbit: RabbitServer = request.getfixturevalue("rabbit_server")
    return emptied(rabbit.url)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis database."""
    return emptied(redis_server.url.rpartition("/")[0] + "/6")
