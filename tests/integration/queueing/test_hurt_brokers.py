"""A broker that is killed, emptied or stopped under everything that uses it at once."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import redis

from posthouse import MailEvent
from posthouse.testing import make_event
from shared.errors import PosthouseError, TryAgain
from shared.queueing.broker import build_broker, enqueue
from shared.queueing.output import NotTaken, QueueLost
from shared.queueing.output.open import open_output
from tests.integration.queueing.conftest import (
    Consumers,
    Server,
    Workers,
    eventually,
    make_queue,
    publish,
    read,
    signed,
)
from tests.rig.queue_depth import queue_depth
from tests.servers.processes import free_port
from tests.servers.rabbitmq import RabbitServer


class Site:
    """A worker of jobs, a handler with its queue, and what they got."""

    def __init__(
        self, server: Server, handler: str, queue: str, workers: Workers, consumers: Consumers
    ) -> None:
        self.server, self.handler, self.queue = server, handler, queue
        self.jobs = build_broker(server.url, queues=[queue])
        self.output = open_output(server.url)
        self.worked: list[str] = []
        self.handled: list[str] = []
        make_queue(self.output, handler)
        workers.start(server.url, queue, self.worked.append)
        consumers.start(server.url, handler, lambda event: self.handled.append(event.id))

    def send(self, event: MailEvent) -> str | PosthouseError:
        publication = signed(self.handler, event.to_json(), event.id)
        return self.output.publish([publication])[0]

    def send_surely(self, event: MailEvent) -> None:
        eventually(lambda: isinstance(self.send(event), str), seconds=60)

    def enqueue_surely(self, name: str) -> None:
        def sent() -> bool:
            try:
                enqueue(self.jobs, self.queue, "work", [name])
            except TryAgain:
                return False
            return True

        eventually(sent, seconds=60)

    def works(self, name: str) -> None:
        """A job is worked off and an event is handled."""
        event = make_event()
        self.enqueue_surely(name)
        self.send_surely(event)
        eventually(lambda: name in self.worked, seconds=60)
        eventually(lambda: event.id in self.handled, seconds=90)


@contextmanager
def taking_nothing(server: Server, reason: str) -> Iterator[None]:
    """It answers, and takes nothing."""
    if isinstance(server, RabbitServer):
        server.control("set_vm_memory_high_watermark", "0")
        try:
            yield
        finally:
            server.control("set_vm_memory_high_watermark", "0.4")
        return
    with redis.Redis.from_url(server.url) as client:
        match reason:
            case "is out of memory":
                client.config_set("maxmemory", "1")
            case "cannot write its data to its disk":
                (server.folder / "dump.rdb").mkdir()  # where its snapshot was to be
                client.config_set("save", "3600 1")
                client.bgsave()
            case "read only replica":
                client.replicaof("127.0.0.1", str(free_port()))
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")
            client.config_set("save", "")
            client.config_set("maxmemory", "0")
            if (server.folder / "dump.rdb").is_dir():
                (server.folder / "dump.rdb").rmdir()


@pytest.fixture
def narrow_url(fragile: Server) -> str:
    """Of an account with fewer rights than any service needs."""
    login = f"u-{uuid.uuid4().hex[:12]}", "secret"
    if isinstance(fragile, RabbitServer):
        fragile.control("add_user", *login)
        fragile.control("set_permissions", login[0], "^$", "^$", "^$")
        return fragile.url.replace("guest:guest", ":".join(login))
    with redis.Redis.from_url(fragile.url) as client:
        keys = "~posthouse:handler:*", "~dramatiq:__heartbeats__"
        client.acl_setuser(login[0], True, passwords=f"+{login[1]}", commands=["+xadd", "+zadd"])
        client.execute_command("ACL SETUSER", login[0], *keys)
    return fragile.url.replace("redis://", f"redis://{':'.join(login)}@")


@pytest.fixture
def site(
    fragile: Server, handler: str, queue: str, workers: Workers, consumers: Consumers
) -> Iterator[Site]:
    made = Site(fragile, handler, queue, workers, consumers)
    made.works("before")
    yield made
    made.output.close()
    made.jobs.close()


@pytest.mark.promise("I2")
def test_killed_and_started_again(site: Site, handler: str) -> None:
    other = f"{handler}-2"
    make_queue(site.output, other)
    ids = publish(site.output, other, 20)
    time.sleep(1.1)  # Redis writes its file out every second
    site.server.kill()
    site.server.start()
    eventually(lambda: site.output.inspect(site.handler) is not None)
    if site.output.inspect(other).exists:
        assert {json.loads(body)["id"] for body in read(site.server.url, other)} == set(ids)
    else:  # RabbitMQ can lose a quorum queue that was just created: seen, and made anew
        assert isinstance(site.server, RabbitServer)
    make_queue(site.output, other, "g2")
    make_queue(site.output, site.handler, "g2")
    publish(site.output, other, 1)
    site.works("after")


@pytest.mark.promise("I2")
def test_emptied_at_once(site: Site) -> None:
    site.server.wipe()
    results: list[str | PosthouseError] = []

    def answered() -> bool:
        results[:] = [site.send(make_event())]
        return not isinstance(results[0], NotTaken)

    eventually(answered)
    assert isinstance(results[0], QueueLost), "a flushed queue came back by itself"
    assert not site.output.inspect(site.handler).exists
    make_queue(site.output, site.handler, "g2")
    site.works("after")


@pytest.mark.promise("I2")
def test_stopped_for_a_while(site: Site, handler: str, queue: str) -> None:
    other, waiting = f"{handler}-2", f"{queue}-2"
    make_queue(site.output, other)
    ids = publish(site.output, other, 5)
    enqueue(site.jobs, waiting, "work", ["1"])
    site.server.stop()
    assert isinstance(site.send(make_event()), NotTaken)
    for attempt in (
        lambda: site.output.inspect(other),
        site.output.check,
        lambda: enqueue(site.jobs, waiting, "work", ["2"]),
    ):
        with pytest.raises(TryAgain) as raised:
            attempt()
        assert str(site.server.port) in str(raised.value)
        assert "guest" not in str(raised.value)
    site.server.start()
    eventually(lambda: site.output.inspect(other).exists)
    assert [json.loads(body)["id"] for body in read(site.server.url, other)] == ids
    enqueue(site.jobs, waiting, "work", ["3"])
    assert queue_depth(site.server.url, waiting) == 2
    site.works("after")


@pytest.mark.promise("I2")
@pytest.mark.parametrize(
    ("fragile", "reason"),
    [
        ("redis", "is out of memory"),
        ("redis", "cannot write its data to its disk"),
        ("redis", "read only replica"),
        ("rabbitmq", "is out of memory or disk space"),
    ],
    indirect=["fragile"],
)
def test_checks_fail_while_nothing_is_taken(
    fragile: Server, reason: str, narrow_url: str, queue: str
) -> None:
    """For an administrator: the checks `broker` and `output`, as with one that is away."""
    urls = fragile.url, narrow_url
    jobs = [build_broker(url, queues=[queue]) for url in urls]
    outputs = [open_output(url) for url in urls]
    checks = [*(one.check for one in jobs), *(one.check_publishing for one in outputs)]

    def told() -> list[PosthouseError | None]:
        with ThreadPoolExecutor(len(checks)) as pool:
            return list(pool.map(failure_of, checks))

    had = keys_of(fragile)
    assert not any(told())
    assert keys_of(fragile) == had
    with taking_nothing(fragile, reason):
        eventually(lambda: all(isinstance(one, TryAgain) and reason in str(one) for one in told()))
        # Who only reads goes on, and makes room.
        if reason.startswith("is out of memory"):
            outputs[0].check()
    eventually(lambda: not any(told()))
    for one in (*jobs, *outputs):
        one.close()


def failure_of(check: Callable[[], None]) -> PosthouseError | None:
    try:
        check()
    except PosthouseError as error:
        return error
    return None


def keys_of(server: Server) -> set[bytes]:
    if isinstance(server, RabbitServer):
        return set()
    with redis.Redis.from_url(server.url) as client:
        return set(client.keys())
