"""What a handler is done with is settled once, also where Redis is away or full at that moment.

For an administrator: until then it is in the handler's backlog, in hand.
"""

from __future__ import annotations

import threading

import pytest
import redis

from posthouse import MailEvent, Outcome, Reject
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
