"""Fixtures for tests that run a whole stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.connection_editing import edit
from shared.storage import connections
from shared.storage.folder_ref import FolderRef
from shared.storage.pool import Database
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.forkserver import Forkserver
from tests.rig.queue_events import emptied
from tests.rig.stack import Stack
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
def database(database_url: str) -> Iterator[Database]:
    """The database of the test, open."""
    with Database(database_url, size=8) as opened:
        yield opened


@pytest.fixture
def folder_ref(database: Database) -> FolderRef:
    """The inbox of an IMAP connection that was not polled yet."""
    fields = {"name": "c", "mode": "imap", "host": "h", "username": "u", "password": "p"}
    with database.transaction() as session:
        connection = connections.insert(session, edit(None, fields).connection)
    return FolderRef(connection, "", 100)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis database."""
    return emptied(redis_server.url.rpartition("/")[0] + "/6")


@pytest.fixture(scope="session")
def forkserver() -> Iterator[Forkserver]:
    process = Forkserver(hasty=True)
    yield process
    process.close()


@pytest.fixture
def build_stack(
    forkserver: Forkserver, database_url: str, tmp_path: Path
) -> Iterator[Callable[..., Stack]]:
    """`build_stack(broker_url, **settings)`: a stack on a fresh database, ended with the test."""
    built: list[Stack] = []

    def build(broker_url: str, **settings: Any) -> Stack:
        stack = Stack(
            database_url, broker_url, tmp_path, forkserver=forkserver, settings=settings
        ).__enter__()
        built.append(stack)
        return stack

    yield build
    for stack in built:
        stack.__exit__()


@pytest.fixture
def here(redis_url: str, build_stack: Callable[..., Stack]) -> Iterator[FetcherHere]:
    """A fetcher at work in this process, and a handler that takes all mails."""
    stack = build_stack(redis_url)
    stack.add_handler()
    with FetcherHere(stack).working() as fetcher:
        yield fetcher


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
