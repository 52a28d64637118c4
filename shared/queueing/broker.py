"""The broker of the jobs: dramatiq over Redis or RabbitMQ, trimmed to what jobs need here.

A job is a hint that work is waiting; Postgres is what counts. So nothing is retried or delayed by
the broker (the scheduler drives again what was not done), no result is kept, and no broker is
installed globally.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import dramatiq
import dramatiq.broker
import dramatiq.errors
import pika
import pika.exceptions
import redis
import structlog
from dramatiq.brokers.rabbitmq import DEAD_MESSAGE_TTL, RabbitmqBroker, _RabbitmqConsumer
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.common import current_millis, xq_name

from shared.queueing.amqp import ConfirmingPublisher, Fate, Outgoing
from shared.queueing.connect import (
    ANSWER_TIMEOUT_S,
    BrokerDown,
    place,
    rabbitmq_parameters,
    redis_client,
    scheme_of,
    translated,
)
from shared.queueing.context import JobContext, Pulse, outgoing_context
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: Jobs that go out in one pipeline or one window of confirms.
BATCH: Final = 1000

#: Chance in a million that a command also gives back what dead workers held (Redis). The library's
#: own 0.1 % lets an idle queue wait for a quarter of an hour.
_MAINTENANCE: Final = 10_000

#: Seconds before what was not taken is sent again: a queue that was just declared, here or by a
#: worker, is known before it takes anything.
_PAUSES_S: Final = (0.0, 0.1, 0.4)

_QUORUM: Final = {"x-queue-type": "quorum"}

#: Seconds until a worker that has as many jobs as it may hold looks whether one ended.
_FULL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Job:
    """One message of a job queue: `actor(*args)` somewhere. Arguments are ids, never content."""

    queue: str
    actor: str
    args: tuple[Any, ...]


def build_broker(url: str, *, queues: Sequence[str] = ()) -> RedisJobs | RabbitmqJobs:
    """A broker for `redis:// rediss:// amqp:// amqps://`, with `queues` declared.

    Nothing is connected before the first use. Raises InvalidInput on an address it cannot use.
    """
    broker: RedisJobs | RabbitmqJobs = (
        RedisJobs(url) if scheme_of(url) == "redis" else RabbitmqJobs(url)
    )
    for queue in queues:
        broker.declare_queue(queue)
    return broker


def enqueue(
    broker: dramatiq.Broker,
    queue: str,
    actor: str,
    args: Sequence[Any],
    *,
    correlation_id: str = "",
) -> None:
    """One job; see `enqueue_many`."""
    enqueue_many(broker, [Job(queue, actor, tuple(args))], correlation_id=correlation_id)


def enqueue_many(broker: dramatiq.Broker, jobs: Sequence[Job], *, correlation_id: str = "") -> None:
    """Puts jobs on their queues, a thousand in a round trip; returns when the broker has them all.

    Raises TryAgain (BrokerDown) within about half a minute where that is not sure: some may be
    there all the same, so the caller enqueues again and a job may come twice.
    """
    assert isinstance(broker, RedisJobs | RabbitmqJobs)
    context = outgoing_context(correlation_id)
    for start in range(0, len(jobs), BATCH):
        broker.enqueue_batch(
            [
                dramatiq.Message(
                    queue_name=job.queue,
                    actor_name=job.actor,
                    args=job.args,
                    kwargs={},
                    options={"context": context},
                )
                for job in jobs[start : start + BATCH]
            ]
        )


class RedisJobs(RedisBroker):
    """dramatiq's Redis broker without delayed queues, with every wait bounded."""

    def __init__(self, url: str) -> None:
        super().__init__(
            client=redis_client(url),
            middleware=[JobContext()],
            maintenance_chance=_MAINTENANCE,
        )
        self.url = url
        self.pulse = Pulse()

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        return _BoundedRedisConsumer

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            metrics.JOBS_PUT_ASIDE.labels(queue_name)  # so that the first one is a rise
            self.emit_after("declare_queue", queue_name)

    def enqueue_batch(self, messages: Sequence[dramatiq.Message[Any]]) -> None:
        try:
            unpack_size = self._max_unpack_size()
            pipeline = self.client.pipeline(transaction=False)
            now = current_millis()
            for message in messages:
                # A message that is enqueued again needs an id of its own on Redis.
                identifier = str(uuid.uuid4())
                body = message.copy(options={"redis_message_id": identifier}).encode()
                command: list[Any] = ["enqueue", now, message.queue_name, self.broker_id]
                limits = [self.heartbeat_timeout, self.dead_message_ttl, 0, unpack_size]
                self.scripts["dispatch"](
                    args=[*command, *limits, identifier, body],
                    keys=[self.namespace],
                    client=pipeline,
                )
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise translated(error, self.url) from error

    def check(self) -> None:
        """Raises BrokerDown or BrokerRefused where no job could be sent or taken."""
        try:
            self.client.ping()
        except (redis.RedisError, OSError) as error:
            raise translated(error, self.url) from error

    def close(self) -> None:
        self.client.close()


class _BoundedRedisConsumer(_RedisConsumer):
    """Takes every failure of Redis as a lost connection, which the worker waits out.

    The library does so for one class of errors only: a time-out, a server that is loading or a
    replica that turned read-only would end in a message that nobody acknowledges.

    Waits for jobs where they arrive, while the library looks now and then: it would let a job lie
    for as long as a look is apart.
    """

    def __init__(self, broker: Any, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout=0)
        self._idle_s = timeout / 1000
        self._woken = False

    def __next__(self) -> Any:
        self.broker.pulse.beat()
        try:
            if not self.message_cache and self.outstanding_message_count < self.prefetch:
                room = self.prefetch - self.outstanding_message_count
                self.message_cache = self.broker.do_fetch(self.queue_name, room)
            while self.message_cache:
                data = self.message_cache.pop(0)
                message = _decoded(data)
                if message is None or "redis_message_id" not in message.options:
                    self._put_aside(data)
                    continue
                self._woken = False
                self.queued_message_ids.add(message.message_id)
                return dramatiq.broker.MessageProxy(message)
            self._wait()
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None
        return None

    def _put_aside(self, data: bytes | None) -> None:
        """Moves what is no job to the dead letters of its queue. What was fetched says no id."""
        _count_put_aside(self.queue_name, data)
        broker, client = self.broker, self.broker.client
        acks = f"{broker.namespace}:__acks__.{broker.broker_id}.{self.queue_name}"
        held = list(client.smembers(acks))
        bodies = client.hmget(f"{broker.namespace}:{self.queue_name}.msgs", held) if held else []
        for identifier, body in zip(held, bodies, strict=True):
            if body is None:
                client.srem(acks, identifier)
            elif body == data:
                broker.do_nack(self.queue_name, identifier)

    def _wait(self) -> None:
        if self.outstanding_message_count >= self.prefetch:
            time.sleep(_FULL_S)
        elif self._woken:
            # Others were quicker: all who wait are woken by one job.
            self._woken = False
            time.sleep(random.uniform(0, self._idle_s))  # noqa: S311 (jitter)
        else:
            # Moves the first id of the queue to where it is: that is, waits until there is one.
            queue = f"{self.broker.namespace}:{self.queue_name}"
            found = self.broker.client.execute_command(
                "BLMOVE", queue, queue, "LEFT", "LEFT", self._idle_s
            )
            self._woken = found is not None

    def ack(self, message: Any) -> None:
        try:
            super().ack(message)
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None

    def nack(self, message: Any) -> None:
        try:
            super().nack(message)
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None

    def requeue(self, messages: Any) -> None:
        try:
            super().requeue(messages)
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None

    def close(self) -> None:
        """Gives back what was fetched and not handed out.

        The library leaves it to maintenance, which waits until this process was silent for a
        minute.
        """
        fetched, self.message_cache = self.message_cache, []
        decoded = [(data, _decoded(data)) for data in fetched]
        # What is no job stays where whoever takes over from this process finds it.
        self.requeue([m for _, m in decoded if m is not None and "redis_message_id" in m.options])
        super().close()


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

    @property
    def consumer_class(self) -> type[_RabbitmqConsumer]:
        return _WatchedRabbitmqConsumer

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            metrics.JOBS_PUT_ASIDE.labels(queue_name)  # so that the first one is a rise
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        self.pulse.beat()
        try:
            consumer = super().consume(queue_name, prefetch, timeout)
        except OSError as error:  # a name that does not resolve
            raise dramatiq.errors.ConnectionClosed(error) from None
        del self.connection  # the consumer has its own; this one declared the queue
        return consumer

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

    def check(self) -> None:
        """Raises BrokerDown or BrokerRefused where no job could be sent or taken."""
        try:
            pika.BlockingConnection(rabbitmq_parameters(self.url)).close()
        except (pika.exceptions.AMQPError, OSError) as error:
            raise translated(error, self.url) from error

    def close(self) -> None:
        self._publisher.close()
        super().close()

    def _publish(self, batch: Sequence[Outgoing]) -> tuple[list[Outgoing], list[Outgoing], int]:
        """Those that no queue took, those that were refused, and how many others are in doubt."""
        fates = self._publisher.publish(batch, timeout_s=ANSWER_TIMEOUT_S)
        returned = [m for m, fate in zip(batch, fates, strict=True) if fate is Fate.RETURNED]
        refused = [m for m, fate in zip(batch, fates, strict=True) if fate is Fate.REFUSED]
        return returned, refused, fates.count(Fate.UNKNOWN)

    def _declare_again(self, queues: set[str]) -> None:
        try:
            for queue in queues:
                self.declare_queue(queue)
                self.queues_pending.add(queue)
                self._ensure_queue(queue)
        except (pika.exceptions.AMQPError, dramatiq.errors.BrokerConnectionError, OSError) as error:
            raise translated(error, self.url) from error
        finally:
            del self.connection

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {**super()._build_queue_arguments(queue_name), **_QUORUM}

    def _declare_xq_queue(self, queue_name: str) -> Any:
        arguments = {**_QUORUM, "x-message-ttl": DEAD_MESSAGE_TTL}
        return self.channel.queue_declare(xq_name(queue_name), durable=True, arguments=arguments)

    def _declare_dq_queue(self, queue_name: str) -> None:
        """Nothing is delayed by the broker: a worker would hold such jobs unacknowledged."""


class _WatchedRabbitmqConsumer(_RabbitmqConsumer):
    def __next__(self) -> Any:
        self.broker.pulse.beat()
        message = super().__next__()
        if message is None or _is_job(message):
            return message
        self.known_tags.discard(message._tag)
        self._nack(message._tag)
        return None

    def _nack(self, tag: int) -> None:
        """RabbitMQ moves it to the dead letters of its queue."""
        _count_put_aside(self.queue_name, None)
        super()._nack(tag)


def _decoded(data: bytes | None) -> dramatiq.Message[Any] | None:
    """The job, None where these octets are none."""
    if data is None:
        return None
    try:
        message = dramatiq.Message.decode(data)
    except dramatiq.errors.DecodeError:
        return None
    return message if _is_job(message) else None


def _is_job(message: Any) -> bool:
    """Whether it has the parts that the library relies on. Jobs are never delayed (`eta`)."""
    return (
        isinstance(message.actor_name, str)
        and isinstance(message.message_id, str)
        and isinstance(message.options, dict)
        and isinstance(message.kwargs, dict)
        and "eta" not in message.options
    )


def _count_put_aside(queue: str, data: bytes | None) -> None:
    metrics.JOBS_PUT_ASIDE.labels(queue).inc()
    _log.error(
        "a job that cannot be read is put aside",
        queue=queue,
        octets=None if data is None else len(data),
        hint="Postgres knows what was to be done: it is sent again.",
    )
