"""The scalers look at the queues that the jobs are really on, as KEDA looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pika
import pytest
import redis

from shared.queueing.broker import build_broker, enqueue
from tests.deploy.manifests import Manifest, of_kind
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer


def triggers(overlay: str) -> Iterator[Manifest]:
    for scaled in of_kind(overlay, "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            if trigger["type"] != "postgresql":
                yield trigger["metadata"]


def test_keda_counts_the_jobs_on_redis(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        for trigger in triggers("production-redis"):
            name = trigger["listName"]
            queue = name.removeprefix("dramatiq:").removesuffix(".msgs")
            broker = build_broker(redis_server.url, queues=(queue,))
            before = length(client, name)
            enqueue(broker, queue, "work", ([1, 2, 3],))
            assert length(client, name) == before + 1
            assert urlsplit(redis_server.url).path.strip("/") == trigger["databaseIndex"]


def length(client: redis.Redis, name: str) -> int:
    """What KEDA's Redis scaler measures: HLEN of a hash, LLEN of a list (its redis_scaler.go)."""
    kind = client.type(name)
    if kind == b"hash":
        return int(client.hlen(name))
    return int(client.llen(name)) if kind == b"list" else 0


def test_keda_counts_the_jobs_on_rabbitmq(rabbit_server: RabbitServer) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(rabbit_server.url))
    channel = connection.channel()
    for trigger in triggers("production"):
        queue = trigger["queueName"]
        broker = build_broker(rabbit_server.url, queues=(queue,))
        enqueue(broker, queue, "work", ([1],))  # the first job creates the queue
        channel.queue_purge(queue)
        enqueue(broker, queue, "work", ([1, 2, 3],))
        found = channel.queue_declare(queue, passive=True)
        assert found.method.message_count == 1
        channel.queue_purge(queue)
    connection.close()


@pytest.mark.parametrize("overlay", ["production", "production-redis"])
def test_all_three_queues_are_watched(overlay: str) -> None:
    assert len(list(triggers(overlay))) == 3
