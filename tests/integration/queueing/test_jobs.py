"""Jobs: many in one go, run once each, given back on stop, and never lost in silence."""

from __future__ import annotations

import threading
import time
from typing import Any

import dramatiq
import pytest

from shared.errors import InvalidInput, NeedsPerson, TryAgain
from shared.queueing.broker import Job, build_broker, enqueue, enqueue_many
from shared.queueing.connect import ANSWER_TIMEOUT_S, redis_client
from shared.queueing.worker import pulse_of, run_worker
from tests.integration.queueing.conftest import Server, Workers, eventually, set_defaults
from tests.rig.queue_depth import queue_depth
from tests.servers.processes import free_port
from tests.servers.redis import RedisServer


def test_thousands_of_jobs_run_once_each(server: Server, queue: str, workers: Workers) -> None:
    broker = build_broker(server.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", ([n], "c")) for n in range(2500)])
    assert queue_depth(server.url, queue) == 2500
    ran: list[int] = []
    workers.start(server.url, queue, lambda ids, _: ran.extend(ids), threads=4)
    eventually(lambda: len(ran) >= 2500)
    eventually(lambda: queue_depth(server.url, queue) == 0)
    assert sorted(ran) == list(range(2500))
    broker.close()


def test_no_broker_is_installed_globally(server: Server) -> None:
    build_broker(server.url)
    assert dramatiq.broker.global_broker is None


def test_a_queue_that_does_not_exist_is_empty(server: Server) -> None:
    assert queue_depth(server.url, "never-made") == 0


def test_a_job_that_raises_is_done_with(server: Server, queue: str, workers: Workers) -> None:
    """The scheduler finds in Postgres what was left undone; a broker's retries would pile up."""
    ran: list[int] = []

    def work(number: int) -> None:
        ran.append(number)
        if number == 1:
            raise TryAgain("not now")
        if number == 2:
            raise ZeroDivisionError

    broker = build_broker(server.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in (1, 2, 3)])
    workers.start(server.url, queue, work)
    eventually(lambda: len(ran) == 3)
    eventually(lambda: queue_depth(server.url, queue) == 0)
    broker.close()


def test_a_consumer_gives_back_what_it_fetched_and_did_not_hand_out(
    server: Server, queue: str
) -> None:
    """A worker that stops in between would keep these jobs from all others for a minute."""
    broker = build_broker(server.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in range(5)])
    consumer = broker.consume(queue, prefetch=5, timeout=100)
    first: list[Any] = []
    eventually(lambda: first.extend(m for m in [next(consumer)] if m is not None) or first)
    consumer.close()
    other = broker.consume(queue, prefetch=9, timeout=100)
    found: set[int] = set()
    eventually(
        lambda: (
            found.update(m.args[0] for m in [next(other)] if m is not None)
            or found >= set(range(5)) - {first[0].args[0]}
        )
    )
    other.close()
    broker.close()


def test_stop_finishes_what_runs_and_gives_back_the_rest(
    server: Server, queue: str, workers: Workers
) -> None:
    begun, finished, go = [], [], threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        go.wait(20)
        finished.append(number)

    broker = build_broker(server.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in range(10)])
    finish = workers.start(server.url, queue, work, threads=2)
    eventually(lambda: len(begun) == 2)
    threading.Timer(0.5, go.set).start()
    assert finish(), "it ended with jobs still running"
    assert sorted(begun) == sorted(finished)
    workers.start(server.url, queue, finished.append)
    eventually(lambda: len(set(finished)) == 10)
    assert sorted(finished) == list(range(10)), "a job ran twice"
    broker.close()


def test_a_worker_holds_no_more_jobs_than_it_has_threads(
    server: Server, queue: str, workers: Workers
) -> None:
    """Long fetches must not wait in one worker while another has nothing to do."""
    go = threading.Event()
    first: list[int] = []
    second: list[int] = []

    def slow(number: int) -> None:
        first.append(number)
        go.wait(20)

    broker = build_broker(server.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in range(6)])
    workers.start(server.url, queue, slow, threads=2)
    eventually(lambda: len(first) == 2)
    workers.start(server.url, queue, second.append, threads=2)
    eventually(lambda: len(second) == 4)
    go.set()
    broker.close()


def test_a_broker_that_hangs_does_not_hang_the_scheduler(
    queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ANSWER_TIMEOUT_S < 30
    set_defaults(monkeypatch, redis_client, answer_timeout_s=1.0)
    with RedisServer() as server:
        broker = build_broker(server.url, queues=[queue])
        enqueue(broker, queue, "work", [1])
        server.process.pause()
        with pytest.raises(TryAgain):
            enqueue(broker, queue, "work", [2])
        server.process.resume()
        broker.close()


def test_a_deleted_job_queue_is_made_again(rabbit_server: Server, queue: str) -> None:
    import pika

    broker = build_broker(rabbit_server.url, queues=[queue])
    enqueue(broker, queue, "work", [1])
    with pika.BlockingConnection(pika.URLParameters(rabbit_server.url)) as connection:
        connection.channel().queue_delete(queue)
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in range(5)])
    assert queue_depth(rabbit_server.url, queue) == 5
    broker.close()


def test_liveness_tells_a_running_job_from_a_stuck_loop(
    server: Server, queue: str, workers: Workers
) -> None:
    go, stop, begun = threading.Event(), threading.Event(), threading.Event()

    def work(_: int) -> None:
        begun.set()
        go.wait(20)

    broker = build_broker(server.url)
    thread = threading.Thread(
        target=run_worker,
        args=(broker, {"work": work}),
        kwargs={"queue": queue, "threads": 1, "stop": stop},
    )
    thread.start()
    enqueue(broker, queue, "work", [1])
    assert begun.wait(20)
    pulse = pulse_of(broker)
    time.sleep(1.5)
    assert pulse.idle_s < 1.4, "the loop stands still while a job runs"
    go.set()
    eventually(lambda: pulse.running_jobs == 0)
    stop.set()
    thread.join(20)
    broker.close()


def test_the_correlation_id_reaches_the_logs_of_the_job(
    server: Server, queue: str, workers: Workers
) -> None:
    import structlog

    seen: list[dict[str, object]] = []
    broker = build_broker(server.url, queues=[queue])
    enqueue(broker, queue, "work", [1], correlation_id="c-17")
    workers.start(
        server.url, queue, lambda _: seen.append(dict(structlog.contextvars.get_contextvars()))
    )
    eventually(lambda: seen)
    assert seen[0]["correlation_id"] == "c-17"
    broker.close()


@pytest.mark.parametrize("url", ["http://x", "redis", "", "kafka://x:1"])
def test_other_brokers_are_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        build_broker(url)
    assert "redis://" in raised.value.hint


def test_a_wrong_password_needs_a_person(rabbit_server: Server, queue: str) -> None:
    wrong = rabbit_server.url.replace("guest:guest", "guest:s3cret")
    with pytest.raises(NeedsPerson) as raised:
        enqueue(build_broker(wrong, queues=[queue]), queue, "work", [1])
    assert "s3cret" not in str(raised.value)
    with RedisServer(password="right") as server:
        wrong = server.url.replace("right", "s3cret")
        with pytest.raises(NeedsPerson) as raised:
            enqueue(build_broker(wrong, queues=[queue]), queue, "work", [1])
        assert "s3cret" not in str(raised.value)


def test_a_host_that_does_not_resolve_is_named(queue: str) -> None:
    for scheme in ("redis", "amqp"):
        broker = build_broker(f"{scheme}://nowhere.invalid:{free_port()}/", queues=[queue])
        with pytest.raises(TryAgain, match=r"nowhere\.invalid"):
            enqueue(broker, queue, "work", [1])


def test_a_queue_is_deleted_with_the_jobs_that_a_dead_worker_holds(
    server: Server, queue: str, workers: Workers
) -> None:
    broker = build_broker(server.url, queues=[queue])
    enqueue_many(broker, [Job(queue, "work", (n,)) for n in range(5)])
    dead = build_broker(server.url)
    consumer = dead.consume(queue, prefetch=2, timeout=100)
    held: list[Any] = []
    eventually(lambda: held.extend(m for m in [next(consumer)] if m is not None) or held)
    broker.delete_queue(queue)
    assert queue_depth(server.url, queue) == 0
    if isinstance(server, RedisServer):
        assert list(broker.client.scan_iter(f"*{queue}*")) == []  # type: ignore[union-attr]
    broker.delete_queue(queue)  # by a second scheduler
    ran: list[int] = []
    workers.start(server.url, queue, ran.append)
    # RabbitMQ may lose what it takes in the moment of the deletion.
    eventually(lambda: enqueue(broker, queue, "work", [7]) or ran)
    assert set(ran) == {7}
    dead.close()
    broker.close()


def test_a_worker_goes_on_when_its_queue_was_deleted(server: Server, queue: str) -> None:
    broker, working = build_broker(server.url, queues=[queue]), build_broker(server.url)
    ran: list[int] = []
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker,
        args=(working, {"work": ran.append}),
        kwargs={"queue": queue, "threads": 1, "stop": stop},
    )
    thread.start()
    enqueue(broker, queue, "work", [1])
    eventually(lambda: ran == [1])
    broker.delete_queue(queue)
    # At once: RabbitMQ may not tell the consumer, and may lose what it takes in that moment.
    eventually(lambda: enqueue(broker, queue, "work", [2]) or len(ran) > 1)
    assert set(ran) == {1, 2}
    stop.set()
    thread.join(20)
    working.close()
    broker.close()


def test_a_worker_says_whether_it_would_take_a_job(server: Server, queue: str) -> None:
    """Not while all of its threads are busy: what is sent to it alone would wait."""
    go, stop = threading.Event(), threading.Event()
    broker = build_broker(server.url)
    pulse = pulse_of(broker)
    assert pulse.not_taking_s > 3600
    thread = threading.Thread(
        target=run_worker,
        args=(broker, {"work": lambda _: go.wait(30)}),
        kwargs={"queue": queue, "threads": 1, "stop": stop},
    )
    thread.start()
    eventually(lambda: pulse.not_taking_s < 1)
    enqueue(broker, queue, "work", [1])
    eventually(lambda: pulse.not_taking_s > 2)
    go.set()
    eventually(lambda: pulse.not_taking_s < 1)
    stop.set()
    thread.join(20)
    broker.close()
