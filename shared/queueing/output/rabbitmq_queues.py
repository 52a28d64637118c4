"""The queues of a handler on RabbitMQ: names, declaration, and whether they are sound.

Beside the queue and its dead letters there is a marker: a queue with one message that never leaves
it. Queues can come back empty (a node replaced or killed, definitions imported): then this one is
empty too, which shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import pika
import pika.exceptions

from shared.queueing.connect import rabbitmq_parameters, translated
from shared.queueing.output.base import checked_name

EXCHANGE: Final = "posthouse.mail"

#: Deliveries of one event before RabbitMQ moves it to the dead letters by itself.
DELIVERY_LIMIT: Final = 20

#: Looking at a dead letter is a delivery too, and must never be the last one.
_LOOKS: Final = 1_000_000_000

#: AMQP 0-9-1, reply codes.
_INTERNAL_ERROR: Final = 541


def queue_name(handler: str) -> str:
    return f"posthouse.handler.{checked_name(handler)}"


def dead_name(handler: str) -> str:
    return f"{queue_name(handler)}.dead"


def marker_name(handler: str) -> str:
    return f"{queue_name(handler)}.generation"


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A connection for one errand. A blocking one that idles would miss its heartbeats."""
    try:
        connection = pika.BlockingConnection(rabbitmq_parameters(url))
        try:
            yield connection
        finally:
            if connection.is_open:
                connection.close()
    except (pika.exceptions.AMQPError, OSError) as error:
        raise translated(error, url) from error


class Counts(NamedTuple):
    messages: int  # that wait
    consumers: int


def counts_of(connection: Any, name: str) -> Counts | None:
    """What waits in a queue and who listens; None where it does not exist."""
    channel = connection.channel()
    try:
        declared = channel.queue_declare(name, passive=True).method
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != 404:
            raise
        return None
    channel.close()
    return Counts(int(declared.message_count), int(declared.consumer_count))


def _declare(channel: Any, name: str, arguments: dict[str, Any]) -> None:
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})


def is_sound(url: str, name: str, counts: Counts | None) -> bool:
    """False for a quorum queue that is there by name only: nothing runs that could take or
    give a message. It is listed as empty and without consumers, as a sound one may be; only
    asked for a message it differs: RabbitMQ then fails (541) instead of saying that none is.
    """
    if counts != (0, 0):
        return True
    with connected(url) as connection:
        try:
            # What came in just now goes back when the channel ends.
            connection.channel().basic_get(name)
        except (
            pika.exceptions.ConnectionClosedByBroker,
            pika.exceptions.ChannelClosedByBroker,
        ) as error:
            if error.reply_code == _INTERNAL_ERROR:
                return False
            raise
    return True


def ensure(url: str, handler: str, generation: str) -> bool:
    """Declares what is missing; True where the queue was, or had lost what was in it."""
    queue, dead, marker = queue_name(handler), dead_name(handler), marker_name(handler)
    with connected(url) as connection:
        counts = [counts_of(connection, name) for name in (queue, dead, marker)]
        created = counts[0] is None or counts[2] is None or not counts[2].messages
        created = created or not is_sound(url, queue, counts[0])
        if created:
            _remove_dead_ends(connection, handler, counts[1])
        channel = connection.channel()
        channel.confirm_delivery()
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        _declare(channel, dead, {"x-delivery-limit": _LOOKS})
        # An exchange of its own: who may write to the default one may write to every queue.
        channel.exchange_declare(dead, "fanout", durable=True)
        channel.queue_bind(dead, dead)
        _declare(
            channel,
            queue,
            {
                "x-delivery-limit": DELIVERY_LIMIT,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": dead,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )
        channel.queue_bind(queue, EXCHANGE, f"handler.{handler}")
        if created:
            _declare(channel, marker, {})
            properties = pika.BasicProperties(delivery_mode=2, content_type="text/plain")
            channel.basic_publish("", marker, generation.encode(), properties, mandatory=True)
    return created


def delete(url: str, handler: str) -> None:
    """Removes all that `ensure` declared for this handler."""
    with connected(url) as connection:
        channel = connection.channel()
        for name in (queue_name(handler), dead_name(handler), marker_name(handler)):
            channel.queue_delete(name)
        channel.exchange_delete(dead_name(handler))


def _remove_dead_ends(connection: Any, handler: str, dead: Counts | None) -> None:
    """Removes queues of a handler that are there by name only.

    A node that is killed can lose the replica of a quorum queue that was created shortly before:
    the queue seems to be there, empty, and neither takes nor gives a message until it is deleted.
    The marker's queue was created last, so where it kept its message, the others are sound.
    """
    channel = connection.channel()
    queue = queue_name(handler)
    if counts_of(connection, queue) is not None:
        # Events that come now are returned and published again later. What is there or being
        # handled shows a sound queue, which stays.
        channel.queue_unbind(queue, EXCHANGE, f"handler.{handler}")
        if counts_of(connection, queue) == (0, 0):
            channel.queue_delete(queue)
    if dead is not None and not dead.messages:
        channel.queue_delete(dead_name(handler))
    channel.queue_delete(marker_name(handler))
