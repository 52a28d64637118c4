"""One suite, two brokers. Servers that a test hurts are this directory's own."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shared.errors import TryAgain
from shared.queueing.broker import build_broker
from shared.queueing.output import Output, open_output
from shared.queueing.worker import run_worker
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

Server = RedisServer | RabbitServer


@pytest.fixture(scope="session")
def fragile_servers() -> Iterator[dict[str, Server]]:
    """Servers to be killed and wiped, each started when first asked for."""
    with ExitStack() as stack:
        started: dict[str, Server] = {}

        class Servers(dict[str, Server]):
            def __missing__(self, kind: str) -> Server:
                server = RedisServer() if kind == "redis" else RabbitServer()
                self[kind] = stack.enter_context(server)
                return self[kind]

        yield Servers(started)


@pytest.fixture(scope="session")
def managed_rabbit() -> Iterator[RabbitServer]:
    """With the management plugin; it may be paused."""
    with RabbitServer(plugins=["rabbitmq_management"]) as server:
        yield server


@pytest.fixture(params=["redis", "rabbitmq"])
def server(request: pytest.FixtureRequest) -> Server:
    """A broker that stays up."""
    return request.getfixturevalue("redis_server" if request.param == "redis" else "rabbit_server")


@pytest.fixture(params=["redis", "rabbitmq"])
def fragile(request: pytest.FixtureRequest, fragile_servers: dict[str, Server]) -> Server:
    """A broker that the test may stop, kill and wipe; it runs again afterwards."""
    found = fragile_servers[request.param]
    if not found.process.running:
        found.start()
    return found


@pytest.fixture
def handler() -> str:
    """A handler's name that no other test uses."""
    return f"h-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def output(server: Server) -> Iterator[Output]:
    opened = open_output(server.url)
    yield opened
    opened.close()


def eventually(true: Callable[[], object], *, seconds: float = 30) -> None:
    """Waits until something is so; fails where it does not get so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def make_queue(output: Output, handler: str, generation: str = "g") -> None:
    """As the scheduler does: tries again where the broker does not manage in time."""

    def made() -> bool:
        try:
            output.ensure(handler, generation)
        except TryAgain:
            return False
        return output.inspect(handler).exists

    eventually(made, seconds=60)


class Workers:
    """Workers of one test, stopped at its end."""

    def __init__(self) -> None:
        self._running: list[tuple[threading.Thread, threading.Event, Any]] = []

    def start(
        self, url: str, queue: str, work: Callable[..., None], *, threads: int = 2
    ) -> Callable[[], bool]:
        """Returns what stops it; that answers whether it stopped cleanly."""
        stop, clean = threading.Event(), []
        broker = build_broker(url)

        def run() -> None:
            clean.append(
                run_worker(
                    broker, {"work": work}, queue=queue, threads=threads, stop=stop,
                    shutdown_timeout_s=10,
                )
            )  # fmt: skip

        thread = threading.Thread(target=run)
        thread.start()
        self._running.append((thread, stop, broker))

        def finish() -> bool:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
            return clean[0]

        return finish

    def close(self) -> None:
        for _, stop, _ in self._running:
            stop.set()
        for thread, _, broker in self._running:
            thread.join(30)
            broker.close()


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()
