"""Handlers' queues on RabbitMQ (3.10 or later): a durable quorum queue a handler.

What is being handled right now cannot be asked over AMQP, only what waits. Without a management
address, a queue that is seen empty therefore vouches only for what was published long enough ago
that no consumer can still hold it: RabbitMQ takes a delivery back after its consumer timeout, and
at most `DELIVERY_LIMIT` times.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import pika
import pika.exceptions

from posthouse.signing import HEADER
from shared.clock import utc_now
from shared.errors import PosthouseError
from shared.queueing.amqp import ConfirmingPublisher, Fate, Outgoing
from shared.queueing.connect import rabbitmq_parameters, translated
from shared.queueing.output.accounts import (
    BrokerAccount,
    make_rabbitmq_account,
    remove_rabbitmq_account,
)
from shared.queueing.output.base import (
    ALL_DEAD,
    CONTENT_TYPE,
    DeadChoice,
    DeadLetter,
    NotTaken,
    Publication,
    QueueConsumer,
    QueueLost,
    QueueState,
    checked_name,
    not_taken,
)

EXCHANGE: Final = "posthouse.mail"

#: Deliveries of one event before RabbitMQ moves it to the dead letters by itself.
DELIVERY_LIMIT: Final = 20

#: RabbitMQ's default for how long a consumer may hold a delivery.
CONSUMER_TIMEOUT: Final = timedelta(minutes=30)

#: The management plugin's figures are a few seconds old.
_FIGURES_AGE: Final = timedelta(seconds=60)

#: Looks, a quarter of a second apart, at a queue that may be recovering.
_RECOVERY_LOOKS: Final = 12

#: AMQP 0-9-1, reply codes.
_INTERNAL_ERROR: Final = 541

#: Looking at a dead letter is a delivery too, and must never be the last one.
_LOOKS: Final = 1_000_000_000


def queue_name(handler: str) -> str:
    return f"posthouse.handler.{checked_name(handler)}"


def dead_name(handler: str) -> str:
    return f"{queue_name(handler)}.dead"


def _marker_name(handler: str) -> str:
    """A queue with one message that never leaves it. Queues can come back empty (a node replaced
    or killed, definitions imported): then this one is empty too, and tells."""
    return f"{queue_name(handler)}.generation"


class RabbitmqOutput:
    """See `shared.queueing.output.base.Output`."""

    def __init__(self, url: str, *, management_url: str = "") -> None:
        self._url = url
        self._parameters = rabbitmq_parameters(url)
        self._management_url = management_url
        self._publisher = ConfirmingPublisher(url)

    def ensure(self, handler: str, generation: str) -> bool:
        queue, dead, marker = queue_name(handler), dead_name(handler), _marker_name(handler)
        with self._connection() as connection:
            counts = [_counts(connection, name) for name in (queue, dead, marker)]
            created = counts[0] is None or counts[2] is None or not counts[2].messages
            created = created or not self._is_sound(queue, counts[0])
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

    def publish(self, batch: Sequence[Publication]) -> list[str | PosthouseError]:
        try:
            fates = self._publisher.publish(
                [
                    Outgoing(
                        EXCHANGE,
                        f"handler.{p.handler}",
                        p.event,
                        p.message_id,
                        CONTENT_TYPE,
                        {HEADER: p.signature},
                    )
                    for p in batch
                ]
            )
        except PosthouseError as error:
            return [not_taken(error)] * len(batch)
        return [_result(p, fate) for p, fate in zip(batch, fates, strict=True)]

    def inspect(self, handler: str) -> QueueState:
        asked_at = utc_now()
        names = queue_name(handler), dead_name(handler), _marker_name(handler)
        with self._connection() as connection:
            queue, dead, marker = (_counts(connection, name) for name in names)
            for _ in range(_RECOVERY_LOOKS):
                sound = self._is_sound(names[0], queue)
                if queue is None or marker is None or (sound and marker.messages):
                    break
                # A queue that is still recovering after a restart answers as if it were empty.
                connection.sleep(0.25)
                queue, dead, marker = (_counts(connection, name) for name in names)
        dead_letters = dead.messages if dead else 0
        if queue is None or marker is None or not (sound and marker.messages):
            return QueueState(exists=False, dead=dead_letters)
        figures = self._figures(handler)
        handled = figures and figures.handled
        drained = not queue.messages and not handled
        if handled is None:
            vouched = asked_at - CONSUMER_TIMEOUT * (DELIVERY_LIMIT + 1)
        else:
            vouched = asked_at - _FIGURES_AGE
        return QueueState(
            exists=True,
            backlog=queue.messages + (handled or 0),
            dead=dead_letters,
            drained=drained,
            acknowledged_before=vouched if drained else None,
            consumers=figures and figures.consumers,
            acknowledgements=figures and figures.acknowledgements,
        )

    def missing(self, handler: str, positions: Collection[str]) -> set[str]:
        return set()

    def trim(self, handler: str, up_to: str) -> None:
        pass

    def delete(self, handler: str) -> None:
        with self._connection() as connection:
            channel = connection.channel()
            for name in (queue_name(handler), dead_name(handler), _marker_name(handler)):
                channel.queue_delete(name)
            channel.exchange_delete(dead_name(handler))

    def dead(self, handler: str, limit: int = 100) -> list[DeadLetter]:
        found = []
        for _, properties, body in self._dead_messages(handler, limit):
            died_at, reason, deliveries = _death(properties)
            found.append(
                DeadLetter(
                    event_id=_event_id(properties, body),
                    reason=reason,
                    died_at=died_at,
                    deliveries=deliveries,
                    size=len(body),
                )
            )
        return found

    def redrive_dead(self, handler: str, chosen: DeadChoice = ALL_DEAD) -> dict[str, str]:
        moved = {}
        for acknowledge, properties, body in self._dead_messages(handler, None):
            event_id = _event_id(properties, body)
            if not chosen.holds(event_id, _death(properties)[1]):
                continue
            # As it was signed: signing it here would vouch for whatever somebody put there.
            signature = str((properties.headers or {}).get(HEADER) or "")
            result = self.publish([Publication(handler, body, event_id, signature)])[0]
            if isinstance(result, PosthouseError):
                raise result
            acknowledge()
            moved[event_id] = result
        return moved

    def discard_dead(self, handler: str, chosen: DeadChoice = ALL_DEAD) -> list[str]:
        gone = []
        for acknowledge, properties, body in self._dead_messages(handler, None):
            event_id = _event_id(properties, body)
            if chosen.holds(event_id, _death(properties)[1]):
                acknowledge()
                gone.append(event_id)
        return gone

    def make_account(self, handler: str, password: str) -> BrokerAccount:
        return make_rabbitmq_account(
            self._management_url,
            self._parameters.virtual_host,
            handler,
            queue_name(handler),
            dead_name(handler),
            password,
        )

    def remove_account(self, handler: str) -> None:
        remove_rabbitmq_account(self._management_url, checked_name(handler))

    def check(self) -> None:
        with self._connection():
            pass

    def close(self) -> None:
        self._publisher.close()

    def _is_sound(self, name: str, counts: _Counts | None) -> bool:
        """False for a quorum queue that is there by name only: nothing runs that could take or
        give a message. It is listed as empty and without consumers, as a sound one may be; only
        asked for a message it differs: RabbitMQ then fails (541) instead of saying that none is.
        """
        if counts != (0, 0):
            return True
        with self._connection() as connection:
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

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection for one errand. A blocking one that idles would miss its heartbeats."""
        try:
            connection = pika.BlockingConnection(self._parameters)
            try:
                yield connection
            finally:
                if connection.is_open:
                    connection.close()
        except (pika.exceptions.AMQPError, OSError) as error:
            raise translated(error, self._url) from error

    def _figures(self, handler: str) -> _Figures | None:
        """What consumers hold, from the management plugin; None where it is not asked."""
        if not self._management_url:
            return None
        parts = urlsplit(self._management_url)
        host = parts.netloc.rpartition("@")[2]
        vhost = quote(self._parameters.virtual_host, safe="")
        path = f"{parts.path.rstrip('/')}/api/queues/{vhost}/{queue_name(handler)}"
        try:
            answer = httpx.get(
                urlunsplit((parts.scheme, host, path, "", "")),
                auth=(parts.username or "guest", parts.password or "guest"),
                timeout=5,
            )
            answer.raise_for_status()
            return _read_figures(answer.json())
        except (httpx.HTTPError, KeyError, ValueError, TypeError):
            return None

    def _dead_messages(self, handler: str, limit: int | None) -> Iterator[tuple[Any, Any, bytes]]:
        """Each of the present dead letters once; those not acknowledged go back at the end."""
        name = dead_name(handler)
        with self._connection() as connection:
            counts = _counts(connection, name)
            left = counts.messages if counts else 0
            channel = connection.channel()
            for _ in range(left if limit is None else min(left, limit)):
                method, properties, body = channel.basic_get(name)
                if method is None:
                    return
                tag = method.delivery_tag
                yield (lambda tag=tag: channel.basic_ack(tag)), properties, body


class _Figures(NamedTuple):
    handled: int
    consumers: tuple[QueueConsumer, ...]
    acknowledgements: int | None


def _read_figures(figures: dict[str, Any]) -> _Figures:
    """Of one queue, as the management plugin describes it."""
    consumers = [
        QueueConsumer(
            name=str(
                (one.get("channel_details") or {}).get("connection_name") or one["consumer_tag"]
            ),
            in_hand=None,
        )
        for one in figures.get("consumer_details") or ()
    ]
    held = int(figures["messages_unacknowledged"])
    if len(consumers) == 1:
        consumers = [QueueConsumer(name=consumers[0].name, in_hand=held)]
    acknowledged = (figures.get("message_stats") or {}).get("ack")
    return _Figures(held, tuple(consumers), None if acknowledged is None else int(acknowledged))


class _Counts(NamedTuple):
    messages: int  # that wait
    consumers: int


def _counts(connection: Any, name: str) -> _Counts | None:
    """What waits in a queue and who listens; None where it does not exist."""
    channel = connection.channel()
    try:
        declared = channel.queue_declare(name, passive=True).method
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != 404:
            raise
        return None
    channel.close()
    return _Counts(int(declared.message_count), int(declared.consumer_count))


def _declare(channel: Any, name: str, arguments: dict[str, Any]) -> None:
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})


def _remove_dead_ends(connection: Any, handler: str, dead: _Counts | None) -> None:
    """Removes queues of a handler that are there by name only.

    A node that is killed can lose the replica of a quorum queue that was created shortly before:
    the queue seems to be there, empty, and neither takes nor gives a message until it is deleted.
    The marker's queue was created last, so where it kept its message, the others are sound.
    """
    channel = connection.channel()
    queue = queue_name(handler)
    if _counts(connection, queue) is not None:
        # Events that come now are returned and published again later. What is there or being
        # handled shows a sound queue, which stays.
        channel.queue_unbind(queue, EXCHANGE, f"handler.{handler}")
        if _counts(connection, queue) == (0, 0):
            channel.queue_delete(queue)
    if dead is not None and not dead.messages:
        channel.queue_delete(dead_name(handler))
    channel.queue_delete(_marker_name(handler))


def _result(publication: Publication, fate: Fate) -> str | PosthouseError:
    if fate is Fate.CONFIRMED:
        return ""
    if fate is Fate.RETURNED:
        return QueueLost(publication.handler)
    if fate is Fate.REFUSED:
        return NotTaken("RabbitMQ refused the event.")
    return NotTaken("RabbitMQ did not confirm the event in time.")


def _death(properties: Any) -> tuple[datetime | None, str, int]:
    """When, why and after how many deliveries: our own headers, else RabbitMQ's `x-death`."""
    headers = properties.headers or {}
    deaths = headers.get("x-death") or [{}]
    reason = str(headers.get("x-posthouse-reason") or deaths[0].get("reason") or "")
    died = headers.get("x-posthouse-died-at")
    if died is not None:
        at: datetime | None = datetime.fromtimestamp(int(died), UTC)
    else:
        # pika gives AMQP timestamps as naive UTC.
        stamp = deaths[0].get("time")
        at = stamp.replace(tzinfo=UTC) if isinstance(stamp, datetime) else None
    deliveries = headers.get("x-posthouse-deliveries", headers.get("x-delivery-count", 0))
    return at, reason, int(deliveries)


def _event_id(properties: Any, body: bytes) -> str:
    if properties.message_id:
        return str(properties.message_id)
    try:
        return str(json.loads(body)["id"])
    except (ValueError, KeyError, TypeError):
        return ""
