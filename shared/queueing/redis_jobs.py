"""Jobs over Redis: dramatiq's broker, with every wait bounded and jobs that are taken at once.

`do_…` and `scripts` of the library's broker are what its own consumer is made of: there is no other
way to put many jobs into one pipeline or to wait where jobs arrive (its scripts keep the books, so
they cannot block: https://github.com/Bogdanp/dramatiq/issues/25).
"""

from __future__ import annotations

import random
import time
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
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

#: Seconds for which a worker to whom others were quicker waits at most.
_LATE_S: Final = 0.25

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
        #: (queue, id) of jobs that are done and have still to be acknowledged.
        self.done: deque[tuple[str, str]] = deque()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        return _RedisConsumer(self, queue_name, prefetch, timeout / 1000)

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            metrics.UNDECODABLE_JOBS.labels(label_of(queue_name))  # so that the first one is a rise
            self.emit_after("declare_queue", queue_name)

    def enqueue_batch(self, messages: Sequence[dramatiq.Message[Any]]) -> None:
        commands = []
        for message in messages:
            # A message that is enqueued again needs an id of its own on Redis.
            identifier = str(uuid.uuid4())
            body = message.copy(options={"redis_message_id": identifier}).encode()
            commands.append(self._command("enqueue", message.queue_name, identifier, body))
        try:
            _without_failure(self._send(commands))
        except (redis.RedisError, OSError) as error:
            raise translated(error, self.url) from error

    def take(self, queue: str, room: int, wait_s: float = 0.0) -> tuple[list[bytes | None], bool]:
        """Fetches `room` jobs at most, waiting so long for the first one, and acknowledges what is
        done; a heartbeat, too. Says also whether one came while it waited, which others may have.

        Raises RedisError and OSError.
        """
        key = f"{self.namespace}:{queue}"
        # Moves the first id of the queue to where it is: that is, waits until there is one.
        waiting = [("BLMOVE", key, key, "LEFT", "LEFT", wait_s)] if wait_s else []
        maintained = int(random.randrange(1_000_000) < self.maintenance_chance)  # noqa: S311
        fetching = self._command("fetch", queue, room, maintained=maintained)
        *waited, fetched = self.acknowledge([*waiting, fetching])
        return fetched, any(waited)

    def acknowledge(self, commands: Sequence[tuple[Any, ...]] = ()) -> list[Any]:
        """Acknowledges what is done, in one round trip with other commands; returns their answers.

        Raises RedisError and OSError; what is not acknowledged then is so the next time. Where only
        an acknowledgement is refused, the answers count: jobs that were fetched are in hand.
        """
        done: list[tuple[str, str]] = []
        with suppress(IndexError):
            while True:
                done.append(self.done.popleft())
        acknowledging = [self._command("ack", queue, identifier) for queue, identifier in done]
        try:
            answers = self._send([*acknowledging, *commands])
            found = _without_failure(answers[len(done) :] if commands else answers)
        except BaseException:
            self.done.extendleft(reversed(done))
            raise
        refused = [one for one, answer in zip(done, answers, strict=False) if _is_failure(answer)]
        self.done.extendleft(reversed(refused))
        return found if commands else []

    def _command(self, name: str, queue: str, *args: Any, maintained: int = 0) -> tuple[Any, ...]:
        """Of the library's script."""
        script = self.scripts["dispatch"]
        limits = (self.heartbeat_timeout, self.dead_message_ttl, maintained, _UNPACKED)
        head = ("EVALSHA", script.sha, 1, self.namespace, name, current_millis(), queue)
        return (*head, self.broker_id, *limits, *args)

    def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """In one round trip; returns the answer of each, which may be a failure. With scripts of
        the library a pipeline asks each time whether Redis knows them.

        Between two of them somebody else may load the script: what was done is not done again.
        """
        if not commands:
            return []
        answers = self._pipelined(commands)
        unknown = [
            index
            for index, answer in enumerate(answers)
            if isinstance(answer, redis.exceptions.NoScriptError)
        ]
        if unknown:
            self.client.script_load(self.scripts["dispatch"].script)
            again = self._pipelined([commands[index] for index in unknown])
            for index, answer in zip(unknown, again, strict=True):
                answers[index] = answer
        return answers

    def _pipelined(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        with self.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute(raise_on_error=False))

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
            # Adds nothing (XX), and is refused where a job is. Every script of the library writes
            # to this key, so no account needs a right for it.
            self.client.zadd(f"{self.namespace}:__heartbeats__", {"": 0}, xx=True)
        except (redis.RedisError, OSError) as error:
            raise translated(error, self.url) from error

    def close(self) -> None:
        self.client.close()


def _is_failure(answer: Any) -> bool:
    return isinstance(answer, Exception)


def _without_failure(answers: list[Any]) -> list[Any]:
    """Raises the first one."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


class _RedisConsumer(dramatiq.Consumer):
    """Takes every failure of Redis as a lost connection, which the worker waits out.

    The library does so for one class of errors only: a time-out, a server that is loading or a
    replica that turned read-only would end in a message that nobody acknowledges.

    Waits for jobs where they arrive, while the library looks now and then: it would let a job lie
    for as long as a look is apart. What is done is acknowledged with the next look, so a job costs
    one round trip.
    """

    def __init__(self, broker: RedisJobs, queue: str, prefetch: int, idle_s: float) -> None:
        self._broker = broker
        self._queue = queue
        self._prefetch = prefetch
        self._idle_s = idle_s
        #: Whether the queue had fewer jobs than were asked for: then they are waited for.
        self._empty = False
        #: Whether others were quicker: all who wait are woken by one job.
        self._late = False
        self._signed_at = time.monotonic()
        #: Fetched, and not handed out yet.
        self._fetched: list[bytes | None] = []
        #: Handed out, and not done with.
        self._held: set[str] = set()

    def __next__(self) -> Any:
        self._broker.pulse.beat()
        try:
            if not self._fetched:
                self._look()
            while self._fetched:
                data = self._fetched.pop(0)
                message = decoded(data)
                if message is None or "redis_message_id" not in message.options:
                    self._reject(data)
                    continue
                self._held.add(message.message_id)
                return dramatiq.MessageProxy(message)
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None
        return None

    def _look(self) -> None:
        """Fetches what there is room for, and waits for it where there was nothing."""
        room = self._prefetch - len(self._held)
        if room <= 0:
            if time.monotonic() - self._signed_at > _SIGN_S:
                # A worker that is silent for a minute is taken for dead, and its jobs go to others.
                self._signed_at = time.monotonic()
                self._broker.take(self._queue, 0)
            time.sleep(_FULL_S)
            return
        if self._late:
            self._late = False
            time.sleep(random.uniform(0, _LATE_S))  # noqa: S311 (jitter)
        self._signed_at = time.monotonic()
        wait_s = self._idle_s if self._empty else 0.0
        self._fetched, is_woken = self._broker.take(self._queue, room, wait_s)
        self._empty = len(self._fetched) < room
        self._late = is_woken and not self._fetched
        self._broker.pulse.taking()

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

    def ack(self, message: Any) -> None:
        self._broker.done.append((self._queue, message.options["redis_message_id"]))
        self._held.discard(message.message_id)

    def nack(self, message: Any) -> None:
        try:
            self._broker.do_nack(self._queue, message.options["redis_message_id"])
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
        """Acknowledges what is done, and gives back what was fetched and not handed out.

        Maintenance would wait until this process was silent for a minute.
        """
        try:
            self._broker.acknowledge()
        except (redis.RedisError, OSError) as error:
            raise dramatiq.errors.ConnectionClosed(error) from None
        fetched, self._fetched = self._fetched, []
        jobs = [decoded(data) for data in fetched]
        # What is no job stays where whoever takes over from this process finds it.
        self.requeue(m for m in jobs if m is not None and "redis_message_id" in m.options)
