"""The broker of the jobs: dramatiq over Redis or RabbitMQ, trimmed to what jobs need here.

A job is a hint that work is waiting; Postgres is what counts. So nothing is retried or delayed by
the broker (the scheduler drives again what was not done), no result is kept, and no broker is
installed globally.

Only what dramatiq documents is used: brokers, the interface of a consumer, an encoder, middleware,
workers. `do_…` and `scripts` of its Redis broker are what its own consumer is made of: there is no
other way to put many jobs into one pipeline or to wait where jobs arrive (its scripts keep the
books, so they cannot block: https://github.com/Bogdanp/dramatiq/issues/25).
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dramatiq
import dramatiq.broker
import dramatiq.errors
import pika
import pika.exceptions
import redis
import structlog
from dramatiq.brokers.rabbitmq import DEAD_MESSAGE_TTL, MAX_DECLARE_ATTEMPTS, RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis, xq_name

from shared.jobs import label_of
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

#: What a script may unpack at once (Lua's stack): a bound that an enqueued job never comes near.
_UNPACKED: Final = 1000

#: Seconds until a worker that has as many jobs as it may hold looks whether one ended.
_FULL_S: Final = 0.01

#: Seconds between two looks whether the queue still has a consumer (RabbitMQ).
_CONSUMER_CHECK_S: Final = 5.0

#: Seconds between two signs of life of a worker that has as many jobs as it may hold.
_SIGN_S: Final = 10.0


class _JobEncoder(dramatiq.JSONEncoder):
    """Reads what is no job as one without an actor: so a consumer sees it and puts it aside."""

    def decode(self, data: bytes) -> Any:
        nothing: dict[str, Any] = {
            "queue_name": "",
            "actor_name": None,
            "args": (),
            "kwargs": {},
            "options": {},
            "message_id": "",
            "message_timestamp": 0,
        }
        try:
            found = super().decode(data)
        except dramatiq.errors.DecodeError:
            return nothing
        usable = isinstance(found, dict) and found.keys() == nothing.keys()
        return found if usable and isinstance(found["args"], list) else nothing


dramatiq.set_encoder(_JobEncoder())


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

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        return _RedisConsumer(self, queue_name, prefetch, timeout / 1000)

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            metrics.JOBS_PUT_ASIDE.labels(label_of(queue_name))  # so that the first one is a rise
            self.emit_after("declare_queue", queue_name)

    def enqueue_batch(self, messages: Sequence[dramatiq.Message[Any]]) -> None:
        try:
            pipeline = self.client.pipeline(transaction=False)
            now = current_millis()
            for message in messages:
                # A message that is enqueued again needs an id of its own on Redis.
                identifier = str(uuid.uuid4())
                body = message.copy(options={"redis_message_id": identifier}).encode()
                command: list[Any] = ["enqueue", now, message.queue_name, self.broker_id]
                limits = [self.heartbeat_timeout, self.dead_message_ttl, 0, _UNPACKED]
                self.scripts["dispatch"](
                    args=[*command, *limits, identifier, body],
                    keys=[self.namespace],
                    client=pipeline,
                )
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise translated(error, self.url) from error

    def delete_queue(self, queue_name: str) -> None:
        """Deletes the queue with all jobs, also those that a worker which is gone had taken.

        Raises BrokerDown or BrokerRefused.
        """
        name = f"{self.namespace}:{queue_name}"
        try:
            taken = list(self.client.scan_iter(f"{self.namespace}:__acks__.*.{queue_name}"))
            self.client.delete(name, f"{name}.msgs", f"{name}.XQ", f"{name}.XQ.msgs", *taken)
        except (redis.RedisError, OSError) as error:
            raise translated(error, self.url) from error
        self.queues.discard(queue_name)

    def check(self) -> None:
        """Raises BrokerDown or BrokerRefused where no job could be sent or taken."""
        try:
            self.client.ping()
        except (redis.RedisError, OSError) as error:
            raise translated(error, self.url) from error

    def close(self) -> None:
        self.client.close()


class _RedisConsumer(dramatiq.Consumer):
    """Takes every failure of Redis as a lost connection, which the worker waits out.

    The library does so for one class of errors only: a time-out, a server that is loading or a
    replica that turned read-only would end in a message that nobody acknowledges.

    Waits for jobs where they arrive, while the library looks now and then: it would let a job lie
    for as long as a look is apart.
    """

    def __init__(self, broker: RedisJobs, queue: str, prefetch: int, idle_s: float) -> None:
        self._broker = broker
        self._queue = queue
        self._prefetch = prefetch
        self._idle_s = idle_s
        self._woken = False
        self._signed_at = time.monotonic()
        #: Fetched, and not handed out yet.
        self._fetched: list[bytes | None] = []
        #: Handed out, and not done with.
        self._held: set[str] = set()

    def __next__(self) -> Any:
        self._broker.pulse.beat()
        try:
            room = self._prefetch - len(self._held)
            if not self._fetched and room > 0:
                self._fetched = self._broker.do_fetch(self._queue, room)
                self._broker.pulse.taking()
            while self._fetched:
                data = self._fetched.pop(0)
                message = _decoded(data)
                if message is None or "redis_message_id" not in message.options:
                    self._put_aside(data)
                    continue
                self._woken = False
                self._held.add(message.message_id)
                return dramatiq.MessageProxy(message)
            self._wait()
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None
        return None

    def _put_aside(self, data: bytes | None) -> None:
        """Moves what is no job to the dead letters of its queue. What was fetched says no id."""
        _count_put_aside(self._queue, data)
        broker, client = self._broker, self._broker.client
        acks = f"{broker.namespace}:__acks__.{broker.broker_id}.{self._queue}"
        held = list(client.smembers(acks))
        bodies = client.hmget(f"{broker.namespace}:{self._queue}.msgs", held) if held else []
        for identifier, body in zip(held, bodies, strict=True):
            if body is None:
                client.srem(acks, identifier)
            elif body == data:
                broker.do_nack(self._queue, identifier)

    def _wait(self) -> None:
        if len(self._held) >= self._prefetch:
            if time.monotonic() - self._signed_at > _SIGN_S:
                # A worker that is silent for a minute is taken for dead, and its jobs go to others.
                self._signed_at = time.monotonic()
                self._broker.do_fetch(self._queue, 0)
            time.sleep(_FULL_S)
        elif self._woken:
            # Others were quicker: all who wait are woken by one job.
            self._woken = False
            time.sleep(random.uniform(0, self._idle_s))  # noqa: S311 (jitter)
        else:
            # Moves the first id of the queue to where it is: that is, waits until there is one.
            queue = f"{self._broker.namespace}:{self._queue}"
            found = self._broker.client.execute_command(
                "BLMOVE", queue, queue, "LEFT", "LEFT", self._idle_s
            )
            self._woken = found is not None

    def ack(self, message: Any) -> None:
        self._end(self._broker.do_ack, message)

    def nack(self, message: Any) -> None:
        self._end(self._broker.do_nack, message)

    def _end(self, command: Callable[[str, str], object], message: Any) -> None:
        try:
            command(self._queue, message.options["redis_message_id"])
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None
        finally:
            self._held.discard(message.message_id)

    def requeue(self, messages: Iterable[Any]) -> None:
        identifiers = [message.options["redis_message_id"] for message in messages]
        if not identifiers:
            return
        try:
            self._broker.do_requeue(self._queue, *identifiers)
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None

    def close(self) -> None:
        """Gives back what was fetched and not handed out.

        Maintenance would wait until this process was silent for a minute.
        """
        fetched, self._fetched = self._fetched, []
        decoded = [_decoded(data) for data in fetched]
        # What is no job stays where whoever takes over from this process finds it.
        self.requeue(m for m in decoded if m is not None and "redis_message_id" in m.options)


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
            metrics.JOBS_PUT_ASIDE.labels(label_of(queue_name))  # so that the first one is a rise
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
    """

    def __init__(self, inner: Any, queue: str, prefetch: int, pulse: Pulse) -> None:
        self._inner = inner
        self._queue = queue
        self._prefetch = prefetch
        self._pulse = pulse
        self._checked_at = time.monotonic()
        #: Handed out, and not done with.
        self._held: set[str] = set()

    def __next__(self) -> Any:
        self._pulse.beat()
        if time.monotonic() - self._checked_at > _CONSUMER_CHECK_S:
            self._checked_at = time.monotonic()
            self._check()
        message = next(self._inner)
        if len(self._held) < self._prefetch:
            self._pulse.taking()
        if message is None:
            return None
        if _is_job(message):
            self._held.add(message.message_id)
            return message
        self._put_aside(message)
        return None

    def ack(self, message: Any) -> None:
        self._held.discard(message.message_id)
        self._inner.ack(message)

    def nack(self, message: Any) -> None:
        self._held.discard(message.message_id)
        self._put_aside(message)

    def _put_aside(self, message: Any) -> None:
        """RabbitMQ moves it to the dead letters of its queue."""
        _count_put_aside(self._queue, None)
        self._inner.nack(message)

    def _check(self) -> None:
        """Raises ConnectionClosed where the queue is gone or has no consumer: begin anew."""
        try:
            found = self._inner.channel.queue_declare(self._queue, passive=True)
        except (pika.exceptions.AMQPError, AssertionError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None
        if not found.method.consumer_count:
            raise dramatiq.errors.ConnectionClosed(LookupError(f"{self._queue} was made anew"))

    def requeue(self, messages: Iterable[Any]) -> None:
        self._inner.requeue(messages)

    def close(self) -> None:
        self._inner.close()


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
    metrics.JOBS_PUT_ASIDE.labels(label_of(queue)).inc()
    _log.error(
        "a job that cannot be read is put aside",
        queue=queue,
        octets=None if data is None else len(data),
        hint="Postgres knows what was to be done: it is sent again.",
    )
