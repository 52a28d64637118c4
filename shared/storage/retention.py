"""The ledger's partitions: made ahead, dropped when their mails have aged out.

`message`, `delivery` and `filtered` are cut at the same bounds, by the time in the message id
(UUIDv7), one day each (a week where mails are kept for long). Dropping a partition costs nothing,
so the ledger of a year's traffic is removed without a DELETE. A mail that still waits for something
(to be published, settled, looked at in quarantine) moves to the DEFAULT partition first and stays.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg import errors as pg

from shared.clock import first_id, time_of, utc_now
from shared.storage.pool import Database, Session
from shared.storage.queries import Queries

_QUERIES = Queries("retention")
_LOCK: Final = 0x72657465
#: Held at most this long while waiting for a lock: a stalled ledger is worse than a late chore.
_LOCK_TIMEOUT: Final = "1s"
_BOUNDS = re.compile(r"FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)")
_DAY: Final = timedelta(days=1)
#: A partition that an enabled handler has not acknowledged is kept up to so many retentions.
UNACKNOWLEDGED_FACTOR: Final = 2
#: Above this many days of retention a partition spans a week, to keep their number small.
_DAILY_UP_TO: Final = 60
_BATCH: Final = 5000


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One dated partition: mails whose ids lie in `[first_id(lower), first_id(upper))`."""

    lower: datetime
    upper: datetime
    name: str

    @property
    def bounds(self) -> dict[str, uuid.UUID]:
        return {"lower": first_id(self.lower), "upper": first_id(self.upper)}


@dataclass(frozen=True, slots=True)
class Dropped:
    """What `drop_partitions` did: names dropped, rows kept on, and who holds the rest back."""

    partitions: tuple[str, ...] = ()
    kept_rows: int = 0
    waiting_for: tuple[str, ...] = ()


def claim_chore(database: Database, name: str, every: timedelta) -> bool:
    """Whether this process is the one to do `name` now: one of all replicas, once per `every`."""
    with database.transaction() as session:
        row = session.execute(_QUERIES["claim_chore"], {"name": name, "every": every}).fetchone()
    return row is not None


def earlier_now(database: Database) -> datetime:
    """The time by which mails age out: by the clock of Postgres and by ours, whichever is behind.
    One clock that runs ahead must not remove what is young."""
    with database.autocommit() as session:
        row = session.execute(_QUERIES["now"]).fetchone()
    theirs: datetime = row[0] if row else utc_now()
    return min(utc_now(), theirs)


def partitions(session: Session) -> list[Partition]:
    """The dated partitions of the ledger, oldest first."""
    found = []
    for name, bounds in session.execute(_QUERIES["partitions"]):
        match = _BOUNDS.search(bounds)
        if match:
            lower, upper = (time_of(uuid.UUID(text)) for text in match.groups())
            found.append(Partition(lower, upper, name))
    return sorted(found)


def create_partitions(database: Database, now: datetime, retention_days: int) -> list[str]:
    """Makes the partitions that are missing from today on, some days ahead; returns their names.

    Where housekeeping was late, mails went to the DEFAULT partition; they move to their own here.
    Does nothing where another process is at it, or the ledger is too busy to be locked.
    """
    width = _DAY if retention_days <= _DAILY_UP_TO else 7 * _DAY
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    created: list[str] = []
    with _ledger(database) as session:
        if session is None:
            return []
        made: list[str] = []
        existing = partitions(session)
        lower = existing[-1].upper if existing else today
        # After a long stop: what lies before the retention is left in the DEFAULT partition.
        while lower < today - timedelta(days=retention_days):
            lower += width
        while lower < today + max(3 * _DAY, 2 * width):
            made.append(_create(session, Partition(lower, lower + width, f"{lower:%Y%m%d}")))
            lower += width
        created.extend(made)
    return created


def drop_partitions(database: Database, now: datetime, retention_days: int) -> Dropped:
    """Drops what is older than the retention, oldest first; rows that are needed stay.

    Stops at the first partition that an enabled handler has not acknowledged (its queue may have
    to be refilled from it), unless that is older than twice the retention.
    """
    retention = timedelta(days=retention_days)
    dropped: list[str] = []
    kept = 0
    with database.transaction() as session:
        aged = [p for p in partitions(session) if p.upper <= now - retention]
    for partition in aged:
        if partition.upper > now - UNACKNOWLEDGED_FACTOR * retention:
            with database.transaction() as session:
                waiting = session.execute(_QUERIES["unacknowledged"], partition.bounds).fetchall()
            if waiting:
                names = tuple(str(name) for (name,) in waiting)
                return Dropped(tuple(dropped), kept, names)
        with _ledger(database) as session:
            if session is None:
                break
            kept += _drop(session, partition)
            dropped.append(partition.name)
    return Dropped(tuple(dropped), kept)


def drop_stale_rows(database: Database, now: datetime, retention_days: int) -> dict[str, int]:
    """Old rows that live outside the dated partitions; returns how many of each kind went."""
    before = first_id(now - timedelta(days=retention_days))
    at_last = first_id(now - UNACKNOWLEDGED_FACTOR * timedelta(days=retention_days))
    counts = {"message": 0}
    while True:
        with database.transaction() as session:
            gone = session.execute(
                _QUERIES["drop_rest"], {"before": before, "at_last": at_last, "limit": _BATCH}
            ).rowcount
        counts["message"] += gone
        if gone < _BATCH:
            break
    for kind, query in (
        ("delivery", "drop_rest_deliveries"),
        ("filtered", "drop_rest_filtered"),
        ("message_history", "drop_history"),
        ("dead_letter", "drop_dead_letters"),
        ("fetch_run", "drop_runs"),
        ("alert", "drop_alerts"),
        ("session", "drop_sessions"),
        ("oauth_flow", "drop_oauth_flows"),
        ("authorisation_link", "drop_authorisation_links"),
        ("login_attempt", "drop_login_attempts"),
        ("revocation", "drop_revocations"),
        ("revocation_list", "drop_revocation_lists"),
        ("revocation_host", "drop_revocation_hosts"),
        ("forward_attempt", "drop_forward_attempts"),
        ("forward_retry", "drop_forward_retries"),
    ):
        with database.transaction() as session:
            counts[kind] = session.execute(_QUERIES[query], {"before": before}).rowcount
    return counts


def object_floor(session: Session) -> datetime | None:
    """Objects of the store from before this time are needed by `referenced_objects` only.

    A day before the oldest partition: a pack is begun before the first of its mails gets its id.
    None where there is no partition yet.
    """
    existing = partitions(session)
    return existing[0].lower - _DAY if existing else None


def referenced_objects(session: Session) -> set[str]:
    """Keys of the objects that mails older than the oldest partition still lie in."""
    existing = partitions(session)
    if not existing:
        return set()
    rows = session.execute(_QUERIES["referenced_objects"], {"floor": first_id(existing[0].lower)})
    return {str(key) for (key,) in rows}


@contextmanager
def _ledger(database: Database) -> Iterator[Session | None]:
    """A transaction in which this process alone may change partitions; None where it may not.

    Where a lock is not to be had in time, the block is left and nothing of it stays.
    """
    with database.transaction() as session:
        session.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        row = session.execute(_QUERIES["only_one"], {"lock": _LOCK}).fetchone()
        try:
            yield session if row and row[0] else None
        except pg.LockNotAvailable:
            session.rollback()


def _create(session: Session, partition: Partition) -> str:
    suffix = partition.name
    session.execute(_QUERIES["create"], {"suffix": suffix, **partition.bounds})
    return f"message_{suffix}"


def _drop(session: Session, partition: Partition) -> int:
    """Drops the partitions of one range; returns how many mails moved to the DEFAULT one."""
    suffix = partition.name.removeprefix("message_")
    row = session.execute(_QUERIES["drop"], {"suffix": suffix, **partition.bounds}).fetchone()
    return int(row[0]) if row else 0
