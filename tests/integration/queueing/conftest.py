"""One suite, two brokers. Servers that a test hurts are this directory's own."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pika
import pytest
import redis

from posthouse import Consumer, MailEvent
from posthouse.signing import sign
from shared.errors import TryAgain
from shared.queueing.broker import build_broker
from shared.queueing.output import Output, Publication
from shared.queueing.output.open import open_output
from shared.queueing.worker import run_worker
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

Server = RedisServer | RabbitServer
SIGNING_KEY = "posthouse_signing_of_these_tests"


@pytest.fixture(scope="session")
def fragile_servers() -> Iterator[dict[str, Server]]:
    """Servers to be killed and wiped, each started when first asked for."""
    with ExitStack() as stack:
        started: dict[str, Server] = {}

        class Servers(dict[str, Server]):
            def __missing__(self, kind: str) -> Server:
                if kind == "redis":
                    self[kind] = stack.enter_context(RedisServer())
                else:
                    self[kind] = stack.enter_context(RabbitServer())
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
    found: Server = request.getfixturevalue(
        "redis_server" if request.param == "redis" else "rabbit_server"
    )
    return found


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


def set_defaults(patch: pytest.MonkeyPatch, function: Callable[..., Any], **values: Any) -> None:
    """Other defaults for keywords of a function, as for how long it waits."""
    known = function.__kwdefaults__ or {}
    assert known.keys() >= values.keys()
    patch.setattr(function, "__kwdefaults__", {**known, **values})


def make_queue(output: Output, handler: str, generation: str = "g") -> None:
    """As the scheduler does: tries again where the broker does not manage in time."""

    def made() -> bool:
        try:
            output.ensure(handler, generation)
        except TryAgain:
            return False
        return output.inspect(handler).exists

    eventually(made, seconds=60)


def signed(handler: str, body: bytes, identifier: str, key: str = SIGNING_KEY) -> Publication:
    """An event as the decryptor publishes it."""
    return Publication(handler, body, identifier, sign(handler, body, [key]))


def event(text: str = "", **more: Any) -> tuple[str, bytes]:
    identifier = str(uuid.uuid4())
    return identifier, json.dumps({"id": identifier, "text": text, **more}).encode()


def publish(output: Output, handler: str, count: int = 1, text: str = "") -> list[str]:
    """Publishes events that must be confirmed; their ids."""
    made = [event(text) for _ in range(count)]
    results = output.publish([Publication(handler, body, i) for i, body in made])
    assert all(isinstance(result, str) for result in results), results[:3]
    return [i for i, _ in made]


@dataclass(frozen=True)
class Taking:
    """`taking()` gives what is there; `acknowledge()` all that was given."""

    take: Callable[[], list[bytes]]
    acknowledge: Callable[[], object]

    def __call__(self) -> list[bytes]:
        return self.take()


@contextmanager
def consuming(url: str, handler: str) -> Iterator[Taking]:
    """A consumer as a program without the SDK would write it; `take()` gives what is there."""
    if url.startswith("redis"):
        client: Any = redis.Redis.from_url(url, protocol=2)
        key = f"posthouse:handler:{handler}"
        held: list[bytes] = []

        def take() -> list[bytes]:
            answer = client.xreadgroup("posthouse", "c", {key: ">"}, count=10_000)
            entries = answer[0][1] if answer else []
            held.extend(position for position, _ in entries)
            return [fields[b"event"] for _, fields in entries]

        yield Taking(take, lambda: [client.xack(key, "posthouse", p) for p in held])
        client.close()
        return
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        tags: list[int] = []

        def take_from_channel() -> list[bytes]:
            found: list[bytes] = []
            while True:
                method, _, body = channel.basic_get(f"posthouse.handler.{handler}")
                if method is None:
                    return found
                tags.append(method.delivery_tag)
                found.append(body)

        yield Taking(take_from_channel, lambda: [channel.basic_ack(tag) for tag in tags])


def read(url: str, handler: str) -> list[bytes]:
    """Takes and acknowledges all that waits."""
    with consuming(url, handler) as take:
        found = take()
        take.acknowledge()
    return found


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


class Consumers:
    """Consumers of one test, each in a thread, stopped at its end."""

    def __init__(self) -> None:
        self._running: list[tuple[Consumer, threading.Thread]] = []

    def start(
        self, url: str, handler: str, callback: Callable[[MailEvent], Any], **options: Any
    ) -> Callable[[], None]:
        """Returns what stops it and waits for its end."""
        defaults = {"stale_after_s": 2.0, "retry_delay_s": 0.2, "signing_key": SIGNING_KEY}
        consumer = Consumer(url, handler, **{**defaults, **options})
        thread = threading.Thread(target=consumer.run, args=(callback,))
        thread.start()
        self._running.append((consumer, thread))

        def finish() -> None:
            consumer.stop()
            thread.join(40)
            assert not thread.is_alive()

        return finish

    def close(self) -> None:
        for consumer, _ in self._running:
            consumer.stop()
        for _, thread in self._running:
            thread.join(40)


@pytest.fixture
def consumers() -> Iterator[Consumers]:
    made = Consumers()
    yield made
    made.close()
