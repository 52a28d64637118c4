"""What ages out: the ledger's partitions, stale rows, and the objects of the store they needed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from shared.storage import retention
from shared.storage.pool import Database
from shared.store import Store
from shared.telemetry import metrics

log = structlog.get_logger(__name__)

#: Spool files of processes that died are removed after this long; no pack is open for longer.
_SPOOL_AGE: Final = timedelta(days=1)
#: Seconds that removing objects may take in one go; the rest follows the next time.
_OBJECT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Removed:
    """What one round of housekeeping did.

    `waiting_for` names the enabled handlers that have not acknowledged mails older than the
    retention: those mails stay, up to twice the retention.
    """

    created: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    kept_rows: int = 0
    waiting_for: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    objects: int = 0
    spool_files: int = 0


def housekeeping(database: Database, store: Store, now: datetime, retention_days: int) -> Removed:
    """One round; safe to repeat, to interrupt at any point and to run on several machines.

    Rows go before the objects they point to, so that no row ever points to nothing.
    """
    created = retention.create_partitions(database, now, retention_days)
    dropped = retention.drop_partitions(database, now, retention_days)
    rows = retention.drop_stale_rows(database, now, retention_days)
    report = Removed(
        created=tuple(created),
        dropped=dropped.partitions,
        kept_rows=dropped.kept_rows,
        waiting_for=dropped.waiting_for,
        rows=rows,
        objects=_drop_objects(database, store, now - timedelta(days=retention_days)),
        spool_files=store.sweep(now - _SPOOL_AGE),
    )
    for what, count in {**rows, "object": report.objects, "spool": report.spool_files}.items():
        metrics.HOUSEKEEPING.labels(what).inc(count)
    metrics.HOUSEKEEPING.labels("partition").inc(len(report.dropped))
    if report.waiting_for:
        log.warning(
            "retention put off",
            handlers=report.waiting_for,
            hint="These handlers have not acknowledged mails older than the retention. "
            "Let them catch up, or disable them.",
        )
    return report


def _drop_objects(database: Database, store: Store, before: datetime) -> int:
    """Objects whose day has aged out and that no ledger row or quarantined mail lies in.

    Only days that have aged out are listed, the oldest first."""
    with database.transaction() as session:
        floor = retention.object_floor(session)
        needed = retention.referenced_objects(session)
    if floor is None:
        return 0
    started = time.monotonic()
    removed = 0
    for day in store.days(f"raw/{min(floor, before):%Y/%m/%d}"):
        for keys in store.keys_of(day):
            if time.monotonic() - started > _OBJECT_SECONDS:
                log.info(
                    "objects left to the next round",
                    reason="this one took its share of time",
                    day=day,
                )
                return removed
            aged = [key for key in keys if key not in needed]
            store.delete_all(aged)
            removed += len(aged)
    return removed
