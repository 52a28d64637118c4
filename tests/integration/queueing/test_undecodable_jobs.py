"""What is no job is rejected, one by one; the others run, and nobody dies of it.

For an administrator: `posthouse_undecodable_jobs_total`, its rule PosthouseUndecodableJobs and the
page that this leads to; a consumer thread that ended is `threads` in readiness, on the overview and
in the alert `service-failing` (test_what_is_told_of_us.py looks at each).
"""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import httpx
import pika
import pytest
import redis

from shared.queueing.broker import Job, RabbitmqJobs, RedisJobs, build_broker, enqueue_many
from shared.queueing.job_context import Pulse
from shared.queueing.worker import run_worker
from shared.telemetry import metrics
from shared.telemetry.health import HealthServer, Heartbeat
from shared.telemetry.threads import ServiceThreads, ThreadEnded
from tests.integration.queueing.conftest import Server, Workers, eventually
from tests.servers.processes import free_port

#: What JSON can make of a job, and what is not even JSON.
_GOOD = {
    "queue_name": "q",
    "actor_name": "work",
    "args": [1],
    "kwargs": {},
    "options": {},
    "message_id": "m",
    "message_timestamp": 1,
}
BAD: list[bytes] = [
    b"",
    b"\xff\xfe not json",
    b"[]",
    b"null",
    b"{}",
    json.dumps({**_GOOD, "unknown": 1}).encode(),
    json.dumps({**_GOOD, "options": None}).encode(),
    json.dumps({**_GOOD, "options": "x"}).encode(),
    json.dumps({**_GOOD, "kwargs": []}).encode(),
    json.dumps({**_GOOD, "args": 7}).encode(),
    json.dumps({**_GOOD, "message_id": ["not", "a", "name"]}).encode(),
    json.dumps({**_GOOD, "actor_name": {}}).encode(),
    json.dumps({**_GOOD, "options": {"eta": 1e18, "redis_message_id": "x"}}).encode(),
    json.dumps({**_GOOD, "options": {"eta": "x", "redis_message_id": "x"}}).encode(),
]


def put(url: str, queue: str, bodies: list[bytes]) -> None:
    """As whoever can write to the broker does."""
    if url.startswith("redis"):
        client = redis.Redis.from_url(url)
        for body in bodies:
            identifier = str(uuid.uuid4())
            client.hset(f"dramatiq:{queue}.msgs", identifier, body)
            client.rpush(f"dramatiq:{queue}", identifier)
        client.rpush(f"dramatiq:{queue}", "an id without a job")
        client.close()
        return
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        # A quorum queue can lose what is not confirmed when its channel closes.
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", queue, body, mandatory=True)


def rejected(queue: str) -> float:
    return float(metrics.UNDECODABLE_JOBS.labels(queue)._value.get())


def left(url: str, queue: str) -> tuple[int, int]:
    """(waiting or held, dead letters)"""
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            held = [client.scard(k) for k in client.scan_iter(f"dramatiq:__acks__.*.{queue}")]
            waiting: Any = client.llen(f"dramatiq:{queue}")
            return waiting + sum(held), int(client.zcard(f"dramatiq:{queue}.XQ"))
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        waiting = channel.queue_declare(queue, passive=True).method.message_count
        return waiting, channel.queue_declare(f"{queue}.XQ", passive=True).method.message_count


@pytest.mark.parametrize("threads", [1, 8])
def test_jobs_that_cannot_be_read_are_rejected_and_the_others_run(
    server: Server, queue: str, workers: Workers, threads: int
) -> None:
    ran: list[int] = []
    broker = build_broker(server.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", (0,))])
    workers.start(server.url, queue, ran.append, threads=threads)
    eventually(lambda: ran == [0])
    put(server.url, queue, BAD)
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in (1, 2, 3)])
    put(server.url, queue, BAD)
    enqueue_many(broker, [Job(queue, "work", (4,))])
    eventually(lambda: sorted(ran) == [0, 1, 2, 3, 4])
    eventually(lambda: left(server.url, queue) == (0, 2 * len(BAD)))
    assert rejected(queue) >= 2 * len(BAD)
    broker.close()


def test_a_worker_that_stops_amid_them_leaves_them_to_the_next(
    server: Server, queue: str, workers: Workers
) -> None:
    """Held in the cache of a consumer that is closed: closing must not fail on them."""
    broker = build_broker(server.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in (1, 2)])
    consumer = broker.consume(queue, prefetch=20, timeout=100)
    put(server.url, queue, BAD)
    eventually(lambda: next(consumer) is not None)
    consumer.close()
    ran: list[int] = []
    workers.start(server.url, queue, ran.append)
    eventually(lambda: ran)
    broker.close()


class _Deadly(Pulse):
    """Ends the thread that takes jobs, as no `except Exception` would notice."""

    def __init__(self, *, later: bool = False) -> None:
        super().__init__()
        self.due = threading.Event()
        if not later:
            self.due.set()

    def beat(self) -> None:
        if self.due.is_set() and threading.current_thread() is not threading.main_thread():
            raise SystemExit
        super().beat()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_consumer_that_dies_ends_what_it_served(server: Server, queue: str) -> None:
    broker = build_broker(server.url, queues=[queue])
    assert isinstance(broker, RedisJobs | RabbitmqJobs)
    broker.pulse = _Deadly()
    with pytest.raises(ThreadEnded, match=queue):
        run_worker(broker, {"work": print}, queue=queue, threads=1, stop=threading.Event())
    broker.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_service_whose_consumer_died_is_not_ready_and_ends(server: Server, queue: str) -> None:
    """As each service runs its workers: in a thread of its own that readiness looks at."""
    broker = build_broker(server.url, queues=[queue])
    assert isinstance(broker, RedisJobs | RabbitmqJobs)
    broker.pulse = deadly = _Deadly(later=True)
    threads, stop, port = ServiceThreads(), threading.Event(), free_port()
    threads.add(queue, run_worker, broker, {"work": print}, queue=queue, threads=1, stop=stop)
    checks = {"threads": threads.check}
    with HealthServer("127.0.0.1", port, heartbeat=Heartbeat(), checks=checks):
        threads.start()
        ready = f"http://127.0.0.1:{port}/readyz"
        assert httpx.get(ready).status_code == 200
        deadly.due.set()
        eventually(lambda: httpx.get(ready).json()["checks"]["threads"] == "failing")
        assert httpx.get(ready).status_code == 503
        ended = threads.ended(stop)
    assert ended is not None and queue in str(ended)
    broker.close()
