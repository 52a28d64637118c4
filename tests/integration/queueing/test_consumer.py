"""The SDK's consumer on real brokers: settles once, outlives its broker, gives back on stop.

For an administrator: what a handler gives up is a dead letter of its queue, with the reason (the
handler's page, alert rule `PosthouseHandlerDeadLetters`, `posthouse_handler_dead_letters`), as
`output.dead` shows it here. What runs, a coroutine too, shows in the backlog of the queue only.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
import redis

from posthouse import AccessRefused, Consumer, MailEvent, Reject, Retry, follow
from posthouse.testing import make_event
from shared.queueing.output import DeadChoice, Output
from shared.queueing.output.open import open_output
from tests.integration.queueing.conftest import (
    SIGNING_KEY,
    Consumers,
    Server,
    eventually,
    make_queue,
    signed,
)
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer


def send(output: Output, handler: str, *events: MailEvent) -> None:
    results = output.publish([signed(handler, e.to_json(), e.id) for e in events])
    assert all(isinstance(result, str) for result in results), results


@pytest.mark.promise("H1")
def test_two_consumers_share_the_events_and_leave_nothing(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    events = [make_event(subject=f"Grüße {n}") for n in range(300)]
    got: list[str] = []
    consumers.start(server.url, handler, lambda event: got.append(event.id), concurrency=2)
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    send(output, handler, *events)
    eventually(lambda: len(got) >= 300)
    eventually(lambda: output.inspect(handler).drained)
    assert sorted(got) == sorted(event.id for event in events)


def test_a_large_mail_arrives_whole(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    event = make_event(raw=os.urandom(1_000_000))
    got: list[bytes] = []
    consumers.start(server.url, handler, lambda event: got.append(event.raw_bytes()))
    send(output, handler, event)
    eventually(lambda: got)
    assert got == [event.raw.inline]


def test_retry_reject_and_failure_end_where_they_should(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    calls: list[str] = []

    def handle(event: MailEvent) -> None:
        name = event.headers.subject
        calls.append(name)
        if name == "later" and calls.count("later") < 3:
            raise Retry(0.1)
        if name == "never":
            raise Reject("kein Kunde: 日本")
        if name == "broken":
            raise ValueError("boom")

    consumers.start(server.url, handler, handle, max_deliveries=3)
    events = {name: make_event(subject=name) for name in ("later", "never", "broken", "fine")}
    send(output, handler, *events.values())
    output.publish([signed(handler, b"nonsense", "not-an-event")])
    eventually(lambda: output.inspect(handler).dead == 3 and calls.count("later") == 3)
    eventually(lambda: output.inspect(handler).drained)
    assert calls.count("broken") == 3
    assert calls.count("never") == 1
    assert calls.count("fine") == 1
    dead = {letter.event_id: letter for letter in output.dead(handler)}
    assert dead[events["never"].id].reason == "kein Kunde: 日本"
    assert "boom" in dead[events["broken"].id].reason
    assert dead[events["broken"].id].deliveries == 3
    assert any("not a mail event" in letter.reason for letter in dead.values())


def test_not_now_uses_up_no_delivery(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    """Not here, and not in the count of the broker that the next consumer goes by."""
    make_queue(output, handler)
    tries: list[str] = []

    def not_now(event: MailEvent) -> None:
        tries.append(event.id)
        raise Retry(0.01 if len(tries) < 40 else 800)

    stop = consumers.start(server.url, handler, not_now, max_deliveries=3)
    event = make_event()
    send(output, handler, event)
    eventually(lambda: len(tries) == 40)
    assert output.inspect(handler).dead == 0
    stop()

    def fails(event: MailEvent) -> None:
        tries.append(event.id)
        raise ValueError("boom")

    consumers.start(server.url, handler, fails, max_deliveries=3)
    eventually(lambda: output.inspect(handler).dead == 1)
    # RabbitMQ counts that the first consumer gave it back.
    assert len(tries) - 40 == (2 if server.url.startswith("amqp") else 3)


def test_dead_letters_can_be_looked_at_and_driven_again(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    good: list[str] = []
    broken = threading.Event()
    broken.set()

    def handle(event: MailEvent) -> None:
        if broken.is_set():
            raise Reject("not today")
        good.append(event.id)

    consumers.start(server.url, handler, handle)
    events = [make_event() for _ in range(3)]
    send(output, handler, *events)
    eventually(lambda: output.inspect(handler).dead == 3)
    for _ in range(25):  # looking is no delivery that counts
        eventually(lambda: len(output.dead(handler)) == 3)
    eventually(lambda: len(output.dead(handler, limit=2)) == 2)
    broken.clear()
    assert list(output.deliver_dead_again(handler, DeadChoice([events[1].id]))) == [events[1].id]
    eventually(lambda: good == [events[1].id])
    eventually(lambda: output.inspect(handler).dead == 2)
    assert len(output.deliver_dead_again(handler)) == 2
    eventually(lambda: sorted(good) == sorted(event.id for event in events))
    assert output.inspect(handler).dead == 0


def test_dead_letters_can_be_discarded_one_by_reason_and_all(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    reasons = ["no customer", "no customer", "a duplicate", "too late", "a duplicate"]

    def handle(event: MailEvent) -> None:
        raise Reject(event.headers.subject)

    consumers.start(server.url, handler, handle)
    events = [make_event(subject=reason) for reason in reasons]
    send(output, handler, *events)
    eventually(lambda: output.inspect(handler).dead == 5)
    assert output.discard_dead(handler, DeadChoice([events[3].id])) == [events[3].id]
    gone = output.discard_dead(handler, DeadChoice(reason="no customer"))
    assert set(gone) == {events[0].id, events[1].id}
    eventually(
        lambda: {one.event_id for one in output.dead(handler)} == {events[2].id, events[4].id}
    )
    assert len(output.discard_dead(handler)) == 2
    eventually(lambda: output.inspect(handler).dead == 0)


def test_it_waits_for_a_queue_that_does_not_exist_yet(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    got: list[str] = []
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    time.sleep(0.5)
    assert not output.inspect(handler).exists, "a consumer must never create the queue"
    make_queue(output, handler)
    event = make_event()
    send(output, handler, event)
    eventually(lambda: got == [event.id])


def test_a_queue_that_is_deleted_and_made_again_is_consumed(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    got: list[str] = []
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    first, second = make_event(), make_event()
    send(output, handler, first)
    eventually(lambda: got == [first.id])
    output.delete(handler)
    make_queue(output, handler, "g2")
    send(output, handler, second)
    eventually(lambda: got == [first.id, second.id])


def test_stop_finishes_what_runs_and_gives_back_the_rest_at_once(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    begun, finished, go = [], [], threading.Event()

    def slow(event: MailEvent) -> None:
        begun.append(event.id)
        go.wait(20)
        finished.append(event.id)

    finish = consumers.start(server.url, handler, slow, stale_after_s=60.0)
    events = [make_event() for _ in range(6)]
    send(output, handler, *events)
    eventually(lambda: begun)
    threading.Timer(0.3, go.set).start()
    finish()
    assert begun == finished
    consumers.start(
        server.url, handler, lambda event: finished.append(event.id), stale_after_s=60.0
    )
    eventually(lambda: len(set(finished)) == 6, seconds=50)
    assert len(finished) == 6, "what was finished was handled again"


def test_a_slow_callback_keeps_its_event(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    """It takes three times as long as a consumer may be silent, while another one is hungry."""
    make_queue(output, handler)
    calls: list[str] = []

    def slow(event: MailEvent) -> None:
        calls.append(event.id)
        time.sleep(3)

    for _ in range(2):
        consumers.start(server.url, handler, slow, stale_after_s=1.0)
    send(output, handler, make_event())
    eventually(lambda: output.inspect(handler).backlog == 0 and calls)
    time.sleep(3.5)
    eventually(lambda: output.inspect(handler).drained)
    assert len(calls) == 1


@pytest.mark.parametrize("server", ["redis"], indirect=True)
def test_what_a_consumer_left_is_found_behind_what_another_puts_off(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    """XAUTOCLAIM looks at ten entries for each that it may claim, from where it is told to."""
    make_queue(output, handler)
    put_off: list[str] = []

    def not_now(event: MailEvent) -> None:
        put_off.append(event.id)
        raise Retry(600)

    finish = consumers.start(server.url, handler, not_now, prefetch=1)
    send(output, handler, *(make_event() for _ in range(60)))
    eventually(lambda: len(put_off) == 60, seconds=30)
    others: list[str] = []
    with redis.Redis.from_url(server.url) as client:
        left = make_event()
        with client.pipeline() as together:  # before the one that reads may take it
            publication = signed(handler, left.to_json(), left.id)
            key = f"posthouse:handler:{handler}"
            together.xadd(key, {"event": publication.event, "signature": publication.signature})
            together.xreadgroup("posthouse", "killed", {key: ">"}, count=1)
            together.execute()
    consumers.start(server.url, handler, lambda event: others.append(event.id), prefetch=1)
    eventually(lambda: left.id in [*others, *put_off], seconds=20)
    finish()


def test_a_killed_consumer_loses_nothing(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    program = textwrap.dedent(
        """
        import sys, time
        from posthouse import Consumer
        def handle(event):
            print(event.id, flush=True)
            time.sleep(60)
        Consumer(sys.argv[1], sys.argv[2], stale_after_s=2, verify=False).run(handle)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, server.url, handler], stdout=subprocess.PIPE, text=True
    )
    event = make_event()
    send(output, handler, event)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == event.id
    child.kill()
    child.wait()
    child.stdout.close()
    got: list[str] = []
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    eventually(lambda: got == [event.id])


def test_a_repeat_of_the_broker_is_not_handled_again_but_a_redelivery_is(
    redis_server: RedisServer, handler: str, consumers: Consumers
) -> None:
    output = open_output(redis_server.url)
    make_queue(output, handler)
    got: list[str] = []
    consumers.start(redis_server.url, handler, lambda event: got.append(event.id))
    event = make_event()
    send(output, handler, event)
    eventually(lambda: got == [event.id])
    eventually(lambda: output.inspect(handler).drained)
    # The acknowledgement was lost with the end of the append-only file: pending once more.
    client: Any = redis.Redis.from_url(redis_server.url, protocol=2)
    key = f"posthouse:handler:{handler}"
    position = client.xrevrange(key, count=1)[0][0]
    client.xclaim(key, "posthouse", "gone", 0, [position], idle=9_000_000, force=True)
    eventually(lambda: output.inspect(handler).drained)
    assert got == [event.id]
    send(output, handler, event)  # on purpose
    eventually(lambda: got == [event.id, event.id])
    output.close()


def test_a_refused_password_ends_it(rabbit_server: RabbitServer, handler: str) -> None:
    with RedisServer(password="right") as server:
        for url in (
            server.url.replace("right", "s3cret"),
            rabbit_server.url.replace("guest:guest", "guest:s3cret"),
        ):
            with pytest.raises(AccessRefused) as raised:
                Consumer(url, handler, verify=False).run(lambda event: None)
            assert "s3cret" not in str(raised.value)


def test_following_takes_nothing_away(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    stop = threading.Event()
    seen: list[Any] = []
    got: list[Any] = []
    following = follow(server.url, handler, stop=stop, signing_key=SIGNING_KEY)
    thread = threading.Thread(target=lambda: seen.extend(event.id for event in following))
    thread.start()
    time.sleep(1.5)
    events = [make_event() for _ in range(3)]
    send(output, handler, *events)
    eventually(lambda: len(seen) == 3 or not stop.wait(0.1))
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    eventually(lambda: len(got) == 3)
    stop.set()
    thread.join(20)
    assert seen == [event.id for event in events]
    assert sorted(got) == sorted(seen)


@pytest.mark.promise("F5")
def test_a_coroutine_is_awaited_before_its_mail_is_acknowledged(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    begun: list[str] = []
    done: list[str] = []

    async def never_ends(event: MailEvent) -> None:
        begun.append(event.id)
        await asyncio.Event().wait()

    async def handle(event: MailEvent) -> None:
        await asyncio.sleep(0.02)
        done.append(event.id)

    stop = consumers.start(server.url, handler, never_ends, concurrency=3, stop_timeout_s=0)
    events = [make_event() for _ in range(3)]
    send(output, handler, *events)
    eventually(lambda: len(begun) == 3)
    stop()
    consumers.start(server.url, handler, handle)
    eventually(lambda: output.inspect(handler).drained and len(done) == 3)
    assert sorted(done) == sorted(event.id for event in events)
