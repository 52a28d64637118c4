"""An event is lost neither on its way to the dead letters nor on its way back from there.

For an administrator: the dead letters of a handler are on its page and in
`posthouse_handler_dead_letters` (PosthouseHandlerDeadLetters), what was not acknowledged in its
backlog.
"""

from __future__ import annotations

import pika
import pytest
import redis

from posthouse import MailEvent, Reject
from posthouse.rabbitmq_source import RabbitmqSource
from posthouse.redis_source import RedisSource
from posthouse.source import Held, Source, SourceLost
from posthouse.testing import make_event
from shared.queueing.output import Output, QueueLost
from shared.queueing.output.open import open_output
from tests.integration.queueing.conftest import (
    Consumers,
    Server,
    eventually,
    make_queue,
    publish,
    signed,
)
from tests.rig.queue_events import delete_queue
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.promise("I2")


def received(source: Source, count: int) -> list[Held]:
    found: list[Held] = []
    eventually(lambda: len(found) == count or found.extend(source.receive(count, 1.0)))
    return found


def test_a_dead_letter_stays_until_its_event_is_in_the_queue_again(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)

    def rejects(event: MailEvent) -> None:
        raise Reject("never")

    stop = consumers.start(server.url, handler, rejects)
    event = make_event()
    output.publish([signed(handler, event.to_json(), event.id)])
    eventually(lambda: output.inspect(handler).dead == 1)
    stop()
    delete_queue(server.url, handler)
    with pytest.raises(QueueLost):
        output.deliver_dead_again(handler)
    eventually(lambda: [one.event_id for one in output.dead(handler)] == [event.id])


def test_a_redis_without_room_keeps_what_it_does_not_take_as_a_dead_letter(handler: str) -> None:
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        output = open_output(server.url)
        output.ensure(handler, "g")
        publish(output, handler)
        source = RedisSource(server.url, handler, stale_after_s=60)
        (held,) = received(source, 1)
        client.config_set("maxmemory", "1")
        with pytest.raises(SourceLost):
            source.dead_letter(held, "never")
        client.config_set("maxmemory", "0")
        assert output.inspect(handler).backlog == 1
        source.dead_letter(held, "never")
        state = output.inspect(handler)
        assert (state.backlog, state.dead) == (0, 1)
        source.close()
        output.close()


def test_a_dead_letter_that_no_queue_takes_is_moved_by_rabbitmq(
    rabbit_server: RabbitServer, handler: str
) -> None:
    """Somebody removed the binding of the dead letters: what is published there is thrown away."""
    output = open_output(rabbit_server.url)
    make_queue(output, handler)
    ids = publish(output, handler)
    dead = f"posthouse.handler.{handler}.dead"
    with pika.BlockingConnection(pika.URLParameters(rabbit_server.url)) as connection:
        connection.channel().queue_unbind(dead, dead)
    source = RabbitmqSource(rabbit_server.url, handler, prefetch=1)
    (held,) = received(source, 1)
    source.dead_letter(held, "never")
    source.close()
    eventually(lambda: output.inspect(handler).dead == 1)
    assert [(one.event_id, one.reason) for one in output.dead(handler)] == [(ids[0], "rejected")]
    output.close()


def test_a_dead_letter_waits_until_its_queue_is_there(handler: str) -> None:
    """RabbitMQ moves it: a queue that somebody deleted is made again by the scheduler."""
    soon = "dead_letter_worker_publisher_confirm_timeout 1000"
    with RabbitServer(options=[soon]) as server:
        output = open_output(server.url)
        make_queue(output, handler)
        publish(output, handler)
        with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
            channel = connection.channel()
            channel.queue_delete(f"posthouse.handler.{handler}.dead")
            method, _, _ = channel.basic_get(f"posthouse.handler.{handler}")
            channel.basic_reject(method.delivery_tag, requeue=False)
        output.ensure(handler, "g")
        eventually(lambda: output.inspect(handler).dead == 1)
        output.close()


def test_what_was_held_over_a_connection_that_is_gone_acknowledges_nothing_else(
    rabbit_server: RabbitServer, handler: str
) -> None:
    """Each connection counts its deliveries from one."""
    output = open_output(rabbit_server.url)
    make_queue(output, handler)
    publish(output, handler, 2)
    source = RabbitmqSource(rabbit_server.url, handler, prefetch=2)
    first, second = received(source, 2)
    source.acknowledge([first])
    source.close()
    publish(output, handler)
    received(source, 2)
    source.acknowledge([second])
    source.close()
    eventually(lambda: output.inspect(handler).backlog == 2)
    output.close()
