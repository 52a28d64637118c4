"""The figures of the first page: traffic and delays, from bounded pieces of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.clock import first_id
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("overview")


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many mails were downloaded from `start` on, for the length of the bucket."""

    start: datetime
    mails: int


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds from a mail's download to its last handler's confirmation; None without mails.

    `usual` is the median of the latest mails, `slow` what 95 of 100 stay under.
    """

    usual: float | None
    slow: float | None


def traffic(session: Session, now: datetime, *, buckets: int, length: timedelta) -> list[Bucket]:
    """The last `buckets` pieces of time, oldest first; the newest one is still running."""
    seconds = int(length.total_seconds())
    newest = int(now.timestamp()) // seconds
    oldest = newest - buckets + 1
    since = datetime.fromtimestamp(oldest * seconds, UTC)
    rows = session.execute(_SQL["traffic"], {"seconds": seconds, "since": first_id(since)})
    found = {int(bucket): int(count) for bucket, count in rows}
    return [
        Bucket(datetime.fromtimestamp(number * seconds, UTC), found.get(number, 0))
        for number in range(oldest, newest + 1)
    ]


def delays(session: Session, since: datetime) -> Delays:
    """Of the latest 500 mails that were downloaded after `since` and are published."""
    row = session.execute(_SQL["delays"], {"since": first_id(since)}).fetchone()
    assert row is not None
    return Delays(
        None if row[0] is None else float(row[0]), None if row[1] is None else float(row[1])
    )
