"""The broker of the jobs: dramatiq over Redis or RabbitMQ, trimmed to what jobs need here.

A job is a hint that work is waiting; Postgres is what counts. So nothing is retried or delayed by
the broker (the scheduler sends again what was not done), no result is kept, and no broker is
installed globally.

Only what dramatiq documents is used: brokers, the interface of a consumer, an encoder, middleware,
workers; what `shared.queueing.redis_jobs` needs beside it stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import dramatiq

from shared.queueing.connect import scheme_of
from shared.queueing.job_context import outgoing_context
from shared.queueing.rabbitmq_jobs import RabbitmqJobs as RabbitmqJobs
from shared.queueing.redis_jobs import RedisJobs as RedisJobs

#: Jobs that go out in one pipeline or one window of confirms.
BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """One message of a job queue: `actor(*args)` somewhere. Arguments are ids, never content."""

    queue: str
    actor: str
    args: tuple[Any, ...]


def build_broker(url: str, *, queues: Sequence[str] = ()) -> RedisJobs | RabbitmqJobs:
    """A broker of any kind (`posthouse.broker_address`), with `queues` declared.

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
