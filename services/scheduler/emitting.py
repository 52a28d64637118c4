"""Emits fetch jobs for due connections, and sends again what was not published in time.

A connection whose session a fetcher keeps open goes to that fetcher's own queue, with many others;
all others go to the common queue, or to the slow lane's.

Any number of schedulers work at once, without a leader: each takes rows that no other holds.
Jobs go out before the claim is committed, so a broker that is down moves nothing: the connections
stay due. A commit that fails after that leaves a job too many, which finds nothing to do.

Mostly there is nothing to do. So one statement looks first, which takes and locks nothing and is
one round trip: a transaction that finds nothing is three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from opentelemetry.trace import SpanKind

from services.scheduler.settings import SchedulerSettings
from shared.clock import new_id
from shared.jobs import (
    DECRYPT_ACTOR,
    DECRYPT_QUEUE,
    FETCH_ACTOR,
    FETCH_QUEUE,
    FETCH_SLOW_QUEUE,
    own_queue,
)
from shared.queueing.broker import Job
from shared.storage import affinity, outbox, scheduling
from shared.storage.pool import Database
from shared.storage.scheduling import Due
from shared.telemetry import metrics, traces

_log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Polls over open sessions of one job: they are asked in one round trip.
_KEPT_POLLS_PER_JOB = 200


@dataclass(frozen=True, slots=True)
class Emitter:
    database: Database
    settings: SchedulerSettings
    send: Callable[[Sequence[Job]], None]
    delete_queue: Callable[[str], None]

    def emit_due(self, limit: int) -> bool:
        """Takes up to `limit` connections; True where more may be due at once.

        Raises TryAgain without a broker.
        """
        with self.database.autocommit() as session:
            if not scheduling.is_due(session):
                return False
        with self.database.transaction() as session:
            claimed = scheduling.claim_due(session, limit)
            if not claimed:
                return False
            used = [due for due in claimed if due.used and not due.fresh]
            correlation_id = str(new_id(claimed[0].at))
            queues: dict[str, list[int]] = {}
            for due in used:
                queues.setdefault(_queue_of(due), []).append(due.connection_id)
            with traces.span("schedule", kind=SpanKind.PRODUCER, connections=len(used)):
                self.send(
                    [
                        Job(queue, FETCH_ACTOR, (list(ids), correlation_id))
                        for queue, waiting in queues.items()
                        for ids in _pieces(waiting, self._polls_per_job(queue))
                    ]
                )
        for queue, sent in queues.items():
            metrics.FETCHES_EMITTED.labels(_LANES.get(queue, "own")).inc(len(sent))
        for due in used:
            metrics.SCHEDULING_LAG.observe(due.lag)
        return len(claimed) == limit

    def _polls_per_job(self, queue: str) -> int:
        if queue == FETCH_SLOW_QUEUE:
            return 1  # each may take its time
        return self.settings.polls_per_job if queue == FETCH_QUEUE else _KEPT_POLLS_PER_JOB

    def release_lost(self) -> None:
        """Makes due again what fetchers that are silent or dead left in their own queues."""
        with self.database.autocommit() as session:
            if not affinity.is_lost(session):
                return
        with self.database.transaction() as session:
            late = affinity.make_due_again(session)
        with self.database.transaction() as session:
            dead, freed = affinity.release_dead(session)
            for fetcher in dead:
                self.delete_queue(own_queue(fetcher))
        if late:
            _log.warning("mailboxes of a stuck fetcher freed", mailboxes=late)
        if dead or freed:
            _log.info("mailboxes of a lost fetcher freed", mailboxes=freed)

    def resend(self) -> int:
        """Sends decrypt jobs again for mails that are not published; how many there were."""
        with self.database.autocommit() as session:
            if not outbox.is_due(session):
                return 0
        with self.database.transaction() as session:
            batch, alone = outbox.due(session, self.settings.resend_batch)
            if not batch and not alone:
                return 0
            correlation_id = str(new_id())
            pieces = [*_pieces(batch, self.settings.mails_per_job), *([one] for one in alone)]
            with traces.span("resend", kind=SpanKind.PRODUCER, mails=len(batch) + len(alone)):
                self.send(
                    [
                        Job(DECRYPT_QUEUE, DECRYPT_ACTOR, ([str(i) for i in ids], correlation_id))
                        for ids in pieces
                    ]
                )
        metrics.RESENT.labels("publish").inc(len(batch) + len(alone))
        return len(batch) + len(alone)


#: The lane of a queue as metrics name it; "own" is that of the fetchers' own queues.
_LANES = {FETCH_QUEUE: "common", FETCH_SLOW_QUEUE: "slow"}


def _queue_of(due: Due) -> str:
    if due.lane == FETCH_SLOW_QUEUE:
        return FETCH_SLOW_QUEUE
    return FETCH_QUEUE if due.fetcher is None else own_queue(due.fetcher)


def _pieces(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
