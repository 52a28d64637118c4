"""Fixtures for tests that run a whole house."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.events import emptied
from tests.rig.house import House
from tests.rig.zygote import Zygote
from tests.servers.dovecot import Dovecot
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


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture
def build_house(
    zygote: Zygote, database_url: str, tmp_path: Path
) -> Iterator[Callable[..., House]]:
    """`build_house(broker_url, **settings)`: a house on a fresh database, ended with the test."""
    built: list[House] = []

    def build(broker_url: str, **settings: Any) -> House:
        house = House(
            database_url, broker_url, tmp_path, zygote=zygote, settings=settings
        ).__enter__()
        built.append(house)
        return house

    yield build
    for house in built:
        house.__exit__()


@pytest.fixture(scope="session")
def plain_dovecot() -> Iterator[Dovecot]:
    """A server without TLS: it refuses STARTTLS."""
    with Dovecot() as server:
        yield server


@pytest.fixture(scope="session")
def imap_without_uidplus() -> Iterator[Dovecot]:
    """A server that announces nothing but IMAP itself."""
    with Dovecot(capabilities="IMAP4rev1") as server:
        yield server


@pytest.fixture(scope="session")
def logging_dovecot() -> Iterator[Dovecot]:
    """A server that keeps what its clients say."""
    with Dovecot(rawlog=True) as server:
        yield server
