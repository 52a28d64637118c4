"""What jobs over Redis cost it: one that comes alone, and a queue at which nothing comes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import dramatiq.errors
import pytest
import redis

from shared.queueing.broker import Job, RedisJobs, build_broker, enqueue, enqueue_many
from shared.queueing.job_messages import decoded
from tests.integration.queueing.conftest import eventually
from tests.servers.redis import RedisServer


class Reads:
    """How often Redis had something to read of others since it was made."""

    def __init__(self, server: RedisServer) -> None:
        self._client = redis.Redis.from_url(server.url)
        self._before = self._counted()

    def _counted(self) -> int:
        found = self._client.info("stats")
        assert isinstance(found, dict)
        return int(found["total_reads_processed"])

    def since(self) -> int:
        return self._counted() - self._before - 1


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """Nobody else's commands are counted."""
    with RedisServer() as server:
        yield server


def taken(consumer: Any) -> Any:
    found: list[Any] = []
    eventually(lambda: found.extend(m for m in [next(consumer)] if m is not None) or found)
    return found[0]


def held(server: RedisServer, queue: str) -> int:
    """Jobs that Redis still knows."""
    with redis.Redis.from_url(server.url) as client:
        found: Any = client.hlen(f"dramatiq:{queue}.msgs")
        return int(found)


def test_a_job_that_comes_alone_is_one_round_trip_to_send_and_one_to_take(
    own_redis: RedisServer, queue: str
) -> None:
    broker = build_broker(own_redis.url, queues=[queue])
    consumer = broker.consume(queue, prefetch=8, timeout=50)
    enqueue(broker, queue, "work", [0])
    consumer.ack(taken(consumer))
    reads = Reads(own_redis)
    for number in range(1, 5):
        enqueue(broker, queue, "work", [number])
        message = taken(consumer)
        assert message.args == (number,)
        consumer.ack(message)
    assert reads.since() == 8
    assert held(own_redis, queue) == 1, "acknowledged with the next look"
    assert next(consumer) is None
    assert held(own_redis, queue) == 0
    consumer.close()
    broker.close()


def test_a_consumer_that_is_closed_acknowledges_what_is_done(
    own_redis: RedisServer, queue: str
) -> None:
    broker = build_broker(own_redis.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in range(3)])
    consumer = broker.consume(queue, prefetch=8, timeout=50)
    consumer.ack(taken(consumer))
    consumer.close()
    assert held(own_redis, queue) == 2, "those that were not handed out are back in the queue"
    other = broker.consume(queue, prefetch=8, timeout=50)
    assert {taken(other).args, taken(other).args} == {(1,), (2,)}
    broker.close()


def test_what_redis_did_not_hear_is_acknowledged_once_it_is_back(
    own_redis: RedisServer, queue: str
) -> None:
    broker = build_broker(own_redis.url, queues=[queue])
    enqueue(broker, queue, "work", [1])
    consumer = broker.consume(queue, prefetch=8, timeout=50)
    message = taken(consumer)
    consumer.ack(message)
    own_redis.stop()
    with pytest.raises(dramatiq.errors.ConnectionClosed):
        next(consumer)
    own_redis.start()
    again = broker.consume(queue, prefetch=8, timeout=50)
    assert next(again) is None
    assert held(own_redis, queue) == 0
    broker.close()


def test_a_script_that_redis_forgot_is_sent_again(own_redis: RedisServer, queue: str) -> None:
    """After a restart, or to another server."""
    broker = build_broker(own_redis.url, queues=[queue])
    consumer = broker.consume(queue, prefetch=8, timeout=50)
    enqueue(broker, queue, "work", [1])
    with redis.Redis.from_url(own_redis.url) as client:
        client.script_flush()
        enqueue(broker, queue, "work", [2])
        consumer.ack(taken(consumer))
        client.script_flush()
        consumer.ack(taken(consumer))
        client.script_flush()
        assert next(consumer) is None
    assert held(own_redis, queue) == 0
    broker.close()


def test_a_script_that_others_send_while_one_waits_loses_no_job(
    own_redis: RedisServer, queue: str
) -> None:
    """Forgotten as a job is acknowledged, known again as the next one is fetched: what was fetched
    was thrown away, and lay with this worker until it ended."""
    broker, other = (build_broker(own_redis.url, queues=[queue]) for _ in range(2))
    assert isinstance(broker, RedisJobs)
    enqueue(broker, queue, "work", [1])
    ((first,), _) = broker.take(queue, 8)
    message = decoded(first)
    assert message is not None
    broker.done.append((queue, message.options["redis_message_id"]))
    with redis.Redis.from_url(own_redis.url) as client, ThreadPoolExecutor(1) as pool:
        client.script_flush()
        taking = pool.submit(broker.take, queue, 8, 4.0)
        eventually(lambda: cast(dict[str, int], client.info("clients"))["blocked_clients"] == 1)
        enqueue(other, queue, "work", [2])
        found, _ = taking.result()
    assert [one.args for one in map(decoded, found) if one is not None] == [(2,)]
    assert held(own_redis, queue) == 1, "the first one is acknowledged"
    broker.close()
    other.close()


def test_a_script_that_others_send_among_jobs_doubles_none(
    own_redis: RedisServer, queue: str
) -> None:
    broker = build_broker(own_redis.url, queues=[queue])
    assert isinstance(broker, RedisJobs)
    jobs = [broker._command("enqueue", queue, str(number), b"{}") for number in range(2)]
    with redis.Redis.from_url(own_redis.url) as client:
        client.script_flush()
        script = broker.scripts["dispatch"].script
        broker._send([jobs[0], ("SCRIPT LOAD", script), jobs[1]])
        assert client.llen(f"dramatiq:{queue}") == 2
    broker.close()


def test_an_empty_queue_costs_one_round_trip_a_wait(own_redis: RedisServer, queue: str) -> None:
    broker = build_broker(own_redis.url, queues=[queue])
    consumer = broker.consume(queue, prefetch=8, timeout=20)
    assert next(consumer) is None
    reads = Reads(own_redis)
    assert [next(consumer) for _ in range(10)] == [None] * 10
    assert reads.since() == 10
    consumer.close()
    broker.close()
