"""Jobs over RabbitMQ: dramatiq's broker on quorum queues, publishing in windows of confirms."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import dramatiq
import dramatiq.errors
import pika
import pika.exceptions
from dramatiq.brokers.rabbitmq import DEAD_MESSAGE_TTL, MAX_DECLARE_ATTEMPTS, RabbitmqBroker
from dramatiq.common import xq_name

from shared.jobs import label_of
from shared.queueing.connect import (
    ANSWER_TIMEOUT_S,
    BrokerDown,
    place,
    rabbitmq_parameters,
    translated,
)
from shared.queueing.job_context import JobContext, Pulse
from shared.queueing.job_messages import count_undecodable, is_job
from shared.queueing.rabbitmq_publishing import ConfirmingPublisher, Outgoing, PublishOutcome
from shared.telemetry import metrics

#: Seconds before what was not taken is sent again: a queue that was just declared, here or by a
#: worker, is known before it takes anything.
_PAUSES_S: Final = (0.0, 0.1, 0.4)

_QUORUM: Final = {"x-queue-type": "quorum"}

#: Seconds between two looks whether the queue still has a consumer (RabbitMQ).
_CONSUMER_CHECK_S: Final = 5.0


class RabbitmqJobs(RabbitmqBroker):
    """dramatiq's RabbitMQ broker without delayed queues, publishing in windows of confirms.

    Queues are quorum queues: a classic one is gone with the node that it was declared on, and
    cannot be declared on another one, until that node is back.
    """

    def __init__(self, url: str) -> None:
        super().__init__(confirm_delivery=True, middleware=[JobContext()])
        self.parameters = rabbitmq_parameters(url)
        self.url = url
        self.pulse = Pulse()
        self._publisher = ConfirmingPublisher(url)

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """As the library does, without a queue for delayed jobs: the broker delays none, as a
        worker would hold such jobs unacknowledged. Raises ConnectionClosed."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            metrics.UNDECODABLE_JOBS.labels(label_of(queue_name))  # so that the first one is a rise
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        for attempt in range(MAX_DECLARE_ATTEMPTS if ensure else 0):
            if queue_name not in self.queues_pending:
                return
            try:
                self._declare(queue_name)
                self.queues_pending.discard(queue_name)
            except (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError) as error:
                del self.connection
                if attempt + 1 == MAX_DECLARE_ATTEMPTS:
                    raise dramatiq.errors.ConnectionClosed(error) from None

    def _declare(self, queue: str) -> None:
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": xq_name(queue)}
        aged = {"x-message-ttl": DEAD_MESSAGE_TTL}
        for name, arguments in ((queue, dead), (xq_name(queue), aged)):
            self.channel.queue_declare(name, durable=True, arguments={**_QUORUM, **arguments})

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        self.pulse.beat()
        # It may have been deleted while nobody consumed it; declaring it once more costs nothing.
        self.queues_pending.add(queue_name)
        try:
            consumer = super().consume(queue_name, prefetch, timeout)
        except OSError as error:  # a name that does not resolve
            raise dramatiq.errors.ConnectionClosed(error) from None
        del self.connection  # the consumer has its own; this one declared the queue
        return _RabbitmqConsumer(consumer, queue_name, prefetch, self.pulse)

    def enqueue_batch(self, messages: Sequence[dramatiq.Message[Any]]) -> None:
        waiting = [
            Outgoing(
                "", message.queue_name, message.encode(), message.message_id, "application/json"
            )
            for message in messages
        ]
        returned, refused, unsure = self._publish(waiting)
        for pause in _PAUSES_S:
            if not returned and not refused:
                break
            if returned:
                self._declare_again({message.routing_key for message in returned})
            time.sleep(pause)
            returned, refused, more = self._publish(returned + refused)
            unsure += more
        if failed := len(returned) + len(refused) + unsure:
            raise BrokerDown(f"{place(self.url)} did not confirm {failed} of {len(waiting)} jobs.")

    def delete_queue(self, queue_name: str) -> None:
        """Deletes the queue with all jobs; nothing where it is not there.

        Raises BrokerDown or BrokerRefused.
        """
        try:
            for name in (queue_name, xq_name(queue_name)):
                self.channel.queue_delete(name)
        except (pika.exceptions.AMQPError, OSError) as error:
            raise translated(error, self.url) from error
        finally:
            del self.connection
        self.queues.discard(queue_name)
        self.queues_pending.discard(queue_name)

    def check(self) -> None:
        """Raises BrokerDown or BrokerRefused where no job could be sent or taken."""
        self._publisher.check()

    def close(self) -> None:
        self._publisher.close()
        super().close()

    def _publish(self, batch: Sequence[Outgoing]) -> tuple[list[Outgoing], list[Outgoing], int]:
        """Those that no queue took, those that were refused, and how many others are in doubt."""
        outcomes = self._publisher.publish(batch, timeout_s=ANSWER_TIMEOUT_S)
        returned = [
            m
            for m, outcome in zip(batch, outcomes, strict=True)
            if outcome is PublishOutcome.RETURNED
        ]
        refused = [
            m
            for m, outcome in zip(batch, outcomes, strict=True)
            if outcome is PublishOutcome.REFUSED
        ]
        return returned, refused, outcomes.count(PublishOutcome.UNKNOWN)

    def _declare_again(self, queues: set[str]) -> None:
        try:
            for queue in queues:
                self.queues_pending.add(queue)
                self.declare_queue(queue, ensure=True)
        except (pika.exceptions.AMQPError, dramatiq.errors.BrokerConnectionError, OSError) as error:
            raise translated(error, self.url) from error
        finally:
            del self.connection


class _RabbitmqConsumer(dramatiq.Consumer):
    """The library's, which hands out jobs only: what is none goes to the dead letters.

    Where a queue is made again in the moment of its deletion, RabbitMQ (seen on 3.10) does not tell
    the old one's consumers that it is gone: so it asks now and then whether there is a consumer.
    Even that may be said of the old one: where jobs wait and none comes, it begins anew as well.
    """

    def __init__(self, inner: Any, queue: str, prefetch: int, pulse: Pulse) -> None:
        self._inner = inner
        self._queue = queue
        self._prefetch = prefetch
        self._pulse = pulse
        self._checked_at = time.monotonic()
        #: Whether jobs waited at the last check, though none had come before it.
        self._was_passed_over = False
        #: Handed out, and not done with.
        self._held: set[str] = set()

    def __next__(self) -> Any:
        self._pulse.beat()
        if time.monotonic() - self._checked_at > _CONSUMER_CHECK_S:
            self._checked_at = time.monotonic()
            self._check()
        message = next(self._inner)
        if message is not None:
            self._was_passed_over = False
        if len(self._held) < self._prefetch:
            self._pulse.taking()
        if message is None:
            return None
        if is_job(message):
            self._held.add(message.message_id)
            return message
        self._reject(message)
        return None

    def ack(self, message: Any) -> None:
        self._held.discard(message.message_id)
        self._inner.ack(message)

    def nack(self, message: Any) -> None:
        self._held.discard(message.message_id)
        self._reject(message)

    def _reject(self, message: Any) -> None:
        """RabbitMQ moves it to the dead letters of its queue."""
        count_undecodable(self._queue, None)
        self._inner.nack(message)

    def _check(self) -> None:
        """Raises ConnectionClosed where the queue is gone or has no consumer: begin anew."""
        try:
            found = self._inner.channel.queue_declare(self._queue, passive=True)
        except (pika.exceptions.AMQPError, AssertionError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None
        if not found.method.consumer_count:
            raise dramatiq.errors.ConnectionClosed(LookupError(f"{self._queue} was made anew"))
        waits = bool(found.method.message_count) and not self._held
        if waits and self._was_passed_over:
            raise dramatiq.errors.ConnectionClosed(LookupError(f"{self._queue} gives no jobs"))
        self._was_passed_over = waits

    def requeue(self, messages: Iterable[Any]) -> None:
        self._inner.requeue(messages)

    def close(self) -> None:
        self._inner.close()
