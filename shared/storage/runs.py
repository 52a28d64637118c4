"""What the runs of connections brought: each run, and each day. Reads only."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from psycopg.rows import dict_row

from shared.clock import first_id, time_of, utc_now
from shared.connections import Failure
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """One run that found something or failed. `bytes` are octets of raw mail."""

    id: uuid.UUID
    duration_ms: int
    found: int
    downloaded: int
    bytes: int
    error: Failure | None

    @property
    def started_at(self) -> datetime:
        return time_of(self.id)


@dataclass(frozen=True, slots=True)
class Day:
    """What the runs of one day (UTC) brought."""

    day: date
    mails: int
    bytes: int
    failures: int


def runs(
    session: Session, connection_id: int, *, before: uuid.UUID | None = None, limit: int = 50
) -> list[RecordedRun]:
    """A connection's runs, newest first."""
    values = {"connection_id": connection_id, "before": before, "limit": limit}
    with session.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_SQL["runs"], values).fetchall()
    return [RecordedRun(**{**row, "error": Failure.from_json(row["error"])}) for row in rows]


def per_day(session: Session, connection_id: int | None = None, *, days: int = 30) -> list[Day]:
    """Mails a day, today last; days without a mail are there with zeros. None: all connections."""
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=days - 1)
    values = {"connection_id": connection_id, "since": first_id(first)}
    rows = session.execute(_SQL["per_day"], values)
    found = {row[0]: Day(_day(row[0]), int(row[1]), int(row[2]), int(row[3])) for row in rows}
    start = int(first.timestamp()) // 86_400
    return [found.get(n, Day(_day(n), 0, 0, 0)) for n in range(start, start + days)]


def _day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=number)
