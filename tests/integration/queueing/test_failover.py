"""A broker that fails over, or takes a consumer's channel away, with nobody's connection closed.

For an administrator: a broker that does not heal is failing on the overview (row Broker), in the
alert `service-failing` and in `posthouse_service_failing{check="broker"}`, as test_own_health.py
asserts. A callback over the acknowledgement timeout is a warning in the handler's own log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
import redis

from posthouse import MailEvent, rabbitmq_source
from posthouse.testing import make_event
from shared.errors import TryAgain
from shared.queueing.broker import build_broker, enqueue
from shared.queueing.output.open import open_output
from tests.integration.queueing.conftest import Consumers, Workers, eventually, make_queue, signed
from tests.rig.proxy import Proxy
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.promise("I2")

#: Everything goes on within so many seconds of a failover.
HEALED_S = 30.0


class Pair:
    """Two servers behind one address: a master and its replica."""

    def __init__(self, first: RedisServer, second: RedisServer) -> None:
        self.first, self.second = first, second
        self._follow(second, first)
        eventually(lambda: self._info(second)["master_link_status"] == "up")
        self.proxy = Proxy(first.port, seed=1)
        self.url = f"redis://127.0.0.1:{self.proxy.port}/0"

    def fail_over(self) -> None:
        """The replica becomes master, the old master its read-only replica; nothing is cut."""
        with (
            redis.Redis.from_url(self.first.url) as old,
            redis.Redis.from_url(self.second.url) as new,
        ):
            eventually(
                lambda: (
                    self._info(self.second)["slave_repl_offset"] >= old.info()["master_repl_offset"]
                )
            )
            new.replicaof("NO", "ONE")
            self.proxy.target = self.second.port
            self._follow(self.first, self.second)

    def _follow(self, follower: RedisServer, master: RedisServer) -> None:
        with redis.Redis.from_url(follower.url) as client:
            client.replicaof("127.0.0.1", str(master.port))

    def _info(self, server: RedisServer) -> dict[str, object]:
        with redis.Redis.from_url(server.url) as client:
            return dict(client.info("replication"))


@pytest.fixture
def pair() -> Iterator[Pair]:
    with RedisServer() as first, RedisServer() as second:
        made = Pair(first, second)
        yield made
        made.proxy.close()


def test_redis_fails_over_behind_one_address(
    pair: Pair, handler: str, queue: str, workers: Workers, consumers: Consumers
) -> None:
    jobs, output = build_broker(pair.url, queues=[queue]), open_output(pair.url)
    worked: list[str] = []
    handled: list[str] = []
    make_queue(output, handler)
    workers.start(pair.url, queue, worked.append)
    consumers.start(pair.url, handler, lambda event: handled.append(event.id))

    def published(event: MailEvent) -> bool:
        return isinstance(output.publish([signed(handler, event.to_json(), event.id)])[0], str)

    def enqueued(name: str) -> bool:
        try:
            enqueue(jobs, queue, "work", [name])
        except TryAgain:
            return False
        return True

    before, after = make_event(), make_event()
    eventually(lambda: published(before) and enqueued("before"))
    eventually(lambda: worked == ["before"] and handled == [before.id])
    pair.fail_over()
    at = time.monotonic()

    def healed(step: Callable[[], bool]) -> None:
        """All steps together have so long."""
        eventually(step, seconds=HEALED_S - (time.monotonic() - at))

    healed(lambda: published(after))
    healed(lambda: enqueued("after"))
    healed(lambda: "after" in worked and after.id in handled)
    assert handled == [before.id, after.id]
    jobs.close()
    output.close()


@pytest.fixture(scope="module")
def impatient_rabbit() -> Iterator[RabbitServer]:
    """Takes back after a few seconds what is not acknowledged; it looks every second."""
    with RabbitServer(options=["consumer_timeout 3000", "channel_tick_interval 1000"]) as made:
        yield made


def test_a_callback_over_the_acknowledgement_timeout_costs_the_consumer_nothing(
    impatient_rabbit: RabbitServer,
    handler: str,
    consumers: Consumers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = open_output(impatient_rabbit.url)
    make_queue(output, handler)
    go = threading.Event()
    handled: list[str] = []
    slow, quick = make_event(subject="slow"), make_event(subject="quick")

    def handle(event: MailEvent) -> None:
        if event.headers.subject == "slow":
            go.wait(60)
        handled.append(event.id)

    caplog.set_level(logging.WARNING, "posthouse")
    consumers.start(impatient_rabbit.url, handler, handle, concurrency=2)
    output.publish([signed(handler, slow.to_json(), slow.id)])
    eventually(lambda: "consumer_timeout" in caplog.text, seconds=60)
    output.publish([signed(handler, quick.to_json(), quick.id)])
    eventually(lambda: handled == [quick.id])
    go.set()
    eventually(lambda: output.inspect(handler).drained and len(handled) >= 2)
    assert handled == [quick.id, slow.id], "handled twice"
    output.close()


def test_a_job_over_the_acknowledgement_timeout_costs_the_worker_nothing(
    impatient_rabbit: RabbitServer, queue: str, workers: Workers
) -> None:
    go = threading.Event()
    worked: list[str] = []

    def work(name: str) -> None:
        if name == "slow":
            go.wait(20)
        worked.append(name)

    broker = build_broker(impatient_rabbit.url, queues=[queue])
    enqueue(broker, queue, "work", ["slow"])
    workers.start(impatient_rabbit.url, queue, work, threads=4)
    time.sleep(8)  # longer than the timeout and the broker's look: what is being tested
    enqueue(broker, queue, "work", ["quick"])
    eventually(lambda: "quick" in worked)
    go.set()
    eventually(lambda: "slow" in worked)
    broker.close()


#: What pika says of itself, but that it wants to be told where its queue is gone.
UNTOLD = "{'capabilities': {'basic.nack': True, 'publisher_confirms': True}}"


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_a_consumer_whose_queue_was_made_anew_subscribes_to_the_new_one(
    told: bool,
    rabbit_server: RabbitServer,
    handler: str,
    consumers: Consumers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """RabbitMQ tells of a queue that is gone only where it is not there again at once.

    A consumer that is not told looks after its queue where nothing comes.
    """
    monkeypatch.setattr(rabbitmq_source, "_SILENT_S", 1e9 if told else 1.0)
    url = rabbit_server.url + ("" if told else f"?client_properties={quote(UNTOLD)}")
    output = open_output(rabbit_server.url)
    make_queue(output, handler)
    got: list[str] = []
    caplog.set_level(logging.WARNING, "posthouse")
    consumers.start(url, handler, lambda event: got.append(event.id))
    for generation in ("first", "second"):
        event = make_event()
        output.publish([signed(handler, event.to_json(), event.id)])
        eventually(lambda event=event: event.id in got)  # type: ignore[misc]
        caplog.clear()
        output.delete(handler)
        if told:
            eventually(lambda: "has not created the queue (again) yet" in caplog.text)
        make_queue(output, handler, generation)
    output.close()
