"""Emits fetch jobs for due connections, and sends again what was not published in time.

Any number of schedulers work at once, without a leader: each takes rows that no other holds.
Jobs go out before the claim is committed, so a broker that is down moves nothing: the connections
stay due. A commit that fails after that leaves a job too many, which finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.scheduler.settings import SchedulerSettings
from shared.clock import new_id
from shared.jobs import DECRYPT_ACTOR, DECRYPT_QUEUE, FETCH_ACTOR, FETCH_QUEUE, FETCH_SLOW_QUEUE
from shared.queueing.broker import Job
from shared.storage import outbox, scheduling
from shared.storage.pool import Database
from shared.telemetry import metrics

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Emitter:
    database: Database
    settings: SchedulerSettings
    send: Callable[[Sequence[Job]], None]

    def emit_due(self) -> bool:
        """One look; True where more may be due at once. Raises TryAgain without a broker."""
        limit = self.settings.claim_batch
        with self.database.transaction() as session:
            claimed = scheduling.claim_due(session, limit)
            if not claimed:
                return False
            used = [due for due in claimed if due.used]
            correlation_id = str(new_id(claimed[0].at))
            quick = [due.connection_id for due in used if due.lane != FETCH_SLOW_QUEUE]
            slow = [due.connection_id for due in used if due.lane == FETCH_SLOW_QUEUE]
            jobs = [
                Job(FETCH_QUEUE, FETCH_ACTOR, (list(ids), correlation_id))
                for ids in _pieces(quick, self.settings.polls_per_job)
            ]
            jobs += [Job(FETCH_SLOW_QUEUE, FETCH_ACTOR, ([one], correlation_id)) for one in slow]
            self.send(jobs)
        metrics.FETCH_JOBS.labels("quick").inc(len(quick))
        metrics.FETCH_JOBS.labels("slow").inc(len(slow))
        for due in used:
            metrics.SCHEDULING_LAG.observe(due.lag)
        return len(claimed) == limit

    def redrive(self) -> int:
        """Sends decrypt jobs again for mails that are not published; how many there were."""
        with self.database.transaction() as session:
            batch, alone = outbox.due(session, self.settings.redrive_batch)
            if not batch and not alone:
                return 0
            correlation_id = str(new_id())
            pieces = [*_pieces(batch, self.settings.mails_per_job), *([one] for one in alone)]
            self.send(
                [
                    Job(DECRYPT_QUEUE, DECRYPT_ACTOR, ([str(i) for i in ids], correlation_id))
                    for ids in pieces
                ]
            )
        metrics.REDRIVEN.labels("publish").inc(len(batch) + len(alone))
        return len(batch) + len(alone)


def _pieces(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
