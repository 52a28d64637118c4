"""What a handler is done with is settled once, also where Redis is away or full at that moment.

For an administrator: until then it is in the handler's backlog, in hand.
"""

from __future__ import annotations

import threading

import pytest
import redis

from posthouse import MailEvent, Outcome, Reject
from posthouse.redis_source import RedisSource
from posthouse.source import Held
from posthouse.testing import make_event
from shared.queueing.output.open import open_output
from tests.integration.queueing.conftest import Consumers, eventually, make_queue, signed
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.promise("H1")


def test_a_rejected_mail_is_no_more_handled_while_redis_has_no_room(
    handler: str, consumers: Consumers, caplog: pytest.LogCaptureFixture
) -> None:
    """Others are, of its key too: room comes of that."""
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        output = open_output(server.url)
        make_queue(output, handler)
        bad, good = make_event(subject="bad"), make_event(subject="good")
        output.publish([signed(handler, one.to_json(), one.id) for one in (bad, good)])
        called: list[str] = []

        def handle(event: MailEvent) -> None:
            called.append(event.headers.subject)
            if event.id == bad.id:
                client.config_set("maxmemory", "1")
                raise Reject("never")

        # Nothing is taken over while this test waits.
        consumers.start(server.url, handler, handle, stale_after_s=600, order_by=lambda event: 1)
        eventually(lambda: called == ["bad", "good"])
        eventually(lambda: "a dead letter waits for the broker" in caplog.text)
        client.config_set("maxmemory", "0")
        eventually(lambda: output.inspect(handler).dead == 1)
        eventually(lambda: output.inspect(handler).drained)
        assert called == ["bad", "good"]
        consumers.close()
        output.close()


def test_what_was_handled_while_redis_was_away_is_acknowledged_when_it_is_there(
    handler: str, consumers: Consumers
) -> None:
    """Another process would handle it once more, when it is taken for left."""
    with RedisServer() as server:
        output = open_output(server.url)
        make_queue(output, handler)
        event = make_event()
        output.publish([signed(handler, event.to_json(), event.id)])
        output.close()
        called: list[str] = []
        told = threading.Event()

        def handle(event: MailEvent) -> None:
            called.append(event.id)
            server.stop()

        def on_outcome(outcome: Outcome) -> None:
            told.set()

        consumers.start(server.url, handler, handle, stale_after_s=600, on_outcome=on_outcome)
        assert told.wait(60)
        server.start()
        output = open_output(server.url)
        eventually(lambda: output.inspect(handler).drained)
        assert called == [event.id]
        consumers.close()
        output.close()


def test_what_another_consumer_took_over_is_left_to_it(
    redis_server: RedisServer, handler: str
) -> None:
    """One that stood still for too long has it in its memory, and not in its hand any more."""
    output = open_output(redis_server.url)
    make_queue(output, handler)
    event = make_event()
    output.publish([signed(handler, event.to_json(), event.id)])
    slow, other = (RedisSource(redis_server.url, handler, stale_after_s=s) for s in (600, 0.001))
    held, taken = list[Held](), list[Held]()
    eventually(lambda: held or held.extend(slow.receive(1, 1.0)))
    eventually(lambda: taken or taken.extend(other.receive(1, 0.1)))
    assert slow.again(held[0], counts=True) is None
    slow.dead_letter(held[0], "never")
    assert output.inspect(handler).dead == 0
    # It is the other's still, which says what becomes of it.
    again = other.again(taken[0], counts=True)
    assert again is not None
    assert again.attempt == taken[0].attempt + 1
    other.dead_letter(again, "never")
    assert output.inspect(handler).dead == 1
    for source in (slow, other):
        source.close()
    output.close()
