"""A handler's queue on RabbitMQ: the quorum queue `posthouse.handler.<name>`."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pika
import pika.exceptions

from posthouse.signing import HEADER
from posthouse.source import AccessRefused, Held, SourceLost

EXCHANGE = "posthouse.mail"

#: Events that may be put off at a time, beside those being handled: each fills a prefetch slot.
_DELAYED = 50
#: Seconds of silence after which the subscription is renewed. RabbitMQ tells consumers that their
#: queue is gone, but not where it is there again at once: such a consumer would wait for ever.
_SILENT_S = 15.0


#: Seconds after which an event that waits goes back to the broker, which counts a delivery then. It
#: takes back by itself what is held for 30 minutes; an event is put off for up to 15 of them.
_HELD_S = 600.0


def queue_name(handler: str) -> str:
    return f"posthouse.handler.{handler}"


def connect(url: str) -> Any:
    """A connection whose every wait is bounded. Raises SourceLost or AccessRefused."""
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = 5
    parameters.stack_timeout = 10
    parameters.blocked_connection_timeout = 30
    if "heartbeat=" not in url:
        parameters.heartbeat = 30
    # pika logs each failed attempt with stacks; the consumer says it in a line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    try:
        return pika.BlockingConnection(parameters)
    except (
        pika.exceptions.ProbableAuthenticationError,
        pika.exceptions.AuthenticationError,
        pika.exceptions.ProbableAccessDeniedError,
    ) as error:
        raise AccessRefused(
            "RabbitMQ refuses the user, the password or the virtual host"
        ) from error
    except pika.exceptions.ConnectionClosedByBroker as error:
        if error.reply_code in {403, 530}:
            raise AccessRefused(f"RabbitMQ: {error.reply_text}") from error
        raise SourceLost(f"RabbitMQ is away: {error}") from error
    except (pika.exceptions.AMQPError, OSError) as error:
        raise SourceLost(f"RabbitMQ is away: {error!r}") from error


class RabbitmqSource:
    """See `posthouse.source.Source`. A token is (subscription, delivery tag, since)."""

    longest_delay_s = 900.0
    keeps_held = False

    def __init__(self, url: str, handler: str, *, prefetch: int) -> None:
        self._url = url
        self._queue = queue_name(handler)
        self._prefetch = prefetch
        self._number = 0
        self._connection: Any = None
        self._channel: Any = None
        self._dead_channel: Any = None
        self._arrived: deque[Held] = deque()
        self._consumer_tag = ""
        self._cancelled = False
        self._unsettled = 0
        self._heard_at = 0.0

    def receive(self, room: int, wait_s: float) -> list[Held]:
        with self._border():
            self._connect()
            self._connection.process_data_events(time_limit=0 if self._arrived else wait_s)
            if self._channel.is_closed:
                # Nobody tells: without a channel nothing would ever come again.
                reason = getattr(self._channel, "_closing_reason", None)
                raise reason or pika.exceptions.ChannelWrongStateError("the channel is closed")
            if self._cancelled:
                raise SourceLost("Posthouse has not created the queue (again) yet")
            if not self._unsettled and time.monotonic() - self._heard_at > _SILENT_S:
                silent = self._channel
                self._subscribe()
                silent.close()
            return [self._arrived.popleft() for _ in range(min(room, len(self._arrived)))]

    def acknowledge(self, done: Sequence[Held]) -> None:
        with self._border():
            for held in done:
                if self._current(held):
                    self._channel.basic_ack(held.token[1])
                    self._unsettled -= 1

    def again(self, held: Held, *, counts: bool) -> Held | None:
        number, _, since = held.token
        if not counts and number == self._number and time.monotonic() - since < _HELD_S:
            return held
        with self._border():
            if self._current(held):
                # From 4.3 on RabbitMQ counts what is rejected and not what is given back (nack);
                # before, it counts both.
                if counts:
                    self._channel.basic_reject(held.token[1], requeue=True)
                else:
                    self._channel.basic_nack(held.token[1], requeue=True)
                self._unsettled -= 1
        return None

    def dead_letter(self, held: Held, reason: str) -> None:
        with self._border():
            if not self._current(held):
                return
            self._unsettled -= 1
            if held.body and self._publish_dead(held, reason):
                self._channel.basic_ack(held.token[1])
            else:
                # RabbitMQ moves it itself; only the reason is then no more than "rejected".
                self._channel.basic_reject(held.token[1], requeue=False)

    def keep(self, held: Sequence[Held]) -> None:
        """The connection's own heartbeats say so."""

    def give_back(self, held: Sequence[Held]) -> None:
        with self._border():
            if self._connection is not None and self._channel.is_open:
                # Else the broker gives it to this very consumer again, and counts that too.
                self._channel.basic_cancel(self._consumer_tag)
            for one in (*held, *self._arrived):
                if self._current(one):
                    self._channel.basic_nack(one.token[1], requeue=True)
            self._arrived.clear()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None and connection.is_open:
                connection.close()
        except (pika.exceptions.AMQPError, OSError):
            pass

    def _connect(self) -> None:
        if self._connection is not None:
            return
        self._connection = connect(self._url)
        self._cancelled = False
        self._subscribe()

    def _subscribe(self) -> None:
        """Begins anew on a channel of its own; the tags of an earlier one mean nothing here."""
        self._number += 1
        self._arrived.clear()
        self._unsettled = 0
        self._heard_at = time.monotonic()
        self._channel = self._connection.channel()
        self._channel.basic_qos(prefetch_count=self._prefetch + _DELAYED)
        self._channel.add_on_cancel_callback(self._on_cancel)
        self._consumer_tag = self._channel.basic_consume(
            self._queue, partial(self._on_message, self._number)
        )

    def _current(self, held: Held) -> bool:
        """Tags die with their channel; RabbitMQ then delivers again."""
        return self._connection is not None and held.token[0] == self._number

    def _on_message(
        self, number: int, _channel: Any, method: Any, properties: Any, body: bytes
    ) -> None:
        if number != self._number:
            return  # for a subscription that was given up: it comes again
        headers = properties.headers or {}
        deliveries = int(headers.get("x-delivery-count", 0))
        attempt = max(deliveries + 1, 2 if method.redelivered else 1)
        self._unsettled += 1
        self._heard_at = time.monotonic()
        token = (self._number, method.delivery_tag, time.monotonic())
        self._arrived.append(Held(token, body, attempt, str(headers.get(HEADER) or "")))

    def _on_cancel(self, _frame: Any) -> None:
        self._cancelled = True  # the queue was deleted: nothing would ever come again

    def _publish_dead(self, held: Held, reason: str) -> bool:
        """Publishes to the dead letters with the reason; False where that was not confirmed."""
        try:
            if self._dead_channel is None or not self._dead_channel.is_open:
                self._dead_channel = self._connection.channel()
                self._dead_channel.confirm_delivery()
            self._dead_channel.basic_publish(
                f"{self._queue}.dead",  # the exchange of this name: no right to any other needed
                "",
                held.body,
                pika.BasicProperties(
                    content_type="application/cloudevents+json",
                    delivery_mode=2,
                    headers={
                        HEADER: held.signature,
                        "x-posthouse-reason": reason[:1000],
                        "x-posthouse-deliveries": held.attempt,
                        "x-posthouse-died-at": int(time.time()),
                    },
                ),
                mandatory=True,
            )
        except pika.exceptions.AMQPChannelError:
            return False
        return True

    @contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except SourceLost:
            self.close()
            raise
        except pika.exceptions.ChannelClosedByBroker as error:
            self.close()
            if error.reply_code == 404:
                raise SourceLost("Posthouse has not created the queue (again) yet") from error
            if "delivery acknowledgement" in error.reply_text:
                # What this consumer held comes again; a callback that goes on is waited for.
                raise SourceLost(
                    "a callback took longer than RabbitMQ's consumer_timeout, so RabbitMQ took all "
                    f"its events back; subscribing anew ({error.reply_text})",
                    0.0,
                ) from error
            raise SourceLost(f"RabbitMQ: {error.reply_text}", 5.0) from error
        except (pika.exceptions.AMQPError, OSError) as error:
            self.close()
            raise SourceLost(f"RabbitMQ is away: {error!r}") from error
