"""The figures of the overview page, each from one quick query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from psycopg.rows import dict_row

from shared.clock import first_id, utc_now
from shared.connections import Failure
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("overview")
_CONNECTIONS = Queries("connections")
#: Mails that stayed encrypted, or that no handler wants, are counted among so many of the newest.
_MOST_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Backlog:
    """Mails that are safe here and not yet with every handler; `oldest_at` by its download."""

    mails: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from download to event, of the newest thousand mails of the last day."""

    median: float | None
    p95: float | None
    mails: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Mails downloaded from `start` on, until the next slot."""

    start: datetime
    mails: int
    bytes: int


@dataclass(frozen=True, slots=True)
class UnhealthyConnection:
    """An enabled connection that fails, waits for an authorisation or is overdue."""

    id: int
    name: str
    health: str
    error: Failure | None
    failures: int
    last_success_at: datetime | None


def delays(session: Session) -> Delays:
    since = first_id(utc_now() - timedelta(days=1))
    row = session.execute(_SQL["recent_delays"], {"since": since}).fetchone()
    return Delays(row[0], row[1], int(row[2])) if row else Delays(None, None, 0)


def throughput(session: Session, *, slots: int, seconds: int) -> list[Slot]:
    """The last `slots` spans of `seconds`, the present one last; empty ones are there too."""
    last = int(utc_now().timestamp()) // seconds
    first = last - slots + 1
    since = datetime.fromtimestamp(first * seconds, UTC)
    rows = session.execute(_SQL["per_slot"], {"since": first_id(since), "seconds": seconds})
    found = {int(row[0]): (int(row[1]), int(row[2])) for row in rows}
    return [
        Slot(datetime.fromtimestamp(n * seconds, UTC), *found.get(n, (0, 0)))
        for n in range(first, last + 1)
    ]


def unhealthy(session: Session, limit: int = 20) -> Sequence[UnhealthyConnection]:
    """Those that need somebody, the longest failing first."""
    judged = _CONNECTIONS["judged"] + "\n" + _SQL["unhealthy"]
    with session.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(judged, {"limit": limit}).fetchall()
    return [
        UnhealthyConnection(**{**row, "error": Failure.from_json(row["error"])}) for row in rows
    ]


def undecrypted(session: Session, connection_id: int | None = None) -> int:
    """Mails of the last day that no key opened, looked for among the newest that did not."""
    since = first_id(utc_now() - timedelta(days=1))
    values = {"since": since, "limit": _MOST_COUNTED, "connection": connection_id}
    row = session.execute(_SQL["undecrypted"], values).fetchone()
    return int(row[0]) if row else 0


def unwanted(session: Session) -> int:
    """Mails of the last day that the rules of every handler left out."""
    values = {"since": first_id(utc_now() - timedelta(days=1)), "limit": _MOST_COUNTED}
    row = session.execute(_SQL["unwanted"], values).fetchone()
    return int(row[0]) if row else 0
