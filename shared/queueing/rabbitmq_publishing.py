"""Publishing to RabbitMQ in windows: many messages out, then their confirms.

Waiting for each confirm costs a round trip and a disk sync a message (a few hundred a second); a
window costs one for all. pika's blocking connection can only do the former, so this is its
callback-driven connection in a thread of its own, which also keeps the heartbeats going while
nobody publishes.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pika
import pika.exceptions

from shared.queueing.connect import (
    ANSWER_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    BrokerDown,
    rabbitmq_parameters,
    translated,
)
from shared.queueing.rabbitmq_check import Unconfirmed, check_publishing

#: Seconds that a connection is kept at least whose channel refuses everything for a queue.
#: It may be the channel: one that met a quorum queue while its leader was dying goes on asking the
#: dead node for as long as it is open (seen on RabbitMQ 3.10), and a new one asks the new leader.
#: It may be the queue: full, where an administrator's policy bounds it. Only a new channel tells.
_RENEW_S = 2.0

#: Messages handed to pika before it gets to read again, so that confirms interleave.
_STRIDE = 256


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One persistent message. `message_id` and `routing_key` tell returned ones apart."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    content_type: str
    headers: dict[str, str] | None = None


class PublishOutcome(enum.Enum):
    """What became of one message of a window."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"  # no queue is bound for it, or the exchange is missing
    REFUSED = "refused"  # the broker said no (nack): it is not kept
    UNKNOWN = "unknown"  # the connection broke off or time ran out: it may be there


class _Window:
    """A batch on its way; `done` is set once every message has an outcome."""

    def __init__(self, batch: Sequence[Outgoing]) -> None:
        self.batch = batch
        self.outcomes = [PublishOutcome.UNKNOWN] * len(batch)
        self.open = len(batch)
        self.done = threading.Event()

    @property
    def refused_whole(self) -> bool:
        """Whether some queue refused all of its messages here. One that takes some is just full."""
        outcomes: dict[tuple[str, str], set[PublishOutcome]] = {}
        for message, outcome in zip(self.batch, self.outcomes, strict=True):
            outcomes.setdefault((message.exchange, message.routing_key), set()).add(outcome)
        return any(had == {PublishOutcome.REFUSED} for had in outcomes.values())

    def keys(self, *, unknown: bool) -> set[str]:
        """Routing keys of messages whose outcome is unknown, or is known."""
        pairs = zip(self.batch, self.outcomes, strict=True)
        return {
            one.routing_key
            for one, outcome in pairs
            if (outcome is PublishOutcome.UNKNOWN) == unknown
        }

    def note(self, index: int, outcome: PublishOutcome) -> None:
        self.outcomes[index] = outcome
        self.open -= 1
        if not self.open:
            self.done.set()


class ConfirmingPublisher:
    """Publishes windows over one connection, which is made when needed and again when lost.

    Thread-safe: windows of several threads share the connection.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._link: _Link | None = None
        self._unconfirmed = Unconfirmed()

    def publish(
        self, batch: Sequence[Outgoing], *, timeout_s: float = 2 * ANSWER_TIMEOUT_S
    ) -> list[PublishOutcome]:
        """The outcome of each message, in order, after at most about `timeout_s` seconds.

        Raises BrokerDown or BrokerRefused where there is no connection to begin with: then
        nothing was sent.
        """
        if not batch:
            return []
        link = self._connected()
        window = _Window(batch)
        if not link.submit(window):
            raise BrokerDown(str(translated(link.reason or ConnectionError("closed"), self._url)))
        in_time = window.done.wait(timeout_s)
        silent: set[str] = set()
        if not in_time:
            # What was sent and not confirmed stays in doubt; a connection that is this slow is
            # given up, so that the next window starts on a fresh one.
            with self._lock:
                if self._link is link:
                    self._link = None
            # A connection that broke off, or was blocked or stalled, says nothing of the queues.
            answers = link.answers(CONNECT_TIMEOUT_S)
            link.close()
            if answers:
                window.done.wait(CONNECT_TIMEOUT_S)
            if answers and not link.blocked:
                silent = window.keys(unknown=True)
        elif window.refused_whole and link.age_s >= _RENEW_S:
            with self._lock:
                if self._link is link:
                    self._link = None
            link.retire()
        if self._unconfirmed or not in_time:
            self._unconfirmed.note(silent, window.keys(unknown=False))
        return list(window.outcomes)

    def check(self) -> None:
        """Raises BrokerDown or BrokerRefused where nothing, or not all, would be confirmed."""
        check_publishing(self._url)
        self._unconfirmed.check(self._url)

    def close(self) -> None:
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()
            link.join(CONNECT_TIMEOUT_S)

    def _connected(self) -> _Link:
        with self._lock:
            if self._link is None or not self._link.usable:
                link = _Link(self._url)
                link.start()
                if not link.opened.wait(3 * CONNECT_TIMEOUT_S) or link.reason is not None:
                    link.close()
                    error = link.reason or TimeoutError("no answer in time")
                    raise translated(error, self._url) from error
                self._link = link
            return self._link


class _Link(threading.Thread):
    """One connection and its channel in confirm mode, from opening to closing."""

    def __init__(self, url: str) -> None:
        super().__init__(name="posthouse-amqp-publisher", daemon=True)
        self.opened = threading.Event()
        self.reason: BaseException | None = None
        #: Whether the broker, for want of memory or disk space, did not read what came over it.
        self.blocked = False
        self._url = url
        self._gate = threading.Lock()  # between submit and the end of the connection
        self._ended = False
        self._born = time.monotonic()
        self._retired = False
        self._connection: Any = None
        self._channel: Any = None
        self._exchange_missing = False
        self._next_tag = 1
        self._in_flight: dict[int, tuple[_Window, int]] = {}
        self._windows: set[_Window] = set()
        self._returned: Counter[tuple[str, str]] = Counter()

    @property
    def usable(self) -> bool:
        return self.opened.is_set() and not self._ended

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._born

    # From other threads.

    def submit(self, window: _Window) -> bool:
        """Takes a window in; False where the connection has ended already."""
        with self._gate:
            if self._ended:
                return False
            self._windows.add(window)
            self._connection.ioloop.add_callback_threadsafe(partial(self._send, window, 0))
            return True

    def close(self) -> None:
        with self._gate:
            if not self._ended and self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(self._shut)

    def answers(self, seconds: float) -> bool:
        """Whether the broker opens another channel: ours may have to wait for a queue."""
        answered = threading.Event()
        with self._gate:
            if self._ended:
                return False
            self._connection.ioloop.add_callback_threadsafe(partial(self._ask, answered))
        return answered.wait(seconds)

    def retire(self) -> None:
        """Closes it once the windows of other threads, too, have their outcomes."""
        with self._gate:
            self._retired = True
            if not self._ended:
                self._connection.ioloop.add_callback_threadsafe(self._shut_when_idle)

    # From here on in the thread of the connection.

    def run(self) -> None:
        try:
            self._connection = pika.SelectConnection(
                rabbitmq_parameters(self._url),
                on_open_callback=self._on_open,
                on_open_error_callback=self._on_failed,
                on_close_callback=self._on_failed,
            )
            self._connection.ioloop.start()
        except Exception as error:  # who publishes is told it
            self.reason = self.reason or error
            logging.getLogger(__name__).debug("the publisher's connection ended", exc_info=True)
        finally:
            self._end()

    def _on_open(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self.opened.set())

    def _on_blocked(self, *_: object) -> None:
        self.blocked = True

    def _on_failed(self, _connection: Any, reason: BaseException) -> None:
        self.reason = self.reason or reason
        self._connection.ioloop.stop()

    def _on_channel_closed(self, _channel: Any, reason: Any) -> None:
        self.reason = self.reason or reason
        self._exchange_missing = getattr(reason, "reply_code", None) == 404
        self._shut()

    def _shut(self) -> None:
        if self._connection.is_open:
            self._connection.close()
        else:
            self._connection.ioloop.stop()

    def _ask(self, answered: threading.Event) -> None:
        if self._connection.is_open:
            self._connection.channel(on_open_callback=lambda _: answered.set())

    def _shut_when_idle(self) -> None:
        if self._retired and not self._windows and self._connection.is_open:
            self._shut()

    def _send(self, window: _Window, start: int) -> None:
        if self._channel is None or not self._channel.is_open:
            return  # `_end` notes it
        stop = min(start + _STRIDE, len(window.batch))
        for index in range(start, stop):
            message = window.batch[index]
            self._in_flight[self._next_tag] = (window, index)
            self._next_tag += 1
            self._channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.body,
                pika.BasicProperties(
                    content_type=message.content_type,
                    delivery_mode=2,
                    message_id=message.message_id,
                    headers=message.headers,
                ),
                mandatory=True,
            )
        if stop < len(window.batch):
            self._connection.ioloop.add_callback(partial(self._send, window, stop))

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        # The broker sends the return before the confirm of the same message.
        self._returned[method.routing_key, properties.message_id] += 1

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        outcome = (
            PublishOutcome.CONFIRMED
            if isinstance(method, pika.spec.Basic.Ack)
            else PublishOutcome.REFUSED
        )
        if not method.multiple:
            self._note(method.delivery_tag, outcome)
            return
        # Tags were inserted in rising order, so the first ones are the lowest.
        for tag in list(self._in_flight):
            if tag > method.delivery_tag:
                break
            self._note(tag, outcome)

    def _note(self, tag: int, outcome: PublishOutcome) -> None:
        window, index = self._in_flight.pop(tag)
        message = window.batch[index]
        if self._returned:
            key = (message.routing_key, message.message_id)
            if self._returned[key]:
                outcome = PublishOutcome.RETURNED
                self._returned[key] -= 1
            if not self._returned[key]:
                del self._returned[key]
        window.note(index, outcome)
        if not window.open:
            self._windows.discard(window)
            self._shut_when_idle()

    def _end(self) -> None:
        with self._gate:
            self._ended = True
            windows, self._windows = self._windows, set()
        if self._exchange_missing:
            for window in windows:
                window.outcomes = [
                    PublishOutcome.RETURNED if outcome is PublishOutcome.UNKNOWN else outcome
                    for outcome in window.outcomes
                ]
        for window in windows:
            window.done.set()
        self.opened.set()
