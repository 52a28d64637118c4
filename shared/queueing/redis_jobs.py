"""Jobs over Redis: dramatiq's broker, with every wait bounded and jobs that are taken at once.

`do_…` and `scripts` of the library's broker are what its own consumer is made of: there is no other
way to put many jobs into one pipeline or to wait where jobs arrive (its scripts keep the books, so
they cannot block: https://github.com/Bogdanp/dramatiq/issues/25).
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import dramatiq
import dramatiq.errors
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis

from shared.jobs import label_of
from shared.queueing.connect import redis_client, translated
from shared.queueing.job_context import JobContext, Pulse
from shared.queueing.job_messages import count_undecodable, decoded
from shared.telemetry import metrics

#: Chance in a million that a command also gives back what dead workers held (Redis). The library's
#: own 0.1 % lets an idle queue wait for a quarter of an hour.
_MAINTENANCE: Final = 10_000

#: What a script may unpack at once (Lua's stack): a bound that an enqueued job never comes near.
_UNPACKED: Final = 1000

#: Seconds until a worker that has as many jobs as it may hold looks whether one ended.
_FULL_S: Final = 0.01

#: Seconds between two heartbeats of a worker that has as many jobs as it may hold.
_SIGN_S: Final = 10.0


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
                message = decoded(data)
                if message is None or "redis_message_id" not in message.options:
                    self._reject(data)
                    continue
                self._woken = False
                self._held.add(message.message_id)
                return dramatiq.MessageProxy(message)
            self._wait()
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None
        return None

    def _reject(self, data: bytes | None) -> None:
        """Moves what is no job to the dead letters of its queue. What was fetched says no id."""
        count_undecodable(self._queue, data)
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
        jobs = [decoded(data) for data in fetched]
        # What is no job stays where whoever takes over from this process finds it.
        self.requeue(m for m in jobs if m is not None and "redis_message_id" in m.options)
